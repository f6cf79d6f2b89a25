"""Samples at known places of a file: the ``.npy`` sink, and what the PNG one spools into."""

from __future__ import annotations

import io
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.files import create, mode_of
from eyeshot.images.layouts import SPACE, Layout, Span
from eyeshot.images.sinks.files import FileSink, Place
from eyeshot.images.sources.raw import RawSource
from eyeshot.images.sources.source import OpenFile, Source


@dataclass(frozen=True)
class Grid:
    """A C-ordered array (planes, rows, columns, rest) at an offset of a file."""

    offset: int
    shape: tuple[int, int, int, int]
    itemsize: int

    @property
    def end(self) -> int:
        """The offset after the last sample."""
        return self.offset + math.prod(self.shape) * self.itemsize

    def write(self, handle: int, row: int, block: NDArray[Any], column: int) -> None:
        """Write (planes, n, w, rest) samples: in one go for each run of bytes."""
        _, height, width, rest = self.shape
        for plane, rows in enumerate(block):
            runs = [rows] if rows.shape[1] == width else list(rows)
            for number, run in enumerate(runs):
                line = (plane * height + row + number) * width + column
                place = self.offset + line * rest * self.itemsize
                write_all(handle, np.ascontiguousarray(run), place)


def write_all(handle: int, samples: NDArray[Any], offset: int) -> None:
    """Write contiguous samples at an offset, however often the system asks to be called."""
    data = samples.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(data):
        done += os.pwrite(handle, data[done:], offset + done)


class PlacedSink(FileSink):
    """A part file of fixed size in which every sample has its place."""

    _handle = -1

    def _open_part(self, size: int | None, head: bytes = b"") -> None:
        """Open the part file; with a size, make it, all zero after ``head``."""
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

    def _close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1


class NpySink(PlacedSink):
    """``.npy``: the canonical array, or without its channel axis when it has one channel."""

    def __init__(
        self, place: Place, shape: tuple[int, ...], dtype: np.dtype[Any], *, squeeze: bool
    ) -> None:
        super().__init__(place, shape, dtype)
        self._stored = shape[1:] if squeeze and shape[0] == 1 else shape
        self._head = _header(self._stored, self.dtype)
        grid = (shape[0], shape[1], self._columns, math.prod(shape[3:]))
        self._grid = Grid(len(self._head), grid, self.dtype.itemsize)

    def _disk_bytes(self) -> int:
        return self._grid.end

    def _create(self) -> None:
        self._open_part(self._grid.end, self._head)

    def _reopen(self) -> None:
        self._open_part(None)

    def _store(self, row: int, block: NDArray[Any], strip: Span) -> None:
        wide = block.reshape(*block.shape[:2], strip[1] - strip[0], -1)
        self._grid.write(self._handle, row, wide, strip[0])
        self._add_up(block, strip)

    def _frame(self) -> bytes:
        return read_start(self._place.part, len(self._head))

    def _reread(self, path: Path) -> Source:
        layout = Layout(self._stored, _letters(self._stored, self.shape), "as it was written")
        return RawSource(OpenFile(path), len(self._head), self.dtype, layout, str(path))


def read_start(path: Path, count: int) -> bytes:
    """The first ``count`` bytes of a file, or all of a shorter one."""
    with path.open("rb") as file:
        return file.read(count)


def _letters(stored: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """What the axes of an array stored for an image (C, …) mean."""
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
