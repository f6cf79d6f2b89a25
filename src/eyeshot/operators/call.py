"""Operators that look at one position at a time: called as they are, on the rectangle."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from eyeshot.axes import Broadcast, Identity, Interval
from eyeshot.errors import Failure, Unsupported
from eyeshot.graph import Call, Family, Node, Ref, Weight
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

    def compute(inputs: list[Tile], box: Box, room: torch.Tensor | None = None) -> torch.Tensor:
        values = {name: inputs[place].value for name, place in order.items()}
        cuts = {name: _cut_weight(tensors[name], dims, box) for name, dims in placed.items()}
        weights = {**tensors, **cuts}
        result: torch.Tensor = call.substituted(partial(_put, values, weights))()
        return result

    return compute


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
        given = zip(node.edges, inputs, strict=True)
        values = {edge.source: _as_laid_out(node, one.value) for edge, one in given}
        result: torch.Tensor = call.substituted(partial(_put, values, tensors))()
        have = tuple(
            side if own else Interval(0, n)
            for own, side, n in zip(alone, box, node.extents, strict=True)
        )
        return cut(result, node.dims, have, box)

    return compute


def _as_laid_out(node: Node, value: torch.Tensor) -> torch.Tensor:
    """A value in the memory layout that the call takes: ``view`` takes no channels-last map."""
    return value.contiguous() if node.family is Family.RESHAPE else value


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
