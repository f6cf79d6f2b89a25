"""Where errors gather: near the boundaries of classes, near a picture's border, on its plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eyeshot.evaluation.boundaries import find_boundaries
from eyeshot.report.pairs.reduction import Reduced, factor_for

_EDGE_STEPS = (0, 1, 2, 4, 8, 16, 32)  # pixels: the last of each bin; what lies beyond is one more
_BORDER_STEPS = (3, 7, 15, 31, 63, 127)
_CELLS = 48  # of the heat map, along the longer side

HALO = _EDGE_STEPS[-1] + 2
"""Rows around a band that the distances in it depend on: what is farther is one bin."""


@dataclass(frozen=True)
class Bin:
    """Pixels at some distance: ``name`` tells it; how many of them were judged, and are wrong."""

    name: str
    judged: int
    wrong: int


class Profile:
    """Judged and wrong pixels by their distance to something."""

    def __init__(self, steps: Sequence[int]) -> None:
        self._steps = steps
        self._counts = np.zeros((2, len(steps) + 1), np.int64)

    def add(self, distances: NDArray[Any], wrong: NDArray[np.bool_]) -> None:
        """Take in judged pixels: their distances, and whether they are wrong."""
        bins = np.searchsorted(self._steps, distances, side="left")
        size = len(self._steps) + 1
        self._counts[0] += np.bincount(bins, minlength=size)
        self._counts[1] += np.bincount(bins[wrong], minlength=size)

    @property
    def bins(self) -> tuple[Bin, ...]:
        """The nearest first; those without pixels are left out."""
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
    """Wrong pixels of many pictures, by where they lie.

    Attributes:
        by_edge: by the distance, in pixels, to the nearest boundary between true classes.
        by_border: by how many pixels lie between them and the picture's border.
    """

    def __init__(self) -> None:
        self.by_edge, self.by_border = Profile(_EDGE_STEPS), Profile(_BORDER_STEPS)
        self._size: tuple[int, int] | None = None
        self._agree = True
        self._plane = Reduced((1, 1), 1, 2)

    def begin(self, size: tuple[int, int]) -> None:
        """The next picture, of this (height, width)."""
        if self._size is None:
            self._plane = Reduced(size, factor_for(size, _CELLS), 2)
        self._agree &= self._size in (None, size)
        self._size = size

    def add(
        self, first: int, counted: slice, truth: NDArray[np.int64], said: NDArray[np.int64]
    ) -> None:
        """Take in the rows ``counted`` of a window (h, W), whose row 0 is ``first`` of the picture.

        The window has :data:`HALO` rows around those that are counted, or the picture ends.
        """
        known = (truth >= 0)[counted]
        wrong = (truth != said)[counted] & known
        to_edge = _distances_to_edges(truth)[counted]
        self.by_edge.add(to_edge[known], wrong[known])
        top = first + counted.start
        self.by_border.add(self._to_border(top, *known.shape)[known], wrong[known])
        if self._agree:
            self._plane.add(top, np.stack([known, wrong], axis=-1))

    @property
    def heat(self) -> NDArray[np.float64] | None:
        """The share that is wrong in each cell of the plane; None if the pictures differ in size.

        Where nobody has judged, it is 0.
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
    """Pixels to the nearest one on a boundary, rounded; infinite where there is no boundary."""
    edges = find_boundaries(truth)
    if not edges.any():
        return np.full(truth.shape, np.inf, np.float32)
    apart = cv2.distanceTransform((~edges).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.rint(apart).astype(np.float32)
