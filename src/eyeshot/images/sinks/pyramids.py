"""OME-Zarr and OME-TIFF: the image, and the smaller levels of a pyramid for viewers.

Each level is half as large as the one before. A file of a level (a chunk, or a shard) is computed
from the stored samples of the level before as soon as these are complete, while the run goes on.
Its bytes do not depend on the run's bands and strips, nor on interruptions. (NGFF 0.5, the version
for Zarr 3.)

In this file:

- computing a level: the mean of two by two samples, or every second sample of labels;
- the levels of an array in Zarr, block by block;
- OME-Zarr;
- OME-TIFF, compressed from the same arrays when all of them are complete.
"""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from eyeshot.errors import BadValue
from eyeshot.extras import extra
from eyeshot.files import create, mode_of
from eyeshot.images.layouts import SPACE, Span
from eyeshot.images.pixel_grid import PAGE_NAME, PICKED, SYMBOL, PixelGrid
from eyeshot.images.sinks.file_sink import FileSink, Place, remove
from eyeshot.images.sinks.journal import Journal
from eyeshot.images.sinks.sink import SinkMemory, Storage, laid_canonically
from eyeshot.images.sinks.zarrays import ZarrSink, chunk_of, file_of
from eyeshot.images.sources.source import Selection, Source
from eyeshot.images.sources.tiff_segments import open_tiff
from eyeshot.images.sources.zarr_chunks import open_zarr

with extra("images"):
    import zarr

VERSION = "0.5"
_AXES = {3: "cyx", 4: "czyx"}
_COLORS = ("FF0000", "00FF00", "0000FF", "FFFF00", "00FFFF", "FF00FF")
"""Of the channels; the first three make a color picture."""
_COPIES = 3  # copies of a file of a level: as computed, as zarr takes it, compressed


def halve(samples: NDArray[Any], factors: Sequence[int], *, labels: bool) -> NDArray[Any]:
    """Samples (C, rows, …) at half the size along each spatial axis whose factor is 2.

    An odd length is rounded up: the last sample is copied. Means are computed in float64 (float32
    for 8 and 16 bits); means of integers are rounded half to even.

    Args:
        samples: a block that begins at even positions of the image.
        factors: 1 or 2, for each spatial axis.
        labels: take every second sample from the first on instead of means.
    """
    if labels or samples.dtype.kind == "b":
        return samples[(slice(None), *(slice(None, None, factor) for factor in factors))]
    wide = samples.astype(np.float32 if samples.dtype.itemsize < 4 else np.float64)
    with np.errstate(invalid="ignore"):  # the mean of +inf and -inf is NaN
        for axis, factor in enumerate(factors, 1):
            if factor == 2:
                wide = _halved(wide, axis)
    return (np.rint(wide) if samples.dtype.kind in "iu" else wide).astype(samples.dtype)


