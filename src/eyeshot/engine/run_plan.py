"""The plan of a run: what it will read, compute and write, as text and as data."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.cells import cell_len
from rich.console import RenderableType

from eyeshot.engine.job import Job
from eyeshot.engine.outputs import arrangement_of, layout_of
from eyeshot.engine.skipping import looks_for_blank
from eyeshot.geometry import Fields
from eyeshot.language import counted, mark, tr
from eyeshot.operators.winograd import is_winograd
from eyeshot.planning import BandPlan
from eyeshot.planning.band_plan import megabytes, render
from eyeshot.terminal import PlainConsole

_WIDTH = 100


@dataclass(frozen=True)
class PlannedImage:
    """One image that will be read.

    Attributes:
        name: the name of its file, or "array".
        layout: how its axes were interpreted.
        samples: how its samples are converted to the network's input.
        notes: further facts about the image.
        facts: all facts as plain data.
    """

    name: str
    layout: str
    samples: str
    notes: tuple[str, ...]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class PlannedOutput:
    """One output that will be written.

    Attributes:
        name: the name of the network's output.
        region: (lo, hi) along each of its spatial axes.
        sizes: the shape of its array.
        layout: the array's axes, in words.
    """

    name: str
    region: tuple[tuple[int, int], ...]
    sizes: tuple[int, ...]
    layout: str

    def __str__(self) -> str:
        region = " x ".join(f"{lo}:{hi}" for lo, hi in self.region) or "whole"
        sizes = " x ".join(map(str, self.sizes)) or "1"
        return f"{self.name}, {region}; {sizes} ({self.layout})"


@dataclass(frozen=True)
class PlannedCluster:
    """How a run is distributed over the workers of a cluster.

    Attributes:
        workers: the number of workers.
        at_once: the number of blocks that they compute at the same time.
        blocks: the number of blocks along each axis of the output.
        redundancy: multiply-adds of all blocks with their halos, divided by those of one pass.
        worker_peak: the predicted peak memory of a worker process in bytes.
        worker_memory: the smallest memory limit of a worker in bytes; None for no limit.
        dashboard: the address of Dask's dashboard; "" if there is none.
        done: the number of blocks that an earlier run has written.
        stages: the number of blocks of each earlier pass, which gathers statistics.
        stored: the bytes of the maps that these passes store for later ones.
    """

    workers: int
    at_once: int
    blocks: tuple[int, ...]
    redundancy: float
    worker_peak: int
    worker_memory: int | None
    dashboard: str = ""
    done: int = 0
    stages: tuple[int, ...] = ()
    stored: int = 0

    @property
    def count(self) -> int:
        """The number of blocks."""
        return math.prod(self.blocks)

    @property
    def lines(self) -> tuple[str, ...]:
        """The distribution in words."""
        grid = " x ".join(map(str, self.blocks))
        halo = f"{self.redundancy:.2f} x the work of one pass"
        allowed = f" of {megabytes(self.worker_memory)}" if self.worker_memory else ""
        found = [
            f"workers      {self.workers}, {counted(self.at_once, 'block')} at a time",
            f"blocks       {self.count} ({grid}), with their halos {halo}",
            f"each worker  {megabytes(self.worker_peak)}{allowed}",
        ]
        if self.stages:
            found.append(
                f"stages       {len(self.stages)} before, for statistics over all positions; "
                f"in blocks: {', '.join(map(str, self.stages))}"
            )
        if self.stored:
            found.append(f"stored maps  {megabytes(self.stored)} beside the output while it runs")
        if self.done:
            found.append(f"done         {self.done} of {counted(self.count, 'block')} before")
        if self.dashboard:
            found.append(f"dashboard    {self.dashboard}")
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {**asdict(self), "blocks": list(self.blocks), "stages": list(self.stages)}


@dataclass(frozen=True)
class Plan:
    """What a run will read, compute, keep in memory and write. ``str()`` gives it as text.

    Attributes:
        bands: strips and bands, the rows that each node keeps, memory and multiply-adds.
        images: one for each input of the network.
        outputs: one for each output.
        notes: how the image is padded and flipped; where a smaller output lies in the image.
        predicted_seconds: from a short trial on noise; None without a trial.
        cluster: the distribution over workers; None if this process does the run.
    """

    bands: BandPlan
    images: tuple[PlannedImage, ...]
    outputs: tuple[PlannedOutput, ...]
    notes: tuple[str, ...]
    predicted_seconds: float | None = None
    cluster: PlannedCluster | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            **self.bands.to_dict(),
            "images": [dict(image.facts) for image in self.images],
            "layouts": {output.name: output.layout for output in self.outputs},
            "predicted_seconds": self.predicted_seconds,
            **({} if self.cluster is None else {"cluster": self.cluster.to_dict()}),
        }

    @property
    def lines(self) -> tuple[str, ...]:
        """Facts about the images, the place of the outputs in them, and the workers."""
        found: list[str] = []
        for image in self.images:
            word = tr("image")
            found.append(f"{word}{' ' * (13 - cell_len(word))}{image.name}: {image.layout}")
            found += [f"             {note}" for note in image.notes]
        shared = () if self.cluster is None else self.cluster.lines
        return (*found, *self.notes, *shared)

    def table(self) -> RenderableType:
        """Outputs, bands, memory, work, and the rows that each node keeps."""
        answers = {output.name: str(output) for output in self.outputs}
        return render(self.bands, self.predicted_seconds, answers)

    def __str__(self) -> str:
        console = PlainConsole(file=io.StringIO(), width=_WIDTH, color_system=None)
        with console.capture() as captured:
            console.print(self.table())
        return "\n".join((*self.lines, *(line.rstrip() for line in captured.get().splitlines())))


def plan_of(job: Job, predicted_seconds: float | None = None, *, looked: bool = True) -> Plan:
    """The plan of a job; ``looked`` is False if blank regions have not been searched for."""
    return Plan(
        bands=job.plan,
        images=tuple(
            PlannedImage(
                source.name,
                source.layout,
                job.preparation.stated(source.dtype),
                tuple(source.notes),
                source.to_dict(),
            )
            for source in job.sources.values()
        ),
        outputs=tuple(_output(job, name) for name in job.forms),
        notes=(*_size_notes(job), *_skipped_notes(job, looked=looked)),
        predicted_seconds=predicted_seconds,
    )


def _output(job: Job, name: str) -> PlannedOutput:
    arrangement = job.arrangement(name)
    sides = [job.plan.regions[name][axis] for axis in arrangement.space]
    region = tuple((side.lo, side.hi) for side in sides)
    return PlannedOutput(name, region, tuple(arrangement.sizes), layout_of(job.graph, name))


def _size_notes(job: Job) -> Iterator[str]:
    """Notes on a run's numbers and sizes, a line each.

    They tell how the image is padded, flipped and rounded, the pixel size of the outputs if that of
    the image is known, and which outputs are smaller than the image at the same scale.
    """
    if job.padding is not None:
        yield str(job.padding)
    if job.flips is not None:
        yield str(job.flips)
    if job.preparation.dtype == torch.bfloat16:
        yield "computed in bfloat16, with 8 bits of precision"
    fewer = sum(map(is_winograd, job.graph))
    if fewer:
        yield (
            f"{counted(fewer, 'convolution')} with a third of the multiplications, to 1e-5 of the "
            "largest value; exact='direct' for the plain sums"
        )
    if job.sources[job.graph.inputs[0]].grid is not None:
        for name in job.graph.outputs:
            grid = job.pixel_grid(name)
            yield f"pixels of {name}: {grid or 'of no known size: they have no place in the image'}"
    image = job.graph.nodes[job.graph.inputs[0]].extents
    for name in job.graph.outputs:
        node = job.graph.nodes[name]
        less = [n - m for n, m in zip(image, node.extents, strict=True)]
        same_axes = arrangement_of(job.graph, name).space == tuple(range(len(node.dims)))
        if not same_axes or len(set(less)) > 1 or less[0] <= 0 or less[0] % 2:
            continue
        if all(axis.stride == 1 for axis in Fields(job.graph).layer(name)):
            yield (
                f"the answer is {_by(node.extents)}, in the middle of the image's {_by(image)}: "
                f"{less[0] // 2} pixels less at each side"
            )


def _skipped_notes(job: Job, *, looked: bool) -> Iterator[str]:
    """How much of the output is not computed, as far as is known before the image is read."""
    skipping = job.skipping
    if skipping is not None and skipping.outside:
        text = mark("{part:.1%} of the output is outside of --where: filled, and not computed")
        yield tr(text, part=skipping.outside)
    if skipping is not None and skipping.blank:
        yield tr("{part:.1%} of the output is blank: computed once and copied", part=skipping.blank)
    if not looked and looks_for_blank(job):
        yield tr(
            "blank regions are found, and copied, when the run reads the image; a plan does not"
        )


def _by(sides: tuple[int, ...]) -> str:
    return "×".join(map(str, sides))
