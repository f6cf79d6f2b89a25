"""How well the boundaries of classes are met, counted a window at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 2
"""Pixels by which a boundary may be missed."""


class BoundaryCount:
    """The boundary F1 of each class: how much of a boundary lies near the other one.

    A pixel is on the boundary of its class where one of its four neighbours is of another class;
    the picture's border is no boundary, nor is that of a part that nobody has judged. Precision is
    the share of the answer's boundary that lies at most ``tolerance`` pixels from the truth's, in a
    straight line; recall is the reverse; F1 their harmonic mean.
    Source: Csurka, Larlus and Perronnin, "What is a good evaluation measure for semantic
    segmentation?", BMVC 2013.
    """

    def __init__(self, classes: int, tolerance: int = TOLERANCE) -> None:
        self.tolerance = tolerance
        reach = np.arange(-tolerance, tolerance + 1)
        self._disc = (reach[:, None] ** 2 + reach**2 <= tolerance**2).astype(np.uint8)
        # Of each class: pixels of the answer's boundary, those near the truth's; and the reverse.
        self._counts = np.zeros((classes, 4), np.int64)

    @property
    def halo(self) -> int:
        """Rows that a window must have around the rows that are counted."""
        return self.tolerance + 1

    def add(self, said: NDArray[np.int64], truth: NDArray[np.int64], counted: slice) -> None:
        """Count the rows ``counted`` of a window: class numbers (h, w), -1 where nobody judged."""
        edges = [np.where(find_boundaries(labels), labels, -1) for labels in (said, truth)]
        present = np.union1d(*(np.unique(edge) for edge in edges))
        for label in present[present >= 0]:
            ours, theirs = ((edge == label).astype(np.uint8) for edge in edges)
            self._counts[label] += (
                int(ours[counted].sum()),
                int((ours & self._near(theirs))[counted].sum()),
                int(theirs[counted].sum()),
                int((theirs & self._near(ours))[counted].sum()),
            )

    def f1(self) -> list[float | None]:
        """Of each class; None where neither side has a boundary."""
        return [_f1(*(int(n) for n in row)) for row in self._counts]

    def _near(self, edge: NDArray[np.uint8]) -> NDArray[np.uint8]:
        import cv2

        near: NDArray[np.uint8] = cv2.dilate(edge, self._disc).astype(np.uint8, copy=False)
        return near


def find_boundaries(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where one of the four neighbours is of another class, both judged: (H, W) bool.

    Args:
        labels: (H, W) class numbers, below 0 where nobody has judged.
    """
    edge = np.zeros(labels.shape, bool)
    down = (labels[1:] != labels[:-1]) & (labels[1:] >= 0) & (labels[:-1] >= 0)
    edge[1:] |= down
    edge[:-1] |= down
    right = (labels[:, 1:] != labels[:, :-1]) & (labels[:, 1:] >= 0) & (labels[:, :-1] >= 0)
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return edge


def _f1(said: int, said_near: int, there: int, there_near: int) -> float | None:
    if not said and not there:
        return None
    if not said_near or not there_near:
        return 0.0
    precision, recall = said_near / said, there_near / there
    return 2 * precision * recall / (precision + recall)
