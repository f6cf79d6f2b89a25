"""Saying how far a long wait has come: on standard error, on one line, only to a person."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with the name of the work, the amount done, and the total."""

_PATIENCE = 1.0  # seconds before a wait is worth a word
_PAUSE = 0.1  # seconds between two words


class TerminalProgress:
    """A line that is written over. Silent for short waits and where no person looks on."""

    def __init__(self) -> None:
        self._what = ""
        self._began = self._last = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Tell that ``done`` of ``total`` is done of ``what``."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._began, self._last = what, now, 0.0
        over = done >= total
        if now - self._began < _PATIENCE or not sys.stderr.isatty():
            return
        if over or now - self._last > _PAUSE:
            self._last = now
            end = "\n" if over else ""
            percent = 100 * done // max(total, 1)
            print(f"\r{what}: {percent} %", end=end, file=sys.stderr, flush=True)
