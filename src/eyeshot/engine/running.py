"""A network over an image of any size: read by bands, computed once, written in order."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eyeshot.engine.executing import (
    Progress,
    RunReport,
    execute,
    execute_slices,
    slices_of,
    stack_shape,
    stack_storage,
)
from eyeshot.engine.job import Job, make_job, predicted_seconds
from eyeshot.engine.memory import parse_bytes, reset_peak, scratch_space
from eyeshot.engine.networks import Network, Traced, as_traced
from eyeshot.engine.outputs import with_constants
from eyeshot.engine.precision import difference_in_words
from eyeshot.engine.resuming import look_up
from eyeshot.engine.run_plan import Plan, plan_of
from eyeshot.engine.skipping import skip
from eyeshot.errors import BadValue, Failure, is_out_of_memory
from eyeshot.frontends.trials import runs_on_shapes
from eyeshot.images import Index, Sink, Source, open_sink, open_source, unfinished
from eyeshot.images.sources import is_url
from eyeshot.planning.band_plan import megabytes

if TYPE_CHECKING:
    from eyeshot.engine.cluster_plan import ClusterRun


@dataclass(frozen=True)
class _Request:
    """The arguments of :func:`run` or :func:`plan`, under the same names.

    Attributes:
        reading: which part of the image's file to read: ``level``, ``layout``, ``series``,
            ``index``.
        settings: what to compute and how: ``output_format``, ``region``, ``band``, ``raw``,
            ``white``, ``pad``, ``flips``, ``precision``, ``exact``, ``device``,
            ``outputs``, ``shard``.
    """

    net: Network
    image: Any
    out: Any
    memory: int | str | None
    scratch: str | Path | None
    per_slice: bool
    where: Any
    fill: float
    blank: bool | None
    resume: bool
    reading: dict[str, Any]
    settings: dict[str, Any]


@dataclass(frozen=True)
class _Settled:
    """A run before its first band.

    Attributes:
        job: the complete description of the run.
        slices: the slices of a stack with ``per_slice``, else None.
        images: as the caller named them.
        targets: as the caller named them; None to return arrays.
    """

    job: Job
    slices: Sequence[Source] | None
    images: list[Any]
    targets: list[Any] | None


@contextmanager
def _settled(request: _Request, *, look: bool = True) -> Iterator[_Settled]:
    """The requested run before its first band; its images are open inside the context.

    Args:
        request: the caller's arguments.
        look: whether the image may be read to find blank regions.
    """
    net, per_slice = request.net, request.per_slice
    images = _listed(request.image)
    targets = None if request.out is None else _listed(request.out)
    resumed = targets if request.resume else None
    with ExitStack() as stack:
        sources = [
            stack.enter_context(opened(one, net, per_slice=per_slice, **request.reading))
            for one in images
        ]
        slices = slices_of(sources) if per_slice else None
        job = make_job(
            net,
            sources if slices is None else slices[:1],
            memory=parse_bytes(request.memory),
            outs=None if per_slice else targets,  # the output of a slice stays in memory
            begun=look_up(resumed) if resumed else None,
            scratch=scratch_space(request.scratch, targets),
            **request.settings,
        )
        if per_slice:
            if request.where is not None:
                raise BadValue("--where with --per-slice", cure="use one of the two")
        else:
            begun = unfinished(resumed[0]) if resumed else None
            skipped = {} if begun is None else begun.get("skipped") or {}
            job = skip(
                job,
                where=request.where,
                fill=request.fill,
                blank=request.blank if begun is None else bool(skipped),
                look=look,
                tall=skipped.get("tall", True) is True,
            )
        yield _Settled(job, slices, images, targets)


def _listed(one: Any) -> list[Any]:
    return list(one) if isinstance(one, list | tuple) else [one]


def run(
    net: Network,
    image: Any,
    out: Any = None,
    *,
    output_format: str = "scores",
    region: Sequence[tuple[int, int]] | None = None,
    memory: int | str | None = None,
    scratch: str | Path | None = None,
    band: int | None = None,
    level: int = 0,
    layout: str | None = None,
    series: int | None = None,
    index: Index | None = None,
    raw: bool = False,
    white: float | None = None,
    pad: str | None = None,
    flips: str | Sequence[str] | None = None,
    precision: str | None = None,
    exact: str | None = None,
    per_slice: bool = False,
    device: str | None = None,
    outputs: str | Sequence[str] | None = None,
    where: Any = None,
    fill: float = 0,
    blank: bool | None = None,
    shard: int | None = None,
    force: bool = False,
    resume: bool = False,
    client: Any = None,
    retries: int = 3,
    planned: Callable[[Plan], None] | None = None,
    progress: Progress | None = None,
) -> Any:
    """The result of ``net(image)`` for an image of any size, computed by bands of rows.

    Args:
        net: a network in eval mode, a trained run (``eyeshot.load``), or a network whose traces
            are kept (``eyeshot.trace``), to run it on many images.
        image: an array (C, H, W), (H, W) or (H, W, C), a tensor, a path to PNG, JPEG, TIFF,
            ``.npy`` or Zarr, or a URL of Zarr (``https://…``, ``s3://…``, ``zip://…``); a list of
            them for a network with several inputs.
        out: None to return arrays; or a path (``.npy``, ``.png``, ``.tif``, ``.zarr``;
            ``.ome.zarr`` or ``.ome.tif`` with a pyramid for viewers) or an array; a list of them
            for a network with several outputs.
        output_format: ``scores`` (the values of ``net``), ``float32``, ``probabilities``,
            ``argmax``, ``threshold:T`` or ``uint8``.
        region: (lo, hi) along each axis of the output, in the output's own order; only the inputs
            that it needs are read. An output without positions is returned whole.
        memory: the most memory of the process, in bytes or as ``"2GB"``.
        scratch: a folder, or ``"DIR:20GB"``, for maps that must be kept whole and do not fit into
            ``memory``; ``"none"`` to compute them again instead; None for the folder of the first
            output that is a file. Its files are removed at the end.
        band: the number of rows per step; None to choose.
        level: the level of a pyramid; 0 is the largest.
        layout: the meaning of the image's axes, such as ``"HWC"``, if the guess is wrong.
        series: the number of the image in a file with several; None for the first.
        index: positions along the other axes of a stack, such as ``"T=3"`` or ``{"T": 3}``.
        raw: leave whole-number samples as they are; otherwise they are scaled to 0 … 1.
        white: the whole-number sample that counts as 1, such as 4095 for 12 bits stored in 16;
            None for the largest of the type.
        pad: ``reflect``, ``edge`` or ``zero``: pad the image at its far sides to the nearest size
            that the network takes, and crop the output to the part that belongs to the image.
        flips: average the scores over the image and its flips (test-time augmentation): ``"all"``
            for the three flips of the plane, or a list such as ``"h,w"`` or ``["h", "w", "hw"]`` of
            the axes d, h and w. Each flip costs another pass, and keeps its maps whole.
        precision: ``bf16`` to compute in bfloat16, which has 8 bits of precision and is faster on
            processors with units for it; the difference from the network's own precision is
            measured on a crop of the image and noted at the end. None for the network's own.
        exact: ``1e-5`` (the default) computes 3×3 convolutions of 128 channels or more with a third
            of the multiplications (Winograd); each rounds up to twice as much as its sum, far below
            this share of its largest output. ``direct`` computes every convolution as a sum, by
            torch's own libraries. With a client, llvmlite (the extra ``fast``) must be installed on
            all workers or on none, unless it is ``direct``.
        per_slice: run a network for pictures over each slice of a stack (C, D, H, W) separately;
            the output is a stack (C, D, H, W).
        device: where to run; None for the device of the weights.
        outputs: names of the outputs to compute, in this order: the key of a dict, the field of a
            named tuple or a dataclass, the place in a list (``"0"``), joined by dots
            (``"aux.mask"``). Others are not computed. None for all, in the network's order.
        where: compute only these positions: a mask picture of any size, stretched over the output
            (all values but 0 count), as a path or an array (H, W); or a GeoJSON file of polygons in
            pixels of the image. Other parts of the image are read only if they are needed.
        fill: the sample of all positions outside of ``where``.
        blank: compute a blank region once and copy it: outputs that see only one constant, such as
            the glass of a slide. The image is searched for them first. None: search if the image
            has a megapixel or more and the network is so large that the search costs little.
        shard: store the chunks of ``.zarr`` and ``.ome.zarr`` in files of about this many positions
            along each side, such as 4096; None for a file for each chunk.
        force: replace an existing output.
        resume: continue an unfinished output of an identical run.
        client: a ``distributed.Client``, whose workers compute the output in blocks; ``out`` must
            be Zarr, and ``memory`` is for each worker. See docs/cluster.md.
        retries: with a client, how often a failed block is tried again on another worker.
        planned: called with the plan before the first band.
        progress: called after each band, and once more at the end, with notes on the result.

    Returns:
        An array like ``net(image)``, without the batch: (C, H, W), (H, W, C), (C,) for a
        classifier …; or the path or array in ``out``. A list of them for several outputs. A
        returned tensor that does not depend on the image (anchors, a scale) is an array in its
        place, and ``out`` has no name for it.

    Raises:
        BadValue: an argument does not fit; the message says what would.
        BadFile: an image cannot be read, or an output may not be written.
        Unsupported: an operator cannot be run by parts; it is named.
        Failure: with a client, blocks are missing; they are listed, and ``resume`` computes them.
    """
    request = _Request(
        net=net,
        image=image,
        out=out,
        memory=memory,
        scratch=scratch,
        per_slice=per_slice,
        where=where,
        fill=fill,
        blank=blank,
        resume=resume,
        reading={"level": level, "layout": layout, "series": series, "index": index},
        settings={
            "output_format": output_format,
            "region": region,
            "band": band,
            "raw": raw,
            "white": white,
            "pad": pad,
            "flips": flips,
            "precision": precision,
            "exact": exact,
            "device": device,
            "outputs": outputs,
            "shard": shard,
        },
    )
    if client is not None:
        from eyeshot.engine.cluster import run_on_cluster

        with _shared_out(client, request, retries=retries) as shared:
            results = run_on_cluster(
                client,
                shared,
                retries=retries,
                where=where,
                force=force,
                resume=resume,
                planned=planned,
                progress=progress,
            )
    else:
        reset_peak()
        with _settled(request) as settled:
            if planned is not None:
                planned(plan_of(settled.job))
            results = _carry_out(settled, request, progress, force=force)
    return results[0] if len(results) == 1 else results


def plan(
    net: Network,
    image: Any,
    out: Any = None,
    *,
    output_format: str = "scores",
    region: Sequence[tuple[int, int]] | None = None,
    memory: int | str | None = None,
    scratch: str | Path | None = None,
    band: int | None = None,
    level: int = 0,
    layout: str | None = None,
    series: int | None = None,
    index: Index | None = None,
    raw: bool = False,
    white: float | None = None,
    pad: str | None = None,
    flips: str | Sequence[str] | None = None,
    precision: str | None = None,
    exact: str | None = None,
    per_slice: bool = False,
    device: str | None = None,
    outputs: str | Sequence[str] | None = None,
    where: Any = None,
    fill: float = 0,
    shard: int | None = None,
    resume: bool = False,
    client: Any = None,
) -> Plan:
    """The plan of :func:`run` with the same arguments: bands, strips, memory, work and time.

    The network is traced, and about a second of its arithmetic is timed on noise. No sample of the
    image is read, and nothing is written.

    Args:
        net: as for :func:`run`, like all arguments that are not described here: ``image``,
            ``output_format``, ``region``, ``memory``, ``scratch``, ``band``, ``level``, ``layout``,
            ``series``, ``index``, ``raw``, ``white``, ``pad``, ``flips``, ``precision``, ``exact``,
            ``per_slice``, ``device``, ``outputs``, ``where``, ``fill``, ``shard``.
        out: as for :func:`run`; ``[]`` does not count the memory of outputs.
        resume: plan the rest of the unfinished run of this output.
        client: as for :func:`run`; the workers are asked for their versions and memory, and no time
            is predicted.

    Returns:
        The plan; ``str()`` gives it as text.

    Raises:
        BadValue: an argument does not fit; the message says what would.
        BadFile: an image cannot be read.
        Unsupported: an operator cannot be run by parts; it is named.
    """
    request = _Request(
        net=net,
        image=image,
        out=out,
        memory=memory,
        scratch=scratch,
        per_slice=per_slice,
        where=where,
        fill=fill,
        blank=None,
        resume=resume,
        reading={"level": level, "layout": layout, "series": series, "index": index},
        settings={
            "output_format": output_format,
            "region": region,
            "band": band,
            "raw": raw,
            "white": white,
            "pad": pad,
            "flips": flips,
            "precision": precision,
            "exact": exact,
            "device": device,
            "outputs": outputs,
            "shard": shard,
        },
    )
    if client is not None:
        with _shared_out(client, request) as shared:
            return shared.planned()
    with _settled(request, look=False) as settled:
        return plan_of(settled.job, predicted_seconds(settled.job), looked=request.per_slice)


@contextmanager
def _shared_out(client: Any, request: _Request, *, retries: int = 0) -> Iterator[ClusterRun]:
    """The requested run, prepared for the workers of a client."""
    from eyeshot.engine.cluster_plan import check_cluster_run, settle
    from eyeshot.engine.cluster_workers import check_client

    check_client(client)
    if request.settings["precision"] not in (None, "own"):
        raise BadValue(
            f"--precision {request.settings['precision']} with workers",
            cure="leave one of the two out: workers compute in the network's own precision",
        )
    targets, names = check_cluster_run(
        request.out, request.image, per_slice=request.per_slice, retries=retries
    )
    _check_distinct(targets)
    with ExitStack() as stack:
        sources = [
            stack.enter_context(opened(one, request.net, **request.reading)) for one in names
        ]
        yield settle(
            client,
            request.net,
            sources,
            targets,
            names,
            memory=parse_bytes(request.memory),
            options=request.reading,
            where=request.where,
            fill=request.fill,
            blank=request.blank,
            resume=request.resume,
            **request.settings,
        )


def _carry_out(
    settled: _Settled, request: _Request, progress: Progress | None, *, force: bool
) -> list[Any]:
    """Open the sinks, carry out the job, and return its results in the order of the network."""
    job, slices = settled.job, settled.slices
    outs = [None] * len(job.forms) if settled.targets is None else settled.targets
    with ExitStack() as stack:
        sinks = open_sinks(job, outs, settled.images, slices, force=force, resume=request.resume)
        for sink in sinks.values():
            stack.enter_context(sink)
        try:
            report = carry_out(job, sinks, slices, progress)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            fact = f"out of memory, in a run that plans {megabytes(job.plan.peak)}"
            cure = "end other programs, or limit the run with memory= below what is free"
            raise Failure(fact, cure=cure) from error
        for note in report.notes:
            warnings.warn(note, stacklevel=3)
        results = finish(job, sinks)
    if progress is not None:
        if request.settings["precision"] == "bf16":
            report = replace(report, rounding=_rounding(settled, request))
        progress(report)
    return with_constants(job.graph, results)


def _rounding(settled: _Settled, request: _Request) -> str:
    """How far a run in bfloat16 is from the network's own precision, in words."""
    settings = {**request.settings, "region": None, "output_format": "scores", "band": None}
    sources = (settled.slices or list(settled.job.sources.values()))[: len(settled.images)]
    layout = {2: "CL", 3: "CHW", 4: "CDHW"}.get(len(sources[0].shape))

    def scores(crops: list[Any], precision: str) -> list[Any]:
        part = replace(
            request,
            image=crops,
            out=None,
            per_slice=False,
            where=None,
            blank=False,
            resume=False,
            reading={"level": 0, "layout": layout, "series": None, "index": None},
            settings={**settings, "precision": precision},
        )
        with _settled(part) as small:
            found = _carry_out(small, part, None, force=False)
            return [one for n, one in enumerate(found) if n not in small.job.graph.constants]

    return difference_in_words(sources, as_traced(request.net), scores)


def carry_out(
    job: Job,
    sinks: Mapping[str, Sink],
    slices: Sequence[Source] | None = None,
    progress: Progress | None = None,
) -> RunReport:
    """Carry out a job, once or for each slice of a stack."""
    if slices is None:
        return execute(job, sinks, progress)
    return execute_slices(job, slices, sinks, progress)


def opened(image: Any, net: Network, *, per_slice: bool = False, **options: Any) -> Source:
    """The image as a source, with the number of spatial axes that the network takes.

    That number is determined before the trace, because a trace needs an image of a known shape.

    Args:
        image: as for :func:`run`.
        net: as for :func:`run`.
        per_slice: as for :func:`run`; the image then has one more axis.
        options: ``level``, ``layout``, ``series`` and ``index``, as for :func:`open_source`.
    """
    traced = as_traced(net)
    space = traced.space
    if space == 2 and not per_slice and not options.get("layout"):
        space = 1 if _is_signal(image, traced) else 2
    return open_source(image, space=(space or 2) + 1 if per_slice else space, **options)


def _is_signal(image: Any, traced: Traced) -> bool:
    """Whether an array of two axes is a signal (C, L) for a network with layers over planes.

    Networks for signals of several electrodes often treat them as a plane, and many accept only one
    length. So the network is tried on both readings of the array.
    """
    shape = tuple(getattr(image, "shape", ()))
    if len(shape) != 2 or min(shape) < 1:
        return False
    runs = runs_on_shapes(traced.module, batched=True)
    return not runs((1, 1, *shape)) and runs((1, *shape))


def open_sinks(
    job: Job,
    targets: Sequence[Any],
    images: Sequence[Any],
    slices: Sequence[Source] | None = None,
    *,
    force: bool,
    resume: bool,
) -> dict[str, Sink]:
    """One sink for each output of a job; of a whole stack if the job is run over slices.

    Raises:
        BadValue: the numbers of targets and outputs differ, two outputs have the same target, or a
            resumed run had other settings.
        BadFile: an output may not be written.
    """
    if len(targets) != len(job.forms):
        raise BadValue(
            f"{len(targets)} outputs named and the network has {len(job.forms)}: "
            f"{', '.join(job.forms)}",
            cure="name one for each",
        )
    _check_distinct(targets)
    paths = [Path(one) for one in images if _is_path(one) and not is_url(one)]
    count = None if slices is None else len(slices)
    read_opacity = any(source.shape[0] == 2 for source in job.sources.values())
    sinks: dict[str, Sink] = {}
    for (name, form), target in zip(job.forms.items(), targets, strict=True):
        if form.channels == 2 and not read_opacity and str(target).lower().endswith(".png"):
            raise BadValue(
                f"{target}: 2 channels, and PNG takes the second for opacity",
                cure="write .tif, .npy or .zarr, or use argmax",
            )
        sinks[name] = open_sink(
            target,
            job.shape(name) if count is None else stack_shape(job, name, count),
            form.dtype,
            force=force,
            resume=resume,
            settings={**job.settings, "output": name} if _is_path(target) else None,
            inputs=paths,
            arrangement=job.arrangement(name) if count is None else None,
            storage=job.storage(name) if count is None else stack_storage(job, name),
        )
    return sinks


def _check_distinct(targets: Sequence[Any]) -> None:
    """Refuse two outputs with the same target: the second would overwrite the first."""
    named = [
        Path(one).absolute() if _is_path(one) else id(one) for one in targets if one is not None
    ]
    twice = next((one for one in named if named.count(one) > 1), None)
    if twice is not None:
        what = twice if isinstance(twice, Path) else "an array"
        raise BadValue(f"{what}: is the target of two outputs", cure="name another for each")


def finish(job: Job, sinks: Mapping[str, Sink]) -> dict[str, Any]:
    """Complete every output, and return the array or the path of each."""
    for sink in sinks.values():
        sink.complete()  # all of them, before the first journal is removed
    return {name: sink.finish() for name, sink in sinks.items()}


def _is_path(target: Any) -> bool:
    return isinstance(target, str | os.PathLike)
