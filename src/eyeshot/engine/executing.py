"""Carry out a planned run: strip after strip, band after band, each row written once.

With ``per_slice``, each slice of a stack is a run by itself.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

from eyeshot.axes import Interval
from eyeshot.engine.heights import Extremes
from eyeshot.engine.job import Job
from eyeshot.engine.memory import exact_allocation, give_back, peak, scratch_files
from eyeshot.engine.outputs import features_first
from eyeshot.engine.resuming import Readings, checksum_of, sharing
from eyeshot.engine.skipping import Skipping
from eyeshot.engine.stream import Stream
from eyeshot.errors import BadValue
from eyeshot.findings.wording import counted
from eyeshot.images import ArraySink, Sink, Source, Span, understand
from eyeshot.images.pixel_grid import PixelGrid
from eyeshot.images.sinks.sink import Storage
from eyeshot.images.sources.converted import GraySource
from eyeshot.operators.pointwise import rounds
from eyeshot.operators.tile import cut
from eyeshot.planning import Strip, first_rows, pushes


@dataclass(frozen=True, slots=True)
class RunReport:
    """How far a run has come; the last one says what it cost.

    Attributes:
        rows: output rows written, over all strips.
        all_rows: and how many there are.
        megapixels: positions of the input read.
        seconds: since the start.
        multiply_adds: spent.
        peak: the most bytes the process has held.
        blank: the share of the output that was copied from one blank cell, 0 to 1.
        outside: the share that was not asked for.
        rounding: how far the answer in bfloat16 is from that in the network's own precision; ""
            where that was not asked for, and before the end.
        notes: what may be wrong with the samples or the answer, a line each; at the end only.
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
        """Megapixels of input a second."""
        return self.megapixels / self.seconds if self.seconds else 0.0

    @property
    def progress(self) -> str:
        """How far it has come, in words."""
        return f"{self.rows} of {self.all_rows} rows"

    @property
    def seconds_left(self) -> float:
        """At the speed so far."""
        return self.seconds * (self.all_rows - self.rows) / max(1, self.rows)


Progress = Callable[[RunReport], None]


def execute(
    job: Job,
    sinks: Mapping[str, Sink],
    progress: Progress | None = None,
    extremes: Extremes | None = None,
) -> RunReport:
    """Carry a job out; ``extremes`` takes what is read and given, where it is to be kept.

    Rows that the sinks already hold (a resumed run) are not computed again, but for those inner
    rows that a restart needs: as many as let each call of the uninterrupted run be repeated.
    """
    state = _State(job, sinks, progress, extremes or Extremes(job))
    with sharing(job.threads), exact_allocation() if job.memory is not None else nullcontext():
        if job.memory is not None:
            give_back()
        for strip in job.plan.strips:
            with scratch_files(job.scratch, job.plan.spilled) as files:
                if job.skipping is None:
                    _Pass(state, strip, files).carry_out()
                else:
                    _CellRows(state, strip, job.skipping, files).carry_out()
    return replace(state.report(), notes=(*state.extremes.notes(), *_rounding_notes(job)))


def _rounding_notes(job: Job) -> Iterator[str]:
    """A line for a network that rounds, as a quantized one does."""
    names = [node.name for node in job.graph if rounds(node)]
    if names:
        yield (
            f"the network rounds to whole numbers ({counted(len(names), 'layer')}, first: "
            f"{names[0]}): where a number lies halfway between two, the last bit of a sum decides, "
            "and the answer may be a step from that of one pass over the whole image"
        )


class _State:
    """A run on its way."""

    def __init__(
        self,
        job: Job,
        sinks: Mapping[str, Sink],
        progress: Progress | None,
        extremes: Extremes,
    ) -> None:
        self.job, self.sinks, self._progress = job, sinks, progress
        self.readings = Readings(job.sources, sinks.values())
        self.extremes = extremes
        self._started = time.perf_counter()
        self.rows, self.positions, self.multiply_adds = 0, 0, 0
        self._all_rows = sum(
            len(box[0]) for strip in job.plan.strips for box in strip.regions.values()
        )

    def report(self) -> RunReport:
        """How far it has come."""
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

    def tell(self) -> None:
        """Tell the caller of it."""
        if self._progress is not None:
            self._progress(self.report())


