"""Rows written on a second thread, while the next band is computed.

At most one block is being written at a time, and the next one waits for it. So blocks are written
in the order of the calls, an error is raised before anything else is written, and the memory is
bounded. What is announced to the caller waits until the rows that it names are in the journal.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from types import TracebackType
from typing import Any, Protocol

from numpy.typing import NDArray

MOST_BYTES = 8 << 20
"""A larger block is written at once: its copy would take much memory, and seldom saves time."""
_PATIENCE = 0.05
"""The share of the time since the last announcement for which a new one waits for its rows."""


class Target(Protocol):
    """What rows are written to: a :class:`eyeshot.images.Sink`, or rows that wait in memory."""

    @property
    def behind(self) -> bool:
        """Whether rows may be written from another thread."""

    def write(self, row: int, block: NDArray[Any], column: int = 0) -> None:
        """See :meth:`eyeshot.images.Sink.write`."""


class Writer:
    """Writes blocks to sinks; a context manager, which ends when nothing is being written.

    A write that has begun is always completed, also after an error or Ctrl-C: a sink must not be
    closed while its file is being written.
    """

    def __init__(self, *, behind: bool) -> None:
        """``behind``: use a second thread for sinks that may be written from one."""
        self._behind = behind
        self._pool: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None
        self._announcements: list[Callable[[], None]] = []
        self._announced_at = time.perf_counter()

    def write(self, target: Target, row: int, block: NDArray[Any], column: int = 0) -> None:
        """Write rows to a target, as its own method does; ``block`` must not change any more.

        Raises:
            EyeshotError: these rows, or those of the call before, could not be written.
        """
        self.wait()
        if not (self._behind and goes_behind(target.behind, block.nbytes)):
            target.write(row, block, column)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="eyeshot-writer")
        run = copy_context().run  # with the language of the messages
        try:
            self._writing = self._pool.submit(run, target.write, row, block, column)
        except RuntimeError:  # no new thread: at the end of Python, or too many of them
            self._behind = False
            target.write(row, block, column)

    def announce(self, call: Callable[[], None]) -> None:
        """Call a function when all rows passed to :meth:`write` are written: soon, in this thread.

        It waits for quick writes, so that a slow network's progress is not a band late.
        """
        self._announcements.append(call)
        if self._writing is not None:
            since = time.perf_counter() - self._announced_at
            wait([self._writing], _PATIENCE * since)
        if self._writing is None or self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Wait until all rows are written, and announce them.

        Raises:
            EyeshotError: the rows could not be written.
        """
        if self._writing is not None:
            wait([self._writing])
            writing, self._writing = self._writing, None
            writing.result()
        calls, self._announcements = self._announcements, []
        for call in calls:
            self._announced_at = time.perf_counter()
            call()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            self._end()

    def _end(self) -> None:
        """Wait for the write that has begun, whatever happens in the meantime."""
        interrupt: BaseException | None = None
        while self._pool is not None:
            try:
                self._pool.shutdown()
                self._pool = None
            except BaseException as error:  # Ctrl-C, again
                interrupt = error
        if interrupt is not None:
            raise interrupt


def goes_behind(possible: bool, nbytes: int) -> bool:
    """Whether a block of this size is written on the second thread, if its sink allows it."""
    return possible and nbytes <= MOST_BYTES
