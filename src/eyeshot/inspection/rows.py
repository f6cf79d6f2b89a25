"""One row of the table: a layer, what it makes, what it sees and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from eyeshot.cost import Cost, costs
from eyeshot.geometry import Fields, LayerField
from eyeshot.graph import Graph, Node


@dataclass(frozen=True, slots=True)
class Row:
    """One layer, in execution order.

    Attributes:
        name: dotted path of the layer, numbered where a module is used again.
        operator: what it does, such as ``conv2d``.
        kind: local, statistic, nonlocal or unsupported.
        reason: why it is not local; "" where it is.
        shape: of the output of one picture, (C, H, W).
        options: kernel, stride, padding, dilation, groups and the like, as the operator has them.
        status: of its field: exact, whole image, or unsupported.
        fields: its receptive field along each axis; nothing where it is unsupported.
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
    """A row for every node of the graph; the inputs are rows too, and cost their memory."""
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
