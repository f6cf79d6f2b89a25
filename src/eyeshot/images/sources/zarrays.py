"""Zarr versions 2 and 3, plain or OME-Zarr, by chunks."""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadFile
from eyeshot.extras import extra
from eyeshot.files import explain_os_error
from eyeshot.images.damage import damage_named
from eyeshot.images.layouts import Layout
from eyeshot.images.limits import WHOLE_LIMIT
from eyeshot.images.sources.grid import GridSource, Index
from eyeshot.images.sources.selection import Selection
from eyeshot.images.sources.source import Source
from eyeshot.images.sources.unpacking import bounded

with extra("images"):
    import zarr

_SLACK = 2**16  # bytes
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
            self._check_stored(index)
            block = np.asarray(self._array[tuple(slice(lo, hi) for lo, hi in extent)])
        return block.astype(self.dtype, copy=False)

    def _check_stored(self, index: Index) -> None:
        """Refuse a chunk that takes more on disk than unpacked: zarr would read all of it."""
        shape = self._array.shards or self._array.chunks
        inner = (side // own for side, own in zip(shape, self._array.chunks, strict=True))
        outer = tuple(place // count for place, count in zip(index, inner, strict=True))
        key = self._array.metadata.encode_chunk_key(outer)
        file = self._path / self._array.path / key
        promised = math.prod(shape) * max(8, self.dtype.itemsize)
        if file.is_file() and file.stat().st_size > 2 * promised + _SLACK:
            raise ValueError(f"takes {file.stat().st_size} bytes and promises {promised}")

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


def open_zarr(path: Path, selection: Selection) -> Source:
    """A source over a Zarr array, or over one level of an OME-Zarr image.

    Raises:
        BadFile: the folder is not Zarr, is damaged, uses a codec that is not supported, or is a
            group in which no single image can be identified.
        BadValue: there is no such series, level or position.
    """
    if not path.is_dir():
        raise explain_os_error(FileNotFoundError(), path)
    if not any((path / name).exists() for name in _METADATA):
        raise BadFile(f"{path}: a folder without Zarr metadata", cure="name a Zarr folder")
    with damage_named(path):
        opened = zarr.open(str(path), mode="r")
    notes: tuple[str, ...] = ()
    if isinstance(opened, zarr.Group):
        array, names, notes = _choose_from_group(path, opened, selection)
    else:
        array = opened
        names = _dimension_names(array)
        selection.check_flat(path)
    if array.dtype.kind not in "biuf":
        raise BadFile(f"{path}: holds {array.dtype}", cure="an image holds real numbers")
    order = selection.understand(path, tuple(array.shape), names)
    try:
        source = ZarrSource(path, bounded(array), order)
    except BadFile as error:
        raise error if str(path) in error.fact else error.at(str(path)) from None
    source.part = selection.part(selection.series or 0)
    source.notes = notes
    return source


def _choose_from_group(
    path: Path, group: zarr.Group, selection: Selection
) -> tuple[zarr.Array[Any], str | None, tuple[str, ...]]:
    """The array of a level of an OME image, with its axes; else the group's only array."""
    with damage_named(path, "its attributes"):
        images = _images_of(group)
    if not images:
        return _only_array(path, group), None, ()
    series = selection.check_series(path, len(images))
    owner, image = images[series]
    with damage_named(path, "its attributes"):
        levels = [entry["path"] for entry in image["datasets"]]
        axes = image.get("axes", "TCZYX")  # before version 0.4 the five were understood
        names = "".join(axis["name"] if isinstance(axis, dict) else axis for axis in axes)
    level = selection.check_level(path, len(levels))
    with damage_named(path, f"level {level}"):
        array = owner[levels[level]]
        if not isinstance(array, zarr.Array):
            raise ValueError(f"{levels[level]!r} is not an array")
    notes: tuple[str, ...] = ()
    if len(images) > 1 and selection.series is None:
        notes = (f"holds {len(images)} images; series 0 is read, --series N reads N",)
    return array, names if len(names) == len(array.shape) else None, notes


def _images_of(group: zarr.Group) -> list[tuple[zarr.Group, dict[str, Any]]]:
    """The OME images of a group: its own, or those of the groups 0, 1, 2 … in it."""
    own = _multiscales(group)
    if own:
        return [(group, image) for image in own]
    found: list[tuple[zarr.Group, dict[str, Any]]] = []
    while str(len(found)) in group:
        inner = group[str(len(found))]
        if not isinstance(inner, zarr.Group) or not (images := _multiscales(inner)):
            break
        found.append((inner, images[0]))
    return found


def _multiscales(group: zarr.Group) -> list[dict[str, Any]]:
    attributes: dict[str, Any] = group.attrs.asdict()
    scales: list[dict[str, Any]] = attributes.get("ome", attributes).get("multiscales", [])
    return scales


def _only_array(path: Path, group: zarr.Group) -> zarr.Array[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of files that are no part of Zarr
        arrays = dict(group.arrays())
    if len(arrays) != 1:
        listed = ", ".join(sorted(arrays)[:_MOST_SAID]) or "none"
        raise BadFile(f"{path}: a group with the arrays {listed}", cure="name one array's folder")
    return next(iter(arrays.values()))


_MOST_SAID = 20

_WORDS = {"channel": "C", "c": "C", "z": "Z", "depth": "D", "y": "Y", "h": "H", "height": "H",
          "x": "X", "w": "W", "width": "W", "t": "T", "time": "T"}  # fmt: skip


def _dimension_names(array: zarr.Array[Any]) -> str | None:
    """The names that a version 3 array gives its axes, as letters; None unless all are known."""
    names = getattr(array.metadata, "dimension_names", None)
    if not names or not all(name and name.lower() in _WORDS for name in names):
        return None
    return "".join(_WORDS[name.lower()] for name in names)
