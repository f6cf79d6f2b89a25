"""Maps that are held whole on disk: written as their rows come, read back as they are asked for."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from eyeshot.axes import Interval
from eyeshot.engine.memory import parse_bytes
from eyeshot.errors import BadFile, BadValue
from eyeshot.files import explain_os_error


@dataclass(frozen=True, slots=True)
class ScratchSpace:
    """Where maps may be put that do not fit into memory.

    Attributes:
        folder: on whose disk.
        limit: the most bytes; None for what is free.
    """

    folder: Path
    limit: int | None = None

    @property
    def room(self) -> int:
        """The most bytes that may be written.

        Raises:
            BadFile: there is no such folder.
        """
        try:
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise explain_os_error(error, self.folder) from error
        return free if self.limit is None else min(free, self.limit)


@contextmanager
def scratch_files(space: ScratchSpace, names: Iterable[str]) -> Iterator[Mapping[str, IO[bytes]]]:
    """An open file for each map. They have no name, so that nothing is left however a run ends."""
    with ExitStack() as stack:
        try:
            files = {
                name: stack.enter_context(tempfile.TemporaryFile(dir=space.folder, buffering=0))
                for name in names
            }
        except OSError as error:
            raise explain_os_error(error, space.folder) from error
        yield files


class ScratchBuffer:
    """A line buffer whose rows are on disk, as :class:`eyeshot.engine.buffers.LineBuffer` is used.

    Rows of a picture lie with their channels last, as they do in memory. The rows that came last
    are in memory, too, for what reads them at once. A row passed over is zero.

    Attributes:
        rows: the rows that are there.
        most: the most that were there at any time.
    """

    def __init__(self, dim: int, first: int, empty: torch.Tensor, file: IO[bytes]) -> None:
        """A buffer whose first row will be ``first``; ``empty`` is a value of no rows."""
        self.rows = Interval(first, first)
        self.most = 0
        self._first, self._empty, self._file = first, empty, file
        last = (1,) if empty.ndim == 4 and dim == 2 else ()
        others = [axis for axis in range(empty.ndim) if axis not in (dim, *last)]
        self._order = (dim, *others, *last)
        self._shape = [empty.shape[axis] for axis in self._order[1:]]
        self._row_bytes = math.prod(self._shape) * empty.element_size()
        self._recent: tuple[Interval, torch.Tensor] | None = None
        self._dim = dim

    def append(self, value: torch.Tensor, count: int, borrowed: bool = False) -> None:
        """Take ``count`` new rows; ``borrowed`` memory may change later, and is not kept."""
        new = Interval(self.rows.hi, self.rows.hi + count)
        self.rows = Interval(self.rows.lo, new.hi)
        self.most = max(self.most, len(self.rows))
        self._recent = None if borrowed or value.is_meta else (new, value)
        if value.is_meta:
            return
        lines = value.permute(self._order).contiguous().cpu()
        self._transfer(os.pwrite, lines, new.lo)

    def room(self, count: int) -> None:
        """Nobody writes to a disk in place."""

    def window(self, rows: Interval) -> torch.Tensor:
        """Some of the rows that are there."""
        if not rows:
            return self._empty
        if not self.rows.covers(rows):
            raise IndexError(f"rows {rows} of a buffer that holds {self.rows}")
        if self._recent is not None and self._recent[0].covers(rows):
            held, value = self._recent
            return value.narrow(self._dim, rows.lo - held.lo, len(rows))
        lines = torch.empty((len(rows), *self._shape), dtype=self._empty.dtype)
        self._transfer(os.preadv, lines, rows.lo)
        back = sorted(range(len(self._order)), key=lambda place: self._order[place])
        return lines.to(self._empty.device).permute(back)

    def release(self, below: int) -> None:
        """Forget the rows before ``below``."""
        self.rows = Interval(min(max(below, self.rows.lo), self.rows.hi), self.rows.hi)

    def _transfer(self, how: Any, lines: torch.Tensor, row: int) -> None:
        """Write or read all of some rows, of which the system may do a part at a time."""
        if not lines.numel():
            return
        data = memoryview(lines.reshape(-1).view(torch.uint8).numpy().data)
        place, done = (row - self._first) * self._row_bytes, 0
        while done < len(data):
            try:
                part = data[done:]
                given = [part] if how is os.preadv else part
                count = how(self._file.fileno(), given, place + done)
            except OSError as error:
                raise BadFile(
                    f"the scratch file: {error.strerror}", cure="name another disk with --scratch"
                ) from error
            if not count:  # rows passed over at the end of the file
                data[done:] = bytes(len(data) - done)
                return
            done += count


def scratch_space(asked: str | Path | None, targets: Sequence[Any] | None) -> ScratchSpace:
    """Where maps may be put: ``DIR``, ``DIR:SIZE``, or beside the first output that is a file.

    Raises:
        BadValue: the size is none, or there is no such folder.
    """
    if asked is None:
        paths = [Path(one) for one in targets or () if isinstance(one, str | os.PathLike)]
        folder = paths[0].absolute().parent if paths else Path(tempfile.gettempdir())
        while not folder.is_dir():  # an output may name a folder that is still to be made
            folder = folder.parent
        return ScratchSpace(folder)
    text, limit = str(asked), None
    folder = Path(text)
    if not folder.is_dir() and ":" in text:
        name, _, size = text.rpartition(":")
        folder, limit = Path(name), parse_bytes(size)
    if not folder.is_dir():
        raise BadValue(f"--scratch {text}: no such folder", cure="name one that exists, DIR[:SIZE]")
    return ScratchSpace(folder, limit)
