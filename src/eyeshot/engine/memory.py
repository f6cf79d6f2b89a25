"""Memory of a run: what the process holds, what a plan must count, and maps put on disk.

In this file:

- what the process holds, as the system counts it;
- what a run takes beside the rows that its line buffers hold: the costs that a plan counts;
- maps that are held whole on disk: written as their rows come, read back as they are asked for.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from eyeshot.axes import Interval
from eyeshot.engine.outputs import Form, Preparation
from eyeshot.errors import BadFile, BadValue
from eyeshot.files import explain_os_error
from eyeshot.graph import Graph, Node
from eyeshot.images import Source
from eyeshot.images.sinks.sink import SinkMemory
from eyeshot.images.sources.arrays import ArraySource
from eyeshot.operators import beside
from eyeshot.operators.scratch import Work, borrows
from eyeshot.planning.schedule import itemsize

_STATUS = Path("/proc/self/status")
_MEMORY = Path("/proc/meminfo")
_LIMIT = Path("/sys/fs/cgroup/memory.max")

_TRIM, _MAP = -1, -3  # what glibc's mallopt calls its two thresholds (malloc.h)
_LARGE = 256 << 10
_LARGEST = 32 << 20
"""To which glibc by itself raises the size from which blocks are mapped each on its own."""


def resident() -> int:
    """Bytes of memory the process holds now; where that cannot be asked, the most it ever held."""
    return _status("VmRSS") or _most_ever()


def reset_peak() -> None:
    """Forget the peak so far, where the system can (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """The most bytes held since :func:`reset_peak`."""
    return _status("VmHWM") or _most_ever()


def give_back() -> None:
    """Let go of what nothing refers to, and hand what is free back to the system."""
    gc.collect()
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


@contextlib.contextmanager
def exact_allocation() -> Iterator[None]:
    """Inside, a large block that is freed is the system's again at once.

    glibc otherwise keeps freed blocks of up to 32 MB, and what lies between those in use may add
    up to as much again. To ask the system each time costs a run of few operations a tenth of its
    time, so it is done where the memory is limited. Elsewhere than on glibc nothing changes.
    """
    set_option = getattr(_c_library(), "mallopt", None)
    if set_option is None:
        yield
        return
    set_option(_MAP, _LARGE)
    set_option(_TRIM, _LARGE)
    try:
        yield
    finally:
        set_option(_MAP, _LARGEST)
        set_option(_TRIM, 2 * _LARGEST)


def parse_bytes(text: int | str | None) -> int | None:
    """``"2GB"``, ``"512MB"`` or a number, in bytes.

    Raises:
        BadValue: it is no size.
    """
    if text is None or isinstance(text, int):
        return text
    units = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "k": 10**3, "m": 10**6}
    units |= {"g": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    unit = text.strip()[len(number) :].strip().lower()
    try:
        size = int(float(number) * units[unit])
    except (ValueError, KeyError):
        raise BadValue(f"memory {text!r}", cure="give a size, such as 2GB or 512MB") from None
    if size < 1:
        raise BadValue(f"memory {text!r}", cure="give a size above zero")
    return size


def _c_library() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" else None


def available() -> int | None:
    """The most bytes the process can come to hold, as far as the system tells; None if it does not.

    What is free now and what it holds already; no more than its control group (a container) allows.
    """
    if not _MEMORY.exists():
        return None
    free = _line(_MEMORY, "MemAvailable")
    limit = _LIMIT.read_text().strip() if _LIMIT.exists() else "max"
    most = free + resident()
    return min(most, int(limit)) if limit.isdigit() else most


def _status(field: str) -> int:
    return _line(_STATUS, field) if _STATUS.exists() else 0


def _line(file: Path, field: str) -> int:
    for line in file.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


def _most_ever() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


_FIRST_CALLS = 16 << 20
"""What comes with the first calls: pages of the libraries' code, threads' stacks."""
_KERNEL = 1 << 20
"""What oneDNN makes and keeps for a convolution: code for its shapes at a border and inside."""


@dataclass(frozen=True)
class RunCosts:
    """The costs of one run, as :class:`eyeshot.planning.Costs` asks for them.

    Attributes:
        graph: as it will be executed.
        sources: the image of each input, by the input's name.
        preparation: of samples.
        forms: of each output, by its name.
        sinks: of each output, the bytes that it holds where so many columns are written at a time.
        held: bytes that the process holds now.
        before: the most that it has held on the way here.
    """

    graph: Graph
    sources: Mapping[str, Source]
    preparation: Preparation
    forms: Mapping[str, Form]
    sinks: Mapping[str, Callable[[int], SinkMemory]]
    held: int
    before: int

    @property
    def fixed(self) -> int:
        """Bytes that are there whatever the plan."""
        # What an array holds, or a picture that was decoded whole, is there already.
        sources = [one for one in self.sources.values() if not isinstance(one, ArraySource)]
        held = sum(source.memory for source in sources)
        return self.held + _FIRST_CALLS + _kernels(self.graph) + held

    def writing(self, name: str, columns: int) -> int:
        """What an output holds."""
        return self.sinks[name](columns).waiting if name in self.sinks else 0

    def packing(self, name: str, columns: int) -> int:
        """What an output takes while rows are written."""
        return self.sinks[name](columns).packing if name in self.sinks else 0

    def opening(self) -> int:
        """What the way here has taken: pictures that were decoded whole, the tracing."""
        return max(0, self.before - self.fixed)

    def reading(self, name: str, shape: tuple[int, ...]) -> int:
        """A window as it is stored, and its samples on their way to numbers of the network."""
        source = self.sources.get(name)
        if source is None:  # a statistic that is known
            return 0
        numbers = _product(source.shape[0], *shape)
        window = source.window_memory(shape)
        return window + self.preparation.memory(source.dtype, numbers, source.shape[0])

    def entered(self, name: str, shape: tuple[int, ...]) -> int:
        """The numbers of a window."""
        source = self.sources.get(name)
        channels = 0 if source is None else source.shape[0]
        return _product(channels, *shape) * self.preparation.dtype.itemsize

    def leaving(self, name: str, numbers: int) -> int:
        """Scores on their way to samples, these, and a copy in the order of the file."""
        node = self.graph.nodes[name]
        if name not in self.forms:  # a map whose statistics are gathered: nothing leaves
            return 0
        positions = numbers // node.channels
        return self.forms[name].memory(positions, node.channels, itemsize(node))

    def scratch(self, node: Node, reads: Sequence[int], gives: int, kept: bool) -> int:
        """What a call of the node takes beside its rows."""
        sources = [self.graph.nodes[edge.source] for edge in node.edges]
        work = Work(node, self.graph.tensors, reads, gives, itemsize(node), sources)
        return beside(work, kept)

    def borrows(self, node: Node) -> bool:
        """Whether a node gives a view of what it reads."""
        return borrows(node)


def _kernels(graph: Graph) -> int:
    """Bytes that convolutions keep: code for each that differs, and their weights laid out.

    Weights may lie in memory twice more, laid out for a band and for the last one.
    """
    kinds = {repr((node.params, node.extents)) for node in graph if node.is_convolution}
    weights = [one for one in graph.tensors.values() if one.ndim > 2]
    laid_out = 2 * sum(one.numel() * one.element_size() for one in weights)
    return _KERNEL * len(kinds) + laid_out


def _product(*numbers: int) -> int:
    product = 1
    for n in numbers:
        product *= n
    return product


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
