"""Rules for what computes each number by itself, or computes nothing and moves numbers about."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from eyeshot.densification.builder import (
    Builder,
    called,
    check_alike,
    hull,
    per_channel,
    refusal,
    renamed,
)
from eyeshot.densification.form import Weighted
from eyeshot.densification.values import Value, natural
from eyeshot.graph import Family, Node, Ref
from eyeshot.operators import of


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
