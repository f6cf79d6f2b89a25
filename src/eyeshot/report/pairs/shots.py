"""One picture seen in several ways: the whole of it made small, and the places that matter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eyeshot.images import Span
from eyeshot.report.pairs.reduction import Reduced

OVERVIEW = 384
"""The longer side of a whole picture on the page, at most."""
CROP = 192
"""Height and width of a part of a picture that is shown pixel by pixel."""
CROPS = 2
"""Parts of one picture that are shown."""


@dataclass(frozen=True, eq=False)
class Shot:
    """A place of a picture in several ways.

    Attributes:
        views: (h, w, 3) each, one beside the other.
        rows: of the picture, half open.
        columns: likewise.
        factor: by how much it was made smaller; 1 where each pixel is one.
    """

    views: tuple[NDArray[np.uint8], ...]
    rows: Span
    columns: Span
    factor: int = 1

    @property
    def place(self) -> str:
        """In words."""
        (top, bottom), (left, right) = self.rows, self.columns
        return f"rows {top} to {bottom - 1}, columns {left} to {right - 1}"


def new_tally(size: tuple[int, int]) -> Reduced:
    """Where errors are to be added up, (h, W, 1), for :func:`find_worst` to look at."""
    return Reduced(size, CROP // 2, 1)


def find_worst(
    tally: Reduced, size: tuple[int, int], count: int = CROPS
) -> list[tuple[Span, Span]]:
    """The parts of a picture with most errors, none over another; the worst first.

    A picture that is hardly larger than a part has none.
    """
    if max(size) <= 2 * CROP:
        return []
    left = tally.sums[..., 0].copy()
    found: list[tuple[Span, Span]] = []
    while len(found) < count:
        padded = np.pad(left, ((0, 1), (0, 1)))
        sums = padded[:-1, :-1] + padded[1:, :-1] + padded[:-1, 1:] + padded[1:, 1:]
        row, column = divmod(int(sums.argmax()), sums.shape[1])
        if not sums[row, column]:
            break
        found.append((_part(row, size[0]), _part(column, size[1])))
        # Cells within reach of this part can begin no other that would lie over it.
        left[max(0, row - 1) : row + 3, max(0, column - 1) : column + 3] = 0
    return found


def _part(cell: int, length: int) -> Span:
    start = max(0, min(cell * (CROP // 2), length - CROP))
    return start, min(length, start + CROP)
