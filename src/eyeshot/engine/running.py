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
from eyeshot.errors import BadValue
from eyeshot.frontends.trials import runs_on_shapes
from eyeshot.images import Index, Sink, Source, open_sink, open_source, unfinished
from eyeshot.images.sources.opening import is_url

if TYPE_CHECKING:
    from eyeshot.engine.cluster_plan import ClusterRun


@dataclass(frozen=True)
class _Request:
    """What the caller of :func:`run` or :func:`plan` asked for, under the names given there.

    Attributes:
        reading: which part of the image's file: ``level``, ``layout``, ``series``, ``index``.
        settings: what decides the numbers and how they are computed: ``output_format``,
            ``region``, ``band``, ``raw``, ``white``, ``pad``, ``flips``, ``precision``,
            ``device``, ``shard``.
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
        job: everything that is known of it.
        slices: of a stack, where it is run slice by slice.
        images: as they were named.
        targets: as they were named; None where arrays are to come back.
    """

    job: Job
    slices: Sequence[Source] | None
    images: list[Any]
    targets: list[Any] | None


@contextmanager
def _settled(request: _Request, *, look: bool = True) -> Iterator[_Settled]:
    """The run that was asked for, settled; its images are open in the block.

    Args:
        look: whether the image may be looked through for blank regions.
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
            outs=None if per_slice else targets,  # a slice's answer is held
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
    per_slice: bool = False,
    device: str | None = None,
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
    """What ``net(image)`` would give on a machine that is large enough.

    Args:
        net: a network in eval mode, a trained run (``eyeshot.load``), or one that keeps what
            was traced (``eyeshot.trace``), for many images while the weights change.
        image: an array (C, H, W), (H, W) or (H, W, C), a tensor, or a path to PNG, JPEG, TIFF,
            ``.npy`` or Zarr, or a URL of Zarr (``https://…``, ``s3://…``, ``zip://…``); a list of
            them for a network of several inputs.
        out: None to get arrays; or a path (``.npy``, ``.png``, ``.tif``, ``.zarr``;
            ``.ome.zarr`` or ``.ome.tif`` with a pyramid for viewers) or an array; a list of them
            for a network of several outputs.
        output_format: ``scores`` (as ``net`` gives them), ``float32``, ``probabilities``,
            ``argmax``, ``threshold:T`` or ``uint8``.
        region: (lo, hi) along each axis of the output, in the output's own order; only what it
            needs is read and computed. An output without positions is given whole.
        memory: the most the process may hold, in bytes or as ``"2GB"``.
        scratch: a folder, or ``"DIR:20GB"``, for maps that must be held whole and do not fit into
            ``memory``; None for beside the first output that is a file. Nothing is left there.
        band: rows that enter at a time; None to choose.
        level: of a pyramid, 0 the largest.
        layout: what the image's axes mean, such as ``"HWC"``, where the guess is wrong.
        series: which image of a file that holds several; None for the first.
        index: positions along the other axes of a stack, such as ``"T=3"`` or ``{"T": 3}``.
        raw: leave whole-number samples as they are; they are scaled to 0 … 1 otherwise.
        white: the whole-number sample that counts as 1, such as 4095 for 12 bits stored in 16;
            None for the largest of the type.
        pad: ``reflect``, ``edge`` or ``zero``: pad the image at its far sides to the nearest size
            that the network takes, and crop the answer to what answers to the image.
        flips: average the scores over the image and its flips (test-time augmentation): ``"all"``
            for the three of the plane, or a list such as ``"h,w"`` or ``["h", "w", "hw"]`` of the
            axes d, h and w. Each flip costs another pass, and its maps are held whole.
        precision: ``bf16`` to compute in bfloat16, which is faster on a processor made for it and
            has 8 bits of precision; how far that is from the network's own is noted at the end,
            measured on a crop of the image. None for the network's own.
        per_slice: run a network of pictures over each slice of a stack (C, D, H, W) by itself; the
            answer is a stack (C, D, H, W).
        device: where to run; None for where the weights are.
        where: compute only there: a mask picture of any size, stretched over the output (what is
            not 0 counts), as a path or an array (H, W); or a GeoJSON file of polygons in pixels of
            the image. Parts of the image that nothing inside depends on are not read.
        fill: the sample of all outputs outside.
        blank: compute a blank region once and copy it: outputs that see nothing but one constant,
            as on the glass of a slide. The image is looked through first. None: if it has a
            megapixel or more, and the network is so large that this costs little.
        shard: store the chunks of ``.zarr`` and ``.ome.zarr`` in files of about so many positions
            a side, such as 4096; None for a file for each chunk.
        force: replace an output that exists.
        resume: go on with an unfinished output of the very same run.
        client: a ``distributed.Client``, whose workers compute the output in blocks; ``out`` is
            then Zarr, and ``memory`` that of each worker. See docs/cluster.md.
        retries: with a client, how often a block that fails is tried again on another worker.
        planned: called with the plan before the first band.
        progress: called after each band, and once more at the end, with notes on the answer.

    Returns:
        An array as ``net(image)`` gives it, without the batch: (C, H, W), (H, W, C), (C,) of a
        classifier …; or what ``out`` names. A list of them where there are several outputs. A
        returned tensor that does not depend on the image (anchors, a scale) is an array in its
        place, and ``out`` has no name for it.

    Raises:
        BadValue: what does not fit, with what would.
        BadFile: an image that cannot be read, or an output that may not be written.
        Unsupported: an operator that cannot be run by parts, by its name.
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
            "device": device,
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
    per_slice: bool = False,
    device: str | None = None,
    where: Any = None,
    fill: float = 0,
    shard: int | None = None,
    resume: bool = False,
    client: Any = None,
) -> Plan:
    """What :func:`run` would do with the same arguments: bands, strips, memory, work and time.

    The network is traced, and about a second of its arithmetic is tried on noise. No sample of the
    image is read, and nothing is written.

    Args:
        net: as for :func:`run`, like all that is not described here: ``image``, ``output_format``,
            ``region``, ``memory``, ``scratch``, ``band``, ``level``, ``layout``, ``series``,
            ``index``, ``raw``, ``white``, ``pad``, ``flips``, ``precision``, ``per_slice``,
            ``device``, ``where``, ``fill``, ``shard``.
        out: likewise; ``[]`` leaves what the outputs hold out of account.
        resume: as the unfinished run of this output would go on.
        client: likewise; its workers are asked what they are, and the network is not tried.

    Returns:
        Plain data, which prints itself.

    Raises:
        BadValue: what does not fit, with what would.
        BadFile: an image that cannot be read.
        Unsupported: an operator that cannot be run by parts, by its name.
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
            "device": device,
            "shard": shard,
        },
    )
    if client is not None:
        with _shared_out(client, request) as shared:
            return shared.planned()
    with _settled(request, look=False) as settled:
        return plan_of(settled.job, predicted_seconds(settled.job))


@contextmanager
def _shared_out(client: Any, request: _Request, *, retries: int = 0) -> Iterator[ClusterRun]:
    """The run that was asked for, settled for the workers of a client."""
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
    """The job from its sinks to its results, in the order in which the network gives them."""
    job, slices = settled.job, settled.slices
    outs = [None] * len(job.forms) if settled.targets is None else settled.targets
    with ExitStack() as stack:
        sinks = open_sinks(job, outs, settled.images, slices, force=force, resume=request.resume)
        for sink in sinks.values():
            stack.enter_context(sink)
        report = carry_out(job, sinks, slices, progress)
        for note in report.notes:
            warnings.warn(note, stacklevel=3)
        kept = finish(job, sinks)
    if progress is not None:
        if request.settings["precision"] == "bf16":
            report = replace(report, rounding=_rounding(settled, request))
        progress(report)
    return with_constants(job.graph, kept)


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
            return _carry_out(small, part, None, force=False)

    return difference_in_words(sources, as_traced(request.net), scores)


def carry_out(
    job: Job,
    sinks: Mapping[str, Sink],
    slices: Sequence[Source] | None = None,
    progress: Progress | None = None,
) -> RunReport:
    """Carry a job out, once or over each slice of a stack."""
    if slices is None:
        return execute(job, sinks, progress)
    return execute_slices(job, slices, sinks, progress)


def opened(image: Any, net: Network, *, per_slice: bool = False, **options: Any) -> Source:
    """The image as a source, with as many axes of space as the network takes.

    The network is asked before it is traced, since tracing takes an image of a known shape.

    Args:
        image: as for :func:`run`.
        net: likewise.
        per_slice: likewise: the image has an axis more.
        options: ``level``, ``layout``, ``series`` and ``index``, as for :func:`open_source`.
    """
    traced = as_traced(net)
    space = traced.space
    if space == 2 and not per_slice and not options.get("layout"):
        space = 1 if _is_signal(image, traced) else 2
    return open_source(image, space=(space or 2) + 1 if per_slice else space, **options)


def _is_signal(image: Any, traced: Traced) -> bool:
    """Whether an array of two axes is a signal (C, L) to a network that has layers over planes.

    Networks over signals of several electrodes make a plane of them first, and many take a single
    length, which the array at hand has.
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
    """One sink for each output of a job; that of a stack, where the job is run over slices.

    Raises:
        BadValue: not one target for each output, or a resumed run had other settings.
        BadFile: an output that may not be written.
    """
    if len(targets) != len(job.forms):
        raise BadValue(
            f"{len(targets)} outputs named and the network has {len(job.forms)}: "
            f"{', '.join(job.forms)}",
            cure="name one for each",
        )
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


def finish(job: Job, sinks: Mapping[str, Sink]) -> dict[str, Any]:
    """Complete every output: its array, or its path."""
    for sink in sinks.values():
        sink.complete()  # all of them, before the first one's journal goes
    return {name: sink.finish() for name, sink in sinks.items()}


def _is_path(target: Any) -> bool:
    return isinstance(target, str | os.PathLike)
