"""One run on many machines: the client of a Dask cluster sends blocks out and keeps the records.

Dask carries plain data alone: the name of a folder that all machines see, and the number of a
block. The network lies in that folder; workers read the image and write the output themselves.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

import eyeshot
from eyeshot.engine.block_task import (
    NETWORK,
    SETTINGS,
    STATISTICS,
    compute_block,
    gather_block,
    greeting,
    read_block_again,
)
from eyeshot.engine.blocks import BlockPlan, Blocks, blocks_from, plan_blocks, priced_as_begun
from eyeshot.engine.executing import RunReport
from eyeshot.engine.graph_file import graph_bytes
from eyeshot.engine.heights import Extremes
from eyeshot.engine.job import Job, Parts, parts_of, settings_of, sinks_memory
from eyeshot.engine.memory import RunCosts
from eyeshot.engine.networks import Network
from eyeshot.engine.outputs import arrangement_of, with_constants
from eyeshot.engine.resuming import Readings, changed
from eyeshot.engine.run_plan import Plan, PlannedCluster, plan_of
from eyeshot.engine.skipping import skip, worth_a_look
from eyeshot.engine.stages import Gathering, Stage, plain_values, stages_of
from eyeshot.errors import BadValue, Failure, one_line
from eyeshot.extras import extra, is_installed
from eyeshot.geometry import Region, required
from eyeshot.graph import Graph
from eyeshot.images import Source, unfinished
from eyeshot.images.sinks.zarr_blocks import BlockedZarr, Record, blocked_zarr
from eyeshot.images.sinks.zarrays import RunFolder
from eyeshot.images.sources.converted import GraySource
from eyeshot.planning import BandPlan, make_plan
from eyeshot.planning.schedule import multiply_adds

THREADS = 1
"""Torch's threads for a block: bits do not depend on how many workers there are, or their size."""
RETRIES = 3
_WAIT_FOR_WORKERS = 60.0
"""Seconds without any worker after which a run ends."""
_AHEAD = 4
"""Blocks that are sent out at one time, for each that can be computed."""
_LEAST_AHEAD = 64
_HOPELESS = 8
"""Blocks that fail one after another, each as often as it may, after which the run ends."""
_LISTED = 20
_ANSWER = 30.0
"""Seconds to wait for the answers of blocks that are done; what has not come then is lost."""
_BRIEFLY = 1.0
"""Seconds to wait for one answer at least, where others are lost."""
_GREETED = 600.0
"""Seconds to wait for a worker to say what it is; it may be busy with the run of another client."""
_LOOK = 2.0
"""Seconds between two looks at the scheduler while nothing happens."""


@dataclass(frozen=True, slots=True)
class ClusterReport(RunReport):
    """How far a run on a cluster has come; rows count the rows of all blocks.

    Attributes:
        blocks: blocks written.
        all_blocks: and how many there are.
        before: of the blocks, those of a run that this one goes on with.
        stage: whose statistics are gathered, from 1; 0 when the output is computed.
        stages: how many there are.
        workers: that are there now.
    """

    blocks: int = 0
    all_blocks: int = 0
    before: int = 0
    workers: int = 0
    stage: int = 0
    stages: int = 0

    @property
    def progress(self) -> str:
        """How far it has come, in words."""
        stage = f"stage {self.stage} of {self.stages}: " if self.stage else ""
        return f"{stage}{self.blocks} of {self.all_blocks} blocks"

    @property
    def seconds_left(self) -> float:
        """At the speed so far."""
        return self.seconds * (self.all_blocks - self.blocks) / max(1, self.blocks - self.before)


Progress = Callable[[RunReport], None]


@dataclass(frozen=True)
class Workers:
    """The workers of a cluster when a run begins.

    Attributes:
        threads: of each worker, how many blocks it computes at one time.
        memory: the fewest bytes that one of them may hold; None where nothing limits it.
        held: the most bytes that one of them holds before it has seen the run.
        arithmetic: by which all of them compute.
        dashboard: the address of the page that shows them; "" for none.
    """

    threads: Mapping[str, int]
    memory: int | None
    held: int
    arithmetic: str
    dashboard: str

    @property
    def slots(self) -> int:
        """How many blocks are computed at one time."""
        return sum(self.threads.values())

    @property
    def most_threads(self) -> int:
        """Of one worker."""
        return max(self.threads.values())


