"""Samples as the network wants them: numbers scaled, channels matched, rows laid together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eyeshot.errors import BadValue
from eyeshot.images.scaling import unit_of

_UNIT_SLACK = 1.0
"""How far outside of 0 … 1 floats may lie: noise and resizing by curves overshoot, a picture of
0 … 255 kept as floats does more."""

_WIDER: dict[str, np.dtype[Any]] = {
    "u2": np.dtype(np.int32),
    "u4": np.dtype(np.int64),
    "u8": np.dtype(np.float64),
}
"""Types of samples that torch has not, and the next larger one that it has."""


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
        unit: the network learned from samples in 0 … 1, so floats far outside are a mistake.
        white: the whole-number sample that counts as 1; None for the largest of its type.
    """

    dtype: torch.dtype
    device: torch.device
    raw: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    unit: bool = False
    white: float | None = None

    def __call__(
        self, samples: NDArray[Any], name: str = "the rows", corner: tuple[int, ...] = ()
    ) -> torch.Tensor:
        """Samples (C, rows, …) -> values (1, C, rows, …).

        Args:
            samples: a window of the image.
            name: of the image, for messages.
            corner: where the window begins, for messages; the image's own corner if not told.

        Raises:
            BadValue: samples of a type that cannot be taken, one that is not finite, or floats far
                outside of what the network learned from.
        """
        if samples.dtype.kind == "f" and samples.size:
            self._check(samples, name, corner)
        writable = samples if samples.flags.writeable else samples.copy()
        value = torch.from_numpy(_whole_numbers(writable)).to(self.device, self.dtype)[None]
        scale = self.scale(samples.dtype)
        if scale != 1.0:
            value.div_(scale)  # whole numbers have become floats, so the memory is our own
        if self.mean:
            shape = (1, -1, *(1 for _ in value.shape[2:]))
            mean = torch.tensor(self.mean, dtype=self.dtype, device=self.device).reshape(shape)
            std = torch.tensor(self.std, dtype=self.dtype, device=self.device).reshape(shape)
            value = (value - mean).div_(std)
        if value.ndim == 4:
            return value.contiguous(memory_format=torch.channels_last)
        return value.contiguous()

    def memory(self, dtype: np.dtype[Any], numbers: int, channels: int) -> int:
        """Bytes while so many samples are prepared, beside these: the numbers, and copies of them.

        Types that torch has not are made wider first. A mean is taken away into a copy, and
        channels that lie in planes are put beside each other in one.
        """
        own = numbers * self.dtype.itemsize
        copied = own if self.mean or channels > 1 else 0
        wider = _WIDER.get(dtype.str[1:])
        return own + max(copied, numbers * wider.itemsize if wider is not None else 0)

    def _check(self, samples: NDArray[Any], name: str, corner: tuple[int, ...]) -> None:
        """Refuse floats that cannot be meant.

        A kernel that adds a ReLU to a convolution makes 0 of what is not a number, where PyTorch
        would hand it on: the answer would look sound, and not be that of the network.
        """
        low, high = float(samples.min()), float(samples.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            first = np.argwhere(~np.isfinite(samples))[0]
            starts = corner or (0,) * (samples.ndim - 1)
            place = tuple(int(i) + lo for i, lo in zip(first[1:], starts, strict=True))
            raise BadValue(
                f"{name}: the sample of channel {first[0]} at {place} is {samples[tuple(first)]}",
                cure="fill such samples first, for example by numpy.nan_to_num",
            )
        if self.unit and not self.raw and (low < -_UNIT_SLACK or high > 1 + _UNIT_SLACK):
            raise BadValue(
                f"{name}: holds floats from {low:g} to {high:g}, and this run learned from 0…1",
                cure="scale them, or give whole numbers",
            )

    def scale(self, dtype: np.dtype[Any]) -> float:
        """By what samples of a type are divided."""
        if self.raw or dtype.kind not in "ui":
            return 1.0
        return unit_of(dtype) if self.white is None else self.white

    def stated(self, dtype: np.dtype[Any]) -> str:
        """What is done, in words."""
        scale = self.scale(dtype)
        told = f"{dtype} samples " + ("as they are" if scale == 1.0 else f"divided by {scale:g}")
        return told + (f", mean {_short(self.mean)}, std {_short(self.std)}" if self.mean else "")


def _short(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:.4g}" for number in numbers)


def _whole_numbers(samples: NDArray[Any]) -> NDArray[Any]:
    """Types that torch has not, as the next larger one that it has; and layouts it has not."""
    samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    if any(stride < 0 for stride in samples.strides):
        samples = np.ascontiguousarray(samples)
    key = samples.dtype.str[1:]
    if key in _WIDER:
        return samples.astype(_WIDER[key])
    if samples.dtype.kind not in "buif" or samples.dtype.itemsize > 8:
        raise BadValue(f"samples of type {samples.dtype}", cure="use whole or real numbers")
    return samples.astype(np.float32) if samples.dtype.kind == "b" else samples
