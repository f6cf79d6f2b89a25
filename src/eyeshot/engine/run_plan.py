"""What a run will do, for people and programs, before any of it is done."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.console import RenderableType

from eyeshot.engine.job import Job
from eyeshot.engine.outputs import arrangement_of, layout_of
from eyeshot.findings.wording import counted
from eyeshot.geometry import Fields
from eyeshot.planning import BandPlan
from eyeshot.planning.band_plan import megabytes, render
from eyeshot.terminal import PlainConsole

_WIDTH = 100


@dataclass(frozen=True)
class PlannedImage:
    """One image that will be read.

    Attributes:
        name: of its file, or "array".
        layout: how its axes were understood.
        samples: what is done to its samples before the network sees them.
        notes: what else there is to know of it.
        facts: the same and more, as plain data.
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
        name: of the network's output.
        region: (lo, hi) along each of its axes of space.
        sizes: of its array.
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
    """How a run is shared out among the workers of a cluster.

    Attributes:
        workers: how many there are.
        at_once: blocks that they compute at one time.
        blocks: along each axis of the output.
        redundancy: multiply-adds of all blocks with their halos, divided by those of one pass.
        worker_peak: the predicted most bytes that a worker holds, itself included.
        worker_memory: the fewest bytes that a worker may hold; None where nothing limits it.
        dashboard: the address of Dask's page on the workers; "" for none.
        done: blocks that an earlier run has written.
        stages: blocks of each pass before, in which statistics are gathered.
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

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return math.prod(self.blocks)

    @property
    def lines(self) -> tuple[str, ...]:
        """In words."""
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
    """What a run will read, compute, hold and write. It prints itself.

    Attributes:
        bands: strips and bands, the rows that each node holds, memory and multiply-adds.
        images: one for each input of the network.
        outputs: one for each output.
        notes: how the image is padded and flipped; where a smaller answer lies in it.
        predicted_seconds: by a short trial on noise; None where no trial was made.
        cluster: how it is shared out among workers; None where this process does it.
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
        """What is to be said of the images, and where the answers lie in them."""
        found: list[str] = []
        for image in self.images:
            found.append(f"image        {image.name}: {image.layout}")
            found += [f"             {note}" for note in image.notes]
        shared = () if self.cluster is None else self.cluster.lines
        return (*found, *self.notes, *shared)

    def table(self) -> RenderableType:
        """Outputs, bands, memory, work, and the rows that each node holds."""
        answers = {output.name: str(output) for output in self.outputs}
        return render(self.bands, self.predicted_seconds, answers)

    def __str__(self) -> str:
        console = PlainConsole(file=io.StringIO(), width=_WIDTH, color_system=None)
        with console.capture() as said:
            console.print(self.table())
        return "\n".join((*self.lines, *(line.rstrip() for line in said.get().splitlines())))


def plan_of(job: Job, predicted_seconds: float | None = None) -> Plan:
    """The plan of a run that is settled."""
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
        notes=tuple(_size_notes(job)),
        predicted_seconds=predicted_seconds,
    )


def _output(job: Job, name: str) -> PlannedOutput:
    arrangement = job.arrangement(name)
    sides = [job.plan.regions[name][axis] for axis in arrangement.space]
    region = tuple((side.lo, side.hi) for side in sides)
    return PlannedOutput(name, region, tuple(arrangement.sizes), layout_of(job.graph, name))


def _size_notes(job: Job) -> Iterator[str]:
    """What else there is to know of a run's numbers and sizes, a line each.

    How the image is padded, flipped and rounded; each answer that has fewer pixels of the same size
    than it; how large its pixels are, where the image says how large its own are.
    """
    if job.padding is not None:
        yield str(job.padding)
    if job.flips is not None:
        yield str(job.flips)
    if job.preparation.dtype == torch.bfloat16:
        yield "computed in bfloat16, with 8 bits of precision"
    if job.sources[job.graph.inputs[0]].grid is not None:
        for name in job.graph.outputs:
            grid = job.pixel_grid(name)
            yield f"pixels of {name}: {grid or 'of no known size: they have no place in the image'}"
    image = job.graph.nodes[job.graph.inputs[0]].extents
    for name in job.graph.outputs:
        node = job.graph.nodes[name]
        less = [n - m for n, m in zip(image, node.extents, strict=True)]
        lies_so = arrangement_of(job.graph, name).space == tuple(range(len(node.dims)))
        if not lies_so or len(set(less)) > 1 or less[0] <= 0 or less[0] % 2:
            continue
        if all(axis.stride == 1 for axis in Fields(job.graph).layer(name)):
            yield (
                f"the answer is {_by(node.extents)}, in the middle of the image's {_by(image)}: "
                f"{less[0] // 2} pixels less at each side"
            )


def _by(sides: tuple[int, ...]) -> str:
    return "×".join(map(str, sides))