def check_cluster_run(
    targets: Any, image: Any, *, per_slice: bool, retries: int = RETRIES
) -> tuple[list[Path], list[str]]:
    """Refuse what many machines cannot do together.

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
            told = "an array" if not isinstance(one, str | os.PathLike) else str(one)
            raise BadValue(
                f"{told if one is not None else 'no output'}, and a client was given: many workers "
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


def check_client(client: Any) -> None:
    """Refuse what is no client.

    Raises:
        BadValue: it is none of ``dask.distributed``, or one for ``await``.
    """
    with extra("dask"):
        from distributed import Client
    if not isinstance(client, Client) or client.asynchronous:
        raise BadValue(f"client is a {type(client).__name__}", cure="give a distributed.Client")


def look_at_workers(client: Any, device: str) -> Workers:
    """Ask every worker of a cluster what it is.

    Raises:
        Failure: there is no worker, one lacks Eyeshot, or they compute by different bits.
    """
    with suppress(TimeoutError):
        client.wait_for_workers(1, timeout=_WAIT_FOR_WORKERS)
    threads = _threads(client)
    if not threads:
        raise Failure(
            f"{_address(client)}: no workers came in {_WAIT_FOR_WORKERS:.0f} seconds",
            cure="start some with `dask worker`",
        )
    asked = {
        address: client.submit(greeting, device, workers=[address], pure=False)
        for address in threads
    }
    found = {address: _answer(address, future) for address, future in asked.items()}
    for what, cure in (("eyeshot", "the same Eyeshot"), ("arithmetic", "the same processors")):
        kinds = Counter(one[what] for one in found.values())
        if len(kinds) > 1:
            (usual, _), *_ = kinds.most_common(1)
            odd = next(address for address, one in found.items() if one[what] != usual)
            raise Failure(
                f"worker {odd} has {what} {found[odd][what]}, and others have {usual}: their "
                "answers differ in the last bits",
                cure=f"use workers with {cure}",
            )
    one = next(iter(found.values()))
    if one["eyeshot"] != eyeshot.__version__:
        raise Failure(
            f"the workers have Eyeshot {one['eyeshot']}, and the client {eyeshot.__version__}",
            cure="install the same",
        )
    limits = [limit for limit in _memory_limits(client).values() if limit]
    return Workers(
        threads,
        min(limits, default=None),
        max(one["resident"] for one in found.values()),
        one["arithmetic"],
        client.dashboard_link if _has_dashboard(client) else "",
    )


def _answer(address: str, future: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = future.result(timeout=_GREETED)
    except TimeoutError as error:
        future.cancel()
        raise Failure(
            f"worker {address}: did not say what it is in {_GREETED / 60:.0f} minutes",
            cure="wait until it is idle, or stop it",
        ) from error
    except ModuleNotFoundError as error:
        raise Failure(
            f"worker {address}: {error.name} is not installed there",
            cure="install the same Eyeshot on every worker",
        ) from error
    except Exception as error:  # another machine may raise anything
        raise Failure(
            f"worker {address}: {type(error).__name__}: {one_line(str(error), 200)}",
            cure="install the same packages on every worker",
        ) from error
    return found


def _info(client: Any) -> dict[str, Any]:
    """What the scheduler tells of itself and of all workers."""
    try:
        found: dict[str, Any] = client.scheduler_info(n_workers=-1)
    except TypeError:  # an older one tells of all without being asked
        found = client.scheduler_info()
    return found


def _threads(client: Any) -> dict[str, int]:
    """How many blocks each worker computes at one time."""
    return dict(client.nthreads())


def _memory_limits(client: Any) -> dict[str, int | None]:
    return {name: one.get("memory_limit") for name, one in _info(client)["workers"].items()}


def _has_dashboard(client: Any) -> bool:
    """Whether the scheduler shows a page: without Bokeh it only says that this is missing."""
    return is_installed("bokeh") and "dashboard" in _info(client).get("services", {})


def _address(client: Any) -> str:
    scheduler = getattr(client, "scheduler", None)
    return str(getattr(scheduler, "address", "the scheduler"))


@dataclass(frozen=True)
class ClusterRun:
    """A run on a cluster, settled.

    Attributes:
        whole: the network, with its statistics as nodes.
        parts: the network with its statistics given, images and forms.
        stages: by which the statistics are gathered, each with its blocks.
        plan: blocks and what they cost, the stages included.
        job: the same as one run, for its settings, shapes and plan.
        workers: that are there.
        targets: the outputs.
        images: their names.
        spec: what workers are told, but for the outputs.
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
        """Plain data that decides every sample."""
        told = dict(settings_of(replace(self.job, graph=self.whole)))
        del told["strips"]
        return {
            **told,
            "arithmetic": self.workers.arithmetic,
            "blocks": self.plan.blocks.to_dict(),
            "stages": self.spec["stages"],
            "skipping": self.spec["skipping"],
        }

    def planned(self, resumed: int = 0) -> Plan:
        """The plan, for people and programs."""
        blocks, workers = self.plan.blocks, self.workers
        told = PlannedCluster(
            workers=len(workers.threads),
            at_once=workers.slots,
            blocks=blocks.counts,
            redundancy=self.plan.bands.redundancy,
            worker_peak=self.plan.bands.peak,
            worker_memory=workers.memory,
            dashboard=workers.dashboard,
            done=resumed,
            stages=tuple(len(blocks) for _, blocks in self.stages),
        )
        return replace(plan_of(self.job), cluster=told)


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
    **settings: Any,
) -> ClusterRun:
    """Trace the network, look at the workers, and cut the output into blocks.

    Raises:
        BadValue: what does not fit, with what would.
        Unsupported: an operator that cannot be run in blocks, by its name.
    """
    parts = parts_of(net, sources, **settings)
    whole = parts.graph
    stages, graph = stages_of(whole)
    parts = replace(parts, graph=graph)
    place = device or parts.preparation.device.type
    workers = look_at_workers(client, place)
    limits = [one for one in (memory, workers.memory) if one]
    limit = min(limits, default=None)
    chunks = {name: _chunks(parts, name) for name in parts.forms}
    band = settings.get("band")
    begun = unfinished(targets[0]) if resume else None
    if begun is not None and isinstance(begun.get("band"), int) and band is None:
        band = begun["band"]
    priced = _pricing(parts, targets, workers, limit, band)
    gathered = _stage_plans(parts, stages, targets, workers, limit, band, begun)
    blocks = blocks_from(begun, parts.regions) if begun is not None else None
    if blocks is not None:
        plan = priced_as_begun(parts.graph, parts.regions, blocks, priced)
    else:
        plan = plan_blocks(parts.graph, parts.regions, chunks, workers.slots, priced)
    plan = _with_stages(plan, whole, parts.regions, [one for _, one in gathered])
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
        "gray": any(isinstance(one, GraySource) for one in parts.sources.values()),
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
        "memory": memory,
        "fill": fill,
        "blank": bool(looked),
        "stages": [one.blocks.to_dict() for _, one in gathered],
        "skipping": {"blank": bool(looked), "where": digest},
    }
    pairs = [(stage, one.blocks) for stage, one in gathered]
    return ClusterRun(whole, parts, pairs, plan, job, workers, targets, images, spec)