def _halved(samples: NDArray[Any], axis: int) -> NDArray[Any]:
    along = np.moveaxis(samples, axis, 0)
    means, odd = along[::2] * samples.dtype.type(0.5), along[1::2]
    means[: len(odd)] += odd * samples.dtype.type(0.5)  # halved before, so that nothing overflows
    if len(means) > len(odd):
        means[-1] = along[-1]
    return np.moveaxis(means, 0, axis)


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a pyramid.

    Attributes:
        shape: (C, rows, …).
        factors: the ratio of the level before to this level, along each spatial axis.
        scale: the ratio of the whole image to this level, along each spatial axis.
        chunk: the shape (C, rows, …) of a chunk.
        file: the shape (C, rows, …) of a file: of a chunk, or a shard.
    """

    shape: tuple[int, ...]
    factors: tuple[int, ...]
    scale: tuple[int, ...]
    chunk: tuple[int, ...]
    file: tuple[int, ...]


def levels_of(shape: tuple[int, ...], shard: int | None, target: Path) -> list[Level]:
    """The levels of an image (C, H, W) or (C, D, H, W), the whole one first.

    Rows and columns are halved until they fit into one chunk. The slices of a volume are halved
    only while there are more of them than in a chunk: a stack of few slices keeps them.
    """
    ones = (1,) * (len(shape) - 1)
    found = [Level(shape, ones, ones, chunk_of(shape), file_of(shape, shard, target))]
    while found[-1].chunk[1:] != found[-1].shape[1:]:
        last = found[-1]
        factors = tuple(
            2 if length > 1 and (length > side or axis >= len(ones) - 2) else 1
            for axis, (length, side) in enumerate(zip(last.shape[1:], last.chunk[1:], strict=True))
        )
        smaller = (-(-n // factor) for n, factor in zip(last.shape[1:], factors, strict=True))
        sides = (shape[0], *smaller)
        scale = tuple(a * b for a, b in zip(last.scale, factors, strict=True))
        found.append(Level(sides, factors, scale, chunk_of(sides), file_of(sides, shard, target)))
    return found


class Pyramid:
    """The stored levels of an image, each made from the one before, file by file."""

    def __init__(
        self, arrays: Sequence[zarr.Array[Any]], levels: Sequence[Level], *, labels: bool
    ) -> None:
        self.arrays, self._levels, self._labels = arrays, levels, labels
        self._made = [[0] * _count(level, 2) for level in levels]  # rows of files in a column

    def advance(self, complete: Callable[[Span], int]) -> Iterator[tuple[int, tuple[slice, ...]]]:
        """Make every file of every level whose samples are complete.

        Args:
            complete: returns how many rows of a range of columns of the whole image are stored.

        Yields:
            The number of a level, and the block of it that was written.
        """
        for number, level in enumerate(self._levels[1:], 1):
            for column, done in enumerate(self._made[number]):
                for row in range(done, _count(level, 1)):
                    if not self._is_ready(number, row, column, complete):
                        break
                    yield from self._make_row(number, row, column)
                    self._made[number][column] += 1

    def _is_ready(
        self, number: int, row: int, column: int, complete: Callable[[Span], int]
    ) -> bool:
        level, before = self._levels[number], self._levels[number - 1]
        needed = _span(level, before, 0, row)[1]
        left, right = _span(level, before, 1, column)
        if number == 1:
            return complete((left, right)) >= needed
        side = before.file[2]
        beside = self._made[number - 1][left // side : -(-right // side)]
        return all(min(made * before.file[1], before.shape[1]) >= needed for made in beside)

    def _make_row(
        self, number: int, row: int, column: int
    ) -> Iterator[tuple[int, tuple[slice, ...]]]:
        """Make all files at one place along rows and columns: all channels and all slices."""
        level = self._levels[number]
        depth = [range(_count(level, axis)) for axis in range(3, len(level.shape))]
        for group, *rest in product(range(_count(level, 0)), *depth):
            where = tuple(
                slice(place * side, min((place + 1) * side, length))
                for place, side, length in zip(
                    (group, row, column, *rest), level.file, level.shape, strict=True
                )
            )
            self.make(number, where)
            yield number, where

    def make(self, number: int, where: tuple[slice, ...]) -> None:
        """Make one file of a level from the stored samples of the level before.

        Args:
            number: the number of the level, from 1 on.
            where: the block (C, rows, …) of the file.
        """
        level, before = self._levels[number], self._levels[number - 1]
        block = np.empty([side.stop - side.start for side in where], self.arrays[0].dtype)
        sources = (
            range(side.start * factor, min(side.stop * factor, length), step)
            for side, factor, length, step in zip(
                where[1:], level.factors, before.shape[1:], before.chunk[1:], strict=True
            )
        )
        for starts in product(*sources):
            read, write = [where[0]], [slice(None)]
            for start, side, factor, length, step in zip(
                starts, where[1:], level.factors, before.shape[1:], before.chunk[1:], strict=True
            ):
                stop = min(start + step, length)
                read.append(slice(start, stop))
                write.append(slice(start // factor - side.start, -(-stop // factor) - side.start))
            samples = np.asarray(self.arrays[number - 1][tuple(read)])
            for plane, smaller in zip(samples, block[tuple(write)], strict=True):
                smaller[...] = halve(plane[np.newaxis], level.factors, labels=self._labels)[0]
        self.arrays[number][where] = block


def _count(level: Level, axis: int) -> int:
    """The number of files along an axis; axis 0 is channels."""
    return -(-level.shape[axis] // level.file[axis]) if axis < len(level.shape) else 1


def _span(level: Level, before: Level, axis: int, place: int) -> Span:
    """The positions of the level before from which a file is made, along one axis."""
    side = level.file[axis + 1] * level.factors[axis]
    return place * side, min((place + 1) * side, before.shape[axis + 1])


class OmeZarrSink(ZarrSink):
    """A group of arrays 0, 1, 2 …: the image with its axes (c, y, x) or (c, z, y, x), and levels.

    NGFF prescribes this order of axes, so it does not depend on the network's order.
    """

    def __init__(
        self, place: Place, shape: tuple[int, ...], dtype: np.dtype[Any], storage: Storage
    ) -> None:
        if len(shape) not in _AXES:
            raise BadValue(
                f"{place.target}: OME's formats hold pictures and volumes, not {shape}",
                cure="write .zarr or .npy",
            )
        self._storage = storage
        self._levels = self._plan_levels(place.target, shape, storage.shard)
        self._stored: dict[Span, int] = {}
        whole = self._levels[0]
        super().__init__(place, shape, dtype, laid_canonically(shape), storage, whole.chunk)

    def _plan_levels(self, target: Path, shape: tuple[int, ...], shard: int | None) -> list[Level]:
        return levels_of(shape, shard, target)

    def memory_in_strips(self, columns: int) -> SinkMemory:
        """As for plain Zarr; a file of a level is made while no other chunk is compressed."""
        waiting, packing, _ = super().memory_in_strips(columns)
        if len(self._levels) < 2:
            return SinkMemory(waiting, packing)
        plane = math.prod(self._chunk[1:])
        made = _COPIES * (math.prod(self._file) + math.prod(self._chunk)) * self.dtype.itemsize
        return SinkMemory(waiting, max(packing, made + 2 * plane * 8))

    def _create(self) -> None:
        group = zarr.create_group(
            str(self._place.part), zarr_format=3, attributes={"ome": self._metadata()}
        )
        for number, level in enumerate(self._levels):
            group.create_array(
                str(number),
                shape=level.shape,
                chunks=level.chunk,
                shards=level.file if self._shard else None,
                dtype=self.dtype,
                fill_value=0,
                dimension_names=tuple(_AXES[len(self.shape)]),
            )
        self._set_mode()
        self._open_levels("r+")

    def _metadata(self) -> dict[str, Any]:
        """The image's metadata according to NGFF."""
        grid = self._storage.grid or PixelGrid.plain(len(self.shape) - 1)
        axes: list[dict[str, str]] = [{"name": "c", "type": "channel"}]
        for name, unit in zip(_AXES[len(self.shape)][1:], grid.units, strict=True):
            axes.append({"name": name, "type": "space"} | ({} if unit is None else {"unit": unit}))
        datasets = []
        for number, level in enumerate(self._levels):
            firsts = (0.0 if self._picks else (factor - 1) / 2 for factor in level.scale)
            smaller = grid.moved(list(zip(level.scale, firsts, strict=True)))
            transformations = [
                {"type": "scale", "scale": [1.0, *smaller.size]},
                {"type": "translation", "translation": [0.0, *smaller.origin]},
            ]
            datasets.append({"path": str(number), "coordinateTransformations": transformations})
        return {
            "version": VERSION,
            "multiscales": [
                {
                    "axes": axes,
                    "datasets": datasets,
                    "type": "nearest" if self._picks else "mean",
                }
            ],
            **self._display(),
        }

    def _display(self) -> dict[str, Any]:
        """How to show it: as labels, each in a color, or as channels between black and a color."""
        if self._storage.labels and self.dtype.kind in "iu":
            return {"image-label": {}}
        if self._storage.span is None:
            return {}  # a viewer looks at the samples
        lo, hi = self._storage.span
        count = self.shape[0]
        channels = [
            {
                "label": str(number),
                "color": "FFFFFF" if count == 1 else _COLORS[number % len(_COLORS)],
                "active": True,
                "window": {"min": lo, "max": hi, "start": lo, "end": hi},
            }
            for number in range(count)
        ]
        return {"omero": {"channels": channels}}

    @property
    def _picks(self) -> bool:
        return self._storage.labels or self.dtype.kind == "b"

    def _open_levels(self, mode: str) -> None:
        paths = [str(self._place.part / str(number)) for number in range(len(self._levels))]
        arrays = [zarr.open_array(path, mode=mode) for path in paths]
        self._array = arrays[0]
        self._pyramid = Pyramid(arrays, self._levels, labels=self._picks)

    def _frame(self) -> bytes:
        part, names = self._place.part, map(str, range(len(self._levels)))
        found = [part / "zarr.json", *(part / name / "zarr.json" for name in names)]
        return b"".join(path.read_bytes() if path.exists() else b"" for path in found)

    def _reread(self, path: Path) -> Source:
        return open_zarr(path / "0", Selection(layout="C" + SPACE[len(self.shape) - 1]))

    def _reopen(self) -> None:
        self._clear_leftovers()
        self._open_levels("r+")

    def _resume(self, journal: Journal) -> None:
        super()._resume(journal)
        self._stored = dict(journal.done)
        if not self._sealed:
            self._make_levels()  # all again, because a killed run may have left any part of them

    def _put(self, top: int, rows: NDArray[Any], strip: Span) -> None:
        super()._put(top, rows, strip)
        self._stored[strip] = top + rows.shape[1]
        self._make_levels()

    def _make_levels(self) -> None:
        for number, where in self._pyramid.advance(self._complete_rows):
            folder = self._place.part / str(number)
            self._note(folder, where, self._levels[number].file)

    def _complete_rows(self, columns: Span) -> int:
        """The number of stored rows of a range of columns, which may be in several strips."""
        left, right = columns
        rows = self.shape[1]
        for (lo, hi), done in sorted(self._stored.items()):
            if lo <= left < hi:
                rows, left = min(rows, done), hi
            if left >= right:
                return rows
        return 0

    def _folder(self) -> Path:
        return self._place.part / "0"


