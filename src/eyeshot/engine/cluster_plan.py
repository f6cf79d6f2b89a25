"""The plan of a run on a cluster: its blocks, its stages, and the settings for the workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import eyeshot
from eyeshot.engine.blocks import (
    BlockPlan,
    Blocks,
    Stage,
    blocks_from,
    plan_blocks,
    priced_as_begun,
    stages_of,
)
from eyeshot.engine.cluster_workers import (
    Workers,
    look_at_workers,
)
from eyeshot.engine.job import (
    DIRECT,
    Job,
    Parts,
    affordable,
    check_exact,
    parts_of,
    settings_of,
    sinks_memory,
)
from eyeshot.engine.memory import RunCosts
from eyeshot.engine.moments import split_softmax
from eyeshot.engine.networks import Network
from eyeshot.engine.outputs import arrangement_of
from eyeshot.engine.run_plan import Plan, PlannedCluster, plan_of
from eyeshot.engine.skipping import skip, worth_a_look
from eyeshot.engine.stored_maps import BAND, bytes_stored, chunk_of, maps_to_store
from eyeshot.errors import BadValue, Failure
from eyeshot.geometry import Region, required
from eyeshot.graph import Graph
from eyeshot.images import Source, unfinished
from eyeshot.images.sinks.zarr_blocks import blocked_zarr, maps_folder
from eyeshot.images.sources.converted import reading_of
from eyeshot.operators.methods import (
    depends_on_compiler,
    methods_of,
    rounding,
    uses_methods,
    with_methods,
)
from eyeshot.planning import BandPlan, make_plan
from eyeshot.planning.schedule import multiply_adds

THREADS = 1
"""Torch's threads for a block, so that no bit depends on the number or size of the workers."""
RETRIES = 3


def check_cluster_run(
    targets: Any, image: Any, *, per_slice: bool, retries: int = RETRIES
) -> tuple[list[Path], list[str]]:
    """Refuse a run that several machines cannot share.

    Returns:
        The outputs, and the absolute names of the images.

    Raises:
        BadValue: an output that is not Zarr, an image in memory, or slices.
    """
    if retries < 0:
        raise BadValue(f"retries is {retries}", cure="give 0 or more")
    if per_slice:
        raise BadValue(
            "per_slice with a client", cure="run a network of volumes, or the slices without it"
        )
    outs = targets if isinstance(targets, list | tuple) else [targets]
    for one in outs:
        if not isinstance(one, str | os.PathLike) or Path(one).suffix.lower() != ".zarr":
            name = "an array" if not isinstance(one, str | os.PathLike) else str(one)
            raise BadValue(
                f"{name if one is not None else 'no output'}, and a client was given: many workers "
                "can write one output only in chunks of their own",
                cure="name a .zarr folder that all workers see",
            )
    images = image if isinstance(image, list | tuple) else [image]
    for one in images:
        if not isinstance(one, str | os.PathLike):
            raise BadValue(
                f"an image in memory ({type(one).__name__}), and a client was given: workers read "
                "the image themselves",
                cure="write it to a file that all workers see, and give its path",
            )
    return [Path(one).absolute() for one in outs], [_named(one) for one in images]


def _named(image: str | os.PathLike[str]) -> str:
    text = os.fspath(image)
    return text if "://" in text else str(Path(text).absolute())


