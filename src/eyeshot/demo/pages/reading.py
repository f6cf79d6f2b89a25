"""Digits found and read on a page: one pass of the dense form, and the peaks of what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d, label, maximum_filter

from eyeshot.demo.pages.scattering import Page

SURE = 0.15
"""A digit is where the smoothed probability of any digit peaks above this: a position that is sure,
alone among neighbours that are sure of nothing, comes to 0.25."""
_WEIGHTS = (0.25, 0.5, 0.25)
_CLOSE = 6  # pixels: as far as a reading may lie from the digit that it is of


@dataclass(frozen=True, eq=False)
class Readings:
    """What was read, and where.

    Attributes:
        corners: (N, 2) first row and column of each crop in which a digit was found.
        labels: (N,) what it was read as.
    """

    corners: NDArray[np.int64]
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Marks:
    """Readings held against what is there.

    Attributes:
        right: (N,) of each reading, whether the digit is there and is that one.
        false: (N,) whether there is no digit.
        missed: (M,) of each digit of the page, whether nothing was read there.
    """

    right: NDArray[np.bool_]
    false: NDArray[np.bool_]
    missed: NDArray[np.bool_]

    @property
    def precision(self) -> float:
        """Of what was found, the share that is a digit."""
        return 1 - float(self.false.mean()) if len(self.false) else 0.0

    @property
    def recall(self) -> float:
        """Of all digits, the share that was found."""
        return 1 - float(self.missed.mean())

    @property
    def accuracy(self) -> float:
        """Of all digits, the share that was found and read right."""
        return float(self.right.sum()) / len(self.missed)


def read_peaks(probabilities: NDArray[Any], stride: int, side: int) -> Readings:
    """The digits in the dense map of a page.

    Args:
        probabilities: (classes + 1, rows, columns); the last class is *nothing*.
        stride: pixels from one position to the next.
        side: pixels of a digit's picture; no two digits are closer than this.
    """
    around = _smoothed(probabilities[:-1])
    some = around.sum(axis=0)
    reach = 2 * ((side - 1) // (2 * stride)) + 1
    # Neighbours that are equally high are one peak.
    peaks, _ = label((some == maximum_filter(some, reach)) & (some > SURE), np.ones((3, 3)))
    _, first = np.unique(peaks, return_index=True)
    rows, columns = np.unravel_index(first[peaks.flat[first] > 0], some.shape)
    # Where the probability is spread over neighbours, the digit lies between them.
    corners = np.stack([rows, columns], axis=1) * stride + _lean(
        probabilities, rows, columns, stride
    )
    return Readings(corners, around[:, rows, columns].argmax(axis=0))


def _smoothed(maps: NDArray[Any]) -> NDArray[Any]:
    """Each map with every position weighed together with its neighbours, 1-2-1 each way."""
    smooth = correlate1d(maps, _WEIGHTS, axis=1, mode="constant")
    smooth = correlate1d(smooth, _WEIGHTS, axis=2, mode="constant")
    return np.asarray(smooth)


def _lean(
    probabilities: NDArray[Any], rows: NDArray[Any], columns: NDArray[Any], stride: int
) -> NDArray[np.int64]:
    """From the middle position of each peak to the mean place of its probability, in pixels."""
    some = np.pad(1 - probabilities[-1], 1)
    near = np.stack([[some[rows + 1 + y, columns + 1 + x] for x in (-1, 0, 1)] for y in (-1, 0, 1)])
    total = near.sum(axis=(0, 1))
    down = (near[2] - near[0]).sum(axis=0) / total
    right = (near[:, 2] - near[:, 0]).sum(axis=0) / total
    pixels: NDArray[np.int64] = np.rint(np.stack([down, right], axis=1) * stride).astype(np.int64)
    return pixels


def mark(readings: Readings, page: Page) -> Marks:
    """Hold the readings against the digits of the page; a digit is found once."""
    right = np.zeros(len(readings.labels), bool)
    false = np.ones(len(readings.labels), bool)
    missed = np.ones(len(page.labels), bool)
    for n, (corner, digit) in enumerate(zip(readings.corners, readings.labels, strict=True)):
        away = np.abs(page.corners - corner).max(axis=1)
        nearest = int(away.argmin())
        if away[nearest] <= _CLOSE and missed[nearest]:
            missed[nearest], false[n] = False, False
            right[n] = digit == page.labels[nearest]
    return Marks(right, false, missed)
