"""One run before it starts: checked, planned, described so that it can be resumed, and timed.

In this file:

- the complete description of a run: network, images, regions, output form and plan;
- the settings that decide every sample, as plain data: a run resumes only if they are identical;
- the predicted duration, from timing a few bands of noise;
- the checks of a network, its images and a region of its output before a run.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import repeat
from typing import Any

import numpy as np
import torch
from torch.nn.parameter import is_lazy

from eyeshot.axes import Interval
from eyeshot.engine.buffers import refusal
from eyeshot.engine.fitting import Padding, misfit, pad_to_accepted
from eyeshot.engine.flipping import Flips, average_flips
from eyeshot.engine.lowering import lower
from eyeshot.engine.memory import (
    RunCosts,
    ScratchSpace,
    available,
    give_back,
    peak,
    resident,
    scratch_space,
)
from eyeshot.engine.networks import Network, Traced, as_traced, only_outputs, refuse_left_out
from eyeshot.engine.outputs import Form, Preparation, arrangement_of, form_for, regions_of
from eyeshot.engine.precision import check_computes_in_bfloat16, in_precision, tracing_in
from eyeshot.engine.resuming import Begun, arithmetic
from eyeshot.engine.skipping import Skipping
from eyeshot.engine.stream import Stream
from eyeshot.errors import BadValue, EyeshotError, UnknownName, Unsupported
from eyeshot.frontends.trials import channels_to_try, runs_on_shapes
from eyeshot.geometry import Region, grids_of, required
from eyeshot.graph import Graph, Kind
from eyeshot.images import Arrangement, Source
from eyeshot.images.pixel_grid import PixelGrid
from eyeshot.images.sinks import sink_memory
from eyeshot.images.sinks.sink import SinkMemory, Storage
from eyeshot.images.sources.converted import GraySource, OpaqueSource
from eyeshot.language import speaking
from eyeshot.operators import Prepared, gives_probabilities
from eyeshot.operators.methods import (
    added_bytes,
    load_methods,
    rounding,
    uses_methods,
    with_methods,
    without_methods,
)
from eyeshot.planning import BandPlan, make_plan, pushes
from eyeshot.planning.band_plan import megabytes
from eyeshot.planning.holding import maps_held_whole, say_what_is_held, too_much_to_hold
from eyeshot.planning.recomputing import recompute, repeatable
from eyeshot.runs import Run
from eyeshot.untouched import one_at_a_time

DIRECT = "direct"
EXACT = ("1e-5", DIRECT)
"""How far an output may be from the sum of the products, as a share of the largest."""
_MEMORY_SHARE = 8
"""What faster methods of convolution add may take one part in so many of a limit."""


def admit(
    traced: Traced, sources: Sequence[Source], device: str | torch.device | None = None
) -> tuple[Graph, torch.device]:
    """The lowered network at the images' sizes, and the device on which it will run.

    Raises:
        BadValue: sizes or channels that the network does not take, weights that are not finite, a
            missing device, or means for another number of channels.
        Unsupported: the network cannot be traced.
    """
    for source in sources:
        if len(traced.mean) not in (0, 1, source.shape[0]):
            raise BadValue(
                f"{source.name} has {source.shape[0]} channels, and there are "
                f"{len(traced.mean)} means",
                cure="give a mean and a deviation for each channel",
            )
    original = _graph(traced, sources)
    check_weights(original)
    check_types(original)
    graph = lower(original)
    weights = [tensor for tensor in graph.tensors.values() if tensor.is_floating_point()]
    place = _device(device) if device is not None else _device_of(weights)
    if any(tensor.device != place for tensor in graph.tensors.values()):
        graph = moved(graph, place)
    return graph, place


def as_gray(traced: Traced, sources: Sequence[Source]) -> Sequence[Source]:
    """The sources; gray stored as color is read as one channel if the network takes only one.

    An alpha channel is left out if the network takes colors alone. Each window is checked when it
    is read: the channels must be equal, and the alpha opaque.
    """
    if len(sources) != 1 or not GraySource.fits(sources[0]):
        return sources
    (source,) = sources
    channels = channels_to_try(traced.module)[:1]
    if channels != (1,) and not (channels == (3,) and source.alpha and source.shape[0] == 4):
        return sources
    runs, space = runs_on_shapes(traced.module), source.shape[1:]
    if runs((1, *source.shape)) or not runs((1, *channels, *space)):
        return sources
    if channels == (3,):
        return [OpaqueSource(source)]
    return [GraySource(source)] if GraySource.starts_gray(source) else sources


def _graph(traced: Traced, sources: Sequence[Source]) -> Graph:
    try:
        dtype = dtype_of([source.dtype for source in sources])
        graph = traced.graph(*(source.shape for source in sources), dtype=dtype)
    except EyeshotError as error:
        if len(sources) > 1:
            raise
        (image,) = sources
        raise misfit(traced, image.name, image.shape, error, image.layout) from error
    refuse_whole(graph, constants=False)
    return graph


def dtype_of(kinds: Sequence[np.dtype[Any]]) -> torch.dtype:
    """The type in which a network without parameters computes: float32 for images of integers."""
    kinds = [kind if kind.kind == "f" else np.dtype(np.float32) for kind in kinds]
    widest = np.result_type(*kinds)
    dtype: torch.dtype = getattr(torch, "float64" if widest.itemsize > 4 else widest.name)
    return dtype


def refuse_whole(graph: Graph, *, constants: bool = True) -> None:
    """Refuse layers in training mode, whose results are random, and unsupported operators.

    Args:
        graph: of the network.
        constants: refuse a returned tensor that is the same at each call, too.

    Raises:
        Unsupported: an output depends on one, which is named; or no output depends on the input.
    """
    if not graph.outputs:
        raise Unsupported(
            "forward returns nothing that depends on its input", cure="return a tensor made of it"
        )
    refuse_left_out(graph, constants=constants)
    needed = set(graph.outputs)
    for node in reversed(list(graph)):
        if node.name in needed:
            needed.update(edge.source for edge in node.edges)
    for node in graph:
        if node.name in needed and (node.params.training or node.kind is Kind.UNSUPPORTED):
            raise refusal(node, graph)


def _place_of(traced: Traced, device: str | torch.device | None) -> torch.device:
    """Where a network will run."""
    if device is not None:
        return _device(device)
    return _device_of([tensor for tensor in traced.module.parameters() if not is_lazy(tensor)])


def _device_of(weights: list[torch.Tensor]) -> torch.device:
    return weights[0].device if weights else torch.device("cpu")


def _device(name: str | torch.device) -> torch.device:
    try:
        return torch.device(name)
    except RuntimeError:
        raise BadValue(f"device {str(name)!r}", cure="use cpu or cuda") from None


def moved(graph: Graph, place: torch.device) -> Graph:
    """The graph with its weights on another device.

    Raises:
        BadValue: there is no such device.
    """
    if place.type == "cuda" and not torch.cuda.is_available():
        raise BadValue("--device cuda: there is none here", cure="use --device cpu")
    return replace(graph, tensors={name: t.to(place) for name, t in graph.tensors.items()})


def check_weights(graph: Graph) -> None:
    """Refuse weights that are not finite or have no values.

    Infinity is the sign of a failed training only in what is learned: masks of attention hold it.
    Constants that the network makes of no weight may hold anything.

    Raises:
        BadValue: a weight has NaN or infinity, or is on the meta device; it is named.
    """
    used = dict.fromkeys(name for node in graph for name in node.weights)
    for name in used:
        tensor = graph.tensors[name]
        if tensor.is_meta:
            raise BadValue(
                f"weight {name} is on the meta device, where there are no numbers",
                cure="call net.to_empty(device='cpu') and load its weights",
            )
        # A finite sum means that all terms are finite, and is much cheaper than checking each.
        fine = not tensor.is_floating_point() or bool(tensor.sum().isfinite())
        if fine or graph.made_of.get(name) == ():
            continue
        learned = not graph.parameters.isdisjoint(graph.made_of.get(name, (name,)))
        if bool(tensor.isnan().any()) or (learned and not bool(tensor.isfinite().all())):
            raise BadValue(f"weight {name} holds NaN or infinity", cure="train the network again")


def check_types(graph: Graph) -> None:
    """Refuse a convolution whose input and weights differ in type, which a trace accepts.

    Raises:
        Unsupported: there is one; it is named.
    """
    for node in graph:
        if node.is_convolution:
            tensors = [graph.tensors[name] for name in node.weights]
            kinds = {str(one.dtype).removeprefix("torch.") for one in tensors}
            kinds |= {graph.nodes[edge.source].dtype for edge in node.edges}
            if len(kinds) > 1:
                raise Unsupported(
                    f"{node.name} is given numbers in {' and '.join(sorted(kinds))}",
                    cure="convert them to one type",
                )


@dataclass(frozen=True)
class Job:
    """Everything that a run needs; nothing in it changes during the run.

    Attributes:
        graph: the lowered network.
        sources: the image of each input, by the input's name.
        preparation: how samples become the network's input.
        forms: how scores become samples, by the output's name.
        plan: bands, strips, memory.
        threads: the number of torch's threads.
        padding: the padding of the image; None without ``pad``.
        flips: the flips to average over; None without ``flips``.
        memory: the most bytes that the process may use; None for no limit.
        scratch: where to put maps that do not fit into the memory.
        skipping: the parts that are not computed; None if everything is.
        shard: positions along each side of a Zarr shard; None for a file for each chunk.
        behind: whether rows are written while others are computed, which takes more memory.
        known: inputs that are not images: statistics that were gathered before.
        maps: inputs that are maps which an earlier pass has stored: functions that read a window.
        prepared: the computations of the passes so far.
    """

    graph: Graph
    sources: Mapping[str, Source]
    preparation: Preparation
    forms: Mapping[str, Form]
    plan: BandPlan
    threads: int
    padding: Padding | None = None
    memory: int | None = None
    scratch: ScratchSpace = field(default_factory=lambda: scratch_space(None, None))
    skipping: Skipping | None = None
    shard: int | None = None
    behind: bool = True
    known: Mapping[str, torch.Tensor] = field(default_factory=dict)
    maps: Mapping[str, Callable[[Region], torch.Tensor]] = field(default_factory=dict)
    flips: Flips | None = None
    prepared: Prepared = field(default_factory=Prepared, compare=False, repr=False)

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """Plain data that decides every sample; a run resumes only if it is identical.

        It is computed only when needed: the weights' fingerprint takes longer than a small image.
        """
        return settings_of(self)

    def shape(self, output: str) -> tuple[int, ...]:
        """(C, H, W) of an output's region, features first."""
        sides = (len(side) for side in self.plan.regions[output])
        return (self.forms[output].channels, *sides)

    def storage(self, output: str) -> Storage:
        """How an output is stored: labels, shards and pixel grid."""
        return replace(_storage(self.forms[output], self.shard), grid=self.pixel_grid(output))

    def pixel_grid(self, output: str) -> PixelGrid | None:
        """The size and the place of the pixels of an output's region.

        The unit is that of the first image, or its pixels if it has no unit. None if positions of
        the output have no place in the image.
        """
        source = self.sources[self.graph.inputs[0]]
        own = source.grid or PixelGrid.plain(len(source.shape) - 1)
        moves = []
        for grid, side in zip(grids_of(self.graph, output), self.plan.regions[output], strict=True):
            if grid is None:
                return None
            moves.append((float(grid.step), float(grid.first + grid.step * side.lo)))
        return own.moved(moves)

    def arrangement(self, output: str) -> Arrangement:
        """The axes of the array of an output's region: those of ``net(x)``, without the batch."""
        return arrangement_of(self.graph, output).sized(self.shape(output))

    @property
    def pixels(self) -> int:
        """Positions of the first input that are read, summed over the strips with their halos."""
        name = self.graph.inputs[0]
        total = 0
        for strip in self.plan.strips:
            count = 1
            for side in strip.boxes.get(name, ()):
                count *= len(side)
            total += count
        return total


