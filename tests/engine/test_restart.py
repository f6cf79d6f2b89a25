"""A run that goes on repeats the calls of the run that was not cut off: the same bits, no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

import eyeshot.engine.stream as streaming
from eyeshot.axes import Interval
from eyeshot.engine.executing import execute
from eyeshot.engine.job import Job
from eyeshot.errors import Unsupported
from eyeshot.geometry import Region, required
from eyeshot.geometry.tiles import input_box
from eyeshot.graph import Graph, Node
from eyeshot.images import ArraySink, Span
from eyeshot.operators import Box, Computation, Prepared, Tile, prepare
from eyeshot.planning import Strip, first_rows
from tests.engine.law import Array, cut, job_of, noise
from tests.networks import CHANNELS, Joined, examples, networks, runs_at

SIDES = {1: st.integers(1, 90), 2: st.integers(1, 30), 3: st.integers(1, 8)}
CURVES: list[Callable[[], nn.Module]] = [
    nn.Identity,
    nn.Sigmoid,
    nn.GELU,
    nn.SiLU,
    nn.Softplus,
    nn.ELU,
    nn.Tanh,
    lambda: nn.Softmax(1),
]


@dataclass(frozen=True)
class Call:
    """One call of an operator: of which node, for which box, on what."""

    node: str
    box: Box
    reads: tuple[Box, ...]
    layouts: tuple[tuple[tuple[int, ...], tuple[int, ...]] | None, ...]


@dataclass
class Log:
    """Every call of a run, strip after strip."""

    strips: list[list[Call]] = field(default_factory=list)

    def recorded(self, node: Node, tensors: Any) -> Computation:
        """The node's operator, which writes down how it is called."""
        operator = prepare(node, tensors)

        def compute(inputs: list[Tile], box: Box, room: torch.Tensor | None = None) -> torch.Tensor:
            reads = tuple(given.box for given in inputs)
            layouts = tuple((tuple(i.value.shape), i.value.stride()) for i in inputs)
            self.strips[-1].append(Call(node.name, box, reads, layouts))
            return operator(inputs, box, room)

        return compute


@contextmanager
def logged() -> Iterator[Log]:
    """The calls of the runs inside; each stream begins a strip."""
    log = Log()

    class Recorded(streaming.Stream):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            log.strips.append([])
            super().__init__(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Prepared, "computation", lambda _, *node: log.recorded(*node))
        patch.setattr("eyeshot.engine.executing.Stream", Recorded)
        yield log


class PartlyThere(ArraySink):
    """An array of which the first rows of each strip count as written."""

    def __init__(self, shape: tuple[int, ...], done: Mapping[Span, int]) -> None:
        super().__init__(shape, np.dtype(np.float32))
        self._written = dict(done)


def run_from(job: Job, done: Mapping[Span, int]) -> tuple[Log, Array]:
    """The calls of a run whose output is partly there, and the output."""
    name = job.graph.outputs[0]
    sink = PartlyThere(job.shape(name), done)
    with logged() as log:
        execute(job, {name: sink})
    return log, sink.finish()


@dataclass(frozen=True)
class Rest:
    """What the rows of a strip's output from ``row`` on depend on."""

    graph: Graph
    name: str
    row: int
    need: Mapping[str, Region]

    @classmethod
    def of(cls, job: Job, strip: Strip, done: int) -> Rest:
        """The rest of a strip of which some rows are there."""
        ((name, box),) = strip.regions.items()
        row = box[0].lo + done
        rest = {name: (Interval(row, box[0].hi), *box[1:])}
        return cls(job.graph, name, row, required(job.graph, rest))

    def reaches(self, node: str, rows: Interval) -> bool:
        """Whether one of a node's rows is needed, or one after them is."""
        return node in self.need and bool(self.need[node][0]) and rows.hi > self.need[node][0].lo

    def calls(self, calls: list[Call]) -> list[Call]:
        """Those that give a row which is needed."""
        return [call for call in calls if self.reaches(call.node, call.box[0])]

    def without_layouts_of_zeros(self, call: Call) -> Call:
        """How rows that are passed over lie in memory is of no matter."""
        edges = self.graph.nodes[call.node].edges
        kept = [
            layout if self.reaches(edge.source, box[0]) else None
            for edge, box, layout in zip(edges, call.reads, call.layouts, strict=True)
        ]
        return replace(call, layouts=tuple(kept))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_random_networks_repeat_the_calls_of_the_run_that_was_not_cut_off(axes: int) -> None:
    @examples({1: 8, 2: 10, 3: 3}[axes])
    @given(net=networks(axes), size=st.tuples(*[SIDES[axes]] * axes), data=st.data())
    def holds(net: nn.Module, size: tuple[int, ...], data: st.DataObject) -> None:
        curves = [data.draw(st.sampled_from(CURVES))() for _ in range(2)]
        net, image = nn.Sequential(curves[0], net, curves[1]).eval(), noise(CHANNELS, *size)
        truth = runs_at(net, image[None])
        assume(truth is not None and truth.isfinite().all())
        try:
            job = job_of(net, image, output_format="probabilities")
        except Unsupported as refused:
            assume("writes in place" not in str(refused))
            raise
        strips = 1 if axes == 1 else data.draw(st.integers(1, 3), label="strips")
        band = data.draw(st.integers(1, 9), label="band")

        def draw_done(rows: int) -> int:
            return data.draw(st.integers(0, rows), label="rows done")

        resumes_alike(cut(job, band, strips), draw_done)

    holds()


