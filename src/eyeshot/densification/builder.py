"""The state of a conversion to dense form, and the rules that need nothing else.

Those are the rules for operators that work on each number separately or only move numbers. A rule
raises :func:`refusal` for an operator that it cannot convert.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from eyeshot.axes import Interval
from eyeshot.densification.form import Step, Value, Weighted, natural
from eyeshot.errors import Unsupported
from eyeshot.graph import Call, Family, Graph, Node, Ref
from eyeshot.operators import of


class Builder:
    """The steps of a dense form so far.

    Attributes:
        graph: of the classifier, in eval mode, at the size of a crop.
        every_pixel: whether strides are undone, so that there is a position for every pixel.
        steps: what the dense form computes.
    """

    def __init__(self, graph: Graph, every_pixel: bool) -> None:
        self.graph, self.every_pixel = graph, every_pixel
        self.steps: list[Step] = []

    def begin(self, node: Node) -> Value:
        """The input of the classifier: the page."""
        shape = node.shape[1:]
        ones = (1,) * (len(shape) - 1)
        return Value(node.name, shape, natural(shape), ones, ones, (Interval(0, 1),) * len(ones))

    def add(
        self, node: Node, target: nn.Module | Callable[..., Any], *args: Any, **kwargs: Any
    ) -> None:
        """One more step; the value that it gives carries the node's name."""
        self.steps.append(Step(node.name, target, args, kwargs))

    def behind(
        self,
        node: Node,
        source: Value,
        shape: tuple[int, ...],
        taps: Sequence[Interval],
        strides: Sequence[int],
    ) -> Value:
        """The value behind windows on ``source``.

        Args:
            node: the node that slides.
            source: what it reads.
            shape: (C, h, w) of what it gives for one crop.
            taps: the places of ``source`` that its first place reads, along each axis.
            strides: places from one window to the next, along each axis.
        """
        further = _times(source.step if self.every_pixel else source.stride, strides)
        return replace(
            source,
            name=node.name,
            shape=shape,
            places=natural(shape),
            stride=source.stride if self.every_pixel else further,
            step=further if self.every_pixel else source.step,
            field=source.seen_through(taps),
        )


def called(node: Node) -> Call:
    """The node's call, which every node but an input has."""
    if node.call is None:
        raise refusal(node, "has nothing to call")
    return node.call


def refusal(node: Node, reason: str) -> Unsupported:
    """That an operator has no dense form, by its layer's name."""
    return Unsupported(
        f"{node.name} ({node.operator}) has no dense form: {reason}",
        cure="replace the layer, or run the classifier crop by crop",
    )


def slid_axes(node: Node, source: Value) -> int:
    """How many axes the map has that a window slides over.

    Raises:
        Unsupported: it is no map any more.
    """
    if not source.is_map:
        raise refusal(node, "it slides over a map whose numbers were moved about")
    return len(source.window)


def check_alike(node: Node, sources: Sequence[Value]) -> None:
    """Raise Unsupported unless all operands hold the same places of the crop on the same grid."""
    first = sources[0]
    grid = (first.window, first.stride, first.step)
    if any((value.window, value.stride, value.step) != grid for value in sources):
        raise refusal(node, "it joins values of different sizes, which every crop has of its own")


def hull(sources: Sequence[Value]) -> tuple[Interval, ...]:
    """What is seen by a position that reads the same position of all of them."""
    field = sources[0].field
    for value in sources[1:]:
        field = tuple(a.hull(b) for a, b in zip(field, value.field, strict=True))
    return field


def renamed(call: Call, names: Mapping[str, Any]) -> Call:
    """A call with other things in place of its nodes."""
    return call.substituted(lambda one: names[one.node] if isinstance(one, Ref) else one)


