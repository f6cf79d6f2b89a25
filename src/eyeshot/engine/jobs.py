"""One run, settled before it starts: network, images, regions, form and plan."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from eyeshot.axes import Interval
from eyeshot.engine.forms import Form, form_of
from eyeshot.engine.lowering import lower
from eyeshot.engine.memory import resident
from eyeshot.engine.preparing import Preparation
from eyeshot.engine.stream import Stream
from eyeshot.errors import BadValue, EyeshotError, Unsupported
from eyeshot.frontends.torch import graph_of
from eyeshot.geometry import Region
from eyeshot.graph import Graph, Node
from eyeshot.images import Source
from eyeshot.plan import Plan, make_plan
from eyeshot.runs import Run

_MARGIN = 64 << 20
"""What torch and the allocator take beside the buffers: code, scratch, fragments."""


@dataclass(frozen=True)
class Job:
    """Everything a run needs, and nothing that changes while it runs.

    Attributes:
        graph: as it will be executed.
        sources: the image of each input, by the input's name.
        preparation: of samples.
        forms: of each output, by its name.
        plan: bands, strips, memory.
        settings: plain data that decides every sample; a resumed run compares it.
    """

    graph: Graph
    sources: Mapping[str, Source]
    preparation: Preparation
    forms: Mapping[str, Form]
    plan: Plan
    settings: Mapping[str, Any]

    def shape(self, output: str) -> tuple[int, ...]:
        """(C, H, W) of an output's region."""
        sides = (len(side) for side in self.plan.regions[output])
        return (self.forms[output].channels, *sides)

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
    net: nn.Module | Run,
    sources: Sequence[Source],
    *,
    form: str = "float32",
    region: Sequence[tuple[int, int]] | None = None,
    memory: int | None = None,
    band: int | None = None,
    raw: bool = False,
    device: str | torch.device | None = None,
    held: int = 0,
) -> Job:
    """Settle a run.

    Args:
        net: a network, or a trained run, which brings its normalisation along.
        sources: one image for each input of the network.
        form: of the output; see :func:`eyeshot.engine.forms.form_of`.
        region: (lo, hi) of the output for each axis; None for all of it.
        memory: the most bytes the process may hold; None for no limit.
        band: rows at a time; None to choose.
        raw: whole-number samples are not scaled to 0 … 1.
        device: where to run; None for where the network's weights are.
        held: bytes that the output itself holds.

    Raises:
        BadValue: sizes, channels or regions that do not fit, or too little memory.
        Unsupported: an operator that cannot be run by parts, by its name.
    """
    if band is not None and band < 1:
        raise BadValue(f"a band of {band} rows", cure="give 1 or more, or none to have it chosen")
    module = net.net if isinstance(net, Run) else net
    if any(child.training for child in module.modules()):
        raise BadValue("the network is in training mode", cure="call net.eval() first")
    graph = lower(_graph(module, sources))
    weights = [t for t in graph.tensors.values() if t.is_floating_point()]
    place = _device(device) if device is not None else _device_of(weights)
    if any(t.device != place for t in graph.tensors.values()):
        graph = _moved(graph, place)
    _check_weights(graph)
    double = any(source.dtype == np.float64 for source in sources)
    without = torch.float64 if double else torch.float32
    dtype = weights[0].dtype if weights else without
    mean, std = (net.config.mean, net.config.std) if isinstance(net, Run) else ((), ())
    preparation = Preparation(dtype, place, raw, mean, std)
    forms = {name: form_of(form, graph.nodes[name].channels) for name in graph.outputs}
    regions = {name: _region(graph.nodes[name], region) for name in graph.outputs}
    # Each kernel may lie in memory twice more, laid out for a band and for the last one.
    laid_out = 2 * sum(t.numel() * t.element_size() for t in graph.tensors.values())
    fixed = resident() + _MARGIN + held + laid_out + sum(source.memory for source in sources)
    plan = make_plan(
        graph,
        regions,
        itemsize=dtype.itemsize,
        memory=memory,
        fixed=fixed,
        row_bytes=_row_bytes(graph, sources, dtype),
        band=band,
    )
    named = dict(zip(graph.inputs, sources, strict=True))
    # Refused operators are refused now, before any output is made.
    Stream(graph, plan.strips[0].boxes, graph.outputs)
    settings = _settings(graph, named, preparation, forms, plan)
    return Job(graph, named, preparation, forms, plan, settings)


