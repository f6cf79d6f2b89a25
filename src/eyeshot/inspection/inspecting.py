"""``eyeshot.inspect``: everything that is known about a network at a size before it runs.

:class:`Inspection` is the result, plain data that prints itself; a :class:`Row` is one layer.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from numbers import Integral
from pathlib import Path
from typing import Any, cast

from torch import nn

from eyeshot.cost import Cost, costs, total, unused_parameters
from eyeshot.errors import BadValue
from eyeshot.files import check_page, write_aside
from eyeshot.findings import Finding, Mismatch, find
from eyeshot.frontends.refusals import check_module
from eyeshot.frontends.repair import trace
from eyeshot.frontends.torch import graph_of
from eyeshot.frontends.trials import (
    accepted_axes,
    axes_by_layers,
    channels_to_try,
    runs_on_shapes,
)
from eyeshot.geometry import Fields, LayerField
from eyeshot.graph import Graph, Node
from eyeshot.inspection.acceptance import AcceptedSizes, accepted_sizes
from eyeshot.inspection.reach import (
    OperatorCount,
    Reach,
    UnitField,
    operator_counts,
    reaches,
    unit_field,
)
from eyeshot.language import mark, ntr, tr
from eyeshot.untouched import one_at_a_time


@dataclass(frozen=True, slots=True)
class Row:
    """One layer, in execution order.

    Attributes:
        name: dotted path of the layer, numbered if a module is used again.
        operator: its operator, such as ``conv2d``.
        kind: local, statistic, nonlocal or unsupported.
        reason: why it is not local; "" if it is.
        shape: the shape of its output for one image, (C, H, W).
        options: the operator's kernel, stride, padding, dilation, groups and similar settings.
        status: the status of its field: exact, whole image, or unsupported.
        fields: its receptive field along each axis; empty if unsupported.
        cost: parameters, operations, memory.
        share: of the parameters of the whole network, from 0 to 1.
    """

    name: str
    operator: str
    kind: str
    reason: str
    shape: tuple[int, ...]
    options: Mapping[str, Any]
    status: str
    fields: tuple[LayerField, ...]
    cost: Cost
    share: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; fractions as numbers."""
        return {
            "name": self.name,
            "operator": self.operator,
            "kind": self.kind,
            "reason": self.reason,
            "shape": list(self.shape),
            "options": {key: _plain(value) for key, value in self.options.items()},
            "status": self.status,
            "receptive_field": [_field_to_dict(field) for field in self.fields],
            "parameter_share": self.share,
            **self.cost.to_dict(),
        }


def rows(graph: Graph, fields: Fields) -> tuple[Row, ...]:
    """A row for every node of the graph, in execution order; inputs are rows with memory only."""
    spent = costs(graph)
    parameters = max(1, sum(cost.parameters for cost in spent.values()))
    return tuple(_row(node, fields, spent[node.name], parameters) for node in graph)


def _row(node: Node, fields: Fields, cost: Cost, parameters: int) -> Row:
    return Row(
        name=node.name,
        operator=node.operator,
        kind=str(node.kind),
        reason=node.reason,
        shape=node.shape[1:],
        options=node.params.to_dict(),
        status=fields.status(node.name),
        fields=fields.layer(node.name),
        cost=cost,
        share=cost.parameters / parameters,
    )


def _field_to_dict(field: LayerField) -> dict[str, Any]:
    return {
        "smallest": field.smallest,
        "largest": field.largest,
        "stride": None if field.stride is None else _plain(field.stride),
        "padding": field.padding,
        "center": _plain(field.center),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Fraction):
        return int(value) if value.denominator == 1 else float(value)
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value


@dataclass(frozen=True)
class Inspection:
    """What :func:`eyeshot.inspect` returns.

    Attributes:
        network: name of the network's class.
        sizes: the size of each input without the batch, (C, H, W).
        rows: a row for each layer, in execution order.
        total: the sum of all rows' costs.
        unused: trained tensors that no operator reads, with their numbers of parameters.
        reaches: halo and alignment of each output.
        accepted: the sizes accepted along each axis; empty if they are not known.
        operators: the counts of operators by kind: local, statistic, nonlocal, unsupported.
        findings: mistakes and doubtful settings in the network.
        graph: the network's graph.
        fields: the receptive field of every node.
    """

    network: str
    sizes: tuple[tuple[int, ...], ...]
    rows: tuple[Row, ...]
    total: Cost
    unused: dict[str, int]
    reaches: tuple[Reach, ...]
    accepted: tuple[AcceptedSizes, ...]
    operators: tuple[OperatorCount, ...]
    findings: tuple[Finding, ...]
    graph: Graph = field(repr=False)
    fields: Fields = field(repr=False)

    def field(self, layer: str | None = None, unit: Sequence[int] | None = None) -> UnitField:
        """What one unit sees; see :func:`eyeshot.receptive_field`."""
        return unit_field(self.fields, layer, unit)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "network": self.network,
            "sizes": [list(size) for size in self.sizes],
            "layers": [row.to_dict() for row in self.rows],
            "total": self.total.to_dict(),
            "unused_parameters": self.unused,
            "outputs": [reach.to_dict() for reach in self.reaches],
            "accepted_sizes": [one.to_dict() for one in self.accepted],
            "operators": [one.to_dict() for one in self.operators],
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def save(self, path: str | Path) -> Path:
        """Write it as one self-contained HTML page.

        Raises:
            BadValue: the name does not end in .html.
            BadFile: the folder does not exist or may not be written to.
            Failure: the disk is full.
        """
        from eyeshot.inspection.page import page

        target = Path(path)
        check_page(target)
        with write_aside(target) as aside:
            aside.write_text(page(self), encoding="utf-8", errors="replace")
        return target

    def __str__(self) -> str:
        state = random.getstate()
        try:
            from eyeshot.inspection.text import plain_text
        finally:
            random.setstate(state)  # rich draws random numbers when it is first imported
        return plain_text(self)

    def _repr_html_(self) -> str:
        from eyeshot.inspection.page import fragment

        return fragment(self)