def per_channel(node: Node, tensor: Tensor, source: Value) -> Tensor:
    """A tensor that is broadcast to the classifier's value, as an operand of the map: (C, 1, 1).

    Raises:
        Unsupported: it differs from place to place of the crop, and a position of the map is a
            place of many crops.
    """
    numbers = tensor.broadcast_to((1, *source.places.shape)).reshape(-1)
    ordered = torch.empty_like(numbers)
    ordered[source.places.reshape(-1).to(tensor.device)] = numbers
    channels = ordered.reshape(source.shape[0], -1)
    if not torch.equal(channels, channels[:, :1].expand_as(channels)):
        raise refusal(node, "it weighs each place of the crop by a number of its own")
    return channels[:, 0].reshape(-1, *(1 for _ in source.window)).clone()


def _times(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    return tuple(a * b for a, b in zip(one, other, strict=True))


def reshaping(builder: Builder, node: Node, sources: list[Value]) -> Value:
    """No number is computed: the places are moved as the numbers would be."""
    source, call = sources[0], called(node)
    places: Tensor = renamed(call, {node.edges[0].source: source.places[None]})()
    if places.shape[0] != 1:
        raise refusal(node, "it mixes the pictures of a batch")
    return replace(source, places=places[0].contiguous())


def joining(builder: Builder, node: Node, sources: list[Value]) -> Value:
    """Channels of several maps behind one another."""
    call, first = called(node), sources[0]
    dim = int(call.argument("dim")) % (first.places.ndim + 1)
    shaped = all(value.is_map for value in sources) or all(value.is_point for value in sources)
    ranks = {value.places.ndim for value in sources}
    if dim != 1 or not shaped or len(ranks) > 1:
        raise refusal(node, "it does not join channels")
    if node.weights or len(sources) < len(call.argument("tensors")):
        raise refusal(node, "it joins a tensor that every crop has of its own")
    check_alike(node, sources)
    builder.add(node, torch.cat, [Ref(value.name) for value in sources], 1)
    shape = (sum(value.shape[0] for value in sources), *first.window)
    joined = replace(first, name=node.name, shape=shape, places=natural(shape), field=hull(sources))
    return joined.reshaped(node.shape[1:])


def pointwise(builder: Builder, node: Node, sources: list[Value]) -> Value:
    """Each number by itself, so that it does not matter where it lies."""
    call, first = called(node), sources[0]
    if any(tuple(value.places.shape) != node.shape[1:] for value in sources):
        raise refusal(node, "it repeats one value to the size of another")
    if any(not torch.equal(value.places, first.places) for value in sources):
        raise refusal(node, "its operands hold their numbers in different orders")
    check_alike(node, sources)
    names = {edge.source: Ref(value.name) for edge, value in zip(node.edges, sources, strict=True)}
    args = renamed(call, names).args
    layer = of(node).layer
    if node.weights:
        tensors = {name: _operand(builder, node, name, first) for name in node.weights}
        function = partial(call.target, **call.kwargs)
        refs = [value for value in args if isinstance(value, Ref)]
        builder.add(node, Weighted(function, args, tensors), *refs)
    elif layer is not None:  # which keeps its name in the dense form
        builder.add(node, layer(), *args)
    else:
        builder.add(node, call.target, *args, **call.kwargs)
    return replace(first, name=node.name, field=hull(sources))


def dropping(builder: Builder, node: Node, sources: list[Value]) -> Value:
    """Dropout in eval mode does nothing."""
    return sources[0]


def _operand(builder: Builder, node: Node, name: str, source: Value) -> Tensor:
    """A copy of a tensor of the classifier that stands beside a value; a parameter if it was."""
    tensor = builder.graph.tensors[name].detach()
    if node.family is Family.PRELU:  # one number, or one for each channel, without more dimensions
        if tensor.numel() > 1 and not (source.is_map or source.is_point):
            raise refusal(node, "it weighs places that were moved about")
        operand = tensor.clone()
    else:
        operand = per_channel(node, tensor, source)
    return nn.Parameter(operand) if name in builder.graph.parameters else operand
