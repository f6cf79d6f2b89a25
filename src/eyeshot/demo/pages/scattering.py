"""A page of digits whose places are known, far larger than any picture a network learned from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CELL = 64
"""Each digit lies somewhere in a cell of its own of so many pixels, so that none covers another."""


@dataclass(frozen=True, eq=False)
class Page:
    """Digits scattered over a page.

    Attributes:
        pixels: (H, W) uint8, light on dark as the digits are.
        corners: (N, 2) first row and column of each digit's picture.
        labels: (N,) what each of them is.
        side: height and width of a digit's picture.
    """

    pixels: NDArray[np.uint8]
    corners: NDArray[np.int64]
    labels: NDArray[np.int64]
    side: int


def scatter(pictures: NDArray[Any], labels: NDArray[Any], cells: int, seed: int) -> Page:
    """Each picture once, at random in a cell of its own, on a page of ``cells``² cells.

    Args:
        pictures: (N, side, side) uint8; at most ``cells``² of them.
        labels: (N,).
        cells: along each side of the page.
        seed: another page for another seed.
    """
    draw = np.random.default_rng(seed)
    side = pictures.shape[-1]
    chosen = draw.permutation(cells * cells)[: len(pictures)]
    corners = np.stack([chosen // cells, chosen % cells], axis=1) * CELL
    corners += draw.integers(0, CELL - side + 1, size=corners.shape)
    pixels = np.zeros((cells * CELL, cells * CELL), np.uint8)
    for picture, (top, left) in zip(pictures, corners, strict=True):
        pixels[top : top + side, left : left + side] = picture
    return Page(pixels, corners, np.asarray(labels, np.int64), side)


def cells_for(count: int, filled: float) -> int:
    """Cells along each side so that about this share of all of them holds a digit."""
    return math.ceil(math.sqrt(count / filled))
