"""Samples as the network wants them: numbers scaled, channels matched, rows laid together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eyeshot.errors import BadValue


@dataclass(frozen=True, slots=True)
class Preparation:
    """What is done to samples before the network sees them.

    Whole-number samples become 0 … 1 (divided by the largest their type can hold) unless ``raw``;
    floating-point ones are taken as they are. Then mean and standard deviation, where a run has
    them.

    Attributes:
        dtype: of the network.
        device: where it runs.
        raw: leave whole numbers as they are.
        mean: per channel, to be taken away.
        std: per channel, to be divided by.
    """

    dtype: torch.dtype
    device: torch.device
    raw: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __call__(self, samples: NDArray[Any]) -> torch.Tensor:
        """Samples (C, rows, …) -> values (1, C, rows, …)."""
        writable = samples if samples.flags.writeable else samples.copy()
        value = torch.from_numpy(_whole_numbers(writable)).to(self.device, self.dtype)[None]
        scale = self.scale(samples.dtype)
        if scale != 1.0:
            value = value / scale
        if self.mean:
            shape = (1, -1, *(1 for _ in value.shape[2:]))
            mean = torch.tensor(self.mean, dtype=self.dtype, device=self.device).reshape(shape)
            std = torch.tensor(self.std, dtype=self.dtype, device=self.device).reshape(shape)
            value = (value - mean) / std
        if value.ndim == 4:
            return value.contiguous(memory_format=torch.channels_last)
        return value.contiguous()

    def scale(self, dtype: np.dtype[Any]) -> float:
        """By what samples of a type are divided."""
        if self.raw or dtype.kind not in "ui":
            return 1.0
        return float(np.iinfo(dtype).max)

    def stated(self, dtype: np.dtype[Any]) -> str:
        """What is done, in words."""
        scale = self.scale(dtype)
        told = f"{dtype} samples " + ("as they are" if scale == 1.0 else f"divided by {scale:.0f}")
        return told + (f", mean {list(self.mean)}, std {list(self.std)}" if self.mean else "")


def _whole_numbers(samples: NDArray[Any]) -> NDArray[Any]:
    """Types that torch has not, as the next larger one that it has; and layouts it has not."""
    samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    if any(stride < 0 for stride in samples.strides):
        samples = np.ascontiguousarray(samples)
    larger = {"u2": np.int32, "u4": np.int64, "u8": np.float64}
    key = f"{samples.dtype.kind}{samples.dtype.itemsize}"
    if key in larger:
        return samples.astype(larger[key])
    if samples.dtype.kind not in "buif" or samples.dtype.itemsize > 8:
        raise BadValue(f"samples of type {samples.dtype}", cure="use whole or real numbers")
    return samples.astype(np.float32) if samples.dtype.kind == "b" else samples
