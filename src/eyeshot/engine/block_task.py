"""What a worker does: open the run that a folder describes, and compute one block of it.

The folder holds a lowered graph (:mod:`eyeshot.engine.graph_file`) and plain JSON. A
task takes and returns plain data too: names, numbers and texts.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import eyeshot
from eyeshot.axes import Interval
from eyeshot.engine.blocks import Blocks, Gathering, block_strip, stages_of, values_of
from eyeshot.engine.executing import RunReport, execute, gather, read_again
from eyeshot.engine.graph_file import read_graph
from eyeshot.engine.heights import Extremes
from eyeshot.engine.job import Job, moved
from eyeshot.engine.memory import keep_usual_blocks, peak, resident
from eyeshot.engine.moments import First
from eyeshot.engine.outputs import Preparation, arrangement_of, form_for
from eyeshot.engine.resuming import arithmetic
from eyeshot.engine.skipping import Where, skip, where_of
from eyeshot.engine.stored_maps import StoredMaps
from eyeshot.errors import BadFile, EyeshotError, Failure, UserError, one_line
from eyeshot.files import explain_os_error
from eyeshot.geometry import Region
from eyeshot.images import Sink, Source, open_source
from eyeshot.images.sinks.zarr_blocks import BlockWindow, opened_part
from eyeshot.images.sinks.zarrays import holding
from eyeshot.images.sources.converted import read_as
from eyeshot.operators.methods import depends_on_compiler, load_methods
from eyeshot.operators.winograd_compiled import compiled_width
from eyeshot.planning import BandPlan
from eyeshot.planning.schedule import multiply_adds

NETWORK, SETTINGS = "network.safetensors", "run.json"
"""The files in a run's folder."""
STATISTICS = "stage-{}.json"
"""The file with the result of a stage, by the number of the stage."""
_KEPT_READINGS = 2
"""Windows of the input whose checksums go into the record of a block."""


@dataclass(frozen=True)
class BlockRun:
    """A run as a worker knows it.

    Attributes:
        settings: the run's settings, plain data.
        job: the job of the whole output, without a plan for its blocks.
        blocks: all blocks of the output.
        where: the part of the output to compute; None for all of it.
        arrays: the open Zarr array of each output.
        gathering: makes a new gathering of the statistics; None where the outputs are computed.
        store: for each map that a stage stores, a function from a block's region to its sink.
    """

    settings: Mapping[str, Any]
    job: Job
    blocks: Blocks
    where: Where | None
    arrays: Mapping[str, Any]
    gathering: Callable[[], Gathering] | None = None
    store: Mapping[str, Callable[[Region], BlockWindow]] = field(default_factory=dict)

    @property
    def folders(self) -> list[Path]:
        """The folders of the run beside its outputs; that of the first output has the settings."""
        return [Path(one) for one in self.settings["folders"]]


class _Loaded(threading.local):
    """The run that a thread of a worker computes: threads do not share sources."""

    token: tuple[str, int | None] = ("", None)
    run: BlockRun | None = None


_loaded = _Loaded()


def greeting(device: str) -> dict[str, Any]:
    """A worker: its versions, its arithmetic, whether it compiles code, and the bytes it uses."""
    return {
        "eyeshot": eyeshot.__version__,
        "arithmetic": arithmetic(torch.device(device)),
        "width": compiled_width(),
        "resident": resident(),
    }


def compute_block(folder: str, token: str, number: int) -> dict[str, Any]:
    """Compute a block and write it; a failure is returned, not raised.

    Args:
        folder: the run's folder.
        token: identifies the run; if it is another one, the run is loaded again.
        number: the number of the block.

    Returns:
        Plain data: ``checksums`` by output, and the cost of the block; or ``failed``, the reason.
    """
    return _answer(folder, token, None, number, _computed)


def gather_block(folder: str, token: str, stage: int, number: int) -> dict[str, Any]:
    """Gather the statistics of a stage over a block of its maps; a failure is returned, not raised.

    Args:
        folder: the run's folder.
        token: identifies the run.
        stage: the number of the stage, from 0.
        number: the number of the block.

    Returns:
        Plain data: ``state``, the gathered sums; ``maps``, checksums of the stored maps; ``read``,
        a checksum of the samples; and the cost of the block; or ``failed``.
    """
    return _answer(folder, token, stage, number, _gathered)


def read_block_again(folder: str, token: str, stage: int, number: int) -> dict[str, Any]:
    """Read the same samples of the images as :func:`gather_block`, with the same arguments.

    Returns:
        Plain data: ``read``, the checksum of the samples as they are now; or ``failed``.
    """
    return _answer(folder, token, stage, number, _read_again)


