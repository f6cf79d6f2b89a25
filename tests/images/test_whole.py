"""Whole pictures: what is written is read back; what is damaged is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from eyeshot import images
from eyeshot.errors import BadFile

LOSSLESS = [
    (".png", (9, 7), np.uint8),
    (".png", (9, 7, 2), np.uint8),
    (".png", (9, 7, 3), np.uint8),
    (".png", (9, 7, 4), np.uint8),
    (".png", (9, 7), np.uint16),
    (".png", (9, 7, 2), np.uint16),
    (".png", (9, 7, 3), np.uint16),
    (".png", (9, 7, 4), np.uint16),
    (".bmp", (9, 7, 3), np.uint8),
    (".tif", (9, 7), np.float32),
    (".tiff", (9, 7, 3), np.uint16),
    (".npy", (9, 7, 3), np.float32),
]


def picture(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> NDArray[Any]:
    noise = np.random.default_rng(seed).random(shape)
    return (noise * (1 if dtype == np.float32 else np.iinfo(dtype).max)).astype(dtype)


@pytest.mark.parametrize("opens", [images.read, images.open_source])
def test_a_pipe_is_refused_without_waiting(tmp_path: Path, opens: Any) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(BadFile, match=r"a\.png: is a pipe or a device; save the image"):
        opens(tmp_path / "a.png")


@pytest.mark.parametrize(("suffix", "shape", "dtype"), LOSSLESS)
def test_what_is_written_is_read_back(
    tmp_path: Path, suffix: str, shape: tuple[int, ...], dtype: Any
) -> None:
    path = tmp_path / f"picture{suffix}"
    array = picture(shape, dtype)
    images.write(path, array)
    back = images.read(path)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".npy"])
def test_a_file_cut_short_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    images.write(path, picture((33, 35, 3), np.uint8))
    code = path.read_bytes()
    for length in [0, 1, 9, len(code) // 3, len(code) // 2, len(code) - 40]:
        path.write_bytes(code[:length])
        with pytest.raises(BadFile, match="picture"):
            images.read(path)