@one_at_a_time
def make_job(
    net: Network,
    sources: Sequence[Source],
    *,
    output_format: str = "scores",
    region: Sequence[tuple[int, int]] | None = None,
    memory: int | None = None,
    band: int | None = None,
    raw: bool = False,
    white: float | None = None,
    pad: str | None = None,
    flips: str | Sequence[str] | None = None,
    precision: str | None = None,
    exact: str | None = None,
    device: str | torch.device | None = None,
    outputs: str | Sequence[str] | None = None,
    outs: Sequence[Any] | None = (),
    begun: Begun | None = None,
    scratch: ScratchSpace | None = None,
    shard: int | None = None,
) -> Job:
    """Check and plan a run.

    Args:
        net: a network, a trained run with its normalization, or a traced network.
        sources: one image for each input of the network.
        output_format: the form of the output; see :func:`eyeshot.engine.outputs.form_of`.
        region: (lo, hi) for each axis of the output, in the output's order; None for all of it.
        memory: the most bytes that the process may use; None for no limit.
        band: rows at a time; None to choose.
        raw: whole-number samples are not scaled to 0 … 1.
        white: the whole-number sample that counts as 1; None for the largest of its type.
        pad: ``reflect``, ``edge`` or ``zero``: pad the image at the far sides to the nearest size
            that the network takes, and crop the output; None for no padding.
        flips: average the output over these flips; see :mod:`eyeshot.engine.flipping`.
        precision: ``bf16`` to compute in bfloat16; see :mod:`eyeshot.engine.precision`.
        exact: one of :data:`EXACT`; None for the first, or for that of the run that is resumed.
        device: where to run; None for the device of the network's weights.
        outputs: names of the outputs to compute; see :mod:`eyeshot.engine.networks`.
        outs: the target of each output, as for :func:`run`, to count its memory; None for arrays.
        begun: the plan of the unfinished run that is resumed.
        scratch: where to put maps that do not fit into ``memory``; None for the system's folder for
            temporary files.
        shard: positions along each side of a Zarr shard; None for a file for each chunk.

    Raises:
        BadValue: sizes, channels or regions that do not fit, or too little memory.
        Unsupported: an operator that cannot be run by parts, by its name.
    """
    parts = parts_of(
        net,
        sources,
        output_format=output_format,
        region=region,
        band=band,
        raw=raw,
        white=white,
        pad=pad,
        flips=flips,
        precision=precision,
        exact=begun.exact if begun and exact != DIRECT else exact,
        device=device,
        outputs=outputs,
        shard=shard,
    )
    if not begun:
        parts = replace(parts, graph=affordable(parts.graph, memory))
    load_methods(parts.graph)
    sinks = sinks_memory(parts.graph, outs, parts.forms, parts.regions, shard)
    if memory is not None:
        give_back(memory)  # free the memory of the trace
    memories = resident(), peak()
    cut = begun.cut if begun else None
    space = scratch or scratch_space(None, None)

    def planned(parts: Parts, behind: bool) -> BandPlan:
        named = parts.sources, parts.preparation, parts.forms, sinks
        costs = RunCosts(parts.graph, *named, *memories, behind=behind)
        options: dict[str, Any] = {"costs": costs, "band": band, "begun": cut}
        return _planned(parts.graph, parts.regions, memory, space, **options)

    choices = [(parts, True), (parts, False)]  # the fastest first, the one of least memory last
    if not begun and uses_methods(parts.graph):
        choices.append((replace(parts, graph=without_methods(parts.graph)), False))
    for last, (chosen, behind) in enumerate(choices, 1 - len(choices)):
        try:
            plan = planned(chosen, behind)
            break
        except BadValue:
            if not last:
                raise
    threads = begun.threads if begun else torch.get_num_threads()
    return chosen.job(plan, threads, memory=memory, scratch=space, behind=behind)


