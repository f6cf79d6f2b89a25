"""Zarr version 3: each chunk is compressed and written once, when its rows are complete.

With shards, several chunks share a file, which is also written once; a row of shards waits in
memory.

A run on workers has a folder next to its unfinished output (``RunFolder``). Workers may write as
long as this folder exists.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadFile, BadValue, Failure
from eyeshot.extras import extra
from eyeshot.files import explain_os_error, mode_of
from eyeshot.images.layouts import SPACE, Span
from eyeshot.images.sinks.file_sink import FileSink, Place, remove, sync_folder
from eyeshot.images.sinks.sink import (
    STORED_PLAINLY,
    ArrangedSource,
    Arrangement,
    SinkMemory,
    Storage,
)
from eyeshot.images.sources.source import Selection, Source
from eyeshot.images.sources.zarr_chunks import open_zarr

with extra("images"):
    import zarr

_SIDE = {1: 2**16, 2: 512, 3: 64}  # number of spatial axes -> length of a chunk along each
_METADATA = ("zarr.json", ".zarray", ".zgroup")
_AT_ONCE = 10  # chunks that zarr compresses at the same time
_TOGETHER = 4  # the most channels that share a chunk
_PATIENCE = 60.0  # seconds to wait for workers of a run that was stopped
_RUN, _LOCK = ".part.run", "lock"


def chunk_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The chunk (C, rows, …) of an array for samples (C, rows, …)."""
    side = _SIDE[len(shape) - 1]
    channels = shape[0] if shape[0] <= _TOGETHER else 1
    return (channels, *(min(side, length) for length in shape[1:]))


