"""An output that is written to NAME.part, with a journal, and renamed to NAME when complete."""

from __future__ import annotations

import math
import os
import shutil
import time
import zlib
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadFile, Failure, UserError
from eyeshot.files import Lock, check_not_input, explain_os_error, replace_file
from eyeshot.images.layouts import Span
from eyeshot.images.sinks.journal import Journal
from eyeshot.images.sinks.sink import Sink
from eyeshot.images.sources.source import Source
from eyeshot.language import mark, tr

_FORCE_EVERY = 5.0  # seconds between two syncs to the disk
_SEND_EVERY = 2**25  # bytes
_PIECE = 2**22  # bytes of an unfinished output that are checked at once


@dataclass(frozen=True)
class Place:
    """The path of an output, and the permissions for it.

    Attributes:
        target: the path of the finished output.
        force: replace an older output, or delete an unfinished run.
        resume: continue an unfinished run, if there is one.
        settings: plain data that determines the samples (network, image, options); a run with other
            settings is never resumed.
        inputs: paths that must not be overwritten.
    """

    target: Path
    force: bool = False
    resume: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[Path, ...] = ()

    @property
    def part(self) -> Path:
        """The path of the unfinished output."""
        return self.target.with_name(self.target.name + ".part")

    @property
    def journal(self) -> Path:
        """The path of the journal, which lists the finished rows."""
        return self.target.with_name(self.target.name + ".part.json")

    @property
    def lock(self) -> Path:
        """The path of the lock of the process that writes the output."""
        return self.target.with_name(self.target.name + ".part.lock")

    def check(self) -> None:
        """Refuse to overwrite an input, or to write into a missing folder.

        Raises:
            BadValue: the output is an input.
            BadFile: the folder does not exist.
        """
        check_not_input(self.target, *self.inputs)
        if not self.target.parent.is_dir():
            raise BadFile(
                tr("{path}: no such folder", path=self.target.parent), cure=tr("create it first")
            )

    def check_free(self, *, unfinished: bool) -> None:
        """Refuse to replace an output or to delete an unfinished run, unless ``force`` is set.

        Raises:
            BadFile: an output or an unfinished run exists.
        """
        if self.force:
            return
        if os.path.lexists(self.target):
            fact = mark("{path}: exists already")
            if self.resume:
                fact = mark("{path}: exists already, and there is no unfinished run to resume")
            raise BadFile(tr(fact, path=self.target), cure=tr("--force replaces it"))
        if unfinished and (self.part.exists() or self.journal.exists()):
            raise BadFile(
                tr("{path}: an unfinished run is there", path=self.part),
                cure=tr("--resume continues it, --force starts again"),
            )