def affordable(graph: Graph, memory: int | None, width: int | None = None) -> Graph:
    """The graph; without its methods if what they add is too large a part of the allowed memory.

    Args:
        graph: with its methods.
        memory: the most bytes that the process may use; None for no limit.
        width: as for :func:`eyeshot.operators.methods.with_methods`.
    """
    if memory is not None and added_bytes(graph, width) > memory // _MEMORY_SHARE:
        return without_methods(graph)
    return graph


@dataclass(frozen=True)
class Parts:
    """A run before it is planned: attributes of :class:`Job`, and the requested regions."""

    graph: Graph
    sources: Mapping[str, Source]
    preparation: Preparation
    forms: Mapping[str, Form]
    regions: Mapping[str, Region]
    padding: Padding | None
    shard: int | None
    flips: Flips | None

    def storage(self, output: str) -> Storage:
        """How an output is stored: labels and shards."""
        return _storage(self.forms[output], self.shard)

    def job(self, plan: BandPlan, threads: int, **options: Any) -> Job:
        """The run with a plan; ``options`` are further attributes of a job."""
        return Job(
            recompute(self.graph, plan.again),
            self.sources,
            self.preparation,
            self.forms,
            plan,
            threads,
            self.padding,
            shard=self.shard,
            flips=self.flips,
            **options,
        )