def _answer(
    folder: str,
    token: str,
    stage: int | None,
    number: int,
    task: Callable[[BlockRun, int], dict[str, Any]],
) -> dict[str, Any]:
    try:
        with holding(Path(folder), token):
            run = _run_of(Path(folder), token, stage)
            with ExitStack() as stack:
                for other in run.folders:
                    stack.enter_context(holding(other, token))
                found = task(run, number)
    except EyeshotError as error:
        final = isinstance(error, UserError) and not isinstance(error, BadFile)
        found = {"failed": error.fact, "cure": error.cure, "final": final}
    except (MemoryError, OSError, RuntimeError) as error:  # of this worker, maybe not of the next
        _forget()
        found = {"failed": one_line(f"{type(error).__name__}: {error}", 300), "cure": ""}
    return {"worker": _worker(), **found}


def _worker() -> str:
    """The address of the worker that this runs on; "" elsewhere."""
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:
        return ""


def _forget() -> None:
    run, _loaded.run, _loaded.token = _loaded.run, None, ("", None)
    if run is not None:
        for source in run.job.sources.values():
            source.close()


def _run_of(folder: Path, token: str, stage: int | None) -> BlockRun:
    if _loaded.token != (token, stage) or _loaded.run is None:
        _forget()
        keep_usual_blocks()
        _loaded.run = open_run(folder, stage)
        _loaded.token = (token, stage)
    return _loaded.run


def open_run(folder: Path, stage: int | None = None) -> BlockRun:
    """The run that a folder describes, with open images; or one of its stages, by its number.

    Raises:
        BadFile: an image is missing here, or differs from the one that the client read.
        Failure: this worker would compute other bits than the other workers.
    """
    path = folder / SETTINGS
    try:
        settings = json.loads(path.read_text())
    except OSError as error:
        raise explain_os_error(error, path) from error
    device = torch.device(settings["device"])
    if eyeshot.__version__ != settings["eyeshot"]:  # a worker that joined after the check
        raise Failure(
            f"this worker has Eyeshot {eyeshot.__version__}, and the run {settings['eyeshot']}",
            cure="use workers with the same Eyeshot",
        )
    if arithmetic(device) != settings["arithmetic"]:
        raise Failure(
            f"this worker computes by {arithmetic(device)}, "
            f"and the run by {settings['arithmetic']}",
            cure="use workers with the same processors and the same torch",
        )
    whole = read_graph(folder / NETWORK)
    if depends_on_compiler(whole) and compiled_width() != settings["width"]:
        raise Failure(
            "llvmlite is installed on this worker, or on the others, but not on all",
            cure="install it on all workers: pip install 'eyeshot[fast]'",
        )
    load_methods(whole)
    if device.type != "cpu":
        whole = moved(whole, device)
    stages, graph = stages_of(whole, settings["maps"])
    if stage is not None:
        graph = stages[stage].graph
    known = _known(folder, len(stages) if stage is None else stage, device)
    sources = _sources(settings)
    preparation = Preparation(
        getattr(torch, settings["dtype"]),
        device,
        settings["raw"],
        tuple(settings["mean"]),
        tuple(settings["std"]),
        settings["unit"],
        settings["white"],
    )
    if stage is None:
        forms = {name: form_for(settings["output_format"], graph, name) for name in graph.outputs}
        regions = {name: _region(one["region"]) for name, one in settings["outputs"].items()}
        cuts = {name: one["cuts"] for name, one in settings["outputs"].items()}
    else:
        forms, regions, cuts = {}, stages[stage].regions, settings["stages"][stage]
    blocks = Blocks({name: tuple(map(tuple, sides)) for name, sides in cuts.items()})
    band = settings["band"] if stage is None else settings["bands"][stage]
    plan = BandPlan(regions, (), band, (), 0, settings["multiply_adds"], 1.0, 0, 0)
    maps = StoredMaps(Path(settings["maps_folder"]), whole, settings["maps"])
    job = Job(
        graph,
        dict(zip(graph.inputs, sources, strict=False)),
        preparation,
        forms,
        plan,
        settings["threads"],
        memory=settings["memory"],
        known=known,
        maps={name: maps.reader(name) for name in settings["maps"] if name in graph.inputs},
    )
    if stage is not None:
        gathering = partial(Gathering, whole, stages[stage])
        store = {name: partial(maps.window, name) for name in stages[stage].stored}
        return BlockRun(settings, job, blocks, None, {}, gathering, store)
    where = None
    if settings["where"] is not None:
        extents = graph.nodes[graph.outputs[0]].extents
        where = where_of(settings["where"], sources[0].shape[1:], extents)
        known_as = (settings["skipping"]["where"] or {}).get("where")
        if known_as not in (None, where.digest):
            raise BadFile(
                f"{settings['where']}: marks other regions here than where the run began",
                cure="leave it as it is until the run ends, and give every worker the same file",
            )
    arrays = {name: opened_part(Path(one["part"])) for name, one in settings["outputs"].items()}
    return BlockRun(settings, job, blocks, where, arrays)