def file_of(shape: tuple[int, ...], shard: int | None, target: Path) -> tuple[int, ...]:
    """The shape (C, rows, …) of a file: a chunk, or a shard with sides of about ``shard``.

    Raises:
        BadValue: the shard is smaller than a chunk.
    """
    chunk = chunk_of(shape)
    if shard is None:
        return chunk
    side = _SIDE[len(shape) - 1]
    if shard < side:
        raise BadValue(
            f"{target}: a shard of {shard} is smaller than a chunk of {side}",
            cure=f"give {side} or more, such as {8 * side}",
        )
    sides = (
        -(-min(shard, length) // own) * own
        for length, own in zip(shape[1:], chunk[1:], strict=True)
    )
    return (chunk[0], *sides)


class ZarrSink(FileSink):
    """A folder of chunks. Rows that do not fill a row of chunks wait in memory."""

    def __init__(
        self,
        place: Place,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        arrangement: Arrangement,
        storage: Storage = STORED_PLAINLY,
        chunk: tuple[int, ...] | None = None,
    ) -> None:
        """Make a sink; ``chunk`` is the shape (C, rows, …) of a chunk, None for the default."""
        super().__init__(place, shape, dtype)
        self._arrangement = arrangement
        self._shard = storage.shard
        self._chunk = chunk or chunk_of(shape)
        self._file = file_of(shape, storage.shard, place.target) if storage.shard else self._chunk
        self._waiting: dict[Span, NDArray[Any]] = {}
        self._new: set[Path] = set()
        self.chunk_rows = self._file[1]
        self.chunk_columns = self._file[2] if len(shape) > 2 else 1
        if storage.shard is not None:
            self._settings["shard"] = storage.shard
        self.memory = sum(self.memory_in_strips(self._columns))

    def memory_in_strips(self, columns: int) -> SinkMemory:
        """A row of chunks waits for its last rows, while other chunks are compressed.

        A chunk is copied and compressed; if a strip ends inside it, it is first read and
        decompressed.
        """
        numbers = math.prod(self.shape) // (self.shape[1] * self._columns)  # of a position
        waiting = numbers * self.chunk_rows * min(columns, self._columns)
        touched = -(-columns // self.chunk_columns) + (columns < self._columns)
        for length, side in zip(self.shape[3:], self._file[3:], strict=True):
            touched *= -(-length // side)
        touched *= self.shape[0] // self._file[0]
        copies = 4 if columns < self._columns else 2
        copies += 1 if self._file != self._chunk else 0  # a shard is assembled from its chunks
        packed = copies * math.prod(self._file) * min(_AT_ONCE, touched)
        return SinkMemory(waiting * self.dtype.itemsize, packed * self.dtype.itemsize)

    def _begin(self) -> None:
        RunFolder(self._place.target).remove()  # workers of a stopped run may still write
        super()._begin()

    def _disk_bytes(self) -> int:
        return 0  # the compressed size is not known before

    def _create(self) -> None:
        space = SPACE[len(self.shape) - 1].replace("H", "y").replace("W", "x").lower()
        self._array = zarr.create_array(
            str(self._place.part),
            shape=self._arrangement.sizes,
            chunks=self._sizes(self._chunk),
            shards=self._sizes(self._file) if self._shard else None,
            dtype=self.dtype,
            fill_value=0,
            zarr_format=3,
            dimension_names=self._arrangement.names(space),
        )
        self._set_mode()

    def _set_mode(self) -> None:
        """Give the part the file mode of the output that it replaces."""
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
        samples = zarr.open_array(str(path), mode="r")
        return ArrangedSource(str(path), samples, self.dtype, self.shape, self._arrangement)

    def _clear_leftovers(self) -> None:
        for leftover in self._place.part.rglob("*.partial"):  # left by a killed process
            leftover.unlink(missing_ok=True)  # a worker may just have renamed it

    def _reopen(self) -> None:
        self._clear_leftovers()
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
        self._note(self._folder(), where, self._sizes(self._file))

    def _folder(self) -> Path:
        """The folder of the array's chunk files."""
        return self._place.part

    def _sizes(self, block: tuple[int, ...]) -> tuple[int, ...]:
        """The size of a chunk or a shard (C, rows, …) along each dimension of the array."""
        together = block[0] > 1
        return tuple(
            block[axis + 1] if axis is not None else size if together else 1
            for size, axis in zip(self._arrangement.sizes, self._arrangement.axes, strict=True)
        )

    def _note(self, array: Path, where: Sequence[slice], sizes: Sequence[int]) -> None:
        """Remember which files of an array are not yet forced to the disk."""
        spans = [
            range(part.start // size, -(-part.stop // size))
            for part, size in zip(where, sizes, strict=True)
        ]
        self._new.update(array.joinpath("c", *map(str, index)) for index in product(*spans))

    def _safe_rows(self, strip: Span) -> int:
        written = self._written[strip]
        return written if written == self.shape[1] else written - written % self.chunk_rows

    def _sync(self) -> None:
        part, paths = self._place.part, set[Path]()
        for written in self._new:
            paths.update([written, *written.rglob("*"), *written.parents])
        for path in sorted(paths, reverse=True):  # files before the folders that name them
            if path.is_relative_to(part) and path.exists():
                _force_to_disk(path)
        self._new.clear()

    def _close(self) -> None:
        self._waiting.clear()

    def _complete(self) -> None:
        """Rename the folder; an older output is renamed before, and removed later."""
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
    """Force a file, or the entries of a folder, to the disk."""
    if path.is_dir():
        sync_folder(path)
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class RunFolder:
    """A folder next to an unfinished output, with the data of the run for its workers.

    Each output of a run has one, which contains the run's token. A worker locks it while it
    computes a block. Another run at this output waits for the lock and then removes the folder, so
    that no block of a stopped run is written later.
    """

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(target.name + _RUN)

    def make(self, token: str, files: Mapping[str, bytes]) -> None:
        """Write the folder, when no worker has locked an older one any more.

        Args:
            token: identifies the run.
            files: the content of the workers' files, by name.

        Raises:
            Failure: a worker still has a lock, or the disk is full.
        """
        self.remove()
        try:
            self.path.mkdir(mode=0o700)  # the settings contain URLs, which may have passwords
            for name, content in {**files, _LOCK: token.encode()}.items():
                (self.path / name).write_bytes(content)
        except OSError as error:
            raise explain_os_error(error, self.path) from error

    def remove(self, patience: float = _PATIENCE) -> None:
        """Remove the folder, when no worker has locked it any more.

        Raises:
            Failure: a worker still has a lock.
        """
        lock = self.path / _LOCK
        if lock.exists():
            with lock.open("a") as file:
                if not _locked(file, shared=False, patience=patience):
                    raise Failure(
                        f"{self.path}: workers still write blocks of a run that was stopped",
                        cure="wait for them, or stop them",
                    )
                remove(self.path)
        else:
            remove(self.path)


@contextmanager
def holding(folder: Path, token: str) -> Iterator[None]:
    """Lock the folder of a run, so that no other run starts at its output.

    Args:
        folder: the folder of the run.
        token: identifies the run; the folder of another run is refused.

    Raises:
        Failure: the run has been stopped.
    """
    path = folder / _LOCK
    abandoned = Failure(f"{folder}: the run has been given up", cure="nothing is written any more")
    try:
        with path.open("r") as file:
            _locked(file, shared=True)
            same = os.path.samestat(os.fstat(file.fileno()), path.stat())
            if not same or file.read() != token:
                raise abandoned
            yield
    except FileNotFoundError as error:
        if Path(error.filename or "") == path:
            raise abandoned from error
        raise


def _locked(file: IO[str], *, shared: bool, patience: float | None = None) -> bool:
    """Lock a file, and return whether that succeeded within ``patience`` seconds (None: wait)."""
    import fcntl

    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    if patience is None:
        fcntl.flock(file, kind)
        return True
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        else:
            return True