def parts_of(
    net: Network,
    sources: Sequence[Source],
    *,
    output_format: str = "scores",
    region: Sequence[tuple[int, int]] | None = None,
    band: int | None = None,
    raw: bool = False,
    white: float | None = None,
    pad: str | None = None,
    flips: str | Sequence[str] | None = None,
    precision: str | None = None,
    exact: str | None = None,
    device: str | torch.device | None = None,
    outputs: str | Sequence[str] | None = None,
    shard: int | None = None,
) -> Parts:
    """Check the arguments, which are those of :func:`make_job`, and trace the network.

    Raises:
        BadValue: sizes, channels or regions that do not fit.
        Unsupported: an operator that cannot be run by parts, by its name.
    """
    _check_options(net, output_format, band, white, raw=raw)
    check_exact(exact)
    chosen = only_outputs(as_traced(net), outputs)
    traced, padding, averaged = chosen, None, None
    sources = as_gray(traced, sources)
    traced = in_precision(traced, precision, _place_of(traced, device))
    with tracing_in(precision):
        if pad is not None:
            traced, padding = pad_to_accepted(traced, sources, pad)
        if flips is not None:
            one = _graph(traced, sources)
            refuse_left_out(one)
            _check_mean_of_probabilities(one, output_format)
            traced, averaged = average_flips(traced, one, flips)
        graph, place = admit(traced, sources, device)
    dtype: torch.dtype = getattr(torch, graph.nodes[graph.inputs[0]].dtype)
    if precision == "bf16":
        check_computes_in_bfloat16(dtype)
        if graph.constants:  # what does not depend on the input is not to be rounded either
            own = pad_to_accepted(chosen, sources, pad)[0] if pad is not None else chosen
            graph = replace(graph, constants=_graph(own, sources).constants)
    if exact != DIRECT:
        graph = with_methods(graph)
    regions = regions_of(graph, region)
    # Refuse unsupported operators now, before any output is created.
    Stream(graph, required(graph, regions), graph.outputs)
    named = dict(zip(graph.inputs, sources, strict=True))
    preparation = Preparation(dtype, place, raw, traced.mean, traced.std, traced.unit, white)
    for source in sources:  # before any output is created
        preparation.check(np.empty(0, source.dtype), source.name)
    forms = {name: form_for(output_format, graph, name) for name in graph.outputs}
    return Parts(graph, named, preparation, forms, regions, padding, shard, averaged)


