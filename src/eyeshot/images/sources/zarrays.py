"""Zarr versions 2 and 3, plain or OME-Zarr, by chunks."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from eyeshot.errors import BadFile, BadValue, EyeshotError
from eyeshot.files import explain_os_error
from eyeshot.images.damage import damage_named
from eyeshot.images.layouts import Layout, understand
from eyeshot.images.sources.grid import GridSource, Index
from eyeshot.images.sources.source import Source
from eyeshot.images.whole import WHOLE_LIMIT

_METADATA = ("zarr.json", ".zarray", ".zgroup")


class ZarrSource(GridSource):
    """One Zarr array, chunk by chunk; a missing chunk is its fill value, as Zarr defines."""

    def __init__(self, path: Path, array: zarr.Array[Any], layout: Layout) -> None:
        super().__init__(str(path), layout, array.dtype, array.chunks)
        if np.prod(self._chunk, dtype=float) * self.dtype.itemsize > WHOLE_LIMIT:
            raise BadFile(f"{path}: claims chunks of {self._chunk}", cure="store smaller chunks")
        self._path = path
        self._array = array
        self._stamp = _stamp(path)

    def _decode(self, index: Index) -> NDArray[Any]:
        if _stamp(self._path) != self._stamp:
            raise BadFile(
                f"{self._path}: its metadata changed while it was read",
                cure="wait until it is written, then start again",
            )
        extent = [self._extent(index, axis) for axis in range(len(index))]
        with damage_named(self._path, f"chunk {'/'.join(map(str, index))}"):
            block = np.asarray(self._array[tuple(slice(lo, hi) for lo, hi in extent)])
        return block.astype(self.dtype, copy=False)

    def identity(self) -> dict[str, Any]:
        """The folder, its array, and the state of its files."""
        return {
            "path": str(self._path.resolve()),
            "array": self._array.path,
            "shape": list(self._array.shape),
            "metadata": self._stamp,
            "chunks": _chunks_stamp(self._path / self._array.path),
        }


def _stamp(path: Path) -> list[int]:
    """Length and time of change of the metadata files at the top of the folder."""
    found: list[int] = []
    for name in _METADATA:
        file = path / name
        if file.exists():
            status = file.stat()
            found += [status.st_size, status.st_mtime_ns]
    return found


def _chunks_stamp(folder: Path) -> str:
    """A digest of the name, length and time of change of every file in an array's folder."""
    digest = hashlib.blake2b(digest_size=16)
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            status = (Path(place) / name).stat()
            digest.update(os.fsencode(f"{place}/{name}"))
            digest.update(f" {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def open_zarr(
    path: Path, *, level: int = 0, layout: str | None = None, space: int | None = None
) -> Source:
    """A source over a Zarr array, or over one level of an OME-Zarr image.

    Raises:
        BadFile: not a Zarr folder, damaged, or a group in which no single image can be told.
        BadValue: no such level.
    """
    if not path.is_dir():
        raise explain_os_error(FileNotFoundError(), path)
    if not any((path / name).exists() for name in _METADATA):
        raise BadFile(f"{path}: a folder without Zarr metadata", cure="name a Zarr folder")
    with damage_named(path):
        opened = zarr.open(str(path), mode="r")
    names: str | None = None
    if isinstance(opened, zarr.Group):
        array, names = _choose_from_group(path, opened, level)
    else:
        array = opened
        names = _dimension_names(array)
        if level != 0:
            raise BadValue(f"{path}: no level {level}", cure="it is one array, level 0")
    if array.dtype.kind not in "biuf":
        raise BadFile(f"{path}: holds {array.dtype}", cure="an image holds real numbers")
    try:
        order = understand(array.shape, metadata=names, layout=layout, space=space)
    except EyeshotError as error:
        raise error.at(str(path)) from error
    return ZarrSource(path, array, order)


def _choose_from_group(
    path: Path, group: zarr.Group, level: int
) -> tuple[zarr.Array[Any], str | None]:
    """The array of a level of an OME image, with its axes; else the group's only array."""
    with damage_named(path, "its attributes"):
        attributes: dict[str, Any] = group.attrs.asdict()
        scales = attributes.get("ome", attributes).get("multiscales", [])
        if not scales:
            return _only_array(path, group), None
        levels = [entry["path"] for entry in scales[0]["datasets"]]
        axes = scales[0].get("axes", "TCZYX")  # before version 0.4 the five were understood
        names = "".join(axis["name"] if isinstance(axis, dict) else axis for axis in axes)
    if not 0 <= level < len(levels):
        raise BadValue(f"{path}: no level {level}", cure=f"it has levels 0 to {len(levels) - 1}")
    with damage_named(path, f"level {level}"):
        array = group[levels[level]]
        if not isinstance(array, zarr.Array):
            raise ValueError(f"{levels[level]!r} is not an array")
    return array, names if len(names) == len(array.shape) else None


def _only_array(path: Path, group: zarr.Group) -> zarr.Array[Any]:
    arrays = dict(group.arrays())
    if len(arrays) != 1:
        listed = ", ".join(sorted(arrays)) or "none"
        raise BadFile(f"{path}: a group with the arrays {listed}", cure="name one array's folder")
    return next(iter(arrays.values()))


_WORDS = {"channel": "C", "c": "C", "z": "Z", "depth": "D", "y": "Y", "h": "H", "height": "H",
          "x": "X", "w": "W", "width": "W", "t": "T", "time": "T"}  # fmt: skip


def _dimension_names(array: zarr.Array[Any]) -> str | None:
    """The names that a version 3 array gives its axes, as letters; None unless all are known."""
    names = getattr(array.metadata, "dimension_names", None)
    if not names or not all(name and name.lower() in _WORDS for name in names):
        return None
    return "".join(_WORDS[name.lower()] for name in names)
