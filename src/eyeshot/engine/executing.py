"""A settled run carried out: strip after strip, band after band, each row written once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import IO

import torch

from eyeshot.axes import Interval
from eyeshot.engine.extremes import Extremes
from eyeshot.engine.jobs import Job
from eyeshot.engine.memory import exact_allocation, give_back, peak
from eyeshot.engine.outputs import features_first
from eyeshot.engine.resuming import Readings, sharing
from eyeshot.engine.scratch import scratch_files
from eyeshot.engine.stream import Stream
from eyeshot.images import Sink
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
        notes: what may be wrong with the samples or the answer, a line each; at the end only.
    """

    rows: int
    all_rows: int
    megapixels: float
    seconds: float
    multiply_adds: int
    peak: int
    notes: tuple[str, ...] = ()

    @property
    def speed(self) -> float:
        """Megapixels of input a second."""
        return self.megapixels / self.seconds if self.seconds else 0.0


Progress = Callable[[RunReport], None]


def execute(job: Job, sinks: Mapping[str, Sink], progress: Progress | None = None) -> RunReport:
    """Carry a job out.

    Rows that the sinks already hold (a resumed run) are not computed again, but for those inner
    rows that a restart needs: as many as let each call of the uninterrupted run be repeated.
    """
    state = _State(job, sinks, progress)
    with sharing(job.threads), exact_allocation() if job.memory is not None else nullcontext():
        if job.memory is not None:
            give_back()
        for strip in job.plan.strips:
            with scratch_files(job.scratch, job.plan.spilled) as files:
                _Pass(state, strip, files).carry_out()
    return replace(state.report(), notes=state.extremes.notes())


class _State:
    """A run on its way."""

    def __init__(self, job: Job, sinks: Mapping[str, Sink], progress: Progress | None) -> None:
        self.job, self.sinks, self._progress = job, sinks, progress
        self.readings = Readings(job.sources, sinks.values())
        self.extremes = Extremes(job)
        self._started = time.perf_counter()
        self.rows, self.positions, self.multiply_adds = 0, 0, 0
        self._all_rows = sum(
            len(box[0]) for strip in job.plan.strips for box in strip.regions.values()
        )

    def report(self) -> RunReport:
        """How far it has come."""
        seconds = time.perf_counter() - self._started
        return RunReport(
            self.rows, self._all_rows, self.positions / 1e6, seconds, self.multiply_adds, peak()
        )

    def tell(self) -> None:
        """Tell the caller of it."""
        if self._progress is not None:
            self._progress(self.report())


class _Pass:
    """One pass over the rows of a strip, from where its sinks stand."""

    def __init__(self, state: _State, strip: Strip, scratch: Mapping[str, IO[bytes]]) -> None:
        self._state, self._strip, self._scratch = state, strip, scratch
        self._next: dict[str, int] = {}  # of each output, the row that is to be written next
        self._given: dict[str, int] = {}  # and the one that the stream gives next
        for name, box in strip.regions.items():
            done = state.sinks[name].durable_rows(self._columns(name))
            self._next[name] = box[0].lo + done
            state.rows += done

    def carry_out(self) -> None:
        """Compute and write all rows that are not there."""
        graph, boxes, band = self._state.job.graph, self._strip.boxes, self._state.job.plan.band
        rest = {n: row for n, row in self._next.items() if row < self._strip.regions[n][0].hi}
        if not rest:
            return
        begun = any(row > self._strip.regions[n][0].lo for n, row in self._next.items())
        on_cpu = self._state.job.preparation.device.type == "cpu"  # no transform is used there
        first = first_rows(graph, boxes, rest, band, independent_rows=on_cpu) if begun else {}
        self._given = {name: first.get(name, boxes[name][0].lo) for name in rest}
        stream = Stream(graph, boxes, tuple(rest), band=band, first=first, scratch=self._scratch)
        for rows in pushes(graph, boxes, band):
            if self._push(rows, stream, first):
                self._state.multiply_adds += stream.multiply_adds
                stream.multiply_adds = 0
                self._state.tell()

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
            if side and side.hi <= first.get(name, 0):
                values[name] = stream.passed(name, side)
            elif side:
                others = self._strip.boxes[name][1:]
                source, window = job.sources[name], (side, *others)
                samples = source.read(*((s.lo, s.hi) for s in window))
                self._state.readings.note(name, window, samples)
                self._state.extremes.read(name, samples)
                self._state.positions += samples[0].size if name == job.graph.inputs[0] else 0
                values[name] = job.preparation(samples, source.name, tuple(s.lo for s in window))
        return values

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
        state.sinks[name].write(self._next[name] - region[0].lo, block, self._columns(name)[0])
        self._next[name] = wanted[0].hi
        state.rows += block.shape[1]

    def _columns(self, name: str) -> tuple[int, int]:
        """The columns of the strip within the output's region, as its sink counts them."""
        region = self._strip.regions[name]
        if len(region) < 2:
            return (0, 1)
        start = self._state.job.plan.regions[name][1].lo
        return (region[1].lo - start, region[1].hi - start)