def check_exact(exact: str | None) -> None:
    """Refuse what is none of :data:`EXACT`, nor None.

    Raises:
        UnknownName: it is something else.
    """
    if exact not in (None, *EXACT):
        raise UnknownName("exact", str(exact), EXACT)


def _check_mean_of_probabilities(graph: Graph, output_format: str) -> None:
    """Refuse a second sigmoid or softmax over the mean of what flips give."""
    kind = output_format.partition(":")[0]
    if kind in ("probabilities", "threshold") and any(
        gives_probabilities(graph, name) for name in graph.outputs
    ):
        raise BadValue(
            f"--as {output_format} with --flips, and the network ends in a sigmoid or a softmax",
            cure="use --as float32, which is the mean of the probabilities, or argmax",
        )


def _storage(form: Form, shard: int | None) -> Storage:
    return Storage(labels=form.labels, shard=shard, span=form.span)


def sinks_memory(
    graph: Graph,
    outs: Sequence[Any] | None,
    forms: Mapping[str, Form],
    regions: Mapping[str, Region],
    shard: int | None,
) -> dict[str, Callable[[int], SinkMemory]]:
    """For each output, a function from the number of columns written at a time to its memory."""
    targets, found = repeat(None) if outs is None else outs, {}
    for out, (name, form) in zip(targets, forms.items(), strict=False):
        shape = (form.channels, *(len(side) for side in regions[name]))
        laid = arrangement_of(graph, name).sized(shape)
        found[name] = sink_memory(out, shape, form.dtype, laid, _storage(form, shard))
    return found


def _check_options(
    net: Network, output_format: str, band: int | None, white: float | None, *, raw: bool
) -> None:
    if band is not None and band < 1:
        raise BadValue(f"a band of {band} rows", cure="give 1 or more, or none to have it chosen")
    if white is not None and not (math.isfinite(white) and white > 0):
        raise BadValue(f"--white {white:g}", cure="give the sample that counts as 1, such as 4095")
    if white is not None and raw:
        raise BadValue("--white with --raw", cure="use one of the two")
    if output_format == "uint8" and isinstance(net, Run) and net.config.task != "restore":
        raise BadValue(
            f"uint8 of the scores of {len(net.config.classes)} classes",
            cure="use argmax for the class of each pixel, or probabilities",
        )


