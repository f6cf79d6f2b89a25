"""A dense 5×5 filter over a large TIFF, from file to file: by bands, and by the whole array."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from torch import nn

import eyeshot
from eyeshot.images import open_source

BUDGET = 1_000_000_000
"""Bytes that the process may hold: ``--memory 1GB``."""


def make_kernel() -> NDArray[np.float32]:
    """5×5 positive weights of full rank that add up to 1: no separable short cut, no clipping."""
    weights = np.random.default_rng(0).random((5, 5)) + 0.1
    return np.asarray(weights / weights.sum(), np.float32)


def write_picture(path: Path, size: int) -> None:
    """A square 8-bit gray TIFF of noise in strips, written by bands."""
    draw = np.random.default_rng(1)
    row = draw.integers(0, 256, (256, size), np.uint8)
    picture = tifffile.memmap(path, shape=(size, size), dtype=np.uint8, rowsperstrip=64)
    for top in range(0, size, 256):
        band = picture[top : top + 256]
        band[:] = np.roll(row[: len(band)], draw.integers(size), axis=1) ^ draw.integers(256)
    picture.flush()


def filter_by_bands(source: Path, target: Path) -> partial[Any]:
    """Eyeshot: a network of one convolution, from file to file."""
    net = nn.Conv2d(1, 1, 5, padding=2, bias=False).eval()
    net.weight.data = torch.from_numpy(make_kernel())[None, None]
    return partial(
        eyeshot.run,
        net,
        source,
        target,
        output_format="uint8",
        memory=BUDGET,
        raw=False,
        force=True,
    )


def filter_whole(source: Path, target: Path) -> partial[None]:
    """OpenCV over the whole array, with the same border of zeros."""
    return partial(_filter_whole, source, target, make_kernel())


def _filter_whole(source: Path, target: Path, kernel: NDArray[np.float32]) -> None:
    picture = tifffile.imread(source)
    tifffile.imwrite(target, cv2.filter2D(picture, -1, kernel, borderType=cv2.BORDER_CONSTANT))


def compare_files(one: Path, other: Path) -> tuple[int, float]:
    """The largest difference between two 8-bit pictures, and the share of samples that differ."""
    first, second = open_source(one), open_source(other)
    _, height, width = first.shape
    largest = different = 0
    for top in range(0, height, 256):
        window = ((top, min(top + 256, height)), (0, width))
        gap = np.abs(first.read(*window).astype(np.int16) - second.read(*window))
        largest = max(largest, int(gap.max()))
        different += int(np.count_nonzero(gap))
    return largest, different / (height * width)
