"""A network of pictures over a stack, slice by slice: each slice is a run of its own.

The slices have one size, so the network is traced and planned once. A slice's answer is held in
memory until the slice is whole; the stack of answers is written slice by slice, and resumed so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from eyeshot.engine.executing import Progress, RunReport, execute
from eyeshot.engine.jobs import Job
from eyeshot.errors import BadValue
from eyeshot.images import ArraySink, Sink, Source, Span, understand
from eyeshot.images.sources.grey import GreySource


class SliceSource(Source):
    """One slice of a stack (C, D, H, W), as a picture (C, H, W)."""

    def __init__(self, stack: Source, place: int) -> None:
        shape = (stack.shape[0], *stack.shape[2:])
        super().__init__(stack.name, understand(shape, layout="CHW"), stack.dtype)
        self._stack, self._place = stack, place
        self.memory, self.open_memory = stack.memory, stack.open_memory
        self.alpha, self.notes, self.part = stack.alpha, stack.notes, stack.part

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
    if isinstance(first, GreySource):
        slices = [GreySource(one) for one in slices]
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
