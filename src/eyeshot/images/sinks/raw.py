"""Samples at known offsets in a file: the ``.npy`` sink, and the temporary file of the PNG sink."""

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
from eyeshot.images.sinks.arrangement import ArrangedSource, Arrangement, Start
from eyeshot.images.sinks.files import FileSink, Place
from eyeshot.images.sources.raw import RawSource
from eyeshot.images.sources.source import OpenFile, Source


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
        """Write a block that begins at ``start``: in one go for each run of bytes."""
        whole = len(self.shape)  # of the dimensions from here on, all is written
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
        held = np.memmap(path, self.dtype, "r", len(self._head), sizes)
        return ArrangedSource(str(path), held, self.dtype, self.shape, self._arrangement)


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
