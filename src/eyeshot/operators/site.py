"""One operator call in a traced network, and the words in which its rule answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from eyeshot.axes import AxisMap, Global, Identity
from eyeshot.graph import Edge, Kind, Node, Weight
from eyeshot.params import NO_PARAMS, Params


class NoRule(Exception):
    """A rule does not cover a case; the message names it. The front end catches it."""


@dataclass(frozen=True, slots=True)
class Site:
    """One operator call: its arguments by name, and the shape of its output.

    Attributes:
        operator: the plain name, such as ``conv2d``; an in-place form has lost its underscore.
        arguments: by schema name. A tensor is a :class:`Node` (it depends on the network's
            input) or a :class:`Weight` (it does not).
        shape: the shape of the output.
        weight_shapes: the shape of each Weight among the arguments, by its dotted name.
        item: the index of the output in a tuple; None if there is a single output.
        dtype: the type of the output, by torch's name, such as ``float32``.
        channels_last: whether its first tensor is stored channels last.
    """

    operator: str
    arguments: Mapping[str, Any]
    shape: tuple[int, ...]
    weight_shapes: Mapping[str, tuple[int, ...]]
    item: int | None = None
    dtype: str = "float32"
    channels_last: bool = False

    @property
    def sources(self) -> list[Node]:
        """All nodes among the arguments, in order."""
        found: list[Node] = []
        for value in self.arguments.values():
            values = value if isinstance(value, (list, tuple)) else [value]
            found += [one for one in values if isinstance(one, Node)]
        return found

    def node(self, name: str) -> Node:
        """The argument of that name, which must depend on the network's input."""
        value = self.arguments[name]
        if not isinstance(value, Node):
            raise NoRule(f"its {name} does not depend on the input")
        return value

    def shape_of(self, name: str) -> tuple[int, ...]:
        """The shape of a weight argument."""
        value = self.arguments[name]
        if not isinstance(value, Weight):
            raise NoRule(f"its {name} is computed from the input")
        return self.weight_shapes[value.name]

    def numbers(self, name: str, count: int, empty: tuple[int, ...] = ()) -> tuple[int, ...]:
        """An int-or-list argument as ``count`` numbers; an empty list means ``empty``."""
        value = self.arguments[name]
        listed = [value] if isinstance(value, int) else list(value)
        if not listed:
            return empty
        return tuple(int(one) for one in (listed * count if len(listed) == 1 else listed))


@dataclass(frozen=True, slots=True)
class Described:
    """A rule's answer: what the operator does to positions."""

    edges: tuple[Edge, ...]
    dims: tuple[int | None, ...]
    kind: Kind = Kind.LOCAL
    params: Params = NO_PARAMS
    reason: str = ""


Rule = Callable[[Site], Described]


def along(
    source: Node, local: Mapping[int, AxisMap], mixed: Mapping[int, int | None] | None = None
) -> Edge:
    """An edge from ``source`` whose maps are given by tensor dimension.

    Args:
        source: the node that is read.
        local: axis maps by dimension of the source; other dimensions keep their positions. Maps
            along dimensions without positions go into ``Edge.beside``.
        mixed: dimensions in which all positions mix, with the number of outputs (None: the same).
    """
    axes: list[AxisMap] = []
    for dim in source.dims:
        if dim is None:
            axes.append(Identity())
        elif mixed and dim in mixed:
            axes.append(Global(mixed[dim]))
        else:
            axes.append(local.get(dim, Identity()))
    beside = tuple((dim, axis) for dim, axis in local.items() if dim not in source.dims)
    return Edge(source.name, tuple(axes), beside)


def vanished(source: Node, gone: Collection[int]) -> tuple[int | None, ...]:
    """The dimensions of the source's axes after some dimensions have become features.

    An axis of one position vanishes with its dimension.
    """
    return tuple(None if dim in gone else dim for dim in source.dims)


def mixes_positions(source: Node, dims: Mapping[int, int | None]) -> bool:
    """Whether any of these dimensions is a spatial axis with more than one position."""
    return any(dim is not None and dim in dims and source.shape[dim] > 1 for dim in source.dims)


def in_place(source: Node, touched: Iterable[int], doing: str) -> Described:
    """An operator that keeps positions, if it changes no spatial axis with more than one position.

    Raises:
        NoRule: it changes such an axis; ``doing`` says how.
    """
    rank = len(source.shape)
    dims = {dim % rank for dim in touched}
    if any(dim in dims and source.shape[dim] > 1 for dim in source.dims if dim is not None):
        raise NoRule(f"{doing} a spatial axis")
    return Described((Edge(source.name, (Identity(),) * len(source.dims)),), source.dims)


def without(source: Node, gone: set[int]) -> tuple[int | None, ...]:
    """The dimensions of each axis after some have been taken away."""
    return tuple(
        None if dim is None or dim in gone else dim - sum(one < dim for one in gone)
        for dim in source.dims
    )
