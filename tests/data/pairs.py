"""Small folders of pictures and masks for the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot import images

Array = NDArray[Any]


def picture(number: int, *shape: int, dtype: type = np.uint8) -> Array:
    """Random samples of the whole range of ``dtype``; floats are from 0 to 1."""
    generator = np.random.default_rng(number)
    if np.dtype(dtype).kind == "f":
        return generator.random(shape or (9, 7)).astype(dtype)
    return generator.integers(0, np.iinfo(dtype).max, shape or (9, 7), dtype, endpoint=True)


def mask(number: int, *shape: int, values: tuple[int, ...] = (0, 255)) -> Array:
    """Random values, each of ``values`` at least once."""
    drawn = np.random.default_rng(number).choice(np.array(values, np.uint8), shape or (9, 7))
    drawn.reshape(-1)[: len(values)] = values
    return drawn


def write_pair(part: Path, name: str, image: Array, target: Array, suffix: str = ".png") -> None:
    """``part``/image/name.png and ``part``/label/name.png."""
    for side, array in (("image", image), ("label", target)):
        (part / side).mkdir(parents=True, exist_ok=True)
        images.write(part / side / f"{name}{suffix}", array)


def write_flat(root: Path, count: int, values: tuple[int, ...] = (0, 255)) -> Path:
    """A folder without parts: ``count`` gray pairs of 9×7, called 00, 01 …"""
    for number in range(count):
        write_pair(root, f"{number:02}", picture(number), mask(100 + number, values=values))
    return root
