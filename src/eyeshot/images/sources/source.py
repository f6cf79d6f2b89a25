"""The interface of an image source for the engine: a shape, and windows of samples.

The choice of the image within a file, and of the meaning of its axes, is made here too.

Images stored in chunks are read by a :class:`GridSource`: each chunk is decoded once while windows
are read in order.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadFile, BadValue, EyeshotError
from eyeshot.files import explain_os_error
from eyeshot.images.layouts import Index, Layout, Span, parse_index, understand
from eyeshot.images.pixel_grid import PixelGrid


class Source(ABC):
    """An image that is read by windows.

    If windows are read in order (rows increasing; within the same rows, columns increasing), each
    stored sample is decoded once: chunks that cross the end of a window are kept for the next.

    Attributes:
        name: its name in messages.
        dtype: the type of the samples, in the machine's byte order.
        native_rows: the height of its chunks; bands of a multiple of it are most efficient.
        memory: the most bytes that the source itself uses between reads and while it decodes, in
            addition to the returned window.
        open_memory: the most bytes while opening it, if that was more.
        keep_rows: the number of rows before the end of a window that the next window reads again.
        decoded_chunks: the number of decoded chunks so far.
        alpha: whether the last channel is alpha.
        turn: the file's orientation, 1 to 8; the image has been rotated by it.
        notes: facts that the user should know about how the image was read, a sentence each.
        pages: the file's letter for the axis that is read as channels, if it is not ``C``.
        part: the series, level and positions in a file with several images; plain data.
        grid: the size and position of the pixels; None if the file does not tell.
        directions: the side of the body towards which each axis of space runs; empty if unknown.
    """

    def __init__(self, name: str, layout: Layout, dtype: np.dtype[Any]) -> None:
        self.name = name
        self._layout = layout
        self.dtype = dtype.newbyteorder("=")
        self.native_rows = 1
        self.memory = 0
        self.open_memory = 0
        self.keep_rows = 0
        self.decoded_chunks = 0
        self.alpha = False
        self.turn = 1
        self.pages = layout.pages
        self.notes: tuple[str, ...] = ()
        self.part: dict[str, Any] = {}
        self.grid: PixelGrid | None = None
        self.directions: tuple[str | None, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W); (C, L) for a signal, (C, D, H, W) for a volume."""
        return self._layout.shape

    @property
    def layout(self) -> str:
        """How the stored axes were interpreted, in words."""
        return str(self._layout)

    def stand_for(self, stored: Source) -> None:
        """Copy the attributes of a source that this source reads from."""
        self.native_rows, self.memory = stored.native_rows, stored.memory
        self.open_memory, self.turn = stored.open_memory, stored.turn
        self.notes, self.part, self.pages = stored.notes, stored.part, stored.pages
        self.grid, self.directions = stored.grid, stored.directions

    def to_dict(self) -> dict[str, Any]:
        """The image and its interpretation, as plain data."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "dtype": str(self.dtype),
            "layout": self.layout,
            "alpha": self.alpha,
            "notes": list(self.notes),
            **self.part,
        }

    def read(self, *window: Span) -> NDArray[Any]:
        """The samples of a window, in the source's own dtype.

        Args:
            window: half-open (lo, hi) for each spatial axis from the first on; omitted axes are
                read whole.

        Returns:
            (C, hi - lo, …). It may be a view of the source's memory: do not write to it.

        Raises:
            BadValue: the window is empty or leaves the image.
            BadFile: the file is damaged, or changed while it was read.
        """
        space = self.shape[1:]
        spans = (*window, *((0, length) for length in space[len(window) :]))
        for (lo, hi), length in zip(spans, space, strict=False):
            if not 0 <= lo < hi <= length:
                raise BadValue(
                    f"{self.name}: window {lo}:{hi} of an axis of {length}",
                    cure="stay inside the image",
                )
        if len(spans) != len(space):
            raise BadValue(f"{self.name}: {len(window)} ranges for {len(space)} spatial axes")
        return self._read(spans)

    def window_memory(self, shape: tuple[int, ...]) -> int:
        """Bytes in use while a window of that shape (rows, …) is read, including the window."""
        return math.prod((self.shape[0], *shape)) * self.dtype.itemsize

    @abstractmethod
    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        """Read a window that has been checked."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Plain data that differs when the image does; a resumed run compares it."""

    def close(self) -> None:  # noqa: B027  (most sources have nothing to close)
        """Close the files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class OpenFile:
    """A file that is read at offsets; it detects if the file shrinks or grows.

    Plain reads, never a memory map: a map of a file that shrinks ends the process, and the pages
    of a map count as the process's own memory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.handle: BinaryIO = path.open("rb", buffering=0)
        except OSError as error:
            raise explain_os_error(error, path) from error
        self._status = os.fstat(self.handle.fileno())

    @property
    def size(self) -> int:
        """Its length in bytes when it was opened."""
        return self._status.st_size

    def check_unchanged(self) -> None:
        """Raise BadFile if the file has another length than when it was opened."""
        size = os.fstat(self.handle.fileno()).st_size
        if size != self.size:
            raise BadFile(
                f"{self.path}: had {self.size} bytes when opened and now has {size}",
                cure="wait until it is written, then start again",
            )

    def read_into(self, offset: int, target: memoryview, what: str) -> None:
        """Fill ``target`` from ``offset``; ``what`` names the piece in a message."""
        done = 0
        while done < len(target):
            count = os.preadv(self.handle.fileno(), [target[done:]], offset + done)
            if count == 0:
                self.check_unchanged()
                raise BadFile(
                    f"{self.path}: {what} ends after {done} of {len(target)} bytes",
                    cure="the file is truncated; copy it again",
                )
            done += count

    def read_bytes(self, offset: int, count: int, what: str) -> bytearray:
        """``count`` bytes from ``offset``."""
        if count > self.size:  # a damaged count must not be allocated
            raise BadFile(
                f"{self.path}: {what} claims {count} bytes in a file of {self.size}",
                cure="the file is damaged; copy it again",
            )
        data = bytearray(count)
        self.read_into(offset, memoryview(data), what)
        return data

    def identity(self) -> dict[str, Any]:
        """Path, length and time of change."""
        return {
            "path": str(self.path.resolve()),
            "bytes": self.size,
            "changed_ns": self._status.st_mtime_ns,
        }

    def close(self) -> None:
        """Close the file."""
        self.handle.close()


