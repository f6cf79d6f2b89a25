"""The largest samples that were read and the scores that were clipped: signs of a wrong scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eyeshot.engine.jobs import Job
from eyeshot.images.scaling import unit_of

_CLIPPED = 0.5
"""How far outside of 0 … 1 scores may lie before clipping is reported: resizing and sharpening
overshoot by less."""
_USUAL_BITS = (8, 10, 12, 14)
"""Of cameras whose samples are stored in 16 bits."""


class Extremes:
    """What a run has read and given, in two numbers for each image and output."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._largest: dict[str, int] = {}
        self._scores: dict[str, tuple[float, float]] = {}

    def read(self, name: str, samples: NDArray[Any]) -> None:
        """Some samples of an input, where their scale is in question."""
        if samples.dtype == np.uint16 and self._job.preparation.scale(samples.dtype) == 65535:
            self._largest[name] = max(self._largest.get(name, 0), int(samples.max()))

    def give(self, name: str, scores: torch.Tensor) -> None:
        """Some scores of an output, where its form clips them."""
        if self._job.forms[name].name == "uint8" and scores.numel():
            low, high = (float(one) for one in scores.aminmax())
            before = self._scores.get(name, (low, high))
            self._scores[name] = (min(before[0], low), max(before[1], high))

    def notes(self) -> tuple[str, ...]:
        """A line for each image and output whose scale looks wrong."""
        return (*self._dark(), *self._clipped())

    def _dark(self) -> list[str]:
        """Samples of so few bits that the network saw almost black.

        A run whose training pictures were as dark has learned from them as they are.
        """
        white = int(unit_of(np.dtype(np.uint16)))
        means = self._job.preparation.mean
        notes = []
        for name, largest in self._largest.items():
            bits = next((bits for bits in _USUAL_BITS if 2 ** (bits - 2) <= largest < 2**bits), 0)
            if bits and (not means or largest / white < min(means)):
                notes.append(
                    f"{self._job.sources[name].name}: the largest sample is {largest}, and {white} "
                    f"counts as 1: the network saw at most {largest / white:.1%} of white; for "
                    f"{bits}-bit samples use --white {2**bits - 1}"
                )
        return notes

    def _clipped(self) -> list[str]:
        return [
            f"{name}: scores from {low:.3g} to {high:.3g} were clipped to 0…1 for uint8; "
            "use probabilities, argmax or float32 for scores of classes"
            for name, (low, high) in self._scores.items()
            if low < -_CLIPPED or high > 1 + _CLIPPED
        ]
