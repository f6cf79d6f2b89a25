"""Carry out a planned run: strip by strip, band by band; each row is written once.

With ``per_slice``, each slice of a stack is a separate run.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eyeshot.axes import Interval
from eyeshot.engine.heights import Extremes
from eyeshot.engine.job import Job
from eyeshot.engine.memory import Allocation, ScratchFiles, peak
from eyeshot.engine.moments import First
from eyeshot.engine.outputs import features_first
from eyeshot.engine.resuming import Readings, checksum_of, sharing
from eyeshot.engine.skipping import Skipping
from eyeshot.engine.stream import Stream
from eyeshot.engine.writer import Writer
from eyeshot.errors import BadValue
from eyeshot.graph import Graph
from eyeshot.images import ArraySink, Sink, Source, Span, understand
from eyeshot.images.pixel_grid import PixelGrid
from eyeshot.images.sinks.sink import Storage
from eyeshot.images.sources.converted import GraySource, OpaqueSource, read_as, reading_of
from eyeshot.language import counted, tr
from eyeshot.operators.pointwise import rounds
from eyeshot.operators.tile import cut
from eyeshot.operators.winograd import uses_winograd
from eyeshot.planning import Strip, first_rows, pushes


@dataclass(frozen=True, slots=True)
class RunReport:
    """The progress of a run; the last report has its total cost.

    Attributes:
        rows: output rows written so far, over all strips.
        all_rows: output rows in total.
        megapixels: positions of the input read so far, in millions.
        seconds: since the start.
        multiply_adds: computed so far.
        peak: the most bytes that the process has used.
        blank: the share of the output that was copied from a blank cell, 0 to 1.
        outside: the share of the output outside ``where``, 0 to 1.
        rounding: how far the result in bfloat16 is from that in the network's own precision; "" for
            another precision, and before the end.
        notes: possible mistakes in the samples or the result, a line each; only in the last report.
    """

    rows: int
    all_rows: int
    megapixels: float
    seconds: float
    multiply_adds: int
    peak: int
    notes: tuple[str, ...] = ()
    blank: float = 0.0
    outside: float = 0.0
    rounding: str = ""

    @property
    def speed(self) -> float:
        """Megapixels of input per second."""
        return self.megapixels / self.seconds if self.seconds else 0.0

    @property
    def progress(self) -> str:
        """The progress in words."""
        return tr("{n} of {count} rows", n=self.rows, count=self.all_rows)

    @property
    def seconds_left(self) -> float:
        """The remaining seconds at the speed so far."""
        return self.seconds * (self.all_rows - self.rows) / max(1, self.rows)


Progress = Callable[[RunReport], None]


def execute(
    job: Job,
    sinks: Mapping[str, Sink],
    progress: Progress | None = None,
    extremes: Extremes | None = None,
    *,
    again: bool = False,
) -> RunReport:
    """Carry out a job. ``extremes`` records the range of samples and scores.

    With ``again``, the job is soon carried out again, and keeps what it prepared.

    Output rows that the sinks already have (from an unfinished run) are not computed again. Of the
    inner layers, those rows are computed again that the calls of the uninterrupted run would read.
    """
    with (
        sharing(job.threads),
        Writer(behind=job.behind) as writer,
        Allocation(job.memory, job.plan.peak, job.plan.gaps) as allocation,
    ):
        state = _State(job, sinks, progress, extremes or Extremes(job), writer)
        state.allocation = allocation
        # Between global statistics, layers that are done lie beside whole maps.
        state.once = not again and job.plan.stages > 1 and len(job.plan.strips) == 1
        for strip in job.plan.strips:
            with ScratchFiles(job.scratch, job.plan.spilled) as files:
                if job.skipping is None:
                    _Pass(state, strip, files).carry_out()
                else:
                    _CellRows(state, strip, job.skipping, files).carry_out()
    return replace(state.report(), notes=(*state.extremes.notes(), *rounding_notes(job.graph)))


def rounding_notes(graph: Graph) -> Iterator[str]:
    """A line for a network that rounds, as a quantized one does."""
    names = [node.name for node in graph if rounds(node)]
    if names:
        yield (
            f"the network rounds to whole numbers ({counted(len(names), 'layer')}, first: "
            f"{names[0]}): where a number lies halfway between two, the last bit of a sum decides, "
            "and the answer may be a step from that of one pass over the whole image"
        )


class _State:
    """A run in progress."""

    def __init__(
        self,
        job: Job,
        sinks: Mapping[str, Sink],
        progress: Progress | None,
        extremes: Extremes,
        writer: Writer,
    ) -> None:
        self.job, self.sinks, self._progress, self.writer = job, sinks, progress, writer
        kept = [sink for sink in sinks.values() if not isinstance(sink, ArraySink)]
        self.readings = Readings(job.sources, kept)  # a run into memory is not resumed
        self.extremes = extremes
        self._started = time.perf_counter()
        self.rows, self.positions, self.multiply_adds = 0, 0, 0
        self.allocation = Allocation(None, 0, 0)
        self.once = False
        self._all_rows = sum(
            len(box[0]) for strip in job.plan.strips for box in strip.regions.values()
        )

    def report(self) -> RunReport:
        """The progress of the run."""
        seconds = time.perf_counter() - self._started
        skipping = self.job.skipping
        return RunReport(
            self.rows,
            self._all_rows,
            self.positions / 1e6,
            seconds,
            self.multiply_adds,
            peak(),
            blank=0.0 if skipping is None else skipping.blank,
            outside=0.0 if skipping is None else skipping.outside,
        )

    def show_progress(self) -> None:
        """Call the caller's progress function, once the rows of the report are written."""
        if self._progress is not None:
            self.writer.announce(partial(self._progress, self.report()))


