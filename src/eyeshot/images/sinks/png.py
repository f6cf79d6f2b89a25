"""Sinks that write rows at their offsets in a file: ``.npy``, and PNG with a temporary file.

A compressed stream cannot be resumed after a kill, an uncompressed temporary file can. During the
run it takes the uncompressed size of the image on the disk, but no memory.

In this file:

- PNG: rows are stored uncompressed, and compressed band by band when all of them are written;
- samples at known offsets in a file: the ``.npy`` sink, and the temporary file of the PNG sink.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadValue
from eyeshot.files import begin_writing_back, create, mode_of
from eyeshot.images.layouts import SPACE, Layout, Span
from eyeshot.images.sinks.file_sink import FileSink, Place, remove
from eyeshot.images.sinks.sink import ArrangedSource, Arrangement, Start, laid, letters
from eyeshot.images.sources import open_source
from eyeshot.images.sources.arrays import RawSource
from eyeshot.images.sources.png_rows import SIGNATURE, chunk
from eyeshot.images.sources.source import OpenFile, Source
from eyeshot.language import ntr, tr


@dataclass(frozen=True)
class Grid:
    """A C-ordered array at an offset of a file."""

    offset: int
    shape: tuple[int, ...]
    itemsize: int

    @property
    def end(self) -> int:
        """The offset after the last sample."""
        return self.offset + math.prod(self.shape) * self.itemsize

    def write(self, handle: int, start: Start, block: NDArray[Any]) -> None:
        """Write a block that begins at ``start``, with one call for each run of bytes."""
        whole = len(self.shape)  # the dimensions from here on are written whole
        while whole and block.shape[whole - 1] == self.shape[whole - 1]:
            whole -= 1
        outer = max(0, whole - 1)
        steps = [math.prod(self.shape[dim + 1 :]) for dim in range(len(self.shape))]
        first = sum(place * step for place, step in zip(start, steps, strict=True))
        for index in np.ndindex(block.shape[:outer]):
            line = first + sum(i * step for i, step in zip(index, steps, strict=False))
            run = np.ascontiguousarray(block[index])
            write_all(handle, run, self.offset + line * self.itemsize)


def write_all(handle: int, samples: NDArray[Any], offset: int) -> None:
    """Write contiguous samples at an offset, with as many system calls as needed."""
    write_bytes(handle, samples.reshape(-1).view(np.uint8).data, offset)


def write_bytes(handle: int, data: memoryview, offset: int) -> None:
    """Write bytes at an offset, with as many system calls as needed."""
    done = os.pwrite(handle, data, offset)
    while done < len(data):
        done += os.pwrite(handle, data[done:], offset + done)


class PlacedSink(FileSink):
    """A part file of fixed size, in which every sample has a known offset."""

    _handle = -1

    def _open_part(self, size: int | None, head: bytes = b"") -> None:
        """Open the part file; with a size, create it with ``head`` followed by zeros."""
        if size is None:
            self._handle = os.open(self._place.part, os.O_RDWR | os.O_NOFOLLOW)
            return
        self._handle = create(self._place.part, mode_of(self._place.target))
        os.truncate(self._handle, size)
        os.pwrite(self._handle, head, 0)

    def _part_bytes(self) -> int:
        return self._disk_bytes()

    def _frame(self) -> bytes:
        return b""

    def _sync(self) -> None:
        os.fsync(self._handle)

    def _begin_sync(self) -> None:
        begin_writing_back(self._handle)

    def _close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1


class NpySink(PlacedSink):
    """``.npy``: an array of any arrangement."""

    def __init__(
        self,
        place: Place,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        arrangement: Arrangement,
    ) -> None:
        super().__init__(place, shape, dtype)
        self._arrangement = arrangement
        self._head = _header(arrangement.sizes, self.dtype)
        self._grid = Grid(len(self._head), arrangement.sizes, self.dtype.itemsize)

    def _disk_bytes(self) -> int:
        return self._grid.end

    def _create(self) -> None:
        self._open_part(self._grid.end, self._head)

    def _reopen(self) -> None:
        self._open_part(None)

    def _store(self, row: int, block: NDArray[Any], strip: Span) -> None:
        start = self._arrangement.start(row, strip[0])
        self._grid.write(self._handle, start, self._arrangement.arranged(block))
        self._add_up(block, strip)

    def _frame(self) -> bytes:
        return read_start(self._place.part, len(self._head))

    def _reread(self, path: Path) -> Source:
        sizes, axes = self._arrangement.sizes, self._arrangement.axes
        if axes in ((None, *range(len(self.shape) - 1)), tuple(range(len(self.shape) - 1))):
            layout = Layout(sizes, _letters(sizes, self.shape), "as it was written")
            return RawSource(OpenFile(path), len(self._head), self.dtype, layout, str(path))
        samples = np.memmap(path, self.dtype, "r", len(self._head), sizes)
        return ArrangedSource(str(path), samples, self.dtype, self.shape, self._arrangement)


def read_start(path: Path, count: int) -> bytes:
    """The first ``count`` bytes of a file, or all of a shorter one."""
    with path.open("rb") as file:
        return file.read(count)


def _letters(stored: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """The letters of the axes of a stored array for an image (C, …)."""
    space = SPACE[len(shape) - 1]
    return space if len(stored) < len(shape) else "C" + space


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    head = io.BytesIO()
    fields = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(head, fields)
    return head.getvalue()


_COLOR = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> PNG color type
_BAND = 2**20  # bytes packed at once
_EFFORT = (1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)  # as OpenCV: filtered rows have few repeats


def write_png(
    file: BinaryIO, bands: Iterable[NDArray[Any]], size: tuple[int, int, int], depth: int
) -> None:
    """Write bands (n, W, C) of uint8 or uint16 as a PNG of ``size`` (H, W, C)."""
    height, width, channels = size
    head = struct.pack(">IIBBBBB", width, height, depth, _COLOR[channels], 0, 0, 0)
    file.write(SIGNATURE + chunk(b"IHDR", head))
    packer = zlib.compressobj(*_EFFORT)
    above = np.zeros(width * channels * depth // 8, np.uint8)
    for band in bands:
        big = band.astype(">u2") if depth == 16 else band
        rows = np.ascontiguousarray(big).view(np.uint8).reshape(len(band), -1)
        packed = packer.compress(_filter(rows, above, channels * depth // 8))
        if packed:
            file.write(chunk(b"IDAT", packed))
        above = rows[-1]
    file.write(chunk(b"IDAT", packer.flush()) + chunk(b"IEND", b""))


def _filter(rows: NDArray[np.uint8], above: NDArray[np.uint8], pixel: int) -> bytes:
    """Each row unchanged, minus its left neighbor, or minus the row above: the smallest of these.

    The usual rule decides: the smallest sum of absolute values as signed bytes (PNG
    specification, third edition, section 12.7).
    """
    left = rows.copy()
    left[:, pixel:] -= rows[:, :-pixel]
    up = rows - np.concatenate([above[np.newaxis], rows[:-1]])
    choices = [rows, left, up]
    # the absolute value of a byte b as a signed number is the smaller of b and 256 - b
    costs = [np.minimum(c, np.negative(c)).sum(axis=1, dtype=np.uint64) for c in choices]
    best = np.argmin(costs, axis=0).astype(np.uint8)
    out = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
    out[:, 0] = best
    for kind, choice in enumerate(choices):
        out[best == kind, 1:] = choice[best == kind]
    return out.tobytes()


class PngSink(PlacedSink):
    """Stores rows uncompressed as (H, W, C), and compresses them at the end."""

    def __init__(
        self, place: Place, shape: tuple[int, ...], dtype: np.dtype[Any], *, turned: bool = False
    ) -> None:
        """Make a sink; with ``turned``, rows become the picture's columns."""
        super().__init__(place, shape, dtype)
        self._turned = turned
        if len(shape) != 3 or shape[0] not in _COLOR or self.dtype not in (np.uint8, np.uint16):
            raise BadValue(
                ntr(
                    "{path}: PNG holds uint8 or uint16 in 1 to 4 channels, not {n} channel of "
                    "{type}",
                    "{path}: PNG holds uint8 or uint16 in 1 to 4 channels, not {n} channels of "
                    "{type}",
                    shape[0],
                    path=place.target,
                    type=dtype,
                ),
                cure=tr("write .tif, .zarr or .npy, or choose --as uint8 or argmax"),
            )
        channels, height, width = laid(shape, turned=turned)
        self._size = (height, width, channels)
        self._grid = Grid(0, self._size, self.dtype.itemsize)
        row = width * channels * self.dtype.itemsize
        self._band = max(1, _BAND // row)
        self.memory = 8 * self._band * row

    def _disk_bytes(self) -> int:
        return self._grid.end

    def _create(self) -> None:
        self._open_part(self._grid.end)

    def _reopen(self) -> None:
        self._open_part(None)

    def _store(self, row: int, block: NDArray[Any], strip: Span) -> None:
        order = (2, 1, 0) if self._turned else (1, 2, 0)
        start = (strip[0], row, 0) if self._turned else (row, strip[0], 0)
        self._grid.write(self._handle, start, block.transpose(order))
        self._add_up(block, strip)

    def _reread(self, path: Path) -> Source:
        if path != self._place.part:
            flat = "" if self._size[2] > 1 else "HW"
            return open_source(path, layout=letters(flat or "HWC", turned=self._turned))
        layout = Layout(self._size, letters("HWC", turned=self._turned), "as it was written")
        return RawSource(OpenFile(path), 0, self.dtype, layout, str(path))

    def _bands(self, spool: BinaryIO) -> Iterator[NDArray[Any]]:
        height, width, channels = self._size
        for first in range(0, height, self._band):
            rows = min(self._band, height - first)
            band = np.empty((rows, width, channels), self.dtype)
            spool.readinto(band.data.cast("B"))  # type: ignore[attr-defined]
            yield band

    def _complete(self) -> None:
        """Compress the temporary file into a PNG, and rename it to the target."""
        place = self._place
        packed = place.target.with_name(place.target.name + ".part.packed")
        remove(packed)  # left by a process that was killed here
        handle = create(packed, mode_of(place.target))
        with place.part.open("rb") as spool, os.fdopen(handle, "wb") as file:
            write_png(file, self._bands(spool), self._size, self.dtype.itemsize * 8)
            file.flush()
            os.fsync(file.fileno())
        packed.replace(place.target)
        place.part.unlink()