TILE = 512
_TILE_UNIT = 16  # the sides of a tile must be multiples of this
_CLASSIC = 2**32 - 2**26  # the most bytes of a TIFF with 32-bit offsets, minus a margin
_SAMPLES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


def planes_of(shape: tuple[int, ...], together: int) -> list[Level]:
    """The levels of an OME-TIFF: planes of tiles; only rows and columns are halved."""
    deep = (1,) * (len(shape) - 3)
    found: list[Level] = []
    sides, scale, factors = shape, (1,) * (len(shape) - 1), (1,) * (len(shape) - 1)
    while True:
        chunk = (together, *deep, *(min(TILE, n) for n in sides[-2:]))
        found.append(Level(sides, factors, scale, chunk, chunk))
        if max(sides[-2:]) <= TILE:
            return found
        factors = (*deep, *(2 if n > 1 else 1 for n in sides[-2:]))
        scale = tuple(a * b for a, b in zip(scale, factors, strict=True))
        smaller = (-(-n // factor) for n, factor in zip(sides[1:], factors, strict=True))
        sides = (shape[0], *smaller)


class OmeTiffSink(OmeZarrSink):
    """Tiles with levels in SubIFDs, written by tifffile when all of them are in the part folder.

    The offset of a compressed tile is unknown until all tiles before it are compressed. So tiles
    are stored in Zarr until the last one is complete, which also allows resuming. 3 or 4 channels
    of 8 or 16 bits are stored as color.
    """

    def __init__(
        self, place: Place, shape: tuple[int, ...], dtype: np.dtype[Any], storage: Storage
    ) -> None:
        if dtype.name not in _SAMPLES:
            raise BadValue(
                f"{place.target}: OME-TIFF holds no {dtype}",
                cure="write .ome.zarr, or choose --as float32, uint8 or argmax",
            )
        color = shape[0] in (3, 4) and dtype.kind == "u" and dtype.itemsize <= 2
        self._together = shape[0] if color else 1
        super().__init__(place, shape, dtype, storage)

    def _plan_levels(self, target: Path, shape: tuple[int, ...], shard: int | None) -> list[Level]:
        return planes_of(shape, self._together)

    def _check_replaceable(self) -> None:
        FileSink._check_replaceable(self)

    def _set_mode(self) -> None:
        """Do nothing: the part is a folder, and the output is a file."""

    def _reread(self, path: Path) -> Source:
        if path == self._place.part:
            return super()._reread(path)
        space = SPACE[len(self.shape) - 1]
        layout = space + "C" if self._together > 1 else "C" + space
        return open_tiff(path, Selection(layout=layout if self.shape[0] > 1 else space))

    def _complete(self) -> None:
        """Compress the tiles of all levels into a temporary file, and rename it."""
        place = self._place
        packed = place.target.with_name(place.target.name + ".part.packed")
        remove(packed)  # left by a process that was killed here
        os.close(create(packed, mode_of(place.target)))
        with packed.open("r+b") as file:
            self._pack(file)
            file.flush()
            os.fsync(file.fileno())
        packed.replace(place.target)
        remove(self._old)
        place.part.rename(self._old)

    def _pack(self, file: BinaryIO) -> None:
        total = sum(math.prod(level.shape) for level in self._levels) * self.dtype.itemsize
        color = self._together > 1
        options: dict[str, Any] = {
            "photometric": "rgb" if color else "minisblack",
            "planarconfig": "contig" if color else None,
            "extrasamples": ["unassalpha"] if self._together == 4 else None,
            "compression": "zlib",
            "maxworkers": 1,
        }
        with tifffile.TiffWriter(file, bigtiff=total > _CLASSIC, ome=True) as tiff:
            for number, level in enumerate(self._levels):
                tile = tuple(-(-n // _TILE_UNIT) * _TILE_UNIT for n in level.chunk[-2:])
                channels, *space = level.shape
                sizes = (*space, channels) if color else (channels, *space)[channels == 1 :]
                first = {"subifds": len(self._levels) - 1, "metadata": self._described()}
                later: dict[str, Any] = {"subfiletype": 1, "metadata": None}
                if self._picks:
                    later["extratags"] = [(PAGE_NAME, 2, None, PICKED, True)]
                tiff.write(
                    self._tiles(number, tile),
                    shape=sizes,
                    dtype=self.dtype,
                    tile=tile,
                    **options,
                    **(later if number else first),
                )

    def _tiles(self, number: int, tile: tuple[int, ...]) -> Iterator[NDArray[Any]]:
        """The tiles of a level, page by page, padded with zeros."""
        level, array = self._levels[number], self._pyramid.arrays[number]
        steps = [range(0, n, step) for n, step in zip(level.shape, level.chunk, strict=True)]
        for corner in product(*steps):
            where = tuple(slice(lo, lo + n) for lo, n in zip(corner, level.chunk, strict=True))
            block = np.asarray(array[where])
            samples = block.reshape(-1, *block.shape[-2:])
            full = np.zeros((*tile, self._together), self.dtype)
            full[: samples.shape[1], : samples.shape[2]] = np.moveaxis(samples, 0, -1)
            yield full if self._together > 1 else full[..., 0]

    def _described(self) -> dict[str, Any]:
        """The metadata for OME-XML: axes, and the size and position of pixels if known."""
        space = _AXES[len(self.shape)][1:].upper()
        first = "C" if self.shape[0] > 1 else ""
        found: dict[str, Any] = {"axes": space + "S" if self._together > 1 else first + space}
        settings = json.dumps(self._settings, sort_keys=True)
        found["UUID"] = str(uuid.uuid5(uuid.NAMESPACE_OID, settings))  # the same when resumed
        grid = self._storage.grid
        if grid is None or grid.lengths() is None:
            return found
        planes = math.prod(self.shape[:-2]) // self._together
        places: dict[str, Any] = {}
        for axis, size, origin, unit in zip(space, grid.size, grid.origin, grid.units, strict=True):
            found[f"PhysicalSize{axis}"] = size
            found[f"PhysicalSize{axis}Unit"] = SYMBOL[unit or ""]
            if origin:
                along = [origin] * planes
                if axis == "Z":  # planes are ordered by channel, then by slice
                    along = [origin + size * (plane % self.shape[1]) for plane in range(planes)]
                places["Position" + axis] = along
                places[f"Position{axis}Unit"] = [SYMBOL[unit or ""]] * planes
        return found | ({"Plane": places} if places else {})