class _Pass:
    """One pass over the rows of a strip, starting after the rows that its sinks already have."""

    def __init__(
        self,
        state: _State,
        strip: Strip,
        scratch: ScratchFiles | None,
        sinks: Mapping[str, Sink | _Waiting | _Nowhere] | None = None,
        taller: int = 1,
    ) -> None:
        self._state, self._strip, self._scratch = state, strip, scratch
        self._band = state.job.plan.band * taller
        self._sinks = state.sinks if sinks is None else sinks
        self._next: dict[str, int] = {}  # for each output, the next row to write
        self._next_row: dict[str, int] = {}  # for each output, the next row that the stream returns
        self._unread = {name: len(strip.boxes[name][0]) for name in self._summed_up}
        self.checksums = dict.fromkeys(self._unread, 0)  # of all samples of an input, in order
        for name, box in strip.regions.items():
            done = self._sinks[name].durable_rows(self._columns(name))
            self._next[name] = box[0].lo + done
            state.rows += done

    def carry_out(self) -> None:
        """Compute and write all missing rows."""
        for worked in self.pushed():
            if worked:
                self._state.show_progress()

    def pushed(self) -> Generator[bool]:
        """Compute and write band by band; yield False for a band whose rows were all skipped."""
        graph, boxes, band = self._state.job.graph, self._strip.boxes, self._band
        rest = {n: row for n, row in self._next.items() if row < self._strip.regions[n][0].hi}
        if not rest:
            return
        begun = any(row > self._strip.regions[n][0].lo for n, row in self._next.items())
        on_cpu = self._state.job.preparation.device.type == "cpu"  # where kernels use no transform
        independent = on_cpu and not uses_winograd(graph)
        first = first_rows(graph, boxes, rest, band, independent_rows=independent) if begun else {}
        self._next_row = {name: first.get(name, boxes[name][0].lo) for name in rest}
        stream = Stream(
            graph,
            boxes,
            tuple(rest),
            band=band,
            first=first,
            scratch=self._scratch,
            watch=self._state.allocation.watch,
            prepared=self._state.job.prepared,
            once=self._state.once,
        )
        for rows in pushes(graph, boxes, band):
            worked = self._push(rows, stream, first)
            self._state.multiply_adds += stream.multiply_adds
            stream.multiply_adds = 0
            yield worked

    def _push(self, rows: Mapping[str, Interval], stream: Stream, first: Mapping[str, int]) -> bool:
        """Read, compute and write a band; return False if its rows were all skipped.

        No reference to a written band is kept, so the next band can use its memory.
        """
        values = self._read(rows, stream, first)
        worked = not rows or not all(value.is_meta for value in values.values())
        steps = stream.steps(values)
        del values  # so that the stream can free the rows
        for ready in steps:
            for name in list(ready):
                self._write(name, ready.pop(name))
        return worked

    def _read(
        self, rows: Mapping[str, Interval], stream: Stream, first: Mapping[str, int]
    ) -> dict[str, torch.Tensor]:
        """The next rows of every input; rows that no output needs are not read."""
        job, values = self._state.job, {}
        for name, side in rows.items():
            image = job.graph.nodes[name].again or name
            if image in job.known:
                if side:
                    values[name] = self._known(name, image, side)
            elif image in job.maps:
                if side:
                    values[name] = job.maps[image]((side, *self._strip.boxes[name][1:]))
            elif side and side.hi <= first.get(name, 0):
                values[name] = stream.passed(name, side)
                self._unread.pop(name, None)
            elif side:
                others = self._strip.boxes[name][1:]
                source, window = job.sources[image], (side, *others)
                samples = source.read(*((s.lo, s.hi) for s in window))
                self._state.readings.note(image, window, samples)
                self._add_up(name, len(side), samples)
                self._state.extremes.read(image, samples)
                self._state.positions += samples[0].size if name == job.graph.inputs[0] else 0
                corner, room = tuple(s.lo for s in window), stream.room(name, len(side))
                values[name] = job.preparation(samples, source.name, corner, room)
        return values

    def _known(self, name: str, statistic: str, rows: Interval) -> torch.Tensor:
        """The part of a known statistic that this pass reads: of a line, some positions."""
        job, box = self._state.job, self._strip.boxes[name]
        node = job.graph.nodes[statistic]
        whole = tuple(Interval(0, n) for n in node.extents)
        return cut(job.known[statistic], node.dims, whole, (rows, *box[1:]))

    @property
    def _summed_up(self) -> list[str]:
        """The inputs whose samples count for rows far from them, by a statistic."""
        job = self._state.job
        if job.plan.stages == 1:
            return []
        inputs = [job.graph.nodes[name] for name in job.graph.inputs if name in self._strip.boxes]
        return [node.name for node in inputs if (node.again or node.name) in job.sources]

    def _add_up(self, name: str, count: int, samples: NDArray[Any]) -> None:
        """Take samples into the checksum that tells whether a resumed run sees the same image."""
        if name not in self._unread:
            return
        self.checksums[name] = checksum_of(samples, self.checksums[name])
        self._unread[name] -= count
        if not self._unread[name]:
            del self._unread[name]
            self._all_read(name)

    def _all_read(self, name: str) -> None:
        box, own = self._strip.boxes[name], self._state.job.graph.nodes[name].again or name
        place = f"{own} {[(side.lo, side.hi) for side in box]}"
        image = self._state.job.sources[own].name
        self._state.readings.note_pass(place, image, self.checksums[name])

    def _write(self, name: str, value: torch.Tensor) -> None:
        """Write the requested part of an output's new rows.

        If another output reads this one, its box may be larger than the requested region. Rows that
        the sink already has are not written again, but they are reduced together with the others,
        so that the arithmetic is the same as in the uninterrupted run.
        """
        state, region, box = self._state, self._strip.regions[name], self._strip.boxes[name]
        node = state.job.graph.nodes[name]
        count = 1 if node.dims[0] is None else value.shape[node.dims[0]]
        rows = Interval(self._next_row[name], self._next_row[name] + count)
        self._next_row[name] = rows.hi
        requested = (rows.intersect(region[0]), *region[1:])
        if requested[0].hi <= self._next[name]:
            return
        scores = cut(value, node.dims, (rows, *box[1:]), requested)
        values = features_first(node, scores)
        state.extremes.record(name, values)
        block = state.job.forms[name](values)
        block = block[:, self._next[name] - requested[0].lo :]
        place, column = self._next[name] - region[0].lo, self._columns(name)[0]
        state.writer.write(self._sinks[name], place, block, column)
        self._next[name] = requested[0].hi
        state.rows += block.shape[1]

    def _columns(self, name: str) -> tuple[int, int]:
        return columns_of(self._strip, self._state.job.plan.regions[name], name)


