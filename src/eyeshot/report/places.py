"""Where errors are frequent: near class boundaries, near a picture's border, and by position.

Pictures of any size are reduced for the page, a band of rows at a time; each is shown whole and at
its most important places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eyeshot.data.pairs import PairReader
from eyeshot.evaluation.pairs import find_boundaries
from eyeshot.images import Span

_STRIPS, _STRIP = 16, 8  # the range of a picture is measured in 16 strips of 8 rows
_LOW, _HIGH = 0.002, 0.998  # quantiles that become black and white
_ENOUGH = 0.5  # a picture that uses this share of the range is not stretched


class Reduced:
    """Sums and means over square cells of a plane: a plane reduced by averaging.

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
        """Add the rows (h, W, channels) from row ``first`` on."""
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
    """The factor by which to reduce a plane so that its longer side is at most ``side``."""
    return max(1, math.ceil(max(size) / side))


@dataclass(frozen=True)
class Light:
    """How samples become bytes for display; a picture with few gray levels is stretched."""

    low: float = 0.0
    high: float = 1.0

    def show(self, samples: NDArray[Any]) -> NDArray[np.uint8]:
        """Samples (C, h, w) in 0 … 1 as (h, w, 3); of two channels or four, the last is opacity."""
        colors = samples[:3] if len(samples) >= 3 else samples[:1]
        stretched = (np.moveaxis(colors, 0, -1) - self.low) / (self.high - self.low)
        bytes_ = np.rint(stretched.clip(0, 1) * 255).astype(np.uint8)
        return np.repeat(bytes_, 3, axis=2) if bytes_.shape[2] == 1 else bytes_