def _planned(
    graph: Graph,
    regions: Mapping[str, Region],
    memory: int | None,
    space: ScratchSpace,
    **options: Any,
) -> BandPlan:
    """A plan within the allowed memory; without a limit, within the free memory if maps are held
    whole.
    """
    maps = maps_held_whole(graph)
    limit = memory if memory is not None or not maps else available()
    try:
        disk = space.room if maps else 0
        plan = make_plan(graph, regions, memory=limit, disk=disk, **options)
    except BadValue as error:
        again = repeatable(graph)
        maps = tuple(one for one in maps if one.source not in again)
        if not maps and memory is not None:
            raise
        if not maps:
            fact = f"{megabytes(limit or 0)} are free here, too little for this network and image"
            raise BadValue(fact, cure=error.cure) from error
        room = f"{megabytes(limit or 0)} {'are free here' if memory is None else 'are allowed'}"
        raise too_much_to_hold(graph, maps, room, error.cure) from error
    repeating = recompute(graph, plan.again)
    return say_what_is_held(plan, repeating, maps_held_whole(repeating))


def _stated(job: Job, dtype: np.dtype[Any]) -> str:
    """The preparation in English, so that a run resumes in any language."""
    with speaking("en"):
        return job.preparation.stated(dtype)


def settings_of(job: Job) -> Mapping[str, Any]:
    """What decides the samples of a run: network, images, plan, arithmetic. Reads all weights."""
    plan, sources = job.plan.to_dict(), job.sources.values()
    skipped = {} if job.skipping is None else {"skipped": job.skipping.settings}
    return {
        **skipped,
        "network": _fingerprint(without_methods(job.graph)),
        "image": [source.identity() for source in sources],
        "part": [source.part for source in sources],
        "preparation": [_stated(job, source.dtype) for source in sources],
        "output_format": [form.name for form in job.forms.values()],
        "regions": plan["regions"],
        "strips": plan["strips"],
        "band": plan["band_rows"],
        "exact": EXACT[0] if uses_methods(job.graph) else DIRECT,
        "spilled": list(plan["spilled"]),
        **({"again": plan["again"]} if plan["again"] else {}),
        "threads": job.threads,
        "arithmetic": arithmetic(job.preparation.device) + rounding(job.graph),
    }


def _fingerprint(graph: Graph) -> str:
    """A short name for a network: its operators and every weight."""
    digest = hashlib.sha256()
    for node in graph:
        digest.update(repr((node.name, node.operator, node.edges, node.shape)).encode())
        digest.update(repr(node.params).encode())
        if node.call is not None:  # slopes and bounds are only in the call
            digest.update(repr((node.call.args, sorted(node.call.kwargs.items()))).encode())
    for name, tensor in sorted(graph.tensors.items()):
        digest.update(name.encode())
        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(data.numpy().data)
    return digest.hexdigest()[:16]


_SECONDS = 1.0


def predicted_seconds(job: Job) -> float:
    """The predicted seconds of a whole run's arithmetic, from timing about one second of it.

    Bands of noise are pushed through the first strip for about a second. The time is divided by
    the share of multiply-adds done, or of rows pushed if the network has no multiply-adds. Reading
    and writing files is not included.
    """
    strip = job.plan.strips[0]
    stream = Stream(job.graph, strip.boxes, job.graph.outputs, band=job.plan.band)
    longest = max((len(strip.boxes[n][0]) for n in job.graph.inputs if n in strip.boxes), default=0)
    entered, warm = 0, (0.0, 0, 0)
    started = time.perf_counter()
    for rows in pushes(job.graph, strip.boxes, job.plan.band):
        stream.push(
            {name: _noise(job, name, strip.boxes[name], side) for name, side in rows.items()}
        )
        entered = min(entered + job.plan.band, longest)
        if warm[1] == 0:  # the first band includes set-up that is done once
            warm = (time.perf_counter() - started, entered, stream.multiply_adds)
        if time.perf_counter() - started > _SECONDS:
            break
    spent = time.perf_counter() - started - warm[0]
    done = stream.multiply_adds - warm[2]
    if done > 0 and job.plan.multiply_adds:
        return warm[0] + spent * job.plan.multiply_adds / done
    rows_done = entered - warm[1]
    share = rows_done / (longest * len(job.plan.strips)) if rows_done else 1.0
    return warm[0] + spent / share


def _noise(job: Job, name: str, box: Region, rows: Interval) -> torch.Tensor:
    shape = list(job.graph.nodes[name].shape)
    shape[2:] = [len(rows), *(len(side) for side in box[1:])]
    device = job.preparation.device
    generator = torch.Generator(device).manual_seed(0)  # the user's random numbers stay as they are
    return torch.randn(shape, dtype=job.preparation.dtype, device=device, generator=generator)
