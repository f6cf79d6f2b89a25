"""Memory of a run: the memory of the process, the costs that a plan counts, and maps on disk.

In this file:

- the memory of the process, as the system counts it;
- the costs that a plan counts in addition to the rows in line buffers;
- whole maps on disk: rows are written as they are computed, and read when they are needed.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch

from eyeshot.axes import Interval
from eyeshot.engine.outputs import Form, Preparation
from eyeshot.engine.writer import goes_behind
from eyeshot.errors import BadFile, BadValue
from eyeshot.files import c_library, explain_os_error
from eyeshot.graph import Graph, Node
from eyeshot.images import Source
from eyeshot.images.sinks.sink import SinkMemory
from eyeshot.images.sources.arrays import ArraySource
from eyeshot.operators import beside
from eyeshot.operators.methods import added_bytes
from eyeshot.operators.record import Work, borrows
from eyeshot.planning.holding import FileReuse
from eyeshot.planning.schedule import itemsize

_STATUS = Path("/proc/self/status")
_STATM = "/proc/self/statm"
_PAGE = resource.getpagesize()
_MEMORY = Path("/proc/meminfo")
_LIMIT = Path("/sys/fs/cgroup/memory.max")

# M_TRIM_THRESHOLD, M_MMAP_THRESHOLD and M_MMAP_MAX of glibc's mallopt (malloc.h).
_TRIM, _MAP, _MAPS = -1, -3, -4
_DEFAULT_MAPS = 65536
_LARGE = 256 << 10
_LARGEST = 32 << 20
"""The largest value to which glibc raises its mmap threshold by itself."""


def resident() -> int:
    """The bytes of memory that the process uses now; its peak if the system does not tell."""
    try:
        handle = os.open(_STATM, os.O_RDONLY)  # asked often: faster than _STATUS
    except OSError:
        return _most_ever()
    try:
        return int(os.read(handle, 200).split()[1]) * _PAGE
    finally:
        os.close(handle)


def reset_peak() -> None:
    """Reset the peak, if the system can (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """The most bytes that the process used since :func:`reset_peak`."""
    return _status("VmHWM") or _most_ever()


def give_back(limit: int) -> None:
    """Return free memory to the system before a run that may use ``limit`` bytes.

    Garbage is collected only if half of that is in use: it takes a fifth of a second, and the trace
    of a small network leaves none.
    """
    if resident() > limit // 2:
        gc.collect()
    _trim()


def _trim() -> None:
    trim = getattr(c_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


class Allocation:
    """How a large freed block is treated while a run has a memory limit; a context manager.

    glibc keeps freed blocks of up to 32 MB for later use, and the gaps between used blocks may take
    as much again as the blocks. Returning each block to the system at once, and asking for a new
    one, takes up to half of a run's time, because the system clears every new page. So freed blocks
    are kept as long as there is room for the gaps. It has no effect without glibc.
    """

    def __init__(self, limit: int | None, predicted: int, gaps: int) -> None:
        """A run that may use ``limit`` bytes, and is predicted to use fewer and these gaps."""
        self._limit, self._predicted, self._gaps = limit, predicted, gaps
        self._set = getattr(c_library(), "mallopt", None)
        self._exact = False

    def __enter__(self) -> Allocation:
        if self._limit is not None:
            _trim()
            self._choose(exact=self._predicted + self._gaps > self._limit)
        return self

    def watch(self) -> None:
        """Called between calls: stop keeping blocks if new ones, in no gap, may not fit."""
        keeps_blocks = self._limit is not None and not self._exact
        if keeps_blocks and resident() > (self._limit or 0) - self._gaps:
            self._choose(exact=True)
            _trim()

    def _choose(self, *, exact: bool) -> None:
        self._exact = exact
        if self._set is not None:
            self._set(_MAPS, _DEFAULT_MAPS)
            self._set(_MAP, _LARGE if exact else _LARGEST)
            self._set(_TRIM, _LARGE if exact else max(2 * _LARGEST, self._gaps))

    def __exit__(self, *raised: object) -> None:
        if self._limit is not None and self._set is not None:
            _choose_for_steps(self._set)


_keeping = 0
"""How many trainings keep what they free: one inside another, or in other threads."""


def _choose_for_steps(choose: Callable[[int, int], object]) -> None:
    """Keep all that is freed while a training runs; glibc's usual limits otherwise."""
    if _keeping:
        choose(_MAPS, 0)
        choose(_TRIM, -1)
    else:
        choose(_MAPS, _DEFAULT_MAPS)
        choose(_MAP, _LARGEST)
        choose(_TRIM, 2 * _LARGEST)


def keep_usual_blocks() -> None:
    """Let glibc keep freed blocks as it does in a process by itself.

    Dask starts its workers with ``MALLOC_TRIM_THRESHOLD_``. Then glibc gives every block of 128 KB
    and more back to the system, which clears each page of the next one: half of a worker's time.
    It has no effect without glibc.
    """
    choose = getattr(c_library(), "mallopt", None)
    if choose is not None:
        _choose_for_steps(choose)


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Inside, the process keeps what it frees for its next blocks; then it gives all of it back.

    A training step allocates the same large blocks again and again. glibc returns each of them to
    the system and asks for a new one, and the system clears every page of it: a third to a half of
    the step. It has no effect without glibc.
    """
    library = c_library()
    choose = getattr(library, "mallopt", None)
    if choose is None:
        yield
        return
    global _keeping
    _keeping += 1
    _choose_for_steps(choose)
    try:
        yield
    finally:
        _keeping -= 1
        _choose_for_steps(choose)
        if not _keeping:
            _trim()


def parse_bytes(text: int | str | None) -> int | None:
    """``"2GB"``, ``"512MB"`` or a number, in bytes.

    Raises:
        BadValue: the text is not a size.
    """
    if text is None or isinstance(text, int):
        return text
    units = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "k": 10**3, "m": 10**6}
    units |= {"g": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    unit = text.strip()[len(number) :].strip().lower()
    try:
        size = int(float(number) * units[unit])
    except (ValueError, KeyError, OverflowError):
        raise BadValue(f"memory {text!r}", cure="give a size, such as 2GB or 512MB") from None
    if size < 1:
        raise BadValue(f"memory {text!r}", cure="give a size above zero")
    return size


def available() -> int | None:
    """The most bytes that the process can use; None if the system does not tell.

    The sum of free memory and the memory of this process, limited by its control group (container).
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
"""Memory that the first calls add: pages of the libraries' code, stacks of threads."""
_KERNEL = 1 << 20
"""Memory that oneDNN keeps for a convolution: code for its shapes at a border and inside."""


@dataclass(frozen=True)
class RunCosts:
    """The costs of one run; it implements :class:`eyeshot.planning.Costs`.

    Attributes:
        graph: the lowered network.
        sources: the image of each input, by the input's name.
        preparation: how samples become the network's input.
        forms: how scores become samples, by the output's name.
        sinks: for each output, its memory as a function of the columns written at a time.
        behind: whether rows are written while others are computed, if a sink allows it.
        width: of the registers of other processes that will compute; None for this process. See
            :func:`eyeshot.operators.methods.with_methods`.
        stored: inputs and outputs that are maps stored between stages: the rows of their chunks.
        in_use: the bytes that the process uses now.
        before: the most bytes that it has used so far.
    """

    graph: Graph
    sources: Mapping[str, Source]
    preparation: Preparation
    forms: Mapping[str, Form]
    sinks: Mapping[str, Callable[[int], SinkMemory]]
    in_use: int
    before: int
    behind: bool = False
    width: int | None = None
    stored: Mapping[str, int] = field(default_factory=dict)

    @property
    def fixed(self) -> int:
        """The bytes that every plan needs."""
        # An array, or a picture that was decoded whole, is already in ``in_use``.
        sources = [one for one in self.sources.values() if not isinstance(one, ArraySource)]
        decoding = sum(source.memory for source in sources)
        return self.in_use + _FIRST_CALLS + _kernels(self.graph, self.width) + decoding

    def writing(self, name: str, columns: int) -> int:
        """The bytes of rows that an output keeps until they are written."""
        if name in self.stored and name not in self.sinks:
            others = _product(*self.graph.nodes[name].extents[2:])
            return 2 * self.entered(name, (self.stored[name], columns, others))
        return self.sinks[name](columns).waiting if name in self.sinks else 0

    def packing(self, name: str, columns: int) -> int:
        """The bytes that an output needs while it writes rows."""
        return self.sinks[name](columns).packing if name in self.sinks else 0

    def opening(self) -> int:
        """The bytes that were used until now and are free again: decoding images, tracing."""
        return max(0, self.before - self.fixed)

    def reading(self, name: str, shape: tuple[int, ...]) -> int:
        """The bytes to read a window and to prepare its samples for the network."""
        source = self.sources.get(name)
        if source is None:  # a statistic or a map of an earlier pass: its chunks, and what is read
            rows = max(shape[0], self.stored.get(name, 0)) if shape else 0
            return 2 * self.entered(name, (rows, *shape[1:])) + self.entered(name, shape)
        numbers = _product(source.shape[0], *shape)
        window = source.window_memory(shape)
        return window + self.preparation.memory(source.dtype, numbers, source.shape[0])

    def entered(self, name: str, shape: tuple[int, ...]) -> int:
        """The bytes of a window in the network's type."""
        source = self.sources.get(name)
        if source is None:
            node = self.graph.nodes[name]
            channels = _product(*node.shape) // max(1, _product(*node.extents))
            return _product(channels, *shape) * itemsize(node)
        return _product(source.shape[0], *shape) * self.preparation.dtype.itemsize

    def leaving(self, name: str, numbers: int) -> int:
        """The bytes to convert scores to samples: copies of the scores, and two of the samples."""
        node = self.graph.nodes[name]
        if name not in self.forms:  # a map whose statistics are gathered is not written
            return 0
        positions = numbers // max(1, node.channels)
        return self.forms[name].memory(positions, node.channels, itemsize(node))

    def written_behind(self, name: str, columns: int, numbers: int) -> int:
        """The bytes of rows that are written while others are computed: two copies of the samples.

        The sink may need memory in addition, as for :meth:`packing`.
        """
        if not self.behind or name not in self.forms or name not in self.sinks:
            return 0
        sink, form = self.sinks[name](columns), self.forms[name]
        positions = numbers // max(1, self.graph.nodes[name].channels)
        samples = positions * form.channels * form.dtype.itemsize
        return 2 * samples + sink.packing if goes_behind(sink.behind, samples) else 0

    def scratch(
        self,
        node: Node,
        sources: Sequence[Node],
        reads: Sequence[int],
        gives: int,
        keeps_output: bool,
    ) -> int:
        """The bytes that a call of the node needs in addition to its rows."""
        work = Work(node, self.graph.tensors, reads, gives, itemsize(node), sources)
        return beside(work, keeps_output)

    def borrows(self, node: Node) -> bool:
        """Whether a node's value is a view of its input."""
        return borrows(node)


def _kernels(graph: Graph, width: int | None) -> int:
    """The bytes that convolutions keep: code for each different one, and reordered weights.

    Weights may be in memory two more times, reordered for a full band and for the last one.
    """
    kinds = {repr((node.params, node.extents)) for node in graph if node.is_convolution}
    weights = [one for one in graph.tensors.values() if one.ndim > 2]
    laid_out = 2 * sum(one.numel() * one.element_size() for one in weights)
    return _KERNEL * len(kinds) + laid_out + added_bytes(graph, width)


def _product(*numbers: int) -> int:
    product = 1
    for n in numbers:
        product *= n
    return product


@dataclass(frozen=True, slots=True)
class ScratchSpace:
    """Where to put maps that do not fit into memory.

    Attributes:
        folder: a folder on the disk to use.
        limit: the most bytes; None for the free space.
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


class ScratchFiles:
    """Files for maps on disk; a context manager. They have no names, so they vanish however a run
    ends.

    The file of a map that no node reads any more is used again for a later map: writing over pages
    takes a small part of the time of writing new ones.

    Attributes:
        names: the maps on disk.
    """

    def __init__(self, space: ScratchSpace, names: Collection[str]) -> None:
        self.names = names
        self._space, self._stack = space, ExitStack()
        self._reuse, self._files = FileReuse(), list[IO[bytes]]()

    def __enter__(self) -> ScratchFiles:
        if self.names:  # an error about the folder comes before the first row
            self._files.append(self._new())
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def take(self, nbytes: int, *, empty: bool) -> IO[bytes]:
        """A file for a map; ``empty`` if rows that are not written must be zero."""
        number = self._reuse.take(nbytes, empty=empty)
        if number == len(self._files):
            self._files.append(self._new())
        return self._files[number]

    def give_back(self, file: IO[bytes]) -> None:
        """The map in this file is not read any more."""
        self._reuse.give_back(self._files.index(file))

    def _new(self) -> IO[bytes]:
        try:
            return self._stack.enter_context(
                tempfile.TemporaryFile(dir=self._space.folder, buffering=0)
            )
        except OSError as error:
            raise explain_os_error(error, self._space.folder) from error


class ScratchBuffer:
    """A line buffer on disk, with the interface of :class:`eyeshot.engine.buffers.LineBuffer`.

    A picture's rows are stored with channels last, as in memory. The rows appended last are kept in
    memory too, for nodes that read them at once. A skipped row is zero.

    Attributes:
        rows: the rows in the buffer.
        most: the most rows that were in the buffer at any time.
    """

    def __init__(self, dim: int, rows: Interval, empty: torch.Tensor, files: ScratchFiles) -> None:
        """A buffer for these rows; ``empty`` is a value without rows."""
        self.rows = Interval(rows.lo, rows.lo)
        self.most = 0
        self._first, self._end, self._empty = rows.lo, rows.hi, empty
        self._files = files
        self._file: IO[bytes] | None = None
        last = (1,) if empty.ndim == 4 and dim == 2 else ()
        others = [axis for axis in range(empty.ndim) if axis not in (dim, *last)]
        self._order = (dim, *others, *last)
        self._shape = [empty.shape[axis] for axis in self._order[1:]]
        self._row_bytes = math.prod(self._shape) * empty.element_size()
        self._recent: tuple[Interval, torch.Tensor] | None = None
        self._dim = dim

    def append(self, value: torch.Tensor, count: int, borrowed: bool = False) -> None:
        """Append ``count`` new rows; ``borrowed`` memory may change later, and is not kept."""
        new = Interval(self.rows.hi, self.rows.hi + count)
        self.rows = Interval(self.rows.lo, new.hi)
        self.most = max(self.most, len(self.rows))
        self._recent = None if borrowed or value.is_meta else (new, value)
        if value.is_meta:
            return
        if self._file is None:
            nbytes = (self._end - self._first) * self._row_bytes
            self._file = self._files.take(nbytes, empty=new.lo > self._first)
        lines = value.permute(self._order).contiguous().cpu()
        self._transfer(os.pwrite, lines, new.lo)

    def room(self, count: int) -> None:
        """None: rows cannot be computed in place on a disk."""

    def window(self, rows: Interval) -> torch.Tensor:
        """Some of the rows in the buffer."""
        if not rows:
            return self._empty
        if not self.rows.covers(rows):
            raise IndexError(f"rows {rows} of a buffer that holds {self.rows}")
        if self._recent is not None and self._recent[0].covers(rows):
            recent, value = self._recent
            return value.narrow(self._dim, rows.lo - recent.lo, len(rows))
        lines = torch.empty((len(rows), *self._shape), dtype=self._empty.dtype)
        self._transfer(os.preadv, lines, rows.lo)
        back = sorted(range(len(self._order)), key=lambda place: self._order[place])
        return lines.to(self._empty.device).permute(back)

    def release(self, below: int) -> None:
        """Forget the rows before ``below``."""
        before = self.rows
        self.rows = Interval(min(max(below, before.lo), before.hi), before.hi)
        if self.rows.lo == self._end > before.lo and self._file is not None:
            self._files.give_back(self._file)
            self._file = None

    def _transfer(self, how: Any, lines: torch.Tensor, row: int) -> None:
        """Write or read some rows completely; one system call may transfer only a part."""
        if not lines.numel():
            return
        if self._file is None:  # all rows so far are skipped
            lines.zero_()
            return
        # torch may give a row of one number any stride.
        flat = lines.as_strided((lines.numel(),), (1,))
        data = memoryview(flat.view(torch.uint8).numpy().data)
        place, done = (row - self._first) * self._row_bytes, 0
        while done < len(data):
            try:
                part = data[done:]
                buffers = [part] if how is os.preadv else part
                count = how(self._file.fileno(), buffers, place + done)
            except OSError as error:
                raise BadFile(
                    f"the scratch file: {error.strerror}", cure="name another disk with --scratch"
                ) from error
            if not count:  # skipped rows at the end of the file
                data[done:] = bytes(len(data) - done)
                return
            done += count


def scratch_space(asked: str | Path | None, targets: Sequence[Any] | None) -> ScratchSpace:
    """Where to put maps: ``DIR``, ``DIR:SIZE``, or the folder of the first output that is a file.

    ``none`` is a place without room: maps that do not fit into memory are computed again.

    Raises:
        BadValue: the size is not a size, or there is no such folder.
    """
    if asked is None:
        paths = [Path(one) for one in targets or () if isinstance(one, str | os.PathLike)]
        folder = paths[0].absolute().parent if paths else Path(tempfile.gettempdir())
        while not folder.is_dir():  # an output's folder may not exist yet
            folder = folder.parent
        return ScratchSpace(folder)
    text, limit = str(asked), None
    if text == "none":
        return ScratchSpace(Path(tempfile.gettempdir()), 0)
    folder = Path(text)
    if not folder.is_dir() and ":" in text:
        name, _, size = text.rpartition(":")
        folder, limit = Path(name), parse_bytes(size)
    if not folder.is_dir():
        raise BadValue(f"--scratch {text}: no such folder", cure="name one that exists, DIR[:SIZE]")
    return ScratchSpace(folder, limit)
