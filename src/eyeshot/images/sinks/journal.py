"""The journal: a small file next to an output that lists the finished rows, for resuming.

The journal is written after the samples, and read first when a run is resumed. A killed process
loses no data that it has passed to the system, so rows count as done at once. A crash of the
machine may lose such data: after a restart, only rows that were forced to the disk count.

The first line is the whole state, in JSON. It is written to a new file, forced to the disk, and
renamed. Each of the next lines, which are only appended, is what has changed since. A last line
without an end was cut off by a kill or by a full disk, before its rows were announced: it does not
count. After a crash of the machine only the first line counts, because any other may be lost or
damaged.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from eyeshot.errors import BadFile, BadValue, one_line, shorten
from eyeshot.files import create
from eyeshot.images.layouts import Span

_BOOT = Path("/proc/sys/kernel/random/boot_id")
"""On Linux, a text that changes at every start of the machine. Elsewhere only forced rows count."""


class Journal:
    """The finished rows of every column strip, and the data that a resumed run must find unchanged.

    Attributes:
        settings: plain data that determines the samples.
        done: rows of each strip that have been passed to the system.
        sums: for each strip, a checksum of those rows for each plane of channels.
        frame: a checksum of the bytes before the samples.
        notes: plain data from the caller.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        self.done: dict[Span, int] = {}
        self.sums: dict[Span, list[int]] = {}
        self.frame = 0
        self.notes: list[Any] = []
        self._forced: tuple[dict[Span, int], dict[Span, list[int]]] = ({}, {})
        self._handle = -1
        self._room = 0  # bytes that may be appended before the whole state is written again
        self._saved: tuple[int, list[Any]] = (0, [])  # the frame and the notes that were written

    @classmethod
    def load(cls, path: Path) -> Journal:
        """Read a journal.

        Raises:
            BadFile: the file is not a journal.
        """
        try:
            text, *changes = _content(path).split(b"\n")
            found = json.loads(text)
            journal = cls(path, _mapping(found["settings"]))
            journal.frame, journal.notes = _count(found["frame"]), list(found["notes"])
            journal._forced = _rows(found["forced"]), _sums(found["forced sums"])
            journal.done, journal.sums = dict(journal._forced[0]), dict(journal._forced[1])
            if _boot() and _boot() == found["boot"]:
                journal.done, journal.sums = _rows(found["done"]), _sums(found["sums"])
                for line in changes[:-1]:
                    journal._change(json.loads(line))
            if journal.done.keys() != journal.sums.keys():
                raise ValueError("rows without a checksum")
        except _NO_JOURNAL as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise BadFile(
                f"{path}: not a journal of an unfinished run ({reason})",
                cure="start again with --force",
            ) from error
        return journal

    def _change(self, change: dict[str, Any]) -> None:
        """Take in a line that was appended."""
        self.done |= _rows(change["done"])
        self.sums |= _sums(change["sums"])
        self.frame = _count(change.get("frame", self.frame))
        self.notes = list(change.get("notes", self.notes))

    def require(self, settings: dict[str, Any]) -> None:
        """Refuse to resume with other settings.

        Raises:
            BadValue: a setting differs; the first one is named.
        """
        current = json.loads(json.dumps(settings))
        for name in [*current, *self.settings]:
            was, now = self.settings.get(name), current.get(name)
            if was != now:
                raise BadValue(
                    f"{self.path}: cannot resume: {name} was {_short(was)} and is {_short(now)}",
                    cure="use the same as before, or start again with --force",
                )

    def require_inside(self, rows: int, columns: int) -> None:
        """Refuse rows and strips outside of an image of this size.

        Raises:
            BadFile: a strip does not fit; it is named.
        """
        ends = 0
        for (lo, hi), done in sorted(self.done.items()):
            if not ends <= lo < hi <= columns or done > rows:
                raise BadFile(
                    f"{self.path}: {done} rows of columns {lo}:{hi}, and the image has {rows} rows "
                    f"of {columns}",
                    cure="start again with --force",
                )
            ends = hi

    def remove(self) -> None:
        """Remove the journal: the output is complete, or the run is abandoned."""
        self.close()
        self._aside.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; a later record writes it again."""
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1

    @property
    def _aside(self) -> Path:
        return self.path.with_name(self.path.name + ".new")

    def record(self, strip: Span, rows: int, sums: list[int]) -> None:
        """Record that ``rows`` rows of a strip have been passed to the system."""
        self.done[strip], self.sums[strip] = rows, sums
        change: dict[str, Any] = {"done": _keyed({strip: rows}), "sums": _keyed({strip: sums})}
        now = self._now()
        if now[0] != self._saved[0]:
            change["frame"] = now[0]
        if now[1] != self._saved[1]:
            change["notes"] = now[1]
        line = (json.dumps(change) + "\n").encode()
        if self._handle < 0 or len(line) > self._room:
            self._save()
        else:
            self._append(line, now)

    def _now(self) -> tuple[int, list[Any]]:
        """The frame and a copy of the notes: the thread that reads adds more in the meantime."""
        return self.frame, list(self.notes)

    def _append(self, line: bytes, now: tuple[int, list[Any]]) -> None:
        try:
            _write(self._handle, line)
        except BaseException:
            self.close()  # nothing may follow a part of a line
            raise
        self._room -= len(line)
        self._saved = now

    def record_forced(self) -> None:
        """Record that all finished rows have been forced to the disk."""
        self._forced = dict(self.done), dict(self.sums)
        self._save()

    def start(self) -> None:
        """Write the journal of a run that has no finished rows yet."""
        self._save()

    def _save(self) -> None:
        """Write the whole state to a new file."""
        forced, forced_sums = self._forced
        now = self._now()
        text = json.dumps(
            {
                "settings": self.settings,
                "frame": now[0],
                "done": _keyed(self.done),
                "sums": _keyed(self.sums),
                "forced": _keyed(forced),
                "forced sums": _keyed(forced_sums),
                "notes": now[1],
                "boot": _boot(),
            }
        )
        self.close()
        self._aside.unlink(missing_ok=True)  # left by a killed process, or a link to another file
        handle = create(self._aside)
        try:
            _write(handle, text.encode() + b"\n")
            os.fsync(handle)
            self._aside.replace(self.path)
        except BaseException:
            os.close(handle)
            raise
        self._handle, self._room = handle, len(text) + _LEAST_ROOM
        self._saved = now


_LEAST_ROOM = 2**16
"""The bytes of lines that may follow even a short first line."""
_NO_JOURNAL = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
_LARGEST = 2**26
"""The most bytes of a journal; with 1000 strips of 1000 channels it has a third of this."""


def _write(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise ValueError("too large")
    return content


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{shorten(value)} where names and values should be")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**62:
        raise ValueError(f"{shorten(value)} where a count should be")
    return value


def _rows(value: Any) -> dict[Span, int]:
    return {_strip(key): _count(rows) for key, rows in _mapping(value).items()}


def _sums(value: Any) -> dict[Span, list[int]]:
    return {_strip(key): list(map(_count, sums)) for key, sums in _mapping(value).items()}


def _keyed(table: dict[Span, Any]) -> dict[str, Any]:
    return {f"{lo}:{hi}": value for (lo, hi), value in table.items()}


def _strip(key: str) -> Span:
    lo, _, hi = key.partition(":")
    return _count(int(lo)), _count(int(hi))


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def _short(value: Any) -> str:
    return one_line(json.dumps(value), 60)
