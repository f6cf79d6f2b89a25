"""A run that goes on repeats the calls of the run that was not cut off: the same bits, no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import eyeshot.engine.stream as streaming
from eyeshot.axes import Interval
from eyeshot.engine.executing import execute
from eyeshot.engine.jobs import Job
from eyeshot.engine.operators import Operator, Rectangle, prepare
from eyeshot.engine.operators.windows import Box
from eyeshot.errors import Unsupported
from eyeshot.graph import Node
from eyeshot.images import ArraySink, Span
from eyeshot.plan import ENDLESS
from tests.engine.law import Array, cut, job_of, noise
from tests.networks import CHANNELS, networks, runs_at

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
    """One call of an operator: in which push, of which node, for which box, from what, to what."""

    push: int
    node: str
    box: Box
    reads: tuple[tuple[str, Interval], ...]
    inputs: tuple[bytes, ...]
    value: bytes


@dataclass
class Log:
    """Every call of a run, strip after strip."""

    strips: list[list[Call]] = field(default_factory=list)
    pushes: int = 0

    def recorded(self, node: Node, tensors: Any) -> Operator:
        """The node's operator, which writes down how it is called."""
        operator = prepare(node, tensors)

        def compute(
            inputs: list[Rectangle], box: Box, room: torch.Tensor | None = None
        ) -> torch.Tensor:
            before = tuple(bits(given.value) for given in inputs)
            value = operator(inputs, box, room)
            reads = [(e.source, i.box[0]) for e, i in zip(node.edges, inputs, strict=True)]
            call = Call(self.pushes, node.name, box, tuple(reads), before, bits(value))
            self.strips[-1].append(call)
            return value

        return compute


def bits(value: torch.Tensor) -> bytes:
    """Shape, layout and every bit of a value."""
    told = repr((value.shape, value.stride())).encode()
    return told + value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@contextmanager
def logged() -> Iterator[Log]:
    """The calls of the runs inside; each stream begins a strip."""
    log = Log()

    class Recorded(streaming.Stream):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            log.strips.append([])
            log.pushes = 0
            super().__init__(*arguments, **options)

        def push(self, rows: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            log.pushes += 1
            return super().push(rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "prepare", log.recorded)
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


def still_asked(calls: list[Call], output: str, row: int) -> list[Call]:
    """Of each node the calls from the first on that any of these, or an output row, depends on.

    The form sees the rows of one push together, so the output begins with one.
    """
    own = [call for call in calls if call.node == output]
    first = next(call.push for call in own if call.box[0].hi > row)
    asked = {output: min(call.box[0].lo for call in own if call.push == first)}
    kept: list[Call] = []
    while True:
        before, kept = len(kept), [c for c in calls if c.box[0].hi > asked.get(c.node, ENDLESS)]
        if len(kept) == before:
            return kept
        for call in reversed(kept):
            for source, rows in call.reads:
                if rows:
                    asked[source] = min(asked.get(source, ENDLESS), rows.lo)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_random_networks_repeat_the_calls_of_the_run_that_was_not_cut_off(axes: int) -> None:
    @settings(max_examples={1: 15, 2: 25, 3: 8}[axes])
    @given(net=networks(axes), size=st.tuples(*[SIDES[axes]] * axes), data=st.data())
    def holds(net: nn.Module, size: tuple[int, ...], data: st.DataObject) -> None:
        curves = [data.draw(st.sampled_from(CURVES))() for _ in range(2)]
        net, image = nn.Sequential(curves[0], net, curves[1]).eval(), noise(CHANNELS, *size)
        truth = runs_at(net, image[None])
        assume(truth is not None and truth.isfinite().all())
        try:
            job = job_of(net, image, form="probabilities")
        except Unsupported as refused:
            assume("writes in place" not in str(refused))
            raise
        strips = 1 if axes == 1 else data.draw(st.integers(1, 3), label="strips")
        goes_on_alike(cut(job, data.draw(st.integers(1, 9), label="band"), strips), data)

    holds()


def goes_on_alike(job: Job, data: st.DataObject) -> None:
    """From any rows on: the same calls on the same bits, none that is not needed."""
    name = job.graph.outputs[0]
    boxes = [strip.regions[name] for strip in job.plan.strips]
    spans = [(0, 1) if len(box) < 2 else (box[1].lo, box[1].hi) for box in boxes]
    rows = len(boxes[0][0])
    done = {span: data.draw(st.integers(0, rows), label="rows done") for span in spans}
    uninterrupted, whole = run_from(job, {})
    resumed, part = run_from(job, done)
    left = [i for i, span in enumerate(spans) if done[span] < rows]
    for i, calls in zip(left, resumed.strips, strict=True):
        assert calls == still_asked(uninterrupted.strips[i], name, done[spans[i]])
    for (lo, hi), row in done.items():
        there = (slice(None), slice(row, None), *([slice(lo, hi)] if whole.ndim > 2 else []))
        np.testing.assert_array_equal(part[there], whole[there])
