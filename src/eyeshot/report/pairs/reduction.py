"""Pictures of any size made small enough for a page, a band of rows at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.data.pairs import PairReader

_STRIPS, _STRIP = 16, 8  # where the light of a picture is measured: so many strips of so many rows
_LOW, _HIGH = 0.002, 0.998  # quantiles that become black and white
_ENOUGH = 0.5  # of the range: a picture that uses so much of it is shown as it is


class Reduced:
    """Sums over square cells of a plane, and with them means: a plane averaged down.

    Args:
        size: (height, width) of the plane.
        factor: side of a cell; the last of a row or column may be smaller.
        channels: values at each position.
    """

    def __init__(self, size: tuple[int, int], factor: int, channels: int) -> None:
        self.factor = factor
        self.size = (-(-size[0] // factor), -(-size[1] // factor))
        self.sums = np.zeros((*self.size, channels))
        self._columns = np.arange(0, size[1], factor)
        rows, columns = (np.diff(np.r_[0:n:factor, n]) for n in size)
        self._counts = rows[:, None] * columns[None, :]

    def add(self, first: int, values: NDArray[Any]) -> None:
        """Take in the rows from ``first`` on: (h, W, channels)."""
        across = np.add.reduceat(values.astype(np.float64), self._columns, axis=1)
        cells = (first + np.arange(len(values))) // self.factor
        np.add.at(self.sums, cells, across)

    @property
    def means(self) -> NDArray[np.float64]:
        """(height, width, channels) of the small plane."""
        means: NDArray[np.float64] = self.sums / self._counts[..., None]
        return means

    @property
    def picture(self) -> NDArray[np.uint8]:
        """The means as a picture."""
        return np.rint(self.means).astype(np.uint8)


def factor_for(size: tuple[int, int], side: int) -> int:
    """By how much a plane must shrink for its longer side to be at most ``side``."""
    return max(1, math.ceil(max(size) / side))


@dataclass(frozen=True)
class Light:
    """How samples become bytes to look at; of a picture in few of its grey levels, brighter."""

    low: float = 0.0
    high: float = 1.0

    def show(self, samples: NDArray[Any]) -> NDArray[np.uint8]:
        """Samples (C, h, w) in 0 … 1 as (h, w, 3); of two channels or four, the last is opacity."""
        colors = samples[:3] if len(samples) >= 3 else samples[:1]
        stretched = (np.moveaxis(colors, 0, -1) - self.low) / (self.high - self.low)
        bytes_ = np.rint(stretched.clip(0, 1) * 255).astype(np.uint8)
        return np.repeat(bytes_, 3, axis=2) if bytes_.shape[2] == 1 else bytes_


def measure_light(reader: PairReader) -> Light:
    """What of 0 … 1 a picture uses, by some of its rows: 12 bits kept in 16 would look black."""
    height, width = reader.size
    firsts = sorted({height * n // _STRIPS for n in range(_STRIPS)})
    strips = [reader.image((row, min(height, row + _STRIP)), (0, width)) for row in firsts]
    samples = np.concatenate([strip.reshape(len(strip), -1) for strip in strips], axis=1)
    low, high = (float(q) for q in np.quantile(samples, (_LOW, _HIGH)))
    if high - low >= _ENOUGH or high <= low:
        return Light()
    return Light(low, high)
