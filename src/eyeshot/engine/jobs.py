"""One run, settled before it starts: network, images, regions, form and plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import repeat
from typing import Any

import torch

from eyeshot.engine.admission import admit, as_grey
from eyeshot.engine.forms import Form
from eyeshot.engine.memory import available, give_back, peak, resident
from eyeshot.engine.networks import Network, as_traced
from eyeshot.engine.outputs import arrangement_of, form_for, regions_of
from eyeshot.engine.padding import Padding, pad_to_taken
from eyeshot.engine.preparing import Preparation
from eyeshot.engine.pricing import RunCosts
from eyeshot.engine.resuming import Begun
from eyeshot.engine.scratch import ScratchSpace, scratch_space
from eyeshot.engine.settings import settings_of
from eyeshot.engine.skipping import Skipping
from eyeshot.engine.stream import Stream
from eyeshot.errors import BadValue
from eyeshot.geometry import Region, required
from eyeshot.graph import Graph
from eyeshot.images import Arrangement, Source
from eyeshot.images.sinks.opening import sink_memory
from eyeshot.planning import BandPlan, make_plan
from eyeshot.planning.band_plan import megabytes
from eyeshot.planning.whole_maps import maps_held_whole, say_what_is_held, too_much_to_hold
from eyeshot.runs import Run


@dataclass(frozen=True)
class Job:
    """Everything a run needs, and nothing that changes while it runs.

    Attributes:
        graph: as it will be executed.
        sources: the image of each input, by the input's name.
        preparation: of samples.
        forms: of each output, by its name.
        plan: bands, strips, memory.
        threads: among how many torch shares the work out.
        padding: what was added to the image; None where that was not asked for.
        memory: the most bytes that the process may hold; None where nothing is said of it.
        scratch: where maps are put that do not fit into that.
        skipping: what is not computed; None if all of the regions is.
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

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """Plain data that decides every sample, which a resumed run compares.

        Worked out when first asked for: the weights' fingerprint takes longer than a small image.
        """
        return settings_of(self)

    def shape(self, output: str) -> tuple[int, ...]:
        """(C, H, W) of an output's region, as the engine gives it."""
        sides = (len(side) for side in self.plan.regions[output])
        return (self.forms[output].channels, *sides)

    def arrangement(self, output: str) -> Arrangement:
        """How the array of an output's region lies: as ``net(x)`` does, without the batch."""
        return arrangement_of(self.graph, output).sized(self.shape(output))

    @property
    def pixels(self) -> int:
        """Positions of the first input that are read in all, each strip's halo counted again."""
        name = self.graph.inputs[0]
        total = 0
        for strip in self.plan.strips:
            count = 1
            for side in strip.boxes.get(name, ()):
                count *= len(side)
            total += count
        return total


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
    device: str | torch.device | None = None,
    outs: Sequence[Any] | None = (),
    begun: Begun | None = None,
    scratch: ScratchSpace | None = None,
) -> Job:
    """Settle a run.

    Args:
        net: a network; a trained run, which brings its normalisation along; or one that is traced.
        sources: one image for each input of the network.
        output_format: of the output; see :func:`eyeshot.engine.forms.form_of`.
        region: (lo, hi) for each axis of the output, in its own order; None for all of it.
        memory: the most bytes the process may hold; None for no limit.
        band: rows at a time; None to choose.
        raw: whole-number samples are not scaled to 0 … 1.
        white: the whole-number sample that counts as 1; None for the largest of its type.
        pad: ``reflect``, ``edge`` or ``zero``: add positions at the far sides, up to the nearest
            size that the network takes, and crop the answer; None to take the image as it is.
        device: where to run; None for where the network's weights are.
        outs: where each output goes, as for :func:`run`, to count what it holds; None for arrays.
        begun: what the run that is resumed had settled for itself.
        scratch: where maps may be put that do not fit into ``memory``; None for the system's own
            folder.

    Raises:
        BadValue: sizes, channels or regions that do not fit, or too little memory.
        Unsupported: an operator that cannot be run by parts, by its name.
    """
    _check_options(net, output_format, band, white, raw=raw)
    traced, padding = as_traced(net), None
    sources = as_grey(traced, sources)
    if pad is not None:
        traced, padding = pad_to_taken(traced, sources, pad)
    graph, place = admit(traced, sources, device)
    dtype: torch.dtype = getattr(torch, graph.nodes[graph.inputs[0]].dtype)
    regions = regions_of(graph, region)
    # Refused operators are refused now, before any output is made.
    Stream(graph, required(graph, regions), graph.outputs)
    named = dict(zip(graph.inputs, sources, strict=True))
    preparation = Preparation(dtype, place, raw, traced.mean, traced.std, traced.unit, white)
    forms = {name: form_for(output_format, graph, name) for name in graph.outputs}
    sinks = _sinks(graph, outs, forms, regions)
    if memory is not None:
        give_back()  # what tracing left behind
    costs = RunCosts(graph, named, preparation, forms, sinks, resident(), peak())
    cut = begun.cut if begun else None
    space = scratch or scratch_space(None, None)
    plan = _planned(graph, regions, memory, space, costs=costs, band=band, begun=cut)
    threads = begun.threads if begun else torch.get_num_threads()
    return Job(graph, named, preparation, forms, plan, threads, padding, memory, space)


def _sinks(
    graph: Graph,
    outs: Sequence[Any] | None,
    forms: Mapping[str, Form],
    regions: Mapping[str, Region],
) -> dict[str, Callable[[int], int]]:
    """The bytes that each output holds, by how many columns are written at a time."""
    targets, found = repeat(None) if outs is None else outs, {}
    for out, (name, form) in zip(targets, forms.items(), strict=False):
        shape = (form.channels, *(len(side) for side in regions[name]))
        found[name] = sink_memory(out, shape, form.dtype, arrangement_of(graph, name).sized(shape))
    return found


def _check_options(
    net: Network, output_format: str, band: int | None, white: float | None, *, raw: bool
) -> None:
    if band is not None and band < 1:
        raise BadValue(f"a band of {band} rows", cure="give 1 or more, or none to have it chosen")
    if white is not None and not white > 0:
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
    """A plan within the memory allowed; within what there is, where it grows with the height."""
    maps = maps_held_whole(graph)
    limit = memory if memory is not None or not maps else available()
    try:
        disk = space.room if maps else 0
        plan = make_plan(graph, regions, memory=limit, disk=disk, **options)
    except BadValue as error:
        if not maps:
            raise
        room = f"{megabytes(limit or 0)} {'are free here' if memory is None else 'are allowed'}"
        raise too_much_to_hold(graph, maps, room, error.cure) from error
    return say_what_is_held(plan, graph, maps)