def test_rows_of_padding_alone_need_nothing_before_them() -> None:
    """Found by ``--hypothesis-seed=1``: a column read padding, the rows did not."""
    torch.manual_seed(0)
    up = nn.ConvTranspose2d(CHANNELS, CHANNELS, 1, stride=(2, 1))
    branch = nn.Sequential(
        nn.Conv2d(CHANNELS, CHANNELS, 2, stride=2), nn.Conv2d(CHANNELS, CHANNELS, 1, (3, 1)), up
    )
    net = nn.Sequential(
        nn.Upsample(scale_factor=2),
        Joined(nn.Identity(), branch, "add", 2),
        nn.ReflectionPad2d((0, 0, 1, 1)),
    ).eval()
    job = job_of(net, noise(CHANNELS, 10, 1))
    for done in range(10):
        resumes_alike(cut(job, 1), partial(min, done))


@examples(6)
@given(net=networks(2), size=st.tuples(SIDES[2], SIDES[2]), data=st.data())
def test_kernels_that_mix_rows_get_whole_calls(
    net: nn.Module, size: tuple[int, ...], data: st.DataObject
) -> None:
    """The first repeated call of a node reads no row of a source that is not computed again."""
    image = noise(CHANNELS, *size)
    assume(runs_at(net, image[None]) is not None)
    try:
        job = cut(job_of(net.eval(), image), data.draw(st.integers(1, 9), label="band"))
    except Unsupported as refused:
        assume("writes in place" not in str(refused))
        raise
    (strip,) = job.plan.strips
    ((name, box),) = strip.regions.items()
    missing = {name: data.draw(st.integers(box[0].lo, box[0].hi - 1), label="first missing row")}
    arguments = (job.graph, strip.boxes, missing, job.plan.band)
    least = first_rows(*arguments)
    first = first_rows(*arguments, independent_rows=False)
    for node in job.graph:
        if node.name not in first or first[node.name] >= strip.boxes[node.name][0].hi:
            continue
        assert first[node.name] <= least[node.name]
        row = Interval(first[node.name], first[node.name] + 1)
        for edge in node.edges:
            extents = job.graph[edge.source].extents
            rows = input_box(edge, (row, *strip.boxes[node.name][1:]), extents)[0]
            assert not rows or first[edge.source] <= rows.lo


def resumes_alike(job: Job, rows_done: Callable[[int], int]) -> None:
    """From any rows on: the same calls, none that is not needed, and the same bits.

    Args:
        job: the uninterrupted run.
        rows_done: of so many rows of a strip, how many are there already.
    """
    name = job.graph.outputs[0]
    boxes = [strip.regions[name] for strip in job.plan.strips]
    spans = [(0, 1) if len(box) < 2 else (box[1].lo, box[1].hi) for box in boxes]
    rows = len(boxes[0][0])
    done = {span: rows_done(rows) for span in spans}
    uninterrupted, whole = run_from(job, {})
    resumed, part = run_from(job, done)
    left = [i for i, span in enumerate(spans) if done[span] < rows]
    for i, calls in zip(left, resumed.strips, strict=True):
        rest = Rest.of(job, job.plan.strips[i], done[spans[i]])
        expected = rest.calls(uninterrupted.strips[i])
        comparable = rest.without_layouts_of_zeros
        assert [comparable(call) for call in calls] == [comparable(call) for call in expected]
    for (lo, hi), row in done.items():
        there = (slice(None), slice(row, None), *([slice(lo, hi)] if whole.ndim > 2 else []))
        np.testing.assert_array_equal(part[there], whole[there])
