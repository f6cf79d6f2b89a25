"""How far outputs and single units see.

In this file:

- :func:`reaches`: the halo on each side and the alignment of each output;
- :func:`operator_counts`: which operators do not stream, and why;
- the effective receptive field: the gradient of one unit with respect to the input;
- :class:`UnitField`: the inputs that one unit sees, and how this depends on its position.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eyeshot.axes import Interval
from eyeshot.errors import BadValue, Unsupported
from eyeshot.findings.shapes import is_gathered, remedy
from eyeshot.geometry import Fields, LayerField, Phases, ReceptiveField
from eyeshot.geometry.fields import checked_unit, dimension_of
from eyeshot.graph import Graph, Kind, Node
from eyeshot.interpreter import value
from eyeshot.language import mark, tr
from eyeshot.pages import Fact, Section, Table, render_piece

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