class _Pass:
    """One pass over the rows of a strip, from where its sinks stand."""

    def __init__(
        self,
        state: _State,
        strip: Strip,
        scratch: Mapping[str, IO[bytes]],
        sinks: Mapping[str, Sink | _Waiting | _Nowhere] | None = None,
        taller: int = 1,
    ) -> None:
        self._state, self._strip, self._scratch = state, strip, scratch
        self._band = state.job.plan.band * taller
        self._sinks = state.sinks if sinks is None else sinks
        self._next: dict[str, int] = {}  # of each output, the row that is to be written next
        self._given: dict[str, int] = {}  # and the one that the stream gives next
        self._unread = {name: len(strip.boxes[name][0]) for name in self._summed_up}
        self.checksums = dict.fromkeys(self._unread, 0)  # of all samples of an input, in order
        for name, box in strip.regions.items():
            done = self._sinks[name].durable_rows(self._columns(name))
            self._next[name] = box[0].lo + done
            state.rows += done

    def carry_out(self) -> None:
        """Compute and write all rows that are not there."""
        for worked in self.pushed():
            if worked:
                self._state.tell()

    def pushed(self) -> Generator[bool]:
        """The same, band by band; whether each was more than passing over rows."""
        graph, boxes, band = self._state.job.graph, self._strip.boxes, self._band
        rest = {n: row for n, row in self._next.items() if row < self._strip.regions[n][0].hi}
        if not rest:
            return
        begun = any(row > self._strip.regions[n][0].lo for n, row in self._next.items())
        on_cpu = self._state.job.preparation.device.type == "cpu"  # no transform is used there
        first = first_rows(graph, boxes, rest, band, independent_rows=on_cpu) if begun else {}
        self._given = {name: first.get(name, boxes[name][0].lo) for name in rest}
        stream = Stream(graph, boxes, tuple(rest), band=band, first=first, scratch=self._scratch)
        for rows in pushes(graph, boxes, band):
            worked = self._push(rows, stream, first)
            self._state.multiply_adds += stream.multiply_adds
            stream.multiply_adds = 0
            yield worked

    def _push(self, rows: Mapping[str, Interval], stream: Stream, first: Mapping[str, int]) -> bool:
        """Read, compute and write a band; whether it was more than passing over rows.

        Nothing of a band is referred to when it has been written, so the next finds its room free.
        """
        values = self._read(rows, stream, first)
        worked = not rows or not all(value.is_meta for value in values.values())
        steps = stream.steps(values)
        del values  # its rows are let go when the stream has done with them
        for ready in steps:
            for name in list(ready):
                self._write(name, ready.pop(name))
        return worked

    def _read(
        self, rows: Mapping[str, Interval], stream: Stream, first: Mapping[str, int]
    ) -> dict[str, torch.Tensor]:
        """The next rows of every input; those that nobody needs are not read."""
        job, values = self._state.job, {}
        for name, side in rows.items():
            if name in job.known:
                if side:
                    values[name] = job.known[name]
            elif side and side.hi <= first.get(name, 0):
                values[name] = stream.passed(name, side)
                self._unread.pop(name, None)
            elif side:
                others = self._strip.boxes[name][1:]
                source, window = job.sources[name], (side, *others)
                samples = source.read(*((s.lo, s.hi) for s in window))
                self._state.readings.note(name, window, samples)
                self._add_up(name, len(side), samples)
                self._state.extremes.read(name, samples)
                self._state.positions += samples[0].size if name == job.graph.inputs[0] else 0
                values[name] = job.preparation(samples, source.name, tuple(s.lo for s in window))
        return values

    @property
    def _summed_up(self) -> list[str]:
        """The inputs whose samples count for rows far from them, by a statistic."""
        job = self._state.job
        return [n for n in job.sources if n in self._strip.boxes and job.plan.stages > 1]

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
        box = self._strip.boxes[name]
        place = f"{name} {[(side.lo, side.hi) for side in box]}"
        image = self._state.job.sources[name].name
        self._state.readings.note_pass(place, image, self.checksums[name])

    def _write(self, name: str, value: torch.Tensor) -> None:
        """Store the requested part of an output's new rows.

        An output that another one reads is computed wherever that one needs it, and so on a box
        that may be larger than the region requested of it. Rows that are there already are not
        written again; but they are reduced together with the others, as they were before.
        """
        state, region, box = self._state, self._strip.regions[name], self._strip.boxes[name]
        node = state.job.graph.nodes[name]
        count = 1 if node.dims[0] is None else value.shape[node.dims[0]]
        rows = Interval(self._given[name], self._given[name] + count)
        self._given[name] = rows.hi
        wanted = (rows.intersect(region[0]), *region[1:])
        if wanted[0].hi <= self._next[name]:
            return
        scores = cut(value, node.dims, (rows, *box[1:]), wanted)
        values = features_first(node, scores)
        state.extremes.give(name, values)
        block = state.job.forms[name](values)
        block = block[:, self._next[name] - wanted[0].lo :]
        self._sinks[name].write(self._next[name] - region[0].lo, block, self._columns(name)[0])
        self._next[name] = wanted[0].hi
        state.rows += block.shape[1]

    def _columns(self, name: str) -> tuple[int, int]:
        return columns_of(self._strip, self._state.job.plan.regions[name], name)