@dataclass(frozen=True)
class Selection:
    """The requested part of a file.

    Attributes:
        series: the number of the image, from 0; None for the first.
        level: the level of a pyramid, 0 is the largest.
        index: positions along axes, by their letters.
        layout: the order of the axes, if the user gives it.
        space: the expected number of spatial axes.
        indices: whether to read the indices of a palette and not its colors.
        offered: whether the user has ``--series`` and ``--index``, so that messages can name them.
    """

    series: int | None = None
    level: int = 0
    index: Mapping[str, int] = field(default_factory=dict)
    layout: str | None = None
    space: int | None = None
    indices: bool = False
    offered: bool = True

    def understand(self, path: Path | str, stored: tuple[int, ...], metadata: str | None) -> Layout:
        """The layout of the stored array; messages begin with ``path``.

        Raises:
            BadValue: the requested layout or index does not fit.
            BadFile: the axes cannot be understood.
        """
        try:
            return understand(
                stored,
                metadata=metadata,
                layout=self.layout,
                space=self.space,
                index=self.index,
            )
        except EyeshotError as error:
            raise error.at(str(path)) from error

    def check_series(self, path: Path | str, count: int, kind: str = "series") -> int:
        """The series that is read, of ``count``.

        Raises:
            BadValue: there is no such series.
        """
        series = self.series or 0
        if not 0 <= series < count:
            raise BadValue(f"{path}: no {kind} {series}", cure=f"it has {kind} 0 to {count - 1}")
        return series

    def check_level(self, path: Path | str, count: int) -> int:
        """The level that is read, of ``count``.

        Raises:
            BadValue: there is no such level.
        """
        if not 0 <= self.level < count:
            cure = f"it has levels 0 to {count - 1}" if count > 1 else "it has only level 0"
            raise BadValue(f"{path}: no level {self.level}", cure=cure)
        return self.level

    def check_flat(self, path: Path | str) -> None:
        """Refuse a level or a series for a file with a single image.

        Raises:
            BadValue: a level or a series is requested.
        """
        self.check_level(path, 1)
        self.check_series(path, 1)

    def page_cure(self, letter: str, length: int) -> str:
        """The cure that says how to choose a page along an axis."""
        if self.offered:
            return (
                f"choose one by --index, {letter}=0 to {letter}={length - 1}, or store each in a "
                "separate file"
            )
        return (
            "store the page in a separate file, such as with eyeshot filter FILE "
            f"-k identity --index {letter}=0 -o PAGE.png"
        )

    def page_note(self, letter: str, length: int) -> str:
        """The note that pages of a file are read as the channels of one picture."""
        more = f"; --index {letter}=N reads page N" if self.offered else ""
        return f"its {length} pages (axis {letter}) are read as channels of one picture{more}"

    def part(self, series: int = 0) -> dict[str, Any]:
        """What was chosen, as plain data."""
        return {"series": series, "level": self.level, "index": dict(self.index)}


