"""Zarr version 3: each chunk is packed and written once, when its rows are complete."""

from __future__ import annotations

import math
import os
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadFile
from eyeshot.extras import extra
from eyeshot.files import mode_of
from eyeshot.images.layouts import SPACE, Span
from eyeshot.images.sinks.files import FileSink, Place, remove, sync_folder
from eyeshot.images.sinks.sink import ArrangedSource, Arrangement, SinkMemory
from eyeshot.images.sources.source import Selection, Source
from eyeshot.images.sources.zarrays import open_zarr

with extra("images"):
    import zarr

_SIDE = {1: 2**16, 2: 512, 3: 64}  # axes of space -> length of a chunk along each
_METADATA = ("zarr.json", ".zarray", ".zgroup")
_AT_ONCE = 10  # chunks that zarr packs at one time
_TOGETHER = 4  # up to so many channels share a chunk


class ZarrSink(FileSink):
    """A folder of chunks. Rows that do not fill a row of chunks wait in memory."""

    def __init__(
        self,
        place: Place,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        arrangement: Arrangement,
    ) -> None:
        super().__init__(place, shape, dtype)
        space = shape[1:]
        side = _SIDE[len(space)]
        self._arrangement = arrangement
        channels = shape[0] if shape[0] <= _TOGETHER else 1
        self._chunk = (channels, *(min(side, length) for length in space))
        self._waiting: dict[Span, NDArray[Any]] = {}
        self._new: set[Path] = set()
        self.chunk_rows = self._chunk[1]
        self.chunk_columns = self._chunk[2] if len(space) > 1 else 1
        self.memory = sum(self.memory_in_strips(self._columns))

    def memory_in_strips(self, columns: int) -> SinkMemory:
        """A row of chunks waits for its last rows, while other chunks are compressed.

        A chunk is copied and compressed; if a strip ends inside it, it is first read and
        decompressed.
        """
        numbers = math.prod(self.shape) // (self.shape[1] * self._columns)  # of a position
        waiting = numbers * self.chunk_rows * min(columns, self._columns)
        touched = -(-columns // self.chunk_columns) + (columns < self._columns)
        for length, side in zip(self.shape[3:], self._chunk[3:], strict=True):
            touched *= -(-length // side)
        touched *= self.shape[0] // self._chunk[0]
        copies = 4 if columns < self._columns else 2
        packed = copies * math.prod(self._chunk) * min(_AT_ONCE, touched)
        return SinkMemory(waiting * self.dtype.itemsize, packed * self.dtype.itemsize)

    def _disk_bytes(self) -> int:
        return 0  # how well it packs is not known before

    def _create(self) -> None:
        space = SPACE[len(self.shape) - 1].replace("H", "y").replace("W", "x").lower()
        self._array = zarr.create_array(
            str(self._place.part),
            shape=self._arrangement.sizes,
            chunks=self._chunk_sizes(),
            dtype=self.dtype,
            fill_value=0,
            zarr_format=3,
            dimension_names=self._arrangement.names(space),
        )
        mode = mode_of(self._place.target)
        if mode is not None:
            self._place.part.chmod(mode)

    def _part_bytes(self) -> None:
        return None

    def _frame(self) -> bytes:
        try:
            return (self._place.part / _METADATA[0]).read_bytes()
        except FileNotFoundError:
            return b""

    def _reread(self, path: Path) -> Source:
        space = SPACE[len(self.shape) - 1]
        if self._arrangement.axes == (None, *range(len(space))):
            return open_zarr(path, Selection(layout="C" + space))
        if self._arrangement.axes == tuple(range(len(space))):
            return open_zarr(path, Selection(layout=space))
        held = zarr.open_array(str(path), mode="r")
        return ArrangedSource(str(path), held, self.dtype, self.shape, self._arrangement)

    def _reopen(self) -> None:
        for leftover in self._place.part.rglob("*.partial"):  # of the moment of a kill
            leftover.unlink()
        opened = zarr.open_array(str(self._place.part), mode="r+")
        self._array = opened

    def _store(self, row: int, block: NDArray[Any], strip: Span) -> None:
        done, count = 0, block.shape[1]
        while done < count:
            inside = (row + done) % self.chunk_rows
            part = block[:, done : done + self.chunk_rows - inside]
            top = row + done - inside
            full = min(self.chunk_rows, self.shape[1] - top)
            if part.shape[1] == full:
                self._put(top, part, strip)
            else:
                self._wait(inside, part, full, strip)
                if inside + part.shape[1] == full:
                    self._put(top, self._waiting.pop(strip), strip)
            done += part.shape[1]

    def _wait(self, inside: int, part: NDArray[Any], full: int, strip: Span) -> None:
        if inside == 0:
            self._waiting[strip] = np.empty((part.shape[0], full, *part.shape[2:]), self.dtype)
        self._waiting[strip][:, inside : inside + part.shape[1]] = part

    def _put(self, top: int, rows: NDArray[Any], strip: Span) -> None:
        laid = self._arrangement.arranged(rows)
        start = self._arrangement.start(top, strip[0])
        where = tuple(slice(lo, lo + n) for lo, n in zip(start, laid.shape, strict=True))
        self._array[where] = laid
        self._add_up(rows, strip)
        self._note(where)

    def _chunk_sizes(self) -> tuple[int, ...]:
        """How large a chunk is along each dimension of the array."""
        together = self._chunk[0] > 1
        return tuple(
            self._chunk[axis + 1] if axis is not None else size if together else 1
            for size, axis in zip(self._arrangement.sizes, self._arrangement.axes, strict=True)
        )

    def _note(self, where: tuple[slice, ...]) -> None:
        """Remember which chunks hold something not yet forced to the disk."""
        sizes = self._chunk_sizes()
        spans = [
            range(part.start // size, -(-part.stop // size))
            for part, size in zip(where, sizes, strict=True)
        ]
        self._new.update(
            self._place.part.joinpath("c", *map(str, index)) for index in product(*spans)
        )

    def _safe_rows(self, strip: Span) -> int:
        written = self._written[strip]
        return written if written == self.shape[1] else written - written % self.chunk_rows

    def _sync(self) -> None:
        for written in self._new:
            for path in [written, *written.rglob("*"), *written.parents]:
                if path.exists() and path.is_relative_to(self._place.part):
                    _force_to_disk(path)
        self._new.clear()

    def _close(self) -> None:
        self._waiting.clear()

    def _complete(self) -> None:
        """Rename the folder; an older one steps aside first."""
        target = self._place.target
        if target.exists():
            remove(self._old)
            target.rename(self._old)
        self._place.part.rename(target)

    @property
    def _old(self) -> Path:
        target = self._place.target
        return target.with_name(target.name + ".part.old")

    def _tidy(self) -> None:
        remove(self._old)

    def _check_replaceable(self) -> None:
        target = self._place.target
        if target.exists() and not any((target / name).exists() for name in _METADATA):
            raise BadFile(
                f"{target}: exists and is not Zarr, so it is never replaced",
                cure="choose another name",
            )


def _force_to_disk(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk."""
    if path.is_dir():
        sync_folder(path)
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
