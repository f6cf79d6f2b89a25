"""From a network and a size to everything that is known before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import nn

from eyeshot.cost import total, unused_parameters
from eyeshot.errors import BadValue
from eyeshot.findings import Mismatch, find
from eyeshot.frontends.repair import trace
from eyeshot.frontends.torch import graph_of
from eyeshot.frontends.trials import axes_by_layers, axes_taken, runs_on_shapes
from eyeshot.geometry import Fields
from eyeshot.graph import Graph
from eyeshot.inspection.acceptance import accepted_sizes
from eyeshot.inspection.reach import operator_counts, reaches
from eyeshot.inspection.report import Inspection
from eyeshot.inspection.rows import rows
from eyeshot.inspection.units import UnitField, unit_field

Size = Sequence[int] | Sequence[Sequence[int]]


def inspect(net: nn.Module, size: Size) -> Inspection:
    """Everything about a network that can be known without running it.

    Args:
        net: any module that ``torch.export`` can trace. Nothing of it is changed.
        size: of one input without the batch, (C, H, W) for a picture; or a list of such sizes
            for a network of several inputs.

    Returns:
        Plain data that prints itself as a table, and shows itself as one in Jupyter.

    Raises:
        BadValue: a size is not positive, or has another number of axes than the network takes.
        Unsupported: the network cannot be traced; the message names the line and the cure.
    """
    sizes = checked_sizes(net, size)
    graph, mismatches = trace(net, *sizes)
    return inspect_graph(graph, net, type(net).__name__, mismatches)


def inspect_graph(
    graph: Graph,
    net: nn.Module | None,
    name: str,
    mismatches: Sequence[Mismatch] = (),
    *,
    survey: bool = True,
) -> Inspection:
    """As :func:`inspect`, for a graph that is there already; ``net`` is None for a file's.

    ``survey`` tries which sizes the network accepts, which takes longer than all the rest.
    """
    fields = Fields(graph)
    table = rows(graph, fields)
    return Inspection(
        network=name,
        sizes=tuple(graph.nodes[one].shape[1:] for one in graph.inputs),
        rows=table,
        total=total(row.cost for row in table),
        unused=unused_parameters(graph),
        reaches=reaches(graph, fields),
        accepted=() if mismatches or not survey else accepted_sizes(graph, net, fields),
        operators=operator_counts(graph),
        findings=tuple(find(graph, net, mismatches)),
        graph=graph,
        fields=fields,
    )


def receptive_field(
    net: nn.Module, size: Size, layer: str | None = None, unit: Sequence[int] | None = None
) -> UnitField:
    """The exact box of inputs that one unit of a network sees.

    The network is traced at every call. For many questions about one network, inspect it once
    and ask ``inspection.field(layer, unit)``.

    Args:
        net: any module that ``torch.export`` can trace.
        size: of its input without the batch, (C, H, W) for a picture.
        layer: dotted name; the network's (first) output by default.
        unit: its position along each spatial axis; the middle one by default.

    Raises:
        UnknownName: there is no such layer.
        BadValue: the size is not possible, or the unit lies outside the layer's map.
        Unsupported: the network cannot be traced.
    """
    return unit_field(Fields(graph_of(net, *checked_sizes(net, size))), layer, unit)


_AXES = {
    1: "channels x length",
    2: "channels x height x width",
    3: "channels x depth x height x width",
}
_LARGEST_AXIS = 10_000_000
_EXAMPLE = {1: "1x16000", 2: "3x224x224", 3: "1x32x64x64"}


def checked_sizes(net: nn.Module, size: Size) -> tuple[tuple[int, ...], ...]:
    """One size or several as a tuple of sizes.

    Raises:
        BadValue: a number is not positive, or there are more or fewer axes than the network takes,
            or one is longer than any image: a figure is kept for each position along an axis.
    """
    one = bool(size) and isinstance(size[0], int)
    listed = [cast("Sequence[int]", size)] if one else cast("Sequence[Sequence[int]]", size)
    sizes = tuple(tuple(int(n) for n in each) for each in listed)
    axes = axes_by_layers(net)
    for each in sizes or ((),):
        written = "x".join(str(n) for n in each)
        if not each or min(each) < 1:
            cure = f"give positive numbers, such as {_EXAMPLE[axes or 2]}"
            raise BadValue(f"size {written or 'of nothing'}", cure=cure)
        if max(each) > _LARGEST_AXIS:
            raise BadValue(f"size {written}", cure=f"use at most {_LARGEST_AXIS:,} along an axis")
    if axes is not None and any(len(each) != axes + 1 for each in sizes):
        _check_ranks(net, sizes)
    return sizes


def _check_ranks(net: nn.Module, sizes: tuple[tuple[int, ...], ...]) -> None:
    """Refuse sizes of other axes than the layers' names say, unless the network takes them."""
    if runs_on_shapes(net, batched=True)(*((1, *each) for each in sizes)):
        return
    axes = axes_taken(net)
    for each in sizes:
        if axes is not None and len(each) != axes + 1:
            written = "x".join(str(n) for n in each)
            cure = f"this network takes {_AXES[axes]}, such as {_EXAMPLE[axes]}"
            raise BadValue(f"size {written} has {len(each)} numbers", cure=cure)