def select(
    series: int | None, level: int, index: Index | None, layout: str | None, space: int | None
) -> Selection:
    """A selection from a caller's arguments.

    Raises:
        BadValue: ``index`` cannot be read.
    """
    return Selection(series, level, parse_index(index), layout, space)


ChunkIndex = tuple[int, ...]
"""The number of a chunk along every stored axis."""


class GridSource(Source):
    """A regular grid of chunks over the stored axes."""

    def __init__(
        self, name: str, layout: Layout, dtype: np.dtype[Any], chunk: tuple[int, ...]
    ) -> None:
        super().__init__(name, layout, dtype)
        self._chunk = tuple(
            min(side, length) for side, length in zip(chunk, layout.stored, strict=True)
        )
        if min(self._chunk) < 1:
            raise BadFile(f"{name}: claims chunks of {chunk}", cure="the file is damaged")
        self._row_axis = layout.space[0]
        self._chunks: dict[ChunkIndex, NDArray[Any]] = {}
        self.native_rows = self._chunk[self._row_axis]
        size = math.prod(self._chunk) * self.dtype.itemsize
        single = {self._row_axis, *(axis for axis, _ in layout.chosen)}
        across = math.prod(
            -(-length // side)
            for axis, (length, side) in enumerate(zip(layout.stored, self._chunk, strict=True))
            if axis not in single
        )
        # A row of chunks is kept, one is being decoded, and its compressed form is not larger.
        self.memory = size * (across + 2)

    @abstractmethod
    def _decode(self, index: ChunkIndex) -> NDArray[Any]:
        """The samples of one chunk with the stored axes, cropped at the image's end."""

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        box = self._layout.box(spans)
        self._forget(box)
        out = np.empty([hi - lo for lo, hi in box], self.dtype)
        ranges = (
            range(lo // side, -(-hi // side))
            for (lo, hi), side in zip(box, self._chunk, strict=True)
        )
        for index in product(*ranges):
            block = self._chunks.get(index)
            if block is None:
                block = self._decode(index)
                self.decoded_chunks += 1
                if self._is_needed_again(index, box):
                    self._chunks[index] = block
            elif not self._is_needed_again(index, box):
                del self._chunks[index]
            self._place(block, index, box, out)
        return self._layout.arrange(out)

    def _extent(self, index: ChunkIndex, axis: int) -> Span:
        """The range of a chunk along an axis."""
        lo = index[axis] * self._chunk[axis]
        return lo, min(lo + self._chunk[axis], self._layout.stored[axis])

    def _is_needed_again(self, index: ChunkIndex, box: tuple[Span, ...]) -> bool:
        """Whether a later window may read part of this chunk."""
        for axis in self._layout.space:
            margin = self.keep_rows if axis == self._row_axis else 0
            if self._extent(index, axis)[1] > box[axis][1] - margin:
                return True
        return False

    def _forget(self, box: tuple[Span, ...]) -> None:
        """Release the chunks before the current rows, or all after a jump back."""
        lo, hi = box[self._row_axis]
        for index in list(self._chunks):
            begin, end = self._extent(index, self._row_axis)
            if end <= lo or begin >= hi:
                del self._chunks[index]

    def _place(
        self, block: NDArray[Any], index: ChunkIndex, box: tuple[Span, ...], out: NDArray[Any]
    ) -> None:
        """Copy the intersection of a chunk and the window."""
        source, target = [], []
        for axis, (lo, hi) in enumerate(box):
            begin, end = self._extent(index, axis)
            first, last = max(lo, begin), min(hi, end)
            source.append(slice(first - begin, last - begin))
            target.append(slice(first - lo, last - lo))
        out[tuple(target)] = block[tuple(source)]