def _stage_plans(
    parts: Parts,
    stages: Sequence[Stage],
    targets: Sequence[Path],
    workers: Workers,
    limit: int | None,
    band: int | None,
    begun: Mapping[str, Any] | None,
) -> list[tuple[Stage, BlockPlan]]:
    """The blocks of each stage; those of the run that is resumed."""
    told = begun.get("stages") if begun is not None else None
    found = []
    for number, stage in enumerate(stages):
        cut = None
        if isinstance(told, list) and number < len(told):
            cut = blocks_from({"blocks": told[number]}, stage.regions)
        own = replace(parts, graph=stage.graph, forms={}, regions=stage.regions)
        priced = _pricing(own, targets, workers, limit, band)
        if cut is not None:
            plan = priced_as_begun(stage.graph, stage.regions, cut, priced)
        else:
            plan = plan_blocks(stage.graph, stage.regions, stage.chunks(), workers.slots, priced)
        found.append((stage, plan))
    return found


def _with_stages(
    plan: BlockPlan, whole: Graph, regions: Mapping[str, Region], stages: Sequence[BlockPlan]
) -> BlockPlan:
    """The plan of the last pass with the work and the memory of the stages before it."""
    if not stages:
        return plan
    total = plan.bands.multiply_adds + sum(one.bands.multiply_adds for one in stages)
    once = multiply_adds(whole, required(whole, regions))
    bands = replace(
        plan.bands,
        multiply_adds=total,
        redundancy=total / once if once else 1.0,
        peak=max(plan.bands.peak, *(one.bands.peak for one in stages)),
        band=min(plan.bands.band, *(one.bands.band for one in stages)),
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
    parts: Parts, targets: Sequence[Path], workers: Workers, limit: int | None, band: int | None
) -> Callable[[Mapping[str, Region]], BandPlan]:
    """The plan of one block on a worker that computes as many at one time as it has threads."""
    threads, held = workers.most_threads, workers.held
    room = None if limit is None else held + max(1, limit - held) // threads

    def priced(regions: Mapping[str, Region]) -> BandPlan:
        forms = {name: form for name, form in parts.forms.items() if name in regions}
        outs = [one for one, name in zip(targets, parts.forms, strict=False) if name in regions]
        sinks = sinks_memory(parts.graph, outs, forms, regions, parts.shard)
        costs = RunCosts(
            parts.graph, parts.sources, parts.preparation, parts.forms, sinks, held, held
        )
        plan = make_plan(parts.graph, regions, costs=costs, memory=room, band=band)
        return replace(plan, peak=held + threads * (plan.peak - held))

    return priced


