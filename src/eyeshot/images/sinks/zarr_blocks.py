"""A Zarr output that many processes write: each block once, in whole chunks, with a record.

The client's process creates the array, keeps the records, and renames the output at the end. The
other processes write blocks of it. A record has a checksum of the block's samples: a resumed run
reads the blocks again, and recomputes those whose samples have changed, such as after a crash.

The client makes the levels of an OME-Zarr when all blocks are written.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadFile, BadValue
from eyeshot.extras import extra
from eyeshot.files import explain_os_error
from eyeshot.images.layouts import Span
from eyeshot.images.sinks.file_sink import Place, remove, sync_folder
from eyeshot.images.sinks.journal import Journal
from eyeshot.images.sinks.pyramids import OmeZarrSink
from eyeshot.images.sinks.sink import STORED_PLAINLY, Arrangement, Sink, Storage
from eyeshot.images.sinks.zarrays import ZarrSink
from eyeshot.language import tr

with extra("images"):
    import zarr

_BLOCKS = ".part.blocks"
_STATISTICS = ".part.stages"
_MAPS = ".part.maps"


@dataclass(frozen=True, slots=True)
class Record:
    """The record of a written block.

    Attributes:
        number: the number of the block.
        checksum: the checksum of its samples.
        notes: plain data from the worker that computed it.
    """

    number: int
    checksum: int
    notes: Any = None

    @property
    def line(self) -> str:
        """The record as a line of the file, which begins with a checksum of the rest."""
        text = json.dumps([self.number, self.checksum, self.notes], separators=(",", ":"))
        return f"{zlib.crc32(text.encode()):08x} {text}\n"

    @classmethod
    def read(cls, line: str) -> Record | None:
        """The record in a line; None if the line was truncated or changed."""
        stored, _, text = line.partition(" ")
        try:
            if int(stored, 16) != zlib.crc32(text.encode()):
                return None
            number, checksum, notes = json.loads(text)
            return cls(int(number), int(checksum), notes)
        except (ValueError, TypeError):
            return None


class BlockedZarr(ZarrSink):
    """The array in the client's process: it writes no samples, and records finished blocks.

    Attributes:
        records: the records of written blocks, by the blocks' numbers.
        lost: the number of recorded blocks whose samples have changed.
    """

    def __init__(
        self,
        place: Place,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        arrangement: Arrangement,
        storage: Storage = STORED_PLAINLY,
    ) -> None:
        super().__init__(place, shape, dtype, arrangement, storage)
        self._record_nothing()

    def _record_nothing(self) -> None:
        self.records: dict[int, Record] = {}
        self.lost = 0
        self._written_down: IO[str] | None = None

    @property
    def chunks(self) -> tuple[int, ...]:
        """The length of a chunk, or of a shard, along every spatial axis."""
        return self._file[1:]

    @property
    def part(self) -> Path:
        """The path of the array until it is complete."""
        return self._folder()

    @property
    def resumed(self) -> bool:
        """Whether this continues an unfinished run."""
        return bool(self.records or self.lost)

    @property
    def _path(self) -> Path:
        return self._place.target.with_name(self._place.target.name + _BLOCKS)

    def _find_journal(self) -> Journal | None:
        found = super()._find_journal()
        if found is not None:
            self.records = {one.number: one for one in self._read()}
        return found

    def _open(self) -> None:
        place = self._place
        with self._explained():
            found = self._find_journal()
            if found is not None and place.resume:
                self._go_on(found)
            else:
                if place.resume and place.part.exists() and not place.force:
                    raise BadFile(
                        f"{place.part}: its journal is missing", cure="start again with --force"
                    )
                place.check_free(unfinished=found is None or bool(self.records or found.done))
                self.records = {}
                self._forget()
                self._begin()
                self._journal.start()  # with the frame of what was made
            self._written_down = self._path.open("a")

    def _go_on(self, journal: Journal) -> None:
        place = self._place
        self._journal = journal
        journal.require(self._settings)
        if not self.records:
            remove(place.part)
            self._make()
            journal.start()
        elif place.part.exists():
            self._check_frame()
            self._reopen()
        elif os.path.lexists(place.target):
            self._sealed = True  # it was stopped after the rename, before the journal was removed
        else:
            raise BadFile(
                f"{place.part}: is missing, but its journal exists", cure="start again with --force"
            )
        if os.path.lexists(place.target) and not place.force and not self._sealed:
            raise BadFile(
                tr("{path}: exists already", path=place.target), cure=tr("--force replaces it")
            )

    def _read(self) -> Iterator[Record]:
        if self._path.exists():
            for line in self._path.read_text(errors="replace").splitlines():
                record = Record.read(line)
                if record is not None:
                    yield record

    def check(self, windows: Mapping[int, Sequence[Span]]) -> None:
        """Read the recorded blocks again, and drop the records of blocks that have changed.

        Args:
            windows: for each block its (lo, hi) along every spatial axis.
        """
        path = self._place.target if self._sealed else self._place.part
        inner = self._folder().relative_to(self._place.part)
        array = zarr.open_array(str(path / inner), mode="r")
        for number, record in list(self.records.items()):
            window = windows.get(number)
            if window is None or self._sum(array, window) != record.checksum:
                del self.records[number]
                self.lost += 1

    def _sum(self, array: Any, window: Sequence[Span]) -> int | None:
        """The checksum of a block, as in :class:`BlockWindow`; None if it is unreadable."""
        (top, end), *others = window
        found = 0
        for row in range(top, end, self.chunk_rows):
            spans = ((row, min(row + self.chunk_rows, end)), *others)
            try:
                laid = np.asarray(array[self._where(spans)])
            except Exception:  # with any error, a damaged chunk has changed
                return None
            found = checksum(laid, found)
        return found

    def _where(self, spans: Sequence[Span]) -> tuple[slice, ...]:
        axes = self._arrangement.axes
        return tuple(slice(None) if axis is None else slice(*spans[axis]) for axis in axes)

    def record(self, record: Record) -> None:
        """Record that a block is written."""
        with self._explained():
            if self._written_down is not None:
                self._written_down.write(record.line)
                self._written_down.flush()
        self.records[record.number] = record

    def keep(self, stage: int, found: Any) -> None:
        """Keep what a stage before the output has found, plain data, to be resumed."""
        with self._explained(), self._stages.open("a") as file:
            file.write(Record(stage, 0, found).line)

    def result_of(self, stage: int) -> Any:
        """What a stage has found; None if it is still to be done."""
        lines = self._stages.read_text().splitlines() if self._stages.exists() else []
        records = (Record.read(line) for line in lines)
        return next((one.notes for one in records if one is not None and one.number == stage), None)

    @property
    def _stages(self) -> Path:
        return self._place.target.with_name(self._place.target.name + _STATISTICS)

    def write(self, row: int, block: NDArray[Any], column: int = 0) -> None:
        """Refuse to write, because workers do it.

        Raises:
            BadValue: always.
        """
        raise BadValue(f"{self.name}: is written by workers", cure="use BlockWindow")

    def complete(self) -> None:
        """See :meth:`Sink.complete`; the caller has checked that no block is missing."""
        if self._sealed:
            return
        with self._explained():
            self._clear_leftovers()  # of workers that were killed since the sink was opened
            self._make_all_levels()
            self._sync()
            self._close()
            self._complete()
            sync_folder(self._place.target.parent)
        self._sealed = True

    def _sync(self) -> None:
        """Force every chunk to the disk, including those written by workers."""
        for folder, _, names in os.walk(self._place.part):
            for name in names:
                handle = os.open(Path(folder, name), os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
            sync_folder(Path(folder))

    def _make_all_levels(self) -> None:
        """Make the levels of a pyramid from the complete blocks; plain Zarr has none."""

    def _tidy(self) -> None:
        super()._tidy()
        self._forget()

    @property
    def _resumable(self) -> bool:
        return bool(self.records) or self._stages.exists()

    def _forget(self) -> None:
        self._path.unlink(missing_ok=True)
        self.forget_stages()

    def forget_stages(self) -> None:
        """Remove what stages have found, and their maps."""
        self._stages.unlink(missing_ok=True)
        remove(maps_folder(self._place.target))

    def _close(self) -> None:
        super()._close()
        if self._written_down is not None:
            self._written_down.close()
            self._written_down = None

    def abort(self) -> None:
        """Stop. The recorded blocks stay, so that the run can be resumed."""
        try:
            self._close()
            if not self._sealed and not self._resumable:
                remove(self._place.part)
                self._forget()
                self._journal.remove()
        finally:
            self._release()


class BlockedOmeZarr(BlockedZarr, OmeZarrSink):
    """OME-Zarr: workers write level 0, and the client makes the other levels from it."""

    def __init__(
        self, place: Place, shape: tuple[int, ...], dtype: np.dtype[Any], storage: Storage
    ) -> None:
        OmeZarrSink.__init__(self, place, shape, dtype, storage)
        self._record_nothing()

    def _make_all_levels(self) -> None:
        for _ in self._pyramid.advance(lambda _: self.shape[1]):
            pass


def maps_folder(target: Path) -> Path:
    """Where the stages of a run store maps until its output is complete."""
    return target.with_name(target.name + _MAPS)


def blocked_zarr(
    target: Path,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    arrangement: Arrangement,
    *,
    storage: Storage,
    settings: Mapping[str, Any],
    inputs: Sequence[Path] = (),
    force: bool = False,
    resume: bool = False,
) -> BlockedZarr:
    """A Zarr output for many writers, not opened yet; see :func:`eyeshot.images.open_sink`.

    Raises:
        BadValue: OME-Zarr of an output whose dimensions are not channels and then axes.
    """
    place = Place(target, force, resume, dict(settings), tuple(inputs))
    if target.name.lower().endswith(".ome.zarr"):
        if not arrangement.canonical(len(shape) - 1):
            raise BadValue(
                f"{target}, and a client was given: the output is not channels and then axes",
                cure="name a .zarr without .ome, or run it without a client",
            )
        return BlockedOmeZarr(place, shape, dtype, storage)
    return BlockedZarr(place, shape, dtype, arrangement, storage)


class BlockWindow(Sink):
    """A block of a Zarr output, written in whole chunks by the process that computes it.

    Attributes:
        checksum: of the samples written so far.
    """

    def __init__(
        self,
        array: Any,
        window: Sequence[Span],
        channels: int,
        dtype: np.dtype[Any],
        arrangement: Arrangement,
        chunk_rows: int,
    ) -> None:
        """Write to an array.

        Args:
            array: from :func:`opened_part`.
            window: (lo, hi) along every spatial axis; ``lo`` is at the edge of a chunk.
            channels: the number of channels of the block.
            dtype: the type of the samples.
            arrangement: the order of the dimensions.
            chunk_rows: the height of a chunk.
        """
        name = str(array.store_path).removeprefix("file://")
        super().__init__(name, (channels, *(hi - lo for lo, hi in window)), dtype)
        self._array = array
        self._window, self._arrangement = list(window), arrangement
        self.chunk_rows = chunk_rows
        self._waiting: list[NDArray[Any]] = []
        self.checksum = 0

    def _store(self, row: int, block: NDArray[Any], strip: Span) -> None:
        if strip != (0, self._columns):
            raise BadValue(f"{self.name}: a block is written in its whole width")
        done = 0
        while done < block.shape[1]:
            inside = (row + done) % self.chunk_rows
            full = min(self.chunk_rows, self.shape[1] - (row + done - inside))
            part = block[:, done : done + full - inside]
            done += part.shape[1]
            self._waiting.append(part.copy() if inside + part.shape[1] < full else part)
            if inside + part.shape[1] == full:
                self._put(row + done - full)

    def _put(self, top: int) -> None:
        """Write a row of chunks."""
        parts = self._waiting
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        self._waiting = []
        first = self._window[0][0] + top
        spans = [(first, first + rows.shape[1]), *self._window[1:]]
        laid = self._arrangement.arranged(rows)
        axes = self._arrangement.axes
        where = tuple(slice(None) if axis is None else slice(*spans[axis]) for axis in axes)
        try:
            self._array[where] = laid
        except OSError as error:
            raise explain_os_error(error, Path(self.name)) from error
        self.checksum = checksum(laid, self.checksum)

    def _seal(self) -> int:
        return self.checksum


def opened_part(path: Path) -> Any:
    """The unfinished Zarr array at a path, to be written.

    Raises:
        BadFile: it does not exist.
    """
    try:
        return zarr.open_array(str(path), mode="r+")
    except OSError as error:
        raise explain_os_error(error, path) from error


def checksum(samples: NDArray[Any], before: int = 0) -> int:
    """A checksum of samples in the array's order; ``before`` is that of the samples before them."""
    return zlib.crc32(np.ascontiguousarray(samples).reshape(-1).view(np.uint8).data, before)