class _Nowhere:
    """A sink that discards what is written."""

    behind = False

    def durable_rows(self, strip: tuple[int, int] | None = None) -> int:
        """0: there are no rows from an earlier run."""
        return 0

    def write(self, row: int, block: NDArray[Any], column: int = 0) -> None:
        """Do nothing."""


class _GatheringPass(_Pass):
    """A pass that calls a function with its outputs, in their own dimensions."""

    def __init__(self, state: _State, strip: Strip, take: Take) -> None:
        super().__init__(state, strip, None, {name: _Nowhere() for name in strip.regions})
        self._take = take

    @property
    def _summed_up(self) -> list[str]:
        return [name for name in self._state.job.sources if name in self._strip.boxes]

    def _all_read(self, name: str) -> None:
        """The client keeps the checksum, with what was gathered."""

    def _write(self, name: str, value: torch.Tensor) -> None:
        region, box = self._strip.regions[name], self._strip.boxes[name]
        node = self._state.job.graph.nodes[name]
        count = 1 if node.dims[0] is None else value.shape[node.dims[0]]
        rows = Interval(self._next_row[name], self._next_row[name] + count)
        self._next_row[name] = rows.hi
        requested = (rows.intersect(region[0]), *region[1:])
        if requested[0]:
            part = cut(value, node.dims, (rows, *box[1:]), requested)
            self._take(name, part, tuple(side.lo for side in requested))


