"""A folder of small pictures with masks: bright discs on a noisy ground, of any two sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZES = ((48, 48), (48, 48), (40, 56), (48, 48), (48, 48))


def draw_cell(size: tuple[int, int], seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A picture and its mask, 0 or 255, (H, W)."""
    generator = np.random.default_rng(seed)
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    mask = np.zeros(size, bool)
    for _ in range(3):
        center = generator.uniform(0, height), generator.uniform(0, width)
        radius = generator.uniform(5, 11)
        mask |= (rows - center[0]) ** 2 + (columns - center[1]) ** 2 < radius**2
    picture = generator.normal(90, 20, size) + 70 * mask
    return picture.clip(0, 255).astype(np.uint8), mask.astype(np.uint8) * 255


def write_cells(
    folder: Path, sizes: Sequence[tuple[int, int]] = SIZES, *, bits: int = 8, seed: int = 0
) -> Path:
    """``folder``/image and ``folder``/label, one pair of each size."""
    for kind in ("image", "label"):
        (folder / kind).mkdir(parents=True)
    for number, size in enumerate(sizes):
        picture, mask = draw_cell(size, seed + number)
        kept = picture if bits == 8 else picture.astype(np.uint16) * 257
        Image.fromarray(kept).save(folder / "image" / f"{number}.png")
        Image.fromarray(mask).save(folder / "label" / f"{number}.png")
    return folder


def write_noisy(folder: Path, sizes: Sequence[tuple[int, int]] = SIZES) -> Path:
    """``folder``/image and ``folder``/target: pictures with noise, and without."""
    for kind in ("image", "target"):
        (folder / kind).mkdir(parents=True)
    for number, size in enumerate(sizes):
        _, mask = draw_cell(size, number)
        clean = 60 + mask.astype(float) / 255 * 120
        noise = np.random.default_rng(number).normal(0, 30, size)
        noisy = (clean + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / "image" / f"{number}.png")
        Image.fromarray(clean.astype(np.uint8)).save(folder / "target" / f"{number}.png")
    return folder