class _Nowhere:
    """Stands for a sink where nothing is written."""

    def durable_rows(self, strip: tuple[int, int] | None = None) -> int:
        """None."""
        return 0

    def write(self, row: int, block: NDArray[Any], column: int = 0) -> None:
        """Nothing is written."""


class _GatheringPass(_Pass):
    """A pass whose outputs are given to a function, in their own dimensions."""

    def __init__(self, state: _State, strip: Strip, take: Take) -> None:
        super().__init__(state, strip, {}, {name: _Nowhere() for name in strip.regions})
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
        rows = Interval(self._given[name], self._given[name] + count)
        self._given[name] = rows.hi
        wanted = (rows.intersect(region[0]), *region[1:])
        if wanted[0]:
            self._take(name, cut(value, node.dims, (rows, *box[1:]), wanted))


Take = Callable[[str, torch.Tensor], None]
"""Takes the next rows of an output."""


def gather(job: Job, take: Take) -> tuple[RunReport, int]:
    """Carry a job of one strip out, and give the rows of its outputs to a function.

    Returns:
        The report, and a checksum of all samples that were read.
    """
    state = _State(job, {}, None, Extremes(job))
    with sharing(job.threads):
        (strip,) = job.plan.strips
        made = _GatheringPass(state, strip, take)
        made.carry_out()
    return state.report(), _together(made.checksums)


def read_again(job: Job) -> int:
    """The checksum that :func:`gather` gave, of the samples as they are now; nothing is computed.

    Args:
        job: of one strip, as it was.
    """
    (strip,) = job.plan.strips
    found = {name: 0 for name in job.sources if name in strip.boxes}
    for rows in pushes(job.graph, strip.boxes, job.plan.band):
        for name, side in rows.items():
            if name in found and side:
                window = (side, *strip.boxes[name][1:])
                samples = job.sources[name].read(*((s.lo, s.hi) for s in window))
                found[name] = checksum_of(samples, found[name])
    return _together(found)


def _together(checksums: Mapping[str, int]) -> int:
    return zlib.crc32(repr(sorted(checksums.items())).encode())