def run_on_cluster(
    client: Any,
    run: ClusterRun,
    *,
    retries: int,
    where: Any,
    force: bool,
    resume: bool,
    planned: Callable[[Plan], None] | None,
    progress: Progress | None,
) -> list[Any]:
    """Carry a run out on the workers of a client.

    Returns:
        The outputs, in the order in which the network gives them; arrays of those that do not
        depend on the image.

    Raises:
        Failure: blocks are missing; what is there can be resumed.
        BadFile: an output exists, or another client is writing it.
    """
    settings = run.settings
    with ExitStack() as stack:
        sinks = {}
        for name, target in zip(run.parts.forms, run.targets, strict=True):
            sink = _sink(run, name, target, settings, force, resume)
            sink.open()
            sinks[name] = stack.enter_context(sink)
        blocks = run.plan.blocks
        done = _done_before(run, sinks)
        if planned is not None:
            planned(run.planned(len(done)))
        missing = [number for number in range(len(blocks)) if number not in done]
        with _run_folder(run, sinks, where) as told:
            common: dict[str, Any] = {
                "client": client,
                "run": run,
                "sinks": sinks,
                "told": told,
                "retries": retries,
                "progress": progress,
            }
            spent = Spent()
            if missing:
                spent = _gather_stages(run, common)
            state = _Dispatch(**common, blocks=run.plan.blocks, before=done, spent=spent)
            state.carry_out(missing)
        state.report_missing(missing)
        for note in state.extremes.notes():
            warnings.warn(note, stacklevel=4)
        for sink in sinks.values():
            sink.complete()
        paths = {name: sink.finish() for name, sink in sinks.items()}
    if progress is not None:
        progress(replace(state.report(), notes=state.extremes.notes()))
    return with_constants(run.parts.graph, paths)


def _sink(
    run: ClusterRun,
    name: str,
    target: Path,
    settings: Mapping[str, Any],
    force: bool,
    resume: bool,
) -> BlockedZarr:
    return blocked_zarr(
        target,
        run.job.shape(name),
        run.parts.forms[name].dtype,
        run.job.arrangement(name),
        storage=run.parts.storage(name),
        settings={**settings, "output": name},
        inputs=[Path(one) for one in run.images if "://" not in one],
        force=force,
        resume=resume,
    )