def _graph(module: nn.Module, sources: Sequence[Source]) -> Graph:
    try:
        return graph_of(module, *(source.shape for source in sources))
    except EyeshotError as error:
        first, wanted = sources[0], _channels_of(module)
        if len(sources) > 1 or wanted is None or first.shape[0] == wanted:
            raise
        raise BadValue(
            f"{first.name} has {first.shape[0]} channels ({first.layout}) and the network's "
            f"first layer takes {wanted}",
            cure="give another image, or say how its axes lie with --layout",
        ) from error


def _channels_of(module: nn.Module) -> int | None:
    """What the first convolution takes, where the network begins with one."""
    for child in module.modules():
        if isinstance(child, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return child.in_channels
        if isinstance(child, nn.Linear):
            return None
    return None


def _device_of(weights: list[torch.Tensor]) -> torch.device:
    return weights[0].device if weights else torch.device("cpu")


def _device(name: str | torch.device) -> torch.device:
    try:
        return torch.device(name)
    except RuntimeError:
        raise BadValue(f"device {str(name)!r}", cure="use cpu or cuda") from None


def _moved(graph: Graph, place: torch.device) -> Graph:
    from dataclasses import replace

    if place.type == "cuda" and not torch.cuda.is_available():
        raise BadValue("--device cuda: there is none here", cure="use --device cpu")
    return replace(graph, tensors={name: t.to(place) for name, t in graph.tensors.items()})


def _check_weights(graph: Graph) -> None:
    for name, tensor in graph.tensors.items():
        # A sum is finite only if all its terms are, and costs a fraction of asking each.
        if tensor.is_floating_point() and not bool(tensor.sum(dtype=torch.float64).isfinite()):
            raise BadValue(f"weight {name} holds NaN or infinity", cure="train the network again")


def _region(node: Node, asked: Sequence[tuple[int, int]] | None) -> Region:
    if len(node.shape) not in (len(node.dims) + 2, 2) or node.shape[0] != 1:
        raise Unsupported(
            f"output {node.name} has shape {node.shape}", cure="give (N, C, H, W) or (N, C)"
        )
    if asked is None:
        return tuple(Interval(0, n) for n in node.extents)
    if len(asked) != len(node.extents):
        raise BadValue(f"a region of {len(asked)} axes", cure=f"give {len(node.extents)}")
    box = tuple(Interval(lo, hi) for lo, hi in asked)
    for side, n in zip(box, node.extents, strict=True):
        if not side or side.lo < 0 or side.hi > n:
            raise BadValue(f"region {side.lo}:{side.hi} of an output of {n}", cure="stay inside it")
    return box


def _row_bytes(graph: Graph, sources: Sequence[Source], dtype: torch.dtype) -> int:
    """Bytes beside the network's own for one row: samples read, prepared (twice), and given."""
    total = 0
    for source in sources:
        numbers = 1
        for n in (source.shape[0], *source.shape[2:]):
            numbers *= n
        total += numbers * (source.dtype.itemsize + 2 * dtype.itemsize)
    for name in graph.outputs:
        node = graph.nodes[name]
        numbers = node.channels
        for n in node.extents[1:]:
            numbers *= n
        total += 2 * numbers * dtype.itemsize
    return total


def _settings(
    graph: Graph,
    sources: Mapping[str, Source],
    preparation: Preparation,
    forms: Mapping[str, Form],
    plan: Plan,
) -> dict[str, Any]:
    return {
        "network": _fingerprint(graph),
        "image": [source.identity() for source in sources.values()],
        "preparation": [preparation.stated(source.dtype) for source in sources.values()],
        "form": [form.name for form in forms.values()],
        "regions": plan.as_dict()["regions"],
        "strips": plan.as_dict()["strips"],
    }


def _fingerprint(graph: Graph) -> str:
    """A short name for a network: its operators and every weight."""
    digest = hashlib.sha256()
    for node in graph:
        digest.update(repr((node.name, node.operator, node.edges, node.shape)).encode())
        digest.update(repr(sorted(node.attributes.items(), key=str)).encode())
        if node.call is not None:  # a slope or a bound is told nowhere else
            digest.update(repr((node.call.args, sorted(node.call.kwargs.items()))).encode())
    for name, tensor in sorted(graph.tensors.items()):
        digest.update(name.encode())
        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(data.numpy().data)
    return digest.hexdigest()[:16]
