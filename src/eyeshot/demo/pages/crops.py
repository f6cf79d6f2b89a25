"""What the reader of a page learns from: crops of another page, digits and what is none.

A network that only ever saw digits calls anything a digit. So the reader gets an eleventh class,
*nothing*: blank paper, and digits too far from the middle of the crop to count as found there.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree

from eyeshot.data import Data, Examples
from eyeshot.demo.pages.scattering import Page, cells_for, scatter

NOTHING = "nothing"
NEAR = 3
"""A digit counts as found by a crop that is no more than so many pixels off, along both axes."""
_FAR = 6  # from so many pixels on it does not; between the two, a crop is taught as neither
_FARTHEST = 20
_HELD_OUT = 500  # of the digits to learn from; they judge the reader while it learns
_LOOKS = 2  # crops of each digit


def page_crops(data: Data, seed: int = 0) -> Data:
    """Crops of pages of training digits, in the classes of ``data`` and *nothing*.

    The test digits are not touched: what judges the reader while it learns are some of the training
    digits, on a page of their own.
    """
    images, labels = data.train.images[:, 0].numpy(), data.train.labels.numpy()
    nothing = len(data.classes)
    parts = [
        _examples(scatter(images[part], labels[part], cells_for(count, 0.5), seed + n), nothing, n)
        for n, (part, count) in enumerate(
            [
                (slice(_HELD_OUT, None), len(images) - _HELD_OUT),
                (slice(None, _HELD_OUT), _HELD_OUT),
            ]
        )
    ]
    return dataclasses.replace(
        data,
        name=f"{data.name} on a page",
        train=parts[0],
        test=parts[1],
        classes=(*data.classes, NOTHING),
    )


def _examples(page: Page, nothing: int, seed: int) -> Examples:
    draw = np.random.default_rng((seed, 7))
    found, labels = [], []
    for _ in range(_LOOKS):
        found.append(page.corners + draw.integers(-NEAR, NEAR + 1, size=page.corners.shape))
        labels.append(page.labels)
    missed = page.corners + _offsets(draw, len(page.corners))
    blank = draw.integers(0, page.pixels.shape[0] - page.side + 1, size=(len(missed) // 2, 2))
    empty = _away(page, np.concatenate([missed, blank]))
    corners = np.concatenate([*found, empty])
    labels.append(np.full(len(empty), nothing))
    pictures = torch.from_numpy(cut_crops(page.pixels, corners, page.side))
    return Examples.hold(pictures[:, None], torch.from_numpy(np.concatenate(labels)))


def _offsets(draw: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Random shifts of which the larger is between ``_FAR`` and ``_FARTHEST``."""
    shifts = draw.integers(-_FARTHEST, _FARTHEST + 1, size=(count, 2))
    larger = draw.integers(0, 2, size=count)
    away = draw.integers(_FAR, _FARTHEST + 1, size=count) * draw.choice([-1, 1], size=count)
    shifts[np.arange(count), larger] = away
    return shifts


def _away(page: Page, corners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those crops that no digit is near to."""
    away, _ = KDTree(page.corners).query(corners, p=np.inf)
    kept: NDArray[np.int64] = corners[away >= _FAR]
    return kept


def cut_crops(pixels: NDArray[Any], corners: NDArray[np.int64], side: int) -> NDArray[Any]:
    """Squares (N, side, side) of a page; dark where they reach beyond it."""
    wide = np.pad(pixels, side)
    windows = np.lib.stride_tricks.sliding_window_view(wide, (side, side))
    return windows[corners[:, 0] + side, corners[:, 1] + side].copy()