@dataclass(frozen=True)
class ClusterRun:
    """A run on a cluster whose settings are decided.

    Attributes:
        whole: the network, with its statistics as nodes.
        parts: the network with known statistics, the images and the output formats.
        stages: the passes that gather the statistics, each with its blocks.
        plan: the blocks and their cost, with those of the stages.
        job: the same work as one run, for its settings, shapes and plan.
        workers: the workers of the cluster.
        targets: the outputs.
        images: the names of the images.
        spec: the settings that workers get, without the outputs.
    """

    whole: Graph
    parts: Parts
    stages: Sequence[tuple[Stage, Blocks]]
    plan: BlockPlan
    job: Job
    workers: Workers
    targets: Sequence[Path]
    images: Sequence[str]
    spec: Mapping[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that decide every sample, as plain data."""
        common = dict(settings_of(replace(self.job, graph=self.whole)))
        del common["strips"]
        methods = methods_of(self.whole)
        return {
            **common,
            **({"methods": methods} if methods else {}),
            "arithmetic": self.workers.arithmetic + rounding(self.whole, self.spec["width"]),
            "blocks": self.plan.blocks.to_dict(),
            "stages": self.spec["stages"],
            **({"bands": self.spec["bands"]} if self.spec["bands"] else {}),
            **({"maps": self.spec["maps"]} if self.spec["maps"] else {}),
            "skipping": self.spec["skipping"],
        }

    def planned(self, resumed: int = 0) -> Plan:
        """The plan, for people and programs."""
        blocks, workers = self.plan.blocks, self.workers
        cluster = PlannedCluster(
            workers=len(workers.threads),
            at_once=workers.slots,
            blocks=blocks.counts,
            redundancy=self.plan.bands.redundancy,
            worker_peak=self.plan.bands.peak,
            worker_memory=workers.memory,
            dashboard=workers.dashboard,
            done=resumed,
            stages=tuple(len(blocks) for _, blocks in self.stages),
            stored=bytes_stored(self.whole, self.spec["maps"]),
        )
        return replace(plan_of(self.job), cluster=cluster)


def settle(
    client: Any,
    net: Network,
    sources: Sequence[Source],
    targets: Sequence[Path],
    images: Sequence[str],
    *,
    memory: int | None,
    device: str | None,
    options: Mapping[str, Any],
    where: Any,
    fill: float,
    blank: bool | None,
    resume: bool,
    exact: str | None = None,
    **settings: Any,
) -> ClusterRun:
    """Trace the network, look at the workers, and cut the output into blocks.

    Raises:
        BadValue: a setting does not fit; the message names one that does.
        Unsupported: an operator that cannot be run in blocks, by its name.
    """
    check_exact(exact)
    traced = parts_of(net, sources, exact=DIRECT, **settings)
    place = device or traced.preparation.device.type
    workers = look_at_workers(client, place)
    limit = min((one for one in (memory, workers.memory) if one), default=None)
    begun = unfinished(targets[0]) if resume else None
    choices = _with_methods(split_softmax(traced.graph), workers, exact, begun, limit)
    for last, (whole, width) in enumerate(choices, 1 - len(choices)):
        every = replace(traced, graph=whole)
        try:
            maps = _stored(every, targets[0], begun)
            parts, gathered, plan = _planned(
                every, maps, targets, workers, limit, settings.get("band"), begun, width
            )
            break
        except BadValue:
            if not last:
                raise
    stages = [stage for stage, _ in gathered]
    job = parts.job(plan.bands, THREADS, memory=limit)
    looked = False if stages else blank
    if looked is None:
        looked = begun["skipping"]["blank"] if begun and "skipping" in begun else worth_a_look(job)
    digest = None
    if where is not None:
        marked = skip(job, where=where, fill=fill, blank=False, look=False)
        digest = None if marked.skipping is None else dict(marked.skipping.settings)
    preparation = parts.preparation
    spec = {
        "images": list(images),
        "options": {**options, "space": len(sources[0].shape) - 1},
        "readings": [reading_of(one) for one in parts.sources.values()],
        "identity": [one.identity() for one in parts.sources.values()],
        "dtype": str(preparation.dtype).removeprefix("torch."),
        "device": place,
        "raw": preparation.raw,
        "mean": list(preparation.mean),
        "std": list(preparation.std),
        "unit": preparation.unit,
        "white": preparation.white,
        "output_format": next(iter(parts.forms.values())).name,
        "band": plan.bands.band,
        "multiply_adds": plan.bands.multiply_adds,
        "threads": THREADS,
        "eyeshot": eyeshot.__version__,
        "arithmetic": workers.arithmetic,
        "width": width,
        "memory": memory,
        "fill": fill,
        "blank": bool(looked),
        "stages": [one.blocks.to_dict() for _, one in gathered],
        "bands": [one.bands.band for _, one in gathered],
        "maps": list(maps),
        "maps_folder": str(maps_folder(targets[0])),
        "skipping": {"blank": bool(looked), "where": digest},
    }
    pairs = [(stage, one.blocks) for stage, one in gathered]
    return ClusterRun(whole, parts, pairs, plan, job, workers, targets, images, spec)


def _with_methods(
    graph: Graph,
    workers: Workers,
    exact: str | None,
    begun: Mapping[str, Any] | None,
    limit: int | None,
) -> list[tuple[Graph, int]]:
    """The network with the convolutions as the workers compute them, and what they compile for.

    The fastest is first; the last one needs the least memory. A run that is resumed has one choice.

    Raises:
        Failure: only some of the workers compile code, and this would change bits.
    """
    if exact != DIRECT and begun is not None:
        exact = str(begun.get("exact", DIRECT))
    if exact == DIRECT:
        return [(graph, 0)]
    found = {width: with_methods(graph, width) for width in sorted(workers.widths)}
    if not any(map(uses_methods, found.values())):
        return [(graph, 0)]
    if len(found) > 1 and any(map(depends_on_compiler, found.values())):
        raise Failure(
            "llvmlite is installed on some workers only: their answers differ in the last bits",
            cure="install it on all of them, pip install 'eyeshot[fast]', or use exact='direct'",
        )
    width, faster = next(iter(found.items()))
    if begun is not None:
        return [(faster, width)]
    room = None if limit is None else limit // workers.most_threads
    if not uses_methods(affordable(faster, room, width)):
        return [(graph, 0)]
    return [(faster, width), (graph, 0)]


def _stored(every: Parts, target: Path, begun: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The maps that stages store; if a run is resumed, those that it began with."""
    if begun is None:
        return maps_to_store(every.graph, every.regions, target.parent)
    known = begun.get("maps")
    return tuple(str(one) for one in known if one in every.graph.nodes) if known else ()


def _planned(
    every: Parts,
    maps: Sequence[str],
    targets: Sequence[Path],
    workers: Workers,
    limit: int | None,
    band: int | None,
    begun: Mapping[str, Any] | None,
    width: int,
) -> tuple[Parts, list[tuple[Stage, BlockPlan]], BlockPlan]:
    """The parts of the last pass, the stages with their blocks, and the plan.

    Raises:
        BadValue: no block fits into the memory of a worker.
        Unsupported: an operator that cannot be run in blocks, by its name.
    """
    stages, graph = stages_of(every.graph, maps)
    parts = replace(every, graph=graph)
    chunks = {name: _chunks(parts, name) for name in parts.forms}
    gathered = _stage_plans(parts, stages, targets, workers, limit, band, begun, width)
    if begun is not None and isinstance(begun.get("band"), int) and band is None:
        band = begun["band"]
    priced = _pricing(parts, targets, workers, limit, band, width, maps)
    blocks = blocks_from(begun, parts.regions) if begun is not None else None
    if blocks is not None:
        plan = priced_as_begun(parts.graph, parts.regions, blocks, priced)
    else:
        plan = plan_blocks(parts.graph, parts.regions, chunks, workers.slots, priced)
    plans = [one for _, one in gathered]
    return parts, gathered, _with_stages(plan, every.graph, parts.regions, plans)


def _stage_plans(
    parts: Parts,
    stages: Sequence[Stage],
    targets: Sequence[Path],
    workers: Workers,
    limit: int | None,
    band: int | None,
    begun: Mapping[str, Any] | None,
    width: int,
) -> list[tuple[Stage, BlockPlan]]:
    """The blocks of each stage; if a run is resumed, its blocks."""
    cuts = begun.get("stages") if begun is not None else None
    bands = begun.get("bands") if begun is not None else None
    maps = [name for stage in stages for name in stage.stored]
    found = []
    for number, stage in enumerate(stages):
        cut = None
        if isinstance(cuts, list) and number < len(cuts):
            cut = blocks_from({"blocks": cuts[number]}, stage.regions)
        own = replace(parts, graph=stage.graph, forms={}, regions=stage.regions)
        own_band = band
        if isinstance(bands, list) and number < len(bands) and band is None:
            own_band = int(bands[number])
        priced = _pricing(own, targets, workers, limit, own_band, width, maps)
        if cut is not None:
            plan = priced_as_begun(stage.graph, stage.regions, cut, priced)
        else:
            plan = plan_blocks(stage.graph, stage.regions, stage.chunks(), workers.slots, priced)
        found.append((stage, plan))
    return found


def _with_stages(
    plan: BlockPlan, whole: Graph, regions: Mapping[str, Region], stages: Sequence[BlockPlan]
) -> BlockPlan:
    """The plan of the last pass, with the work and the memory of the earlier stages."""
    if not stages:
        return plan
    total = plan.bands.multiply_adds + sum(one.bands.multiply_adds for one in stages)
    once = multiply_adds(whole, required(whole, regions))
    bands = replace(
        plan.bands,
        multiply_adds=total,
        redundancy=total / once if once else 1.0,
        peak=max(plan.bands.peak, *(one.bands.peak for one in stages)),
        stages=1 + len(stages),
    )
    return replace(plan, bands=bands)


def _chunks(parts: Parts, name: str) -> tuple[int, ...]:
    """The length of a chunk along every axis of an output."""
    shape = (parts.forms[name].channels, *map(len, parts.regions[name]))
    return blocked_zarr(
        Path("chunks.zarr"),
        shape,
        parts.forms[name].dtype,
        arrangement_of(parts.graph, name).sized(shape),
        storage=parts.storage(name),
        settings={},
    ).chunks


def _pricing(
    parts: Parts,
    targets: Sequence[Path],
    workers: Workers,
    limit: int | None,
    band: int | None,
    width: int,
    maps: Collection[str],
) -> Callable[[Mapping[str, Region]], BandPlan]:
    """The plan of one block on a worker that computes one block in each of its threads."""
    maps = frozenset(maps)
    nodes = parts.graph.nodes
    rows = {name: chunk_of(nodes[name])[0] for name in maps if name in nodes}
    threads, in_use = workers.most_threads, workers.in_use
    room = None if limit is None else in_use + max(1, limit - in_use) // threads

    def priced(regions: Mapping[str, Region]) -> BandPlan:
        forms = {name: form for name, form in parts.forms.items() if name in regions}
        outs = [one for one, name in zip(targets, parts.forms, strict=False) if name in regions]
        sinks = sinks_memory(parts.graph, outs, forms, regions, parts.shard)
        named = parts.sources, parts.preparation, parts.forms, sinks
        costs = RunCosts(parts.graph, *named, in_use, in_use, width=width, stored=rows)
        plan = make_plan(parts.graph, regions, costs=costs, memory=room, band=band)
        if band is None and plan.band % BAND and not maps.isdisjoint(parts.graph.inputs):
            with suppress(BadValue):  # whole chunks of stored maps, if they fit
                full = -(-plan.band // BAND) * BAND
                plan = make_plan(parts.graph, regions, costs=costs, memory=room, band=full)
        return replace(plan, peak=in_use + threads * (plan.peak - in_use))

    return priced
