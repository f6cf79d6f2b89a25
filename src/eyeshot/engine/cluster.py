"""One run on many machines: the client of a Dask cluster sends blocks out and keeps the records.

Dask carries plain data alone: the name of a folder that all machines see, and the number of a
block. The network lies in that folder; workers read the image and write the output themselves.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from eyeshot.engine.block_dispatch import (
    BlockDispatch,
    Progress,
    ReadingDispatch,
    Spent,
    StageDispatch,
)
from eyeshot.engine.block_task import (
    NETWORK,
    SETTINGS,
    STATISTICS,
)
from eyeshot.engine.blocks import Blocks, Gathering, plain_values
from eyeshot.engine.cluster_plan import ClusterRun
from eyeshot.engine.executing import rounding_notes
from eyeshot.engine.graph_file import graph_bytes
from eyeshot.engine.outputs import with_constants
from eyeshot.engine.resuming import Readings, changed
from eyeshot.engine.run_plan import Plan
from eyeshot.engine.stored_maps import StoredMaps, needed_later
from eyeshot.errors import Failure
from eyeshot.images.sinks.zarr_blocks import BlockedZarr, blocked_zarr
from eyeshot.images.sinks.zarrays import RunFolder


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
        with _run_folder(run, sinks, where) as run_key:
            common: dict[str, Any] = {
                "client": client,
                "run": run,
                "sinks": sinks,
                "run_key": run_key,
                "retries": retries,
                "progress": progress,
            }
            spent = Spent()
            if missing:
                spent = _gather_stages(run, common)
            state = BlockDispatch(**common, blocks=run.plan.blocks, before=done, spent=spent)
            state.carry_out(missing)
        state.report_missing(missing)
        notes = (*state.extremes.notes(), *rounding_notes(run.whole))
        for note in notes:
            warnings.warn(note, stacklevel=4)
        for sink in sinks.values():
            sink.complete()
        paths = {name: sink.finish() for name, sink in sinks.items()}
    if progress is not None:
        progress(replace(state.report(), notes=notes))
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
    settings = {**run.spec, "where": marks, "outputs": outputs}
    settings["folders"] = [str(one.path) for one in others]
    files[SETTINGS] = json.dumps(settings).encode()
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


def _gather_stages(run: ClusterRun, common: Mapping[str, Any]) -> Spent:
    """Gather the statistics of every stage, or take those that an earlier run has gathered.

    Raises:
        Failure: blocks of a stage are missing.
        BadFile: what was gathered is of another image.
    """
    spent = Spent()
    folder, sink = Path(common["run_key"][0]), next(iter(common["sinks"].values()))
    maps = StoredMaps(Path(run.spec["maps_folder"]), run.whole, run.spec["maps"])
    if not _maps_are_there(run, sink, maps):
        sink.forget_stages()
    for number, (stage, blocks) in enumerate(run.stages):
        saved = sink.result_of(number)
        if saved is None:
            for name in stage.stored:
                maps.make(name)
            state = StageDispatch(**common, blocks=blocks, before=set(), spent=spent, stage=number)
            state.carry_out(range(len(blocks)))
            state.report_missing(range(len(blocks)))
            gathering = Gathering(run.whole, stage)
            for place in range(len(blocks)):  # in this order, whichever came first
                gathering.merge(state.states[place])
            read = [state.read[place] for place in range(len(blocks))]
            sums = {name: _sums(state.maps, name, len(blocks)) for name in stage.stored}
            saved = {"found": plain_values(gathering.results()), "read": read, "maps": sums}
            sink.keep(number, saved)
            for name in set(run.spec["maps"]) - _needed(run, number + 1):
                maps.remove(name)
        elif number == 0:
            _require_the_image(run, common, saved["read"])
        found = saved["found"]
        (folder / STATISTICS.format(number)).write_text(json.dumps(found))
    return spent


def _sums(found: Mapping[int, Mapping[str, int]], name: str, count: int) -> list[int | None]:
    """The checksum of a map in each block; None in a block without a part of it."""
    return [found[number].get(name) for number in range(count)]


def _needed(run: ClusterRun, done: int) -> set[str]:
    """The stored maps that passes after the first ``done`` stages read."""
    stages = [stage for stage, _ in run.stages]
    return needed_later(stages, run.parts.graph, run.parts.regions, done)


def _maps_are_there(run: ClusterRun, sink: BlockedZarr, maps: StoredMaps) -> bool:
    """Whether all maps that earlier stages stored and later ones need are as they were written."""
    saved = [sink.result_of(number) for number in range(len(run.stages))]
    done = next((number for number, one in enumerate(saved) if one is None), len(saved))
    needed = _needed(run, done)
    for (stage, blocks), found in zip(run.stages[:done], saved, strict=False):
        for name in needed.intersection(stage.stored):
            regions = [blocks.regions(number).get(name) for number in range(len(blocks))]
            if not maps.is_as_written(name, regions, found["maps"][name]):
                return False
    return True


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
    state = ReadingDispatch(**common, blocks=blocks, before=set(), spent=Spent(), stage=0)
    state.carry_out(range(len(blocks)))
    state.report_missing(range(len(blocks)))
    if [state.read[number] for number in range(len(blocks))] != before:
        names = [one.name for one in run.parts.sources.values()]
        raise changed(" or ".join(names))
