"""A digit as a person would photograph it: large, dark on light paper, in uneven light."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_HEIGHT, _WIDTH = 900, 700
_SIDE = 460  # pixels of the digit's field of 28×28
_PLACE = (170, 90)  # of that field's top left corner
_PAPER = np.array([236, 228, 210])
_INK = np.array([38, 44, 84])
_GRAIN = 3.0  # levels, the deviation of the camera's noise


def write_on_paper(digit: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A digit (28, 28), light on dark, as a photograph of blue ink on paper, (900, 700, 3)."""
    large = cv2.resize(digit, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
    soft = cv2.GaussianBlur(large, (0, 0), 7).astype(np.float64) / 255
    ink = np.zeros((_HEIGHT, _WIDTH))
    top, left = _PLACE
    # Ink has an edge where a grey ramp has none.
    ink[top : top + _SIDE, left : left + _SIDE] = np.clip((soft - 0.25) * 4, 0, 1)
    rows, columns = np.mgrid[0 : 1 : _HEIGHT * 1j, 0 : 1 : _WIDTH * 1j]
    light = 1.0 - 0.38 * columns * rows - 0.10 * rows  # a window at the top left
    color = _PAPER + ink[..., None] * (_INK - _PAPER)
    grain = np.random.default_rng(0).normal(0, _GRAIN, (_HEIGHT, _WIDTH, 1))
    return np.asarray(np.clip(color * light[..., None] + grain, 0, 255), np.uint8)