Take = Callable[[str, torch.Tensor, First], None]
"""Called with an output's name, its next rows and the position of the first one."""


def gather(job: Job, take: Take) -> tuple[RunReport, int]:
    """Carry out a job of one strip, and call ``take`` with the rows of its outputs.

    Returns:
        The report, and a checksum of all samples that were read.
    """
    state = _State(job, {}, None, Extremes(job), Writer(behind=False))
    with sharing(job.threads):
        (strip,) = job.plan.strips
        made = _GatheringPass(state, strip, take)
        made.carry_out()
    return state.report(), _together(made.checksums)


def read_again(job: Job) -> int:
    """The checksum of :func:`gather` for the current samples of the images; nothing is computed.

    Args:
        job: the same job of one strip.
    """
    (strip,) = job.plan.strips
    checksums = {name: 0 for name in job.sources if name in strip.boxes}
    for rows in pushes(job.graph, strip.boxes, job.plan.band):
        for name, side in rows.items():
            if name in checksums and side:
                window = (side, *strip.boxes[name][1:])
                samples = job.sources[name].read(*((s.lo, s.hi) for s in window))
                checksums[name] = checksum_of(samples, checksums[name])
    return _together(checksums)


def _together(checksums: Mapping[str, int]) -> int:
    return zlib.crc32(repr(sorted(checksums.items())).encode())


class _Waiting:
    """Computed rows of a rectangle that wait until the rows next to them are computed too."""

    behind = False

    def __init__(self, rows: Interval, done: int) -> None:
        self.rows = Interval(rows.lo + done, rows.hi)
        self._done = done
        self._blocks: list[NDArray[Any]] = []
        self._first = self.end = self.rows.lo

    def durable_rows(self, strip: tuple[int, int] | None = None) -> int:
        """The number of the rectangle's rows that need not be computed."""
        return self._done

    def write(self, row: int, block: NDArray[Any], column: int = 0) -> None:
        """Add the next rows."""
        self._blocks.append(block)
        self.end += block.shape[1]

    def take(self, rows: Interval) -> NDArray[Any]:
        """Remove and return the first waiting rows."""
        parts, needed = [], len(rows)
        while needed:
            block = self._blocks.pop(0)
            if block.shape[1] > needed:
                self._blocks.insert(0, block[:, needed:])
                block = block[:, :needed]
            parts.append(block)
            needed -= block.shape[1]
        self._first = rows.hi
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