Size = Sequence[int] | Sequence[Sequence[int]]


@one_at_a_time
def inspect(net: nn.Module, size: Size) -> Inspection:
    """Everything about a network that can be known without running it.

    Args:
        net: any module that ``torch.export`` can trace. It does not change.
        size: the size of the input without the batch, (C, H, W) for an image; or a list of such
            sizes for a network with several inputs.

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
    """As :func:`inspect`, for an existing graph; ``net`` is None for a graph from a file.

    ``survey`` finds the sizes that the network accepts; this takes longer than everything else.
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


@one_at_a_time
def receptive_field(
    net: nn.Module, size: Size, layer: str | None = None, unit: Sequence[int] | None = None
) -> UnitField:
    """The exact box of inputs that one unit of a network sees.

    The network is traced at every call. For several units of one network, call ``inspect`` once
    and then ``inspection.field(layer, unit)``.

    Args:
        net: any module that ``torch.export`` can trace.
        size: the size of its input without the batch, (C, H, W) for an image.
        layer: dotted name of the layer; the network's first output by default.
        unit: its position along each spatial axis, in the order of the input's axes, also in a map
            in which they are exchanged; the middle one by default.

    Raises:
        UnknownName: there is no such layer.
        BadValue: the size is not possible, or the unit lies outside the layer's map.
        Unsupported: the network cannot be traced.
    """
    return unit_field(Fields(graph_of(net, *checked_sizes(net, size))), layer, unit)


_AXES = {
    1: mark("channels x length"),
    2: mark("channels x height x width"),
    3: mark("channels x depth x height x width"),
}
_LARGEST_AXIS = 10_000_000
_EXAMPLE = {1: (1, "16000"), 2: (3, "224x224"), 3: (1, "32x64x64")}
"""Usual channels and sides, by the number of axes."""


def example_size(net: nn.Module) -> str:
    """A size to name in an error, such as ``1x224x224``, with the channels of the first layer."""
    usual, sides = _EXAMPLE.get(axes_by_layers(net) or 2, _EXAMPLE[2])
    channels = next(iter(channels_to_try(net)), usual)
    return f"{channels}x{sides}"


def checked_sizes(net: nn.Module, size: Size) -> tuple[tuple[int, ...], ...]:
    """One or several sizes as a tuple of sizes.

    Raises:
        BadValue: ``net`` is not a module, a number is not positive, there are more or fewer axes
            than the network takes, or an axis is too long (memory is needed for each position
            along an axis).
    """
    check_module(net)
    listed = _as_list(size)
    sizes = tuple(tuple(int(n) for n in each) for each in listed)
    axes = axes_by_layers(net)
    for each in sizes or ((),):
        written = "x".join(str(n) for n in each)
        if not each or min(each) < 1:
            cure = f"give positive numbers, such as {example_size(net)}"
            raise BadValue(f"size {written or 'of nothing'}", cure=cure)
        if max(each) > _LARGEST_AXIS:
            raise BadValue(f"size {written}", cure=f"use at most {_LARGEST_AXIS:,} along an axis")
    if axes is not None and any(len(each) != axes + 1 for each in sizes):
        _check_ranks(net, sizes)
    return sizes


def _as_list(size: Size) -> Sequence[Sequence[int]]:
    """One size or several, as a list of sizes, of Python's and NumPy's whole numbers.

    Raises:
        BadValue: it is neither.
    """
    if isinstance(size, Iterable) and not isinstance(size, str | bytes):
        items = list(size)
        if not items or isinstance(items[0], Integral):
            items = [items] if items else []
        if all(isinstance(one, Iterable) for one in items):
            sizes = [list(one) for one in cast("list[Iterable[int]]", items)]
            if all(isinstance(n, Integral) for one in sizes for n in one):
                return sizes
    raise BadValue(f"size {size!r}", cure="give whole numbers, such as (3, 224, 224)")


def _check_ranks(net: nn.Module, sizes: tuple[tuple[int, ...], ...]) -> None:
    """Refuse a size with another number of axes than the layers have, unless the network runs."""
    if runs_on_shapes(net, batched=True)(*((1, *each) for each in sizes)):
        return
    axes = accepted_axes(net)
    for each in sizes:
        if axes is not None and len(each) != axes + 1:
            written = "x".join(str(n) for n in each)
            cure = tr(
                "this network takes {axes}, such as {example}",
                axes=tr(_AXES[axes]),
                example=_EXAMPLE[axes],
            )
            fact = ntr(
                "size {size} has {n} number", "size {size} has {n} numbers", len(each), size=written
            )
            raise BadValue(fact, cure=cure)