class _Waiting:
    """Rows of a part of an output, until all that lies beside them is there."""

    def __init__(self, rows: Interval, done: int) -> None:
        self.rows = Interval(rows.lo + done, rows.hi)
        self._done = done
        self._blocks: list[NDArray[Any]] = []
        self._first = self.end = self.rows.lo

    def durable_rows(self, strip: tuple[int, int] | None = None) -> int:
        """How many rows of the part need not be computed."""
        return self._done

    def write(self, row: int, block: NDArray[Any], column: int = 0) -> None:
        """Take the next rows."""
        self._blocks.append(block)
        self.end += block.shape[1]

    def take(self, rows: Interval) -> NDArray[Any]:
        """Rows from the first that waits on; they wait no longer."""
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
    """A strip written by rows of cells: computed in rectangles, copied, or filled."""

    def __init__(
        self, state: _State, strip: Strip, skipping: Skipping, scratch: Mapping[str, IO[bytes]]
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
        """Compute, copy or fill all rows that are not there."""
        for number in range(self._skipping.cells.shape[0]):
            rows = self._skipping.span(0, number, number + 1)
            for name, box in self._strip.regions.items():
                self._write(name, number, rows.intersect(box[0]))
            self._state.rows = self._rows
            self._state.tell()

    def _write(self, name: str, number: int, rows: Interval) -> None:
        """One row of cells of an output."""
        rows = Interval(max(rows.lo, self._next[name]), rows.hi)
        if not rows:
            return
        skipping, box, form = self._skipping, self._strip.regions[name], self._state.job.forms[name]
        shape = (form.channels, len(rows), *(len(side) for side in box[1:]))
        block = np.full(shape, skipping.fill, form.dtype)
        self._copy(name, number, rows, block)
        for part, waiting, pushed in self._parts:
            held, region = waiting[name], part.regions[name]
            wanted = rows.intersect(held.rows)
            while wanted and held.end < wanted.hi and next(pushed, None) is not None:
                pass
            if wanted:
                block[_place(wanted, region, rows, box)] = held.take(wanted)
                if all(one.end == one.rows.hi for one in waiting.values()):
                    pushed.close()  # what is left to push reaches no output
        if skipping.where is not None:
            block[:, ~skipping.where.inside(rows, box[1])] = skipping.fill
        top = rows.lo - box[0].lo
        self._state.sinks[name].write(top, block, self._columns(name)[0])
        self._next[name] = rows.hi
        self._rows += len(rows)

    def _copy(self, name: str, number: int, rows: Interval, block: NDArray[Any]) -> None:
        """Put a constant's cell wherever this row of cells has that constant."""
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
        """The cell of a constant, of each output."""
        if constant not in self._copies:
            part = self._skipping.donor(self._state.job.graph, self._strip, constant)
            waiting = {name: _Waiting(box[0], 0) for name, box in part.regions.items()}
            taller = self._skipping.taller(1)
            for _ in _Pass(self._state, part, {}, waiting, taller).pushed():
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
    """Where some rows of a rectangle lie in a block over the whole width."""
    down = slice(rows.lo - all_rows.lo, rows.hi - all_rows.lo)
    if len(box) < 2:
        return (slice(None), down)
    return (slice(None), down, slice(region[1].lo - box[1].lo, region[1].hi - box[1].lo))


def columns_of(strip: Strip, whole: tuple[Interval, ...], name: str) -> tuple[int, int]:
    """The columns of a strip within an output's region, as its sink counts them."""
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
        """How the stored axes were understood, for people."""
        return f"{self._stack.layout}; slice by slice, {self._stack.shape[1]} in all"

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        return self._stack.read((self._place, self._place + 1), *spans)[:, 0]

    def identity(self) -> dict[str, Any]:
        """The stack's; all its slices are run alike."""
        return {**self._stack.identity(), "slices": self._stack.shape[1]}


def slices_of(sources: Sequence[Source]) -> list[Source]:
    """All slices of a stack, the first one first.

    Raises:
        BadValue: several images, or one that is no stack.
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
    """How an output over slices is stored: they lie one behind the other as those of the image."""
    storage, (source,) = job.storage(output), job.sources.values()
    source = source.stored if isinstance(source, GraySource) else source
    stack = source.stack_grid if isinstance(source, SliceSource) else None
    if storage.grid is None:
        return storage
    return replace(storage, grid=storage.grid.stacked(stack or PixelGrid.plain(3)))


def execute_slices(
    job: Job, slices: Sequence[Source], sinks: Mapping[str, Sink], progress: Progress | None = None
) -> RunReport:
    """Carry a job out on each slice that is not there yet.

    Args:
        job: settled for the first slice.
        slices: all of them.
        sinks: of the whole stack, by output.
        progress: called after each band, with the rows of all slices.
    """
    ((name, first),) = job.sources.items()
    if isinstance(first, GraySource):
        slices = [GraySource(one) for one in slices]
    total = RunReport(0, 0, 0.0, 0.0, 0, 0)
    for place in _missing(len(slices), sinks):
        one = replace(job, sources={name: slices[place]})
        parts = {out: ArraySink(job.shape(out), job.forms[out].dtype) for out in sinks}
        before = total

        def tell(report: RunReport, before: RunReport = before, place: int = place) -> None:
            if progress is not None:
                progress(_added(before, report, place, len(slices)))

        report = execute(one, parts, tell)
        for out, sink in sinks.items():
            if sink.durable_rows() <= place:
                sink.write(place, parts[out].finish()[:, None])
        total = _added(before, report, place, len(slices))
    return total


def _missing(count: int, sinks: Mapping[str, Sink]) -> Iterator[int]:
    done = min((sink.durable_rows() for sink in sinks.values()), default=0)
    yield from range(done, count)


def _added(before: RunReport, now: RunReport, place: int, count: int) -> RunReport:
    """The slices before, and how far this one has come."""
    return RunReport(
        rows=place * now.all_rows + now.rows,
        all_rows=count * now.all_rows,
        megapixels=before.megapixels + now.megapixels,
        seconds=before.seconds + now.seconds,
        multiply_adds=before.multiply_adds + now.multiply_adds,
        peak=max(before.peak, now.peak),
        notes=tuple(dict.fromkeys((*before.notes, *now.notes))),
    )
