"""How far the outputs see: the halo on each side, the alignment, and what ends them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from eyeshot.findings.remedies import is_gathered, remedy
from eyeshot.geometry import Fields
from eyeshot.graph import Graph, Kind, Node


@dataclass(frozen=True, slots=True)
class AxisReach:
    """Along one axis, in input positions.

    Attributes:
        unit_halo: what the farthest-reaching unit sees before and after its own inputs.
        block_halo: what a block that starts and ends on the alignment needs before and after.
        alignment: inputs after which the pattern of fields repeats.
    """

    unit_halo: tuple[int, int]
    block_halo: tuple[int, int]
    alignment: int


@dataclass(frozen=True, slots=True)
class Reach:
    """How far one layer sees; ``axes`` is empty where no bounded patch decides its values."""

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
    """How often an operator of one kind comes, and why it is of that kind."""

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
    """One for each output; where one sees the whole image, also that of the last map before."""
    found = [_reach(graph[name], fields) for name in graph.outputs]
    if found and not any(one.axes for one in found):
        last = [node for node in graph if not node.is_input and _reach(node, fields).axes]
        found += [_reach(node, fields) for node in last[-1:]]
    return tuple(found)


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
