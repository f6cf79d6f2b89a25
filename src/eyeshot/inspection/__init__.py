"""Know a network before running it: its table, its reach, its sizes and its cost.

``eyeshot.inspect``: everything that is known about a network at a size before it runs.

:class:`Inspection` is the result, plain data that prints itself; a :class:`Row` is one layer. How
far outputs and single units see is found here too:

- :func:`reaches`: the halo on each side and the alignment of each output;
- :func:`operator_counts`: which operators do not stream, and why;
- the effective receptive field: the gradient of one unit with respect to the input;
- :class:`UnitField`: the inputs that one unit sees, and how this depends on its position.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from numbers import Integral
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from eyeshot.axes import Interval
from eyeshot.cost import Cost, costs, total, unused_parameters
from eyeshot.errors import BadValue, Unsupported
from eyeshot.files import check_page, write_aside
from eyeshot.findings import Finding, Mismatch, find
from eyeshot.findings.shapes import is_gathered, remedy
from eyeshot.frontends.refusals import check_module
from eyeshot.frontends.repair import trace
from eyeshot.frontends.torch import graph_of
from eyeshot.frontends.trials import accepted_axes, axes_by_layers, channels_to_try, runs_on_shapes
from eyeshot.geometry import Fields, LayerField, Phases, ReceptiveField
from eyeshot.geometry.fields import checked_unit, dimension_of
from eyeshot.graph import Graph, Kind, Node
from eyeshot.inspection.acceptance import AcceptedSizes, accepted_sizes
from eyeshot.interpreter import value
from eyeshot.language import mark, ntr, tr
from eyeshot.pages import Fact, Section, Table, render_piece
from eyeshot.untouched import one_at_a_time

__all__ = [
    "Inspection",
    "UnitField",
    "checked_sizes",
    "inspect",
    "inspect_graph",
    "receptive_field",
    "unit_field",
]


_WHOLE, _EXACT = mark("whole image"), mark("exact")
_UNSUPPORTED = re.compile(r"unsupported: (.+) at (.+)")


def status_words(status: str) -> str:
    """The status of a field in the language that is spoken."""
    if match := _UNSUPPORTED.fullmatch(status):
        return tr("unsupported: {operator} at {layer}", operator=match[1], layer=match[2])
    return tr(status)


@dataclass(frozen=True, slots=True)
class AxisReach:
    """The reach along one axis, in input positions.

    Attributes:
        unit_halo: (before, after) that any unit sees beyond its own inputs, at most.
        block_halo: (before, after) that a block which starts and ends on the alignment needs.
        alignment: the number of inputs after which the pattern of fields repeats.
    """

    unit_halo: tuple[int, int]
    block_halo: tuple[int, int]
    alignment: int


@dataclass(frozen=True, slots=True)
class Reach:
    """How far one layer sees; ``axes`` is empty if its values depend on no bounded patch."""

    layer: str
    status: str
    axes: tuple[AxisReach, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        axes = [
            {
                "unit_halo": list(axis.unit_halo),
                "block_halo": list(axis.block_halo),
                "alignment": axis.alignment,
            }
            for axis in self.axes
        ]
        return {"layer": self.layer, "status": self.status, "axes": axes}


@dataclass(frozen=True, slots=True)
class OperatorCount:
    """How often an operator of one kind occurs, and why it is of that kind."""

    kind: str
    operator: str
    layers: tuple[str, ...]
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "kind": self.kind,
            "operator": self.operator,
            "count": len(self.layers),
            "layers": list(self.layers),
            "reason": self.reason,
        }


def reaches(graph: Graph, fields: Fields) -> tuple[Reach, ...]:
    """The reach of each output; if one sees the whole image, also of the last map before it."""
    fields_of_outputs = [_reach(graph[name], fields) for name in graph.outputs]
    if fields_of_outputs and not any(one.axes for one in fields_of_outputs):
        last = [node for node in graph if not node.is_input and _reach(node, fields).axes]
        fields_of_outputs += [_reach(node, fields) for node in last[-1:]]
    return tuple(fields_of_outputs)


def _reach(node: Node, fields: Fields) -> Reach:
    phases = fields.phases(node.name)
    bounded = [one for one in phases if one is not None]
    if None in node.dims or not phases or len(bounded) < len(phases):
        return Reach(node.name, fields.status(node.name), ())
    axes = tuple(AxisReach(p.unit_halo(), p.block_halo(), p.inputs) for p in bounded)
    return Reach(node.name, fields.status(node.name), axes)


def operator_counts(graph: Graph) -> tuple[OperatorCount, ...]:
    """Operators by kind: local first, then what does not stream, with the reason."""
    groups: dict[tuple[Kind, str, str], list[str]] = {}
    for node in graph:
        if not node.is_input:
            plain = node.kind in (Kind.LOCAL, Kind.UNSUPPORTED) or is_gathered(graph, node)
            reason = node.reason if plain else remedy(graph, node)[0]
            groups.setdefault((node.kind, node.operator, reason), []).append(node.name)
    order = list(Kind)
    sizes = Counter({key: len(names) for key, names in groups.items()})
    keys = sorted(groups, key=lambda key: (order.index(key[0]), -sizes[key]))
    return tuple(
        OperatorCount(str(kind), operator, tuple(groups[kind, operator, reason]), reason)
        for kind, operator, reason in keys
    )


def effective_field(
    graph: Graph, x: torch.Tensor, layer: str, unit: Sequence[int] | None = None
) -> NDArray[np.float32]:
    """The gradient of one unit by input position, averaged over the unit's channels.

    Args:
        graph: the network at the size of ``x``, with its weights.
        x: the image as the network takes it, (C, H, W) or (1, C, H, W).
        layer: a node's name or a module's path.
        unit: its position along each spatial axis; None for the middle.

    Returns:
        |∂ mean over channels of the unit / ∂ x|, averaged over the input's channels: (H, W).

    Raises:
        UnknownName: no such layer.
        BadValue: ``x`` has another size than the graph, or the unit is outside the layer's map.
        Unsupported: no gradient reaches the input from this layer.
    """
    node = graph[layer]
    place = checked_unit(node, unit)
    source = graph.nodes[graph.inputs[0]]
    shape = (1, *x.shape) if x.ndim == len(source.shape) - 1 else tuple(x.shape)
    if shape != source.shape:
        raise BadValue(f"a picture of shape {tuple(x.shape)}", cure=f"give {source.shape[1:]}")
    # From the last axis to the first, so that removing a dimension does not shift the others.
    named = node.dims if unit is None else [dimension_of(node, a) for a in range(len(place))]
    dims = [(dim, i) for dim, i in zip(named, place, strict=True) if dim is not None]
    with torch.inference_mode(False), torch.enable_grad():
        inputs = x.detach().reshape(shape).clone().requires_grad_(True)
        output = value(graph, [inputs], node.name)
        if not output.requires_grad:
            raise Unsupported(
                f"no gradient reaches the input from {node.name}", cure="choose another"
            )
        chosen = output[0]
        for dim, index in sorted(dims, reverse=True):
            chosen = chosen.select(dim - 1, index)
        (gradient,) = torch.autograd.grad(chosen.mean(), inputs)
    strength: NDArray[np.float32] = gradient[0].abs().mean(0).float().cpu().numpy()
    return strength


@dataclass(frozen=True, slots=True)
class UnitField:
    """The receptive field of one unit, and a summary of the fields of its layer.

    Attributes:
        seen: the unit's own field: its box, the part inside the picture, and the status.
        phase: the unit's place on the stride grid along each axis; None if fields do not repeat.
        layer_fields: along each axis the smallest and the largest field of the layer, its
            stride, padding and center.
        phases: along each axis the field of every phase, relative to the start of its period.
    """

    seen: ReceptiveField
    phase: tuple[int | None, ...]
    layer_fields: tuple[LayerField, ...]
    phases: tuple[Phases | None, ...]

    @property
    def layer(self) -> str:
        """Name of the layer."""
        return self.seen.layer

    @property
    def unit(self) -> tuple[int, ...]:
        """Its position along each spatial axis."""
        return self.seen.unit

    @property
    def box(self) -> tuple[Interval, ...] | None:
        """The inputs in its field; it may extend beyond the image. None if unsupported."""
        return self.seen.box

    @property
    def inside(self) -> tuple[Interval, ...] | None:
        """The part of the box inside the image, on which the unit depends."""
        return self.seen.inside

    @property
    def status(self) -> str:
        """``exact``, ``whole image``, or ``unsupported: <operator> at <layer>``."""
        return self.seen.status

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        phases = [None if one is None else _phases_as_list(one) for one in self.phases]
        ranges = [[field.smallest, field.largest] for field in self.layer_fields]
        return {
            **self.seen.to_dict(),
            "phase": list(self.phase),
            "layer_range": ranges,
            "layer_phases": phases,
        }

    def __str__(self) -> str:
        place = tr("{layer}, unit {unit}", layer=self.layer, unit=self.unit)
        if self.box is None or self.inside is None:
            return tr("{place}: {status}", place=place, status=status_words(self.status))
        box = " × ".join(str(side) for side in self.box)
        inside = " × ".join(str(side) for side in self.inside)
        status = status_words(self.status)
        if self.box == self.inside:
            return tr("{place} sees {box} ({status})", place=place, box=box, status=status)
        return tr(
            "{place} sees {box}, of which {inside} lies in the picture ({status})",
            place=place,
            box=box,
            inside=inside,
            status=status,
        )

    def _repr_html_(self) -> str:
        sizes = "×".join(map(str, self.seen.sizes)) or "unknown"
        sides = zip(self.unit, self.box or (), self.inside or (), strict=self.box is not None)
        rows = [[str(axis), *map(str, side)] for axis, side in enumerate(sides)]
        table = Table(["axis", "unit", "inputs seen", "of these inside the image"], rows)
        return render_piece(
            f"Layer {self.layer}, unit {self.unit}",
            facts=[Fact(sizes, "receptive field"), Fact(self.status, "status")],
            sections=[Section("field", "", "", [table] if rows else [])],
        )


def _phases_as_list(phases: Phases) -> list[list[int]]:
    return [list(phases.one(unit)) for unit in range(phases.outputs)]


def unit_field(
    fields: Fields, layer: str | None = None, unit: Sequence[int] | None = None
) -> UnitField:
    """What one unit sees: of the network's first output by default, the unit in its middle."""
    if layer is None:  # a trace that ended at a mistake has no outputs: use its last layer
        layer = next(iter(fields.graph.outputs), list(fields.graph.nodes)[-1])
    field = fields.field(layer, unit)
    phases = fields.phases(field.layer)
    phase = tuple(
        None if one is None else place % one.outputs
        for one, place in zip(phases, field.unit, strict=bool(phases))
    )
    return UnitField(field, phase, fields.layer(field.layer), phases)


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


def example_size(net: nn.Module, axes: int | None = None) -> str:
    """A size to name in an error, such as ``1x224x224``, with the channels of the first layer."""
    usual, sides = _EXAMPLE.get(axes or axes_by_layers(net) or 2, _EXAMPLE[2])
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
                example=example_size(net, axes),
            )
            fact = ntr(
                "size {size} has {n} number", "size {size} has {n} numbers", len(each), size=written
            )
            raise BadValue(fact, cure=cure)