class _CellRows:
    """A strip written by rows of cells; cells are computed in rectangles, copied or filled."""

    def __init__(
        self, state: _State, strip: Strip, skipping: Skipping, scratch: ScratchFiles | None
    ) -> None:
        self._state, self._strip, self._skipping = state, strip, skipping
        self._copies: dict[int, dict[str, NDArray[Any]]] = {}
        self._next = {
            name: box[0].lo + state.sinks[name].durable_rows(self._columns(name))
            for name, box in strip.regions.items()
        }
        self._rows = state.rows + sum(
            row - strip.regions[name][0].lo for name, row in self._next.items()
        )
        self._parts = []
        for part, taller in skipping.parts(state.job.graph, strip):
            waiting = {
                name: _Waiting(box[0], min(max(0, self._next[name] - box[0].lo), len(box[0])))
                for name, box in part.regions.items()
            }
            pushed = _Pass(state, part, scratch, waiting, taller).pushed()
            self._parts.append((part, waiting, pushed))

    def carry_out(self) -> None:
        """Compute, copy or fill all missing rows."""
        for number in range(self._skipping.cells.shape[0]):
            rows = self._skipping.span(0, number, number + 1)
            for name, box in self._strip.regions.items():
                self._write(name, number, rows.intersect(box[0]))
            self._state.rows = self._rows
            self._state.show_progress()

    def _write(self, name: str, number: int, rows: Interval) -> None:
        """Write one row of cells of an output."""
        rows = Interval(max(rows.lo, self._next[name]), rows.hi)
        if not rows:
            return
        skipping, box, form = self._skipping, self._strip.regions[name], self._state.job.forms[name]
        shape = (form.channels, len(rows), *(len(side) for side in box[1:]))
        block = np.full(shape, skipping.fill, form.dtype)
        self._copy(name, number, rows, block)
        for part, waiting, pushed in self._parts:
            store, region = waiting[name], part.regions[name]
            needed = rows.intersect(store.rows)
            while needed and store.end < needed.hi and next(pushed, None) is not None:
                pass
            if needed:
                block[_place(needed, region, rows, box)] = store.take(needed)
                if all(one.end == one.rows.hi for one in waiting.values()):
                    pushed.close()  # no output reads the remaining rows
        if skipping.where is not None:
            block[:, ~skipping.where.inside(rows, box[1])] = skipping.fill
        top = rows.lo - box[0].lo
        self._state.sinks[name].write(top, block, self._columns(name)[0])
        self._next[name] = rows.hi
        self._rows += len(rows)

    def _copy(self, name: str, number: int, rows: Interval, block: NDArray[Any]) -> None:
        """Copy the computed cell of each constant to the cells of this row with that constant."""
        skipping, box = self._skipping, self._strip.regions[name]
        top = skipping.span(0, number, number + 1).lo
        columns = box[1] if len(box) > 1 else Interval(0, 1)
        for place, constant in enumerate(skipping.cells[number]):
            cell = skipping.span(1, place, place + 1)
            across = cell.intersect(columns)
            if constant < 0 or not across:
                continue
            copied = self._copied(int(constant))[name]
            copied = copied[:, rows.lo - top : rows.hi - top]
            if len(box) > 1:
                copied = copied[:, :, across.lo - cell.lo : across.hi - cell.lo]
                block[:, :, across.lo - columns.lo : across.hi - columns.lo] = copied
            else:
                block[:] = copied

    def _copied(self, constant: int) -> dict[str, NDArray[Any]]:
        """For each output, the computed cell of a constant."""
        if constant not in self._copies:
            part = self._skipping.donor(self._state.job.graph, self._strip, constant)
            waiting = {name: _Waiting(box[0], 0) for name, box in part.regions.items()}
            taller = self._skipping.taller(1)
            for _ in _Pass(self._state, part, None, waiting, taller).pushed():
                pass
            self._copies[constant] = {
                name: waiting[name].take(box[0]) for name, box in part.regions.items()
            }
        return self._copies[constant]

    def _columns(self, name: str) -> tuple[int, int]:
        return columns_of(self._strip, self._state.job.plan.regions[name], name)


def _place(
    rows: Interval, region: tuple[Interval, ...], all_rows: Interval, box: tuple[Interval, ...]
) -> tuple[slice, ...]:
    """The slices of some rows of a rectangle within a block of the full width."""
    down = slice(rows.lo - all_rows.lo, rows.hi - all_rows.lo)
    if len(box) < 2:
        return (slice(None), down)
    return (slice(None), down, slice(region[1].lo - box[1].lo, region[1].hi - box[1].lo))


def columns_of(strip: Strip, whole: tuple[Interval, ...], name: str) -> tuple[int, int]:
    """The columns of a strip, relative to the output's region."""
    region = strip.regions[name]
    if len(region) < 2:
        return (0, 1)
    return (region[1].lo - whole[1].lo, region[1].hi - whole[1].lo)


