"""How an operator is described and computed: its call in a trace, and that call on a tile.

In this file:

- :func:`called_on_tile`: pointwise operators, called on the tile as they are;
- :class:`Site`: one operator call in a traced network; :class:`Described`: its rule's answer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from eyeshot.axes import AxisMap, Broadcast, Global, Identity, Interval
from eyeshot.errors import Failure, Unsupported
from eyeshot.graph import NO_PARAMS, Call, Edge, Family, Kind, Node, Params, Ref, Weight
from eyeshot.operators.tile import Box, Computation, Tile, cut

Tensors = Mapping[str, torch.Tensor]

_NOT_BY_PLACE = (
    *(Family.LINEAR, Family.PRODUCT, Family.PRELU, Family.INDEX, Family.CUSTOM),
    *(Family.BATCH_NORM, Family.INSTANCE_NORM, Family.GROUP_NORM, Family.LAYER_NORM),
    Family.RMS_NORM,
)
"""Operators whose weights belong to channels; those of any other are broadcast as values are."""


def argument(node: Node, name: str) -> Any:
    """An argument of the node's call by its name."""
    return called(node).argument(name)


def called(node: Node) -> Call:
    """The node's call.

    Raises:
        Failure: it has none, which only an input may.
    """
    if node.call is None:
        raise Failure(f"{node.name} has nothing to call", cure="please report this network")
    return node.call


def calling(node: Node, tensors: Tensors) -> Computation:
    """``target(*args)`` with the rectangles instead of the node's inputs.

    A weight with positions (a number for each position of the picture) is cut to the rectangle.
    """
    call = called(node)
    order = {edge.source: i for i, edge in enumerate(node.edges)}
    placed = {
        name: _spatial_dims(node, tensors[name])
        for name in node.weights
        if node.family not in _NOT_BY_PLACE
    }

    into = _writing_form(call.target)

    def compute(inputs: list[Tile], box: Box, room: torch.Tensor | None = None) -> torch.Tensor:
        values = {name: inputs[place].value for name, place in order.items()}
        cuts = {name: _cut_weight(tensors[name], dims, box) for name, dims in placed.items()}
        weights = {**tensors, **cuts}
        put = call.substituted(partial(_put, values, weights))
        if into is None or room is None or not _is_plain(put, room):
            result: torch.Tensor = put()
            return result
        into(*put.args, **put.kwargs, out=room)
        return room

    return compute


@functools.cache
def _writing_form(target: Any) -> Callable[..., Any] | None:
    """The form of a pointwise operator of torch that writes to memory that is there."""
    if torch.Tag.pointwise not in getattr(target, "tags", ()):
        return None
    packet = target.overloadpacket
    own = [(one.name, str(one.type)) for one in target._schema.arguments]
    for name in packet.overloads():
        form: Callable[..., Any] = getattr(packet, name)
        arguments = form._schema.arguments  # type: ignore[attr-defined]
        outs = [one.name for one in arguments if one.is_out]
        rest = [(one.name, str(one.type)) for one in arguments if not one.is_out]
        if outs == ["out"] and rest == own:
            return form
    return None


def _is_plain(call: Call, room: torch.Tensor) -> bool:
    """Whether a call computes numbers of one type, on one device: those of the memory given."""
    tensors = [one for one in call.leaves if isinstance(one, torch.Tensor)]
    kinds = {(one.dtype, one.device) for one in tensors}
    if kinds != {(room.dtype, room.device)} or not room.is_floating_point():
        return False
    return np.broadcast_shapes(*(tuple(one.shape) for one in tensors)) == tuple(room.shape)


def _put(nodes: Tensors, weights: Tensors, value: Any) -> Any:
    """The tensor for a reference in a call."""
    if isinstance(value, Ref):
        return nodes[value.node]
    if isinstance(value, Weight):
        return weights[value.name]
    return value


def called_on_tile(node: Node, tensors: Tensors) -> Computation:
    """A call that is safe on a rectangle because no position looks at another.

    Raises:
        Unsupported: the node's axis maps say otherwise.
    """
    for edge in node.edges:
        for axis in edge.axes:
            if not isinstance(axis, (Identity, Broadcast)):
                raise Unsupported(
                    f"{node.name} ({node.operator}) has no form for a part of the picture",
                    cure="run the network on whole pictures, or replace the layer",
                )
    return calling(node, tensors)


def called_whole(node: Node, tensors: Tensors) -> Computation:
    """A call on the whole inputs, cut to the requested outputs.

    Along an axis where every input keeps its positions, the call uses only the requested positions.
    """
    call = called(node)
    columns = zip(*(edge.axes for edge in node.edges), strict=True)
    alone = [all(axis == Identity() for axis in axes) for axes in columns]

    def compute(inputs: list[Tile], box: Box, room: torch.Tensor | None = None) -> torch.Tensor:
        pairs = zip(node.edges, inputs, strict=True)
        values = {edge.source: _as_laid_out(node, one.value) for edge, one in pairs}
        result: torch.Tensor = call.substituted(partial(_put, values, tensors))()
        have = tuple(
            side if own else Interval(0, n)
            for own, side, n in zip(alone, box, node.extents, strict=True)
        )
        return cut(result, node.dims, have, box)

    return compute


def _as_laid_out(node: Node, value: torch.Tensor) -> torch.Tensor:
    """A value in the memory layout that the call takes.

    ``view`` takes no channels-last map, nor may an operator of which nothing is known (``kron``).
    """
    return value.contiguous() if node.family in (Family.RESHAPE, Family.UNKNOWN) else value


def _spatial_dims(node: Node, weight: torch.Tensor) -> dict[int, int]:
    """For each spatial axis along which a weight has positions: its dimension in the weight."""
    shift = len(node.shape) - weight.ndim
    found: dict[int, int] = {}
    for axis, dim in enumerate(node.dims):
        if dim is None:
            continue
        own = dim - shift
        if node.family is Family.STACK:  # the parts lack the dimension that counts them
            own = dim - (dim > int(argument(node, "dim")) % len(node.shape))
        if own >= 0 and weight.shape[own] > 1:
            found[axis] = own
    return found


def _cut_weight(weight: torch.Tensor, dims: dict[int, int], box: Box) -> torch.Tensor:
    for axis, dim in dims.items():
        weight = weight.narrow(dim, box[axis].lo, len(box[axis]))
    return weight


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