def _known(folder: Path, stages: int, device: torch.device) -> dict[str, torch.Tensor]:
    """The statistics that the earlier stages computed."""
    known: dict[str, torch.Tensor] = {}
    for number in range(stages):
        plain = json.loads((folder / STATISTICS.format(number)).read_text())
        known |= {name: value.to(device) for name, value in values_of(plain).items()}
    return known


def _sources(settings: Mapping[str, Any]) -> list[Source]:
    sources = []
    known = zip(settings["images"], settings["readings"], settings["identity"], strict=True)
    for name, reading, identity in known:
        source = read_as(reading, open_source(name, **settings["options"]))
        if json.loads(json.dumps(source.identity())) != identity:
            raise BadFile(
                f"{source.name}: is not the image that the client has seen",
                cure="give all workers the same files under the same names",
            )
        sources.append(source)
    return sources


def _region(sides: Sequence[Sequence[int]]) -> Region:
    return tuple(Interval(lo, hi) for lo, hi in sides)


def _computed(run: BlockRun, number: int) -> dict[str, Any]:
    started = time.perf_counter()
    job = block_job(run, number)
    sinks: dict[str, Sink] = {name: _window(run, name, job) for name in job.plan.regions}
    extremes = Extremes(job)
    if _is_asked(run, job):
        if run.where is not None or run.settings["blank"]:
            work = multiply_adds(job.graph, job.plan.strips[0].boxes)
            job = replace(job, plan=replace(job.plan, multiply_adds=work))
            job = skip(job, where=run.where, fill=run.settings["fill"], blank=run.settings["blank"])
        report = execute(job, sinks, extremes=extremes)
    else:
        report = _filled(job, sinks, run.settings["fill"])
    return {
        "checksums": {name: sink.finish() for name, sink in sinks.items()},
        "readings": next(iter(sinks.values())).notes[:_KEPT_READINGS],
        "extremes": extremes.found,
        "megapixels": report.megapixels,
        "multiply_adds": report.multiply_adds,
        "peak": peak(),
        "blank": report.blank,
        "outside": report.outside,
        "seconds": time.perf_counter() - started,
    }


def _gathered(run: BlockRun, number: int) -> dict[str, Any]:
    started = time.perf_counter()
    if run.gathering is None:
        raise Failure("a run without statistics", cure="please report this network")
    gathering, job = run.gathering(), block_job(run, number)
    regions = job.plan.regions
    windows = {name: make(regions[name]) for name, make in run.store.items() if name in regions}

    def take(name: str, band: torch.Tensor, first: First) -> None:
        gathering.take(name, band, first)
        if name in windows:
            windows[name].write(first[0] - regions[name][0].lo, band[0].detach().cpu().numpy())

    report, checksum = gather(job, take)
    return {
        "state": gathering.state(),
        "maps": {name: window.finish() for name, window in windows.items()},
        "read": checksum,
        "megapixels": report.megapixels,
        "multiply_adds": report.multiply_adds,
        "peak": peak(),
        "seconds": time.perf_counter() - started,
    }


def _read_again(run: BlockRun, number: int) -> dict[str, Any]:
    return {"read": read_again(block_job(run, number))}


def block_job(run: BlockRun, number: int) -> Job:
    """A block as a separate run."""
    regions, graph = run.blocks.regions(number), run.job.graph
    strip = block_strip(graph, regions)
    plan = replace(run.job.plan, regions=regions, strips=(strip,), nodes=len(strip.boxes))
    forms = {name: form for name, form in run.job.forms.items() if name in regions}
    graph = replace(graph, outputs=tuple(name for name in graph.outputs if name in regions))
    return replace(run.job, graph=graph, plan=plan, forms=forms)


def _is_asked(run: BlockRun, job: Job) -> bool:
    """Whether any position of a block is to be computed."""
    if run.where is None:
        return True
    region = next(iter(job.plan.regions.values()))
    return bool(run.where.inside(region[0], region[1]).any())


def _filled(job: Job, sinks: Mapping[str, Sink], fill: float) -> RunReport:
    """Write a block that needs no computing."""
    rows = 0
    for name, sink in sinks.items():
        shape, step = job.shape(name), sink.chunk_rows
        for top in range(0, shape[1], step):
            height = min(step, shape[1] - top)
            sink.write(top, np.full((shape[0], height, *shape[2:]), fill, job.forms[name].dtype))
        rows += shape[1]
    return RunReport(rows, rows, 0.0, 0.0, 0, peak(), outside=1.0)


def _window(run: BlockRun, name: str, job: Job) -> BlockWindow:
    output, graph = run.settings["outputs"][name], run.job.graph
    whole, form = run.job.plan.regions[name], run.job.forms[name]
    pairs = zip(job.plan.regions[name], whole, strict=True)
    window = [(side.lo - there.lo, side.hi - there.lo) for side, there in pairs]
    return BlockWindow(
        run.arrays[name],
        window,
        form.channels,
        form.dtype,
        arrangement_of(graph, name),
        output["chunk_rows"],
    )