class SliceSource(Source):
    """One slice of a stack (C, D, H, W), as a picture (C, H, W)."""

    def __init__(self, stack: Source, place: int) -> None:
        shape = (stack.shape[0], *stack.shape[2:])
        super().__init__(stack.name, understand(shape, layout="CHW"), stack.dtype)
        self._stack, self._place = stack, place
        self.memory, self.open_memory = stack.memory, stack.open_memory
        self.alpha, self.notes, self.part = stack.alpha, stack.notes, stack.part
        self.stack_grid = stack.grid
        self.grid = None if stack.grid is None else stack.grid.without_first()

    @property
    def layout(self) -> str:
        """How the stored axes were interpreted, in words."""
        return f"{self._stack.layout}; slice by slice, {self._stack.shape[1]} in all"

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        return self._stack.read((self._place, self._place + 1), *spans)[:, 0]

    def identity(self) -> dict[str, Any]:
        """The identity of the stack, and its number of slices."""
        return {**self._stack.identity(), "slices": self._stack.shape[1]}


def slices_of(sources: Sequence[Source]) -> list[Source]:
    """All slices of a stack, in order.

    Raises:
        BadValue: several images, or an image that is not a stack.
    """
    if len(sources) != 1:
        raise BadValue(f"--per-slice with {len(sources)} images", cure="give one stack")
    (stack,) = sources
    if len(stack.shape) != 4:
        raise BadValue(
            f"{stack.name}: {stack.layout} is no stack of slices",
            cure="leave out --per-slice, or name the axes with --layout, such as DHW",
        )
    return [SliceSource(stack, place) for place in range(stack.shape[1])]


def stack_shape(job: Job, output: str, count: int) -> tuple[int, ...]:
    """(C, D, H, W) of an output over ``count`` slices.

    Raises:
        BadValue: the output of one slice is not (C, H, W).
    """
    if job.arrangement(output).axes != (None, 0, 1):
        raise BadValue(
            f"--per-slice and output {output}, which is not (C, H, W)",
            cure="run the slices one by one with --index",
        )
    channels, *sides = job.shape(output)
    return (channels, count, *sides)


def stack_storage(job: Job, output: str) -> Storage:
    """How an output over slices is stored; the distance of its slices is that of the image's."""
    storage, (source,) = job.storage(output), job.sources.values()
    source = source.stored if isinstance(source, (GraySource, OpaqueSource)) else source
    stack = source.stack_grid if isinstance(source, SliceSource) else None
    if storage.grid is None:
        return storage
    return replace(storage, grid=storage.grid.stacked(stack or PixelGrid.plain(3)))


def execute_slices(
    job: Job, slices: Sequence[Source], sinks: Mapping[str, Sink], progress: Progress | None = None
) -> RunReport:
    """Carry out a job on each slice that is not written yet.

    Args:
        job: the job of the first slice.
        slices: all slices.
        sinks: for each output, the sink of the whole stack.
        progress: called after each band, with the rows of all slices.
    """
    ((name, first),) = job.sources.items()
    slices = [read_as(reading_of(first), one) for one in slices]
    total = RunReport(0, 0, 0.0, 0.0, 0, 0)
    for place in _missing(len(slices), sinks):
        one = replace(job, sources={name: slices[place]})
        parts = {out: ArraySink(job.shape(out), job.forms[out].dtype) for out in sinks}
        before = total

        def tell(report: RunReport, before: RunReport = before, place: int = place) -> None:
            if progress is not None:
                progress(_added(before, report, place, len(slices)))

        report = execute(one, parts, tell, again=True)
        for out, sink in sinks.items():
            if sink.durable_rows() <= place:
                sink.write(place, parts[out].finish()[:, None])
        total = _added(before, report, place, len(slices))
    return total


def _missing(count: int, sinks: Mapping[str, Sink]) -> Iterator[int]:
    done = min((sink.durable_rows() for sink in sinks.values()), default=0)
    yield from range(done, count)


def _added(before: RunReport, now: RunReport, place: int, count: int) -> RunReport:
    """The report of the finished slices plus that of the current one."""
    return RunReport(
        rows=place * now.all_rows + now.rows,
        all_rows=count * now.all_rows,
        megapixels=before.megapixels + now.megapixels,
        seconds=before.seconds + now.seconds,
        multiply_adds=before.multiply_adds + now.multiply_adds,
        peak=max(before.peak, now.peak),
        notes=tuple(dict.fromkeys((*before.notes, *now.notes))),
    )