class FileSink(Sink):
    """Manages the part file and the journal; a subclass defines how samples are stored."""

    behind = True

    def __init__(self, place: Place, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        super().__init__(str(place.target), shape, dtype)
        self._place = place
        self._lock: Lock | None = None
        self._sums: dict[Span, list[int]] = {}
        self._forced_at = time.monotonic()
        self._unsent = 0  # bytes that the system has not been asked to put on disk
        self._sealed = False
        self._settings = {
            **place.settings,
            "output shape": list(shape),
            "output dtype": str(self.dtype),
        }
        self._journal = Journal(place.journal, self._settings)

    def open(self) -> None:
        """Start a new output, or continue an unfinished one.

        Raises:
            BadFile: the output exists, another process is writing it, or an unfinished run cannot
                be resumed.
            BadValue: the settings differ from those of the unfinished run, or the output is an
                input.
            Failure: the disk is too full.
        """
        place = self._place
        place.check()
        self._check_replaceable()
        with self._explained():
            self._lock = Lock(place.lock, place.target)
        try:
            self._open()
        except BaseException:
            self._close()
            self._release()
            raise

    def _open(self) -> None:
        place = self._place
        with self._explained():
            found = self._find_journal()
            if found is not None and place.resume:
                self._resume(found)
                return
            if place.resume and place.part.exists() and not place.force:
                raise BadFile(
                    f"{place.part}: its journal is missing",
                    cure="start again with --force",
                )
            place.check_free(unfinished=found is None or bool(found.done))
            self._begin()

    def _find_journal(self) -> Journal | None:
        """The journal of an unfinished run; None if there is none, or a damaged one to replace."""
        place = self._place
        if not place.journal.exists():
            return None
        try:
            return Journal.load(place.journal)
        except BadFile:
            if place.force:
                return None
            raise

    def _begin(self) -> None:
        remove(self._place.part)
        self._journal = Journal(self._place.journal, self._settings)
        try:
            self._check_space()
            self._journal.start()  # first: a part file without a journal is not ours
            self._make()
        except BaseException:
            self._close()
            remove(self._place.part)
            self._journal.remove()
            raise

    def _make(self) -> None:
        self._create()
        self._journal.notes = self.notes
        self._journal.frame = zlib.crc32(self._frame())

    def _resume(self, journal: Journal) -> None:
        place = self._place
        self._journal = journal
        self._journal.require(self._settings)
        self._journal.require_inside(self.shape[1], self._columns)
        self.notes = self._journal.notes
        if not self._journal.done:
            remove(place.part)
            self._check_space()
            self._make()
        elif place.part.exists():
            self._check_frame()
            self._check_rows(place.part)
            self._reopen()
        elif self._is_complete() and os.path.lexists(place.target):
            self._sealed = True  # it was stopped after the rename, before the journal was removed
            self._check_rows(place.target)
        else:
            raise BadFile(
                f"{place.part}: is missing, but its journal exists", cure="start again with --force"
            )
        if os.path.lexists(place.target) and not place.force and not self._is_complete():
            raise BadFile(
                tr("{path}: exists already", path=place.target), cure=tr("--force replaces it")
            )
        self._written = dict(self._journal.done)
        self._sums = dict(self._journal.sums)

    def _check_frame(self) -> None:
        """Refuse a part file whose header or length has changed."""
        part, size = self._place.part, self._part_bytes()
        if part.is_symlink():
            raise BadFile(f"{part}: is a symbolic link", cure="start again with --force")
        found = part.stat().st_size
        if size is not None and found != size:
            raise BadFile(
                f"{part}: has {found} bytes and was made with {size}",
                cure="it was truncated or changed; start again with --force",
            )
        if zlib.crc32(self._frame()) != self._journal.frame:
            raise self._changed(part)

    def _check_rows(self, path: Path) -> None:
        """Read the written rows again, and refuse the file if they have changed."""
        row = math.prod(self.shape) // self.shape[1] * self.dtype.itemsize
        step = -(-max(1, _PIECE // row) // self.chunk_rows) * self.chunk_rows
        with self._as_changed(path), self._reread(path) as written:
            if written.shape != self.shape or written.dtype != self.dtype:
                raise self._changed(path)
            for strip, rows in self._journal.done.items():
                sums = [0] * self.shape[0]
                window = (strip,) if len(self.shape) > 2 else ()
                for top in range(0, rows, step):
                    block = written.read((top, min(top + step, rows)), *window)
                    sums = _added(sums, block)
                if sums != self._journal.sums[strip]:
                    raise self._changed(path)

    @contextmanager
    def _as_changed(self, path: Path) -> Iterator[None]:
        """Turn an error while reading our own file into the error that it was changed."""
        try:
            yield
        except UserError as error:
            raise self._changed(path) from error

    @staticmethod
    def _changed(path: Path) -> BadFile:
        return BadFile(
            f"{path}: has changed since this run wrote it",
            cure="it was truncated or changed; start again with --force",
        )

    def _is_complete(self) -> bool:
        area = sum((hi - lo) * rows for (lo, hi), rows in self._journal.done.items())
        return area == self.shape[1] * self._columns

    def _check_replaceable(self) -> None:
        """Refuse a target that a file cannot replace."""
        if self._place.target.is_dir():
            raise BadFile(f"{self.name}: is a folder", cure="choose another name")

    def _check_space(self) -> None:
        needed = self._disk_bytes()
        free = shutil.disk_usage(self._place.target.parent).free
        if needed > free:
            raise Failure(
                f"{self.name}: needs {needed / 2**20:.1f} MiB on disk and {free / 2**20:.1f} "
                "are free",
                cure="free some space, or write elsewhere",
            )

    def write(self, row: int, block: NDArray[Any], column: int = 0) -> None:
        """See :meth:`Sink.write`; the journal is written after the rows are on disk."""
        with self._explained():
            super().write(row, block, column)
            strip = (column, column + (block.shape[2] if block.ndim > 2 else 1))
            rows = self._safe_rows(strip)
            if rows > self._journal.done.get(strip, 0):
                self._journal.record(strip, rows, self._sums[strip])
            self._unsent += block.nbytes
            if time.monotonic() - self._forced_at > _FORCE_EVERY:
                self._force()
            elif self._unsent >= _SEND_EVERY:
                self._begin_sync()
                self._unsent = 0

    def _add_up(self, rows: NDArray[Any], strip: Span) -> None:
        """Add rows (C, n, …) that were passed to the system to the strip's checksums."""
        self._sums[strip] = _added(self._sums.get(strip, [0] * self.shape[0]), rows)

    def _safe_rows(self, strip: Span) -> int:
        """The number of a strip's rows that were passed to the system."""
        return self._written[strip]

    def durable_rows(self, strip: Span | None = None) -> int:
        """The number of a strip's rows after which a run can be resumed."""
        return self._journal.done.get(strip or (0, self._columns), 0)

    def _force(self) -> None:
        self._sync()
        self._journal.record_forced()
        self._forced_at, self._unsent = time.monotonic(), 0

    def complete(self) -> None:
        """See :meth:`Sink.complete`; the journal stays."""
        super().complete()
        if self._sealed:
            return
        with self._explained():
            self._force()
            self._close()
            self._complete()
            sync_folder(self._place.target.parent)
        self._sealed = True

    def _seal(self) -> Path:
        with self._explained():
            self._tidy()
            self._journal.remove()
            self._release()
        return self._place.target

    @property
    def _resumable(self) -> bool:
        """Whether finished rows are kept, so that the run can be resumed."""
        return bool(self._journal.done)

    def _release(self) -> None:
        self._journal.close()
        if self._lock is not None:
            self._lock.release()

    def abort(self) -> None:
        """Stop. The part file and its journal stay, so that the run can be resumed.

        If no row was finished, both are removed.
        """
        try:
            if not self._sealed:
                self._close()
                if not self._resumable:
                    remove(self._place.part)
                    self._journal.remove()
        finally:
            self._release()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            explained = explain_os_error(error, self._place.target)
            if isinstance(explained, Failure) and self._resumable:
                explained.cure = (
                    "free some space, then continue with --resume; the finished rows are kept"
                )
            raise explained from error

    @abstractmethod
    def _disk_bytes(self) -> int:
        """The bytes that must be free on the disk at the start."""

    @abstractmethod
    def _create(self) -> None:
        """Create the part file."""

    @abstractmethod
    def _reopen(self) -> None:
        """Open the part file of an unfinished run."""

    @abstractmethod
    def _part_bytes(self) -> int | None:
        """The length of the part file, if it is fixed from the start; else None."""

    @abstractmethod
    def _frame(self) -> bytes:
        """The bytes of the part file before its samples."""

    @abstractmethod
    def _reread(self, path: Path) -> Source:
        """A source of the samples in the part file or in the finished output."""

    @abstractmethod
    def _sync(self) -> None:
        """Force the stored rows to the disk."""

    def _begin_sync(self) -> None:
        """Let the system begin to force the stored rows to the disk, where it can."""

    @abstractmethod
    def _close(self) -> None:
        """Close the part file."""

    def _complete(self) -> None:
        """Turn the part file into the output, by default with a rename."""
        replace_file(self._place.part, self._place.target)

    def _tidy(self) -> None:
        """Remove temporary files of the completion."""


def _added(sums: list[int], rows: NDArray[Any]) -> list[int]:
    """The checksums of planes after adding the next rows (C, n, …)."""
    return [
        zlib.crc32(np.ascontiguousarray(plane).reshape(-1).view(np.uint8).data, value)
        for plane, value in zip(rows, sums, strict=True)
    ]


def remove(path: Path) -> None:
    """Remove a file or a whole folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to the disk, if the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
