"""Noise, and the many ways in which one array can lie in a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray

from eyeshot import images

Array = NDArray[Any]


def noise(shape: tuple[int, ...], dtype: Any = np.uint8, seed: int = 0) -> Array:
    values = np.random.default_rng(seed).random(shape)
    kind = np.dtype(dtype)
    return (values * (1 if kind.kind == "f" else np.iinfo(kind).max)).astype(kind)


def _npy(path: Path, array: Array) -> None:
    np.save(path, array)


def _fortran_npy(path: Path, array: Array) -> None:
    np.save(path, np.asfortranarray(array))


def _png(path: Path, array: Array) -> None:
    images.write(path, array)


def _tiff(**options: Any) -> Callable[[Path, Array], None]:
    def store(path: Path, array: Array) -> None:
        photometric = "rgb" if array.ndim == 3 else "minisblack"
        tifffile.imwrite(path, array, photometric=photometric, **options)

    return store


def _planar(path: Path, array: Array) -> None:
    planes = np.moveaxis(array, -1, 0)
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate", tile=(16, 32))


def _zarr(**options: Any) -> Callable[[Path, Array], None]:
    def store(path: Path, array: Array) -> None:
        kept = zarr.create_array(
            str(path), shape=array.shape, dtype=array.dtype, fill_value=0, **options
        )
        kept[...] = array

    return store


# name -> suffix, stored shape, dtype, how it is written
STORED: dict[str, tuple[str, tuple[int, ...], Any, Callable[[Path, Array], None]]] = {
    "npy": (".npy", (53, 61), np.float32, _npy),
    "npy big-endian": (".npy", (53, 61, 3), ">u2", _npy),
    "npy Fortran": (".npy", (53, 61, 2), np.float32, _fortran_npy),
    "png gray": (".png", (53, 61), np.uint8, _png),
    "png gray and alpha": (".png", (53, 61, 2), np.uint8, _png),
    "png color": (".png", (53, 61, 3), np.uint8, _png),
    "png color and alpha": (".png", (53, 61, 4), np.uint8, _png),
    "png deep gray": (".png", (53, 61), np.uint16, _png),
    "png deep color": (".png", (53, 61, 3), np.uint16, _png),
    "png deep color and alpha": (".png", (53, 61, 4), np.uint16, _png),
    "bmp": (".bmp", (53, 61, 3), np.uint8, _png),
    "tiff one piece": (".tif", (53, 61, 3), np.uint16, _tiff()),
    "tiff big-endian": (".tif", (53, 61), np.uint16, _tiff(byteorder=">")),
    "tiff strips": (".tif", (53, 61), np.uint8, _tiff(rowsperstrip=7)),
    "tiff deflated strips": (".tif", (53, 61), np.uint8, _tiff(rowsperstrip=7, compression="zlib")),
    "tiff tiles": (".tif", (53, 61, 3), np.uint8, _tiff(tile=(16, 32))),
    "tiff LZW predicted": (
        ".tif", (53, 61, 3), np.uint16, _tiff(tile=(16, 16), compression="lzw", predictor=True)
    ),
    "tiff float predicted": (
        ".tif", (53, 61), np.float32, _tiff(tile=(16, 16), compression="zlib", predictor=True)
    ),
    "tiff big-endian tiles": (
        ".tif", (53, 61), np.float32, _tiff(tile=(32, 16), byteorder=">", bigtiff=True)
    ),
    "tiff planar": (".tif", (53, 61, 3), np.uint8, _planar),
    "zarr 2": (".zarr", (53, 61), np.uint8, _zarr(chunks=(16, 20), zarr_format=2)),
    "zarr 3": (".zarr", (3, 53, 61), np.float32, _zarr(chunks=(2, 10, 61), zarr_format=3)),
    "zarr 3 shards": (
        ".zarr", (53, 61, 3), np.uint16, _zarr(chunks=(8, 16, 3), shards=(16, 32, 3))
    ),
}  # fmt: skip


def canonical(array: Array) -> Array:
    """(C, H, W), by the plainest means."""
    if array.ndim == 2:
        return array[np.newaxis]
    return array if array.shape[0] <= 4 else np.moveaxis(array, -1, 0)


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Array]]:
    """Every kind of file once, with the array that it holds as (C, H, W)."""
    folder = tmp_path_factory.mktemp("stored")
    files = {}
    for number, (name, (suffix, shape, dtype, store)) in enumerate(STORED.items()):
        array = noise(shape, dtype, number)
        path = folder / f"image{number}{suffix}"
        store(path, array)
        files[name] = (path, canonical(array))
    return files