def _done_before(run: ClusterRun, sinks: Mapping[str, BlockedZarr]) -> set[int]:
    """The blocks that an earlier run has written, after a look at their samples.

    Raises:
        BadFile: the image holds other samples than the earlier run has read.
    """
    blocks = run.plan.blocks
    if not any(sink.records for sink in sinks.values()):
        return set()
    lost = 0
    for name, sink in sinks.items():
        sink.check({n: run_window(run, name, n) for n in sink.records if n < len(blocks)})
        lost = max(lost, sink.lost)
    if lost:
        warnings.warn(
            f"{lost} of the blocks that were written are not as they were: computed again",
            stacklevel=5,
        )
    notes = [one.notes or [] for one in next(iter(sinks.values())).records.values()]
    step = max(1, len(notes) // 16)
    read_before = _ReadBefore([note for some in notes[::step] for note in some])
    Readings(run.parts.sources, [read_before])  # type: ignore[list-item]
    parts = {name: _numbers(blocks, name) for name in sinks}
    return {
        number
        for number in range(len(blocks))
        if all(number in sinks[n].records or number not in parts[n] for n in sinks)
    }


@dataclass
class _ReadBefore:
    """Stands for a sink that knows which samples were read."""

    notes: list[Any]


def _numbers(blocks: Blocks, name: str) -> set[int]:
    """The blocks that have a part of an output."""
    return {number for number in range(len(blocks)) if name in blocks.regions(number)}


def run_window(run: ClusterRun, name: str, number: int) -> list[tuple[int, int]]:
    """Where a block lies in an output's array, along every axis of space."""
    region = run.plan.blocks.regions(number).get(name)
    if region is None:
        return []
    whole = run.parts.regions[name]
    return [(s.lo - w.lo, s.hi - w.lo) for s, w in zip(region, whole, strict=True)]


@contextmanager
def _run_folder(
    run: ClusterRun, sinks: Mapping[str, BlockedZarr], where: Any
) -> Iterator[tuple[str, str]]:
    """The folder that tells workers of the run, and the run's token; removed at the end.

    Beside each other output there is a folder, too: who begins a run there waits for the workers.
    """
    folders = [RunFolder(one) for one in run.targets]
    network = graph_bytes(run.whole)
    files: dict[str, bytes] = {NETWORK: network}
    marks = where
    if isinstance(where, str | os.PathLike):
        marks = str(Path(where).absolute())
    elif where is not None:
        files["where.npy"] = _npy(where)
        marks = str(folders[0].path / "where.npy")
    outputs = {
        name: {
            "part": str(sink.part),
            "region": [[side.lo, side.hi] for side in run.parts.regions[name]],
            "cuts": run.plan.blocks.to_dict()[name],
            "chunk_rows": sink.chunk_rows,
        }
        for name, sink in sinks.items()
    }
    first, *others = folders
    told = {**run.spec, "where": marks, "outputs": outputs}
    told["folders"] = [str(one.path) for one in others]
    files[SETTINGS] = json.dumps(told).encode()
    token = hashlib.sha256(uuid.uuid4().bytes + files[SETTINGS]).hexdigest()[:32]
    for one in others:
        one.make(token, {})
    first.make(token, files)
    try:
        yield str(first.path), token
    finally:
        for one in folders:
            with suppress(Failure):  # a worker that is busy finds the run again, or finds it gone
                one.remove(patience=5.0)


def _npy(array: Any) -> bytes:
    import io

    content = io.BytesIO()
    np.save(content, np.asarray(array), allow_pickle=False)
    return content.getvalue()


@dataclass
class _Sent:
    """A block that is on its way.

    Attributes:
        number: of the block.
        failures: how often it has failed before.
        avoid: the workers on which it has.
    """

    number: int
    failures: int = 0
    avoid: frozenset[str] = frozenset()


@dataclass
class Spent:
    """What has been spent.

    Attributes:
        megapixels: of the input read.
        multiply_adds: computed.
        peak: the most bytes that a worker has held.
        since: when that began.
    """

    megapixels: float = 0.0
    multiply_adds: int = 0
    peak: int = 0
    since: float = field(default_factory=monotonic)

    def add(self, answer: Mapping[str, Any]) -> None:
        """What a block has cost."""
        self.megapixels += answer["megapixels"]
        self.multiply_adds += answer["multiply_adds"]
        self.peak = max(self.peak, answer["peak"])


def _gather_stages(run: ClusterRun, common: Mapping[str, Any]) -> Spent:
    """Gather the statistics of every stage, or take those that an earlier run has gathered.

    Raises:
        Failure: blocks of a stage are missing.
        BadFile: what was gathered is of another image.
    """
    spent = Spent()
    folder, sink = Path(common["told"][0]), next(iter(common["sinks"].values()))
    for number, (stage, blocks) in enumerate(run.stages):
        kept = sink.kept(number)
        if kept is None:
            state = _Stage(**common, blocks=blocks, before=set(), spent=spent, stage=number)
            state.carry_out(range(len(blocks)))
            state.report_missing(range(len(blocks)))
            gathering = Gathering(run.whole, stage)
            for place in range(len(blocks)):  # in this order, whichever came first
                gathering.merge(state.states[place])
            read = [state.read[place] for place in range(len(blocks))]
            kept = {"found": plain_values(gathering.results()), "read": read}
            sink.keep(number, kept)
        elif number == 0:
            _require_the_image(run, common, kept["read"])
        told = kept["found"]
        (folder / STATISTICS.format(number)).write_text(json.dumps(told))
    return spent


def _require_the_image(run: ClusterRun, common: Mapping[str, Any], before: list[int]) -> None:
    """Let workers read again what the first stage has read, where only samples tell an image.

    Every output depends on every sample of what was gathered. The state of a file is compared when
    the run is resumed; of a URL no such state is known.

    Raises:
        BadFile: the samples are others.
        Failure: some cannot be read.
    """
    far = [one for one in run.images if "://" in one]
    if not far:
        return
    blocks = run.stages[0][1]
    state = _ReadAgain(**common, blocks=blocks, before=set(), spent=Spent(), stage=0)
    state.carry_out(range(len(blocks)))
    state.report_missing(range(len(blocks)))
    if [state.read[number] for number in range(len(blocks))] != before:
        names = [one.name for one in run.parts.sources.values()]
        raise changed(" or ".join(names))


@dataclass
class _Dispatch:
    """Blocks sent out, and what comes back."""

    client: Any
    run: ClusterRun
    sinks: Mapping[str, BlockedZarr]
    told: tuple[str, str]
    retries: int
    progress: Progress | None
    blocks: Blocks
    before: set[int]
    spent: Spent
    stage: int = -1
    done: set[int] = field(default_factory=set)
    failed: dict[int, str] = field(default_factory=dict)
    ended: str = ""

    def __post_init__(self) -> None:
        self.extremes = Extremes(self.run.job)
        self._active: dict[Any, _Sent] = {}
        self._back: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._seen_worker = monotonic()
        self._in_a_row = 0
        self._workers = len(self.run.workers.threads)
        self._blank = self._outside = 0.0
        self._rows = [
            sum(len(box[0]) for box in self.blocks.regions(number).values())
            for number in range(len(self.blocks))
        ]
        self._all_rows = sum(self._rows)
        self._rows_done = sum(self._rows[number] for number in self.before)

    def carry_out(self, missing: Sequence[int]) -> None:
        """Compute what is missing, as far as it can be had."""
        waiting = iter([_Sent(number) for number in missing])
        again: list[_Sent] = []
        most = max(_LEAST_AHEAD, _AHEAD * self.run.workers.slots)
        try:
            while not self.ended:
                fresh = list(islice(waiting, max(0, most - len(self._active) - len(again))))
                self._send(fresh)
                for one in again:
                    self._send_elsewhere(one)
                if not self._active:
                    return
                again = self._receive()
        finally:
            left = list(self._active)
            self._active.clear()
            if left:
                with suppress(Exception):  # the scheduler may be gone; nothing is asked of it
                    self.client.cancel(left, force=True)

    def _send(self, blocks: Sequence[_Sent]) -> None:
        """Send blocks to any worker, in one message."""
        if not blocks:
            return
        function, *given = self._task()
        futures = self.client.map(
            function,
            *([one] * len(blocks) for one in given),
            [one.number for one in blocks],
            key=[self._key(one) for one in blocks],
            pure=False,
            retries=0,
        )
        self._sent(futures, blocks)

    def _send_elsewhere(self, one: _Sent) -> None:
        """Send a block that has failed, to a worker on which it has not."""
        options: dict[str, Any] = {}
        others = [name for name in _threads(self.client) if name not in one.avoid]
        if one.avoid and others:
            options = {"workers": others, "allow_other_workers": True}
        future = self.client.submit(
            *self._task(),
            one.number,
            key=self._key(one),
            pure=False,
            retries=0,
            **options,
        )
        self._sent([future], [one])

    def _task(self) -> tuple[Any, ...]:
        """The function of a block, and what it is given before the block's number."""
        return (compute_block, *self.told)

    def _key(self, one: _Sent) -> str:
        stage = f"stage{self.stage}-" if self.stage >= 0 else ""
        return f"eyeshot-block-{stage}{self.told[1]}-{one.number}-{one.failures}"

    def _sent(self, futures: Sequence[Any], blocks: Sequence[_Sent]) -> None:
        for future, one in zip(futures, blocks, strict=True):
            self._active[future] = one
            future.add_done_callback(self._back.put)

    def _receive(self) -> list[_Sent]:
        """Wait for blocks that are done; those to be sent again."""
        try:
            futures = [self._back.get(timeout=_LOOK)]
        except queue.Empty:
            self._look()
            return []
        while not self._back.empty():
            futures.append(self._back.get_nowait())
        futures = [one for one in futures if one in self._active]
        finished = [one for one in futures if one.status == "finished"]
        answers = self._gathered(finished)
        again = []
        for future in futures:
            sent = self._active.pop(future)
            answer = answers.get(future)
            if answer is None:
                again += self._lost(future, sent)
            elif "failed" in answer:
                again += self._failed(sent, f"{answer['failed']}", answer)
            else:
                self._take(sent.number, answer)
        self._tell()
        return again

    def _gathered(self, futures: list[Any]) -> dict[Any, dict[str, Any]]:
        """What the tasks of these futures have given, but for those whose answer is lost."""
        if not futures:
            return {}
        try:
            found: list[dict[str, Any]] = self.client.sync(
                partial(self.client.gather, futures, asynchronous=True), callback_timeout=_ANSWER
            )
        except Exception as error:  # the scheduler, or a worker with an answer, is gone or mute
            if self.client.status != "running":
                self.ended = f"the scheduler is gone ({one_line(str(error), 100)})"
                return {}
            return dict(self._one_by_one(futures))
        return dict(zip(futures, found, strict=True))

    def _one_by_one(self, futures: list[Any]) -> Iterator[tuple[Any, dict[str, Any]]]:
        """The answers that can still be had: one that is lost does not take the others along."""
        until = monotonic() + _ANSWER
        for future in futures:
            with suppress(Exception):  # its block is computed again
                patience = max(_BRIEFLY, until - monotonic())
                yield future, future.result(timeout=patience)

    def _lost(self, future: Any, sent: _Sent) -> list[_Sent]:
        """A task without an answer: its worker was killed, or the scheduler is gone."""
        if self.client.status != "running" or future.status in ("cancelled", "lost"):
            self.ended = self.ended or "the scheduler is gone, or has dropped the run"
            return []
        if future.status != "error":
            return self._failed(sent, "its answer was lost with a worker", {})
        error = future.exception(timeout=_ANSWER)
        worker = getattr(getattr(error, "last_worker", None), "address", "")
        told = f"worker {worker} died" if worker else one_line(f"{type(error).__name__}: {error}")
        return self._failed(sent, told, {"worker": worker})

    def _failed(self, sent: _Sent, why: str, answer: Mapping[str, Any]) -> list[_Sent]:
        if answer.get("final"):
            raise BadValue(why, cure=str(answer.get("cure", "")))
        if sent.failures < self.retries:
            avoid = {*sent.avoid, str(answer.get("worker", ""))} - {""}
            return [_Sent(sent.number, sent.failures + 1, frozenset(avoid))]
        self.failed[sent.number] = why
        self._in_a_row += 1
        if self._in_a_row >= _HOPELESS:
            self.ended = f"{_HOPELESS} blocks in a row failed"
        return []

    def _take(self, number: int, answer: Mapping[str, Any]) -> None:
        """Note a block that is written."""
        for name, checksum in answer["checksums"].items():
            self.sinks[name].record(Record(number, checksum, answer["readings"]))
        self.done.add(number)
        self._in_a_row = 0
        self.extremes.merge(answer["extremes"])
        self.spent.add(answer)
        self._blank += answer["blank"] * self._rows[number]
        self._outside += answer["outside"] * self._rows[number]
        self._rows_done += self._rows[number]

    def _look(self) -> None:
        """Whether the scheduler and its workers are still there."""
        if self.client.status != "running":
            self.ended = "the scheduler is gone"
            return
        try:
            self._workers = len(self.client.nthreads())
        except Exception as error:  # it has gone this moment
            self.ended = f"the scheduler is gone ({type(error).__name__})"
            return
        if self._workers:
            self._seen_worker = monotonic()
        elif monotonic() - self._seen_worker > _WAIT_FOR_WORKERS:
            self.ended = f"no worker was there for {_WAIT_FOR_WORKERS:.0f} seconds"

    def report(self) -> ClusterReport:
        """How far the run has come."""
        rows = max(1, self._rows_done)
        return ClusterReport(
            self._rows_done,
            self._all_rows,
            self.spent.megapixels,
            monotonic() - self.spent.since,
            self.spent.multiply_adds,
            self.spent.peak,
            blank=self._blank / rows,
            outside=self._outside / rows,
            blocks=len(self.before) + len(self.done),
            all_blocks=len(self.blocks),
            before=len(self.before),
            workers=self._workers,
            stage=self.stage + 1,
            stages=len(self.run.stages),
        )

    def _tell(self) -> None:
        if self.progress is not None:
            self.progress(self.report())

    def report_missing(self, asked: Sequence[int]) -> None:
        """Raise if blocks are missing.

        Raises:
            Failure: some are; they are listed.
        """
        missing = [number for number in asked if number not in self.done]
        if not missing:
            return
        blocks = self.blocks
        for number, why in list(self.failed.items())[:_LISTED]:
            warnings.warn(f"block {blocks.told(number)}: {why}", stacklevel=4)
        listed = " ".join(blocks.told(number) for number in missing[:_LISTED])
        more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
        why = self.ended or next(iter(self.failed.values()), "")
        stage = f"stage {self.stage + 1}: " if self.stage >= 0 else ""
        raise Failure(
            f"{self.run.targets[0]}: {stage}{len(missing)} of {len(blocks)} blocks are missing: "
            f"{listed}{more}" + (f" ({why})" if why else ""),
            cure="continue with --resume; the finished blocks are kept",
        )


@dataclass
class _Stage(_Dispatch):
    """Blocks of maps whose statistics are gathered."""

    states: dict[int, Any] = field(default_factory=dict)
    read: dict[int, int] = field(default_factory=dict)

    def _task(self) -> tuple[Any, ...]:
        return (gather_block, *self.told, self.stage)

    def _take(self, number: int, answer: Mapping[str, Any]) -> None:
        self.states[number], self.read[number] = answer["state"], answer["read"]
        self.done.add(number)
        self._in_a_row = 0
        self.spent.add(answer)
        self._rows_done += self._rows[number]


@dataclass
class _ReadAgain(_Dispatch):
    """Blocks of the first stage, of which only the samples are read."""

    read: dict[int, int] = field(default_factory=dict)

    def _task(self) -> tuple[Any, ...]:
        return (read_block_again, *self.told, self.stage)

    def _key(self, one: _Sent) -> str:
        return f"{super()._key(one)}-again"

    def _take(self, number: int, answer: Mapping[str, Any]) -> None:
        self.read[number] = answer["read"]
        self.done.add(number)
        self._rows_done += self._rows[number]