def measure_light(reader: PairReader) -> Light:
    """The range of a picture's samples, from some of its rows; 12 bits stored in 16 look black."""
    height, width = reader.size
    firsts = sorted({height * n // _STRIPS for n in range(_STRIPS)})
    strips = [reader.image((row, min(height, row + _STRIP)), (0, width)) for row in firsts]
    samples = np.concatenate([strip.reshape(len(strip), -1) for strip in strips], axis=1)
    low, high = (float(q) for q in np.quantile(samples, (_LOW, _HIGH)))
    if high - low >= _ENOUGH or high <= low:
        return Light()
    return Light(low, high)


_EDGE_STEPS = (0, 1, 2, 4, 8, 16, 32)  # pixels: the end of each bin; another bin is for the rest
_BORDER_STEPS = (3, 7, 15, 31, 63, 127)
_CELLS = 48  # of the heat map, along the longer side

HALO = _EDGE_STEPS[-1] + 2
"""Rows around a band that decide the bins of its pixels; all larger distances are in one bin."""


@dataclass(frozen=True)
class Bin:
    """The pixels at a distance ``name``: how many were evaluated, and how many are wrong."""

    name: str
    judged: int
    wrong: int


class Profile:
    """Evaluated and wrong pixels by their distance to something."""

    def __init__(self, steps: Sequence[int]) -> None:
        self._steps = steps
        self._counts = np.zeros((2, len(steps) + 1), np.int64)

    def add(self, distances: NDArray[Any], wrong: NDArray[np.bool_]) -> None:
        """Add evaluated pixels: their distances, and whether they are wrong."""
        bins = np.searchsorted(self._steps, distances, side="left")
        size = len(self._steps) + 1
        self._counts[0] += np.bincount(bins, minlength=size)
        self._counts[1] += np.bincount(bins[wrong], minlength=size)

    @property
    def bins(self) -> tuple[Bin, ...]:
        """The bins with pixels, the nearest first."""
        names = [self._name(place) for place in range(len(self._steps) + 1)]
        counts = self._counts.T.tolist()
        return tuple(
            Bin(name, judged, wrong)
            for name, (judged, wrong) in zip(names, counts, strict=True)
            if judged
        )

    def _name(self, place: int) -> str:
        if place == len(self._steps):
            return f"more than {self._steps[-1]}"
        first = self._steps[place - 1] + 1 if place else 0
        return str(first) if first == self._steps[place] else f"{first} to {self._steps[place]}"


class ErrorPlaces:
    """Wrong pixels of many pictures, by their place.

    Attributes:
        by_edge: by the distance in pixels to the nearest boundary between true classes.
        by_border: by the number of pixels between them and the picture's border.
    """

    def __init__(self) -> None:
        self.by_edge, self.by_border = Profile(_EDGE_STEPS), Profile(_BORDER_STEPS)
        self._size: tuple[int, int] | None = None
        self._agree = True
        self._plane = Reduced((1, 1), 1, 2)

    def begin(self, size: tuple[int, int]) -> None:
        """Start the next picture, of this (height, width)."""
        if self._size is None:
            self._plane = Reduced(size, factor_for(size, _CELLS), 2)
        self._agree &= self._size in (None, size)
        self._size = size

    def add(
        self, first: int, counted: slice, truth: NDArray[np.int64], predicted: NDArray[np.int64]
    ) -> None:
        """Add the rows ``counted`` of a window (h, W), whose row 0 is row ``first`` of the picture.

        The window has :data:`HALO` rows on both sides of the counted rows, if the picture has them.
        """
        known = (truth >= 0)[counted]
        wrong = (truth != predicted)[counted] & known
        to_edge = _distances_to_edges(truth)[counted]
        self.by_edge.add(to_edge[known], wrong[known])
        top = first + counted.start
        self.by_border.add(self._to_border(top, *known.shape)[known], wrong[known])
        if self._agree:
            self._plane.add(top, np.stack([known, wrong], axis=-1))

    @property
    def heat(self) -> NDArray[np.float64] | None:
        """The share that is wrong in each cell of the plane; None if the pictures differ in size.

        It is 0 in cells without evaluated pixels.
        """
        if not self._agree or self._size is None:
            return None
        judged, wrong = np.moveaxis(self._plane.sums, -1, 0)
        share: NDArray[np.float64] = wrong / np.maximum(judged, 1)
        return share

    def _to_border(self, top: int, rows: int, columns: int) -> NDArray[np.int64]:
        height, width = self._size or (0, 0)
        down, across = np.arange(top, top + rows), np.arange(columns)
        vertical = np.minimum(down, height - 1 - down)
        horizontal = np.minimum(across, width - 1 - across)
        return np.minimum(vertical[:, None], horizontal[None, :])


def _distances_to_edges(truth: NDArray[np.int64]) -> NDArray[np.float32]:
    """Distances in pixels to the nearest boundary, rounded; infinite if there is no boundary."""
    edges = find_boundaries(truth)
    if not edges.any():
        return np.full(truth.shape, np.inf, np.float32)
    apart = cv2.distanceTransform((~edges).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.rint(apart).astype(np.float32)


OVERVIEW = 384
"""The most pixels of the longer side of a whole picture on the page."""
CROP = 192
"""Height and width of a part of a picture that is shown pixel by pixel."""
CROPS = 2
"""The number of parts of a picture that are shown."""


@dataclass(frozen=True, eq=False)
class Shot:
    """Several views of a part of a picture.

    Attributes:
        views: (h, w, 3) each.
        rows: the rows of the part, half open.
        columns: its columns, half open.
        factor: by which the part was reduced; 1 if it was not.
    """

    views: tuple[NDArray[np.uint8], ...]
    rows: Span
    columns: Span
    factor: int = 1

    @property
    def place(self) -> str:
        """The place in words."""
        (top, bottom), (left, right) = self.rows, self.columns
        return f"rows {top} to {bottom - 1}, columns {left} to {right - 1}"


def new_tally(size: tuple[int, int]) -> Reduced:
    """An empty sum of errors (h, W, 1) for :func:`find_worst`."""
    return Reduced(size, CROP // 2, 1)


def find_worst(
    tally: Reduced, size: tuple[int, int], count: int = CROPS
) -> list[tuple[Span, Span]]:
    """The parts of a picture with most errors, without overlaps; the worst first.

    Empty for a picture that is at most twice as large as a part.
    """
    if max(size) <= 2 * CROP:
        return []
    errors = tally.sums[..., 0].copy()
    parts: list[tuple[Span, Span]] = []
    while len(parts) < count:
        padded = np.pad(errors, ((0, 1), (0, 1)))
        sums = padded[:-1, :-1] + padded[1:, :-1] + padded[:-1, 1:] + padded[1:, 1:]
        row, column = divmod(int(sums.argmax()), sums.shape[1])
        if not sums[row, column]:
            break
        parts.append((_part(row, size[0]), _part(column, size[1])))
        # No other part may start in these cells, because it would overlap this one.
        errors[max(0, row - 1) : row + 3, max(0, column - 1) : column + 3] = 0
    return parts


def _part(cell: int, length: int) -> Span:
    start = max(0, min(cell * (CROP // 2), length - CROP))
    return start, min(length, start + CROP)
