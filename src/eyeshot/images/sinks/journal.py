"""What a run has finished, in a small file beside its output: the one way of resuming.

The journal is written after the samples, and read first when a run goes on. A killed process
loses nothing that it has handed to the system, so rows count as done at once. A machine that went
down may lose that: after a new start of it, only rows that were forced to the disk count.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from eyeshot.errors import BadFile, BadValue
from eyeshot.images.layouts import Span

_BOOT = Path("/proc/sys/kernel/random/boot_id")
"""Linux: another text after every start of the machine. Elsewhere only forced rows count."""


class Journal:
    """The rows done of every column strip, and the settings that they were done with."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        self.done: dict[Span, int] = {}
        self._forced: dict[Span, int] = {}
        self.writer = os.getpid()

    @classmethod
    def load(cls, path: Path) -> Journal:
        """Read a journal.

        Raises:
            BadFile: it is not one.
        """
        try:
            found = json.loads(path.read_text())
            journal = cls(path, found["settings"])
            boot = _boot()
            same_start = boot != "" and boot == found["boot"]
            done = found["done"] if same_start else found["forced"]
            journal.writer = int(found["process"]) if same_start else 0
            journal.done = {_strip(key): int(rows) for key, rows in done.items()}
            journal._forced = {_strip(key): int(rows) for key, rows in found["forced"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadFile(
                f"{path}: not a journal of an unfinished run ({error})",
                cure="start afresh with --force",
            ) from error
        return journal

    def require(self, settings: dict[str, Any]) -> None:
        """Refuse to go on with other settings.

        Raises:
            BadValue: naming the first that differs.
        """
        wanted = json.loads(json.dumps(settings))
        for name in [*wanted, *self.settings]:
            was, now = self.settings.get(name), wanted.get(name)
            if was != now:
                raise BadValue(
                    f"{self.path}: cannot resume: {name} was {_short(was)} and is {_short(now)}",
                    cure="use the same as before, or start afresh with --force",
                )

    def require_no_writer(self) -> None:
        """Refuse to touch what another process is still writing.

        Raises:
            BadFile: naming the process.
        """
        if self.writer not in (0, os.getpid()) and _is_alive(self.writer):
            raise BadFile(
                f"{self.path}: process {self.writer} is still writing this output",
                cure="wait for it, stop it, or choose another name",
            )

    def remove(self) -> None:
        """Remove the journal: the output is complete, or given up."""
        self._aside.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    @property
    def _aside(self) -> Path:
        return self.path.with_name(self.path.name + ".new")

    def record(self, strip: Span, rows: int) -> None:
        """Note that ``rows`` rows of a strip have been handed to the system."""
        self.done[strip] = rows
        self._save()

    def record_forced(self) -> None:
        """Note that all that is done has been forced to the disk."""
        self._forced = dict(self.done)
        self._save(force=True)

    def start(self) -> None:
        """Write the journal of a run that has done nothing."""
        self._save(force=True)

    def _save(self, *, force: bool = False) -> None:
        text = json.dumps(
            {
                "settings": self.settings,
                "done": {f"{lo}:{hi}": rows for (lo, hi), rows in self.done.items()},
                "forced": {f"{lo}:{hi}": rows for (lo, hi), rows in self._forced.items()},
                "boot": _boot(),
                "process": os.getpid(),
            },
            indent=1,
        )
        with self._aside.open("w") as file:
            file.write(text)
            if force:
                file.flush()
                os.fsync(file.fileno())
        self._aside.replace(self.path)


def _strip(key: str) -> Span:
    lo, _, hi = key.partition(":")
    return int(lo), int(hi)


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it is there, and another user's
    return True


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
