"""In which form an answer is kept: reduced band by band, so the scores never exist whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from eyeshot.errors import BadValue, UnknownName

FORMS = ("scores", "float32", "probabilities", "argmax", "threshold:T", "uint8")


@dataclass(frozen=True, slots=True)
class Form:
    """How scores become samples.

    Attributes:
        name: as the caller wrote it.
        channels: of the output.
        dtype: of its samples.
        reduce: scores (C, …) -> samples (channels, …).
        copies: how many times the scores' own memory ``reduce`` takes for a moment.
    """

    name: str
    channels: int
    dtype: np.dtype[Any]
    reduce: Callable[[torch.Tensor], torch.Tensor]
    copies: int = 0

    def memory(self, positions: int, channels: int, itemsize: int) -> int:
        """Bytes while the scores of so many positions are reduced and written, beside the scores.

        The samples stand twice: as they are made, and in the order of the output.
        """
        samples = positions * self.channels * self.dtype.itemsize
        return self.copies * positions * channels * itemsize + 2 * samples

    def __call__(self, scores: torch.Tensor) -> NDArray[Any]:
        """Samples of some rows, contiguous, from their scores (C, rows, …)."""
        if scores.dtype == torch.bfloat16:  # NumPy has no such type
            scores = scores.float()
        samples: NDArray[Any] = np.ascontiguousarray(self.reduce(scores).cpu().numpy(), self.dtype)
        return samples


def form_of(name: str, channels: int, dtype: str = "float32") -> Form:
    """The form of that name for a network with so many output channels of a type.

    - ``scores``: the network's values in its own type (bfloat16, which NumPy lacks, as float32).
    - ``float32``, ``float64``: the same, in that type.
    - ``probabilities``: softmax over channels; for one channel the sigmoid.
    - ``argmax``: the number of the largest channel, 8 or 16 bits.
    - ``threshold:T``: 255 where the probability (of the last of two classes) is above T, else 0.
    - ``uint8``: 0 … 1 as 0 … 255, rounded; what lies outside is clipped.

    Raises:
        UnknownName: no such form.
        BadValue: the form has no meaning for this many channels.
    """
    kind, _, argument = name.partition(":")
    if kind == "scores":
        own = np.dtype("float32" if dtype == "bfloat16" else dtype)
        return Form(name, channels, own, lambda scores: scores)
    if kind in ("float32", "float64"):
        return Form(name, channels, np.dtype(kind), lambda scores: scores)
    if kind == "probabilities":
        return Form(name, channels, np.dtype(np.float32), _probabilities, copies=1)
    if kind == "argmax":
        return _argmax(name, channels)
    if kind == "threshold":
        return _threshold(name, argument, channels)
    if kind == "uint8":
        return Form(name, channels, np.dtype(np.uint8), _bytes, copies=1)
    raise UnknownName("output format", name, FORMS)


def _probabilities(scores: torch.Tensor) -> torch.Tensor:
    return scores.sigmoid() if scores.shape[0] == 1 else scores.softmax(0)


def _bytes(scores: torch.Tensor) -> torch.Tensor:
    if scores.device.type != "cpu" or scores.dtype != torch.float32 or not scores.numel():
        return scores.clamp(0, 1).mul_(255).round_().to(torch.uint8)
    # OpenCV scales, rounds half to even and clips in one pass: the same bytes, five times as fast.
    rows = scores.reshape(-1, scores.shape[-1]).numpy()
    samples = cv2.addWeighted(rows, 255.0, rows, 0.0, 0.0, dtype=cv2.CV_8U)
    return torch.from_numpy(samples).reshape(scores.shape)


def _argmax(name: str, channels: int) -> Form:
    if channels < 2:
        raise BadValue("argmax of one channel", cure="use threshold:0.5")
    small = channels <= 256
    kind = np.dtype(np.uint8 if small else np.uint16)
    as_torch = torch.uint8 if small else torch.int32

    def reduce(scores: torch.Tensor) -> torch.Tensor:
        return scores.argmax(0, keepdim=True).to(as_torch)

    return Form(name, 1, kind, reduce, copies=2)  # places of 8 bytes


def _threshold(name: str, argument: str, channels: int) -> Form:
    try:
        level = float(argument)
    except ValueError:
        level = float("nan")
    if not 0 <= level <= 1:
        raise BadValue(f"output_format {name!r}", cure="give a probability, such as threshold:0.5")
    if channels > 2:
        raise BadValue(f"a threshold on {channels} classes", cure="use argmax")

    def reduce(scores: torch.Tensor) -> torch.Tensor:
        return (_probabilities(scores)[-1:] > level).to(torch.uint8) * 255

    return Form(name, 1, np.dtype(np.uint8), reduce, copies=2)
