"""A graph prepared to run: norms and padding folded into convolutions, activations fused.

A fused node has the name of its last operator, so that nodes which read that name need no change.

Each node is also assigned a way to run: its rows are streamed, its rows are gathered, or it is
called once on the whole map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from eyeshot.axes import AxisMap, Global, Identity
from eyeshot.engine.buffers import gathers, gives_indices, is_unchanged
from eyeshot.engine.moments import split_statistics
from eyeshot.errors import Unsupported
from eyeshot.graph import Call, Edge, Family, Graph, Kind, Node, Ref, Weight, check
from eyeshot.operators import pointwise, prepare
from eyeshot.operators.convolution import with_padding

_BY_ROWS = (
    *(Family.MEAN, Family.SUM, Family.LARGEST, Family.SMALLEST, Family.STATISTIC, Family.SOFTMAX),
    *(Family.LINEAR, Family.LAYER_NORM, Family.RMS_NORM),
    *(Family.VARIANCE, Family.DEVIATION, Family.MAGNITUDE, Family.LOG_SUM),
)
"""Families whose call names no size, and which treat each row separately if they mix columns."""
_PREPARED = (Family.CONCATENATE, Family.SELECT, Family.SCATTER)
"""Families of which some calls cannot be computed on a part of the picture."""


def settled(graph: Graph) -> Graph:
    """The graph in which nodes that cannot be computed by parts are of kind HELD: called whole.

    A layer in training mode is not changed; it is refused later.
    """
    nodes: dict[str, Node] = {}
    for node in graph:
        if _pools_each_row(node):
            nodes[node.name] = _by_rows(node)
        else:
            whole = not node.is_input and _is_whole(node, graph)
            nodes[node.name] = _called_whole(node) if whole else node
    if all(one is other for one, other in zip(nodes.values(), graph, strict=True)):
        return graph
    found = replace(graph, nodes=nodes)
    check(found)
    return found


def _pools_each_row(node: Node) -> bool:
    """Whether it is an adaptive pool over whole rows, each by itself, as for strip pooling."""
    if not node.is_adaptive or gives_indices(node) or node.kind is not Kind.GLOBAL_STATISTIC:
        return False
    (edge,) = node.edges
    return is_unchanged(edge.axes[0]) and not edge.beside


def _by_rows(node: Node) -> Node:
    """The pool as a layer whose rows are streamed."""
    (edge,) = node.edges
    axes = tuple(Identity() if is_unchanged(axis) else axis for axis in edge.axes)
    return replace(node, kind=Kind.LOCAL, edges=(replace(edge, axes=axes),))


def _is_whole(node: Node, graph: Graph) -> bool:
    if node.params.training:
        return False
    if gives_indices(node):
        return True
    if node.kind is Kind.GLOBAL_STATISTIC:
        return not gathers(node, graph)
    if node.kind is not Kind.LOCAL:
        return node.kind is Kind.NONLOCAL
    axes = [axis for edge in node.edges for axis in edge.axes]
    if all(axis == Identity() for axis in axes) and node.family not in _PREPARED:
        return False
    if node.is_convolution:
        return False
    try:
        prepare(node, graph.tensors)
    except Unsupported:
        return True
    return False


def _called_whole(node: Node) -> Node:
    """The node called on its whole inputs, except along axes whose positions it does not mix."""
    columns = list(zip(*(edge.axes for edge in node.edges), strict=True))
    maps = [_whole(node, n, axes) for n, axes in zip(node.extents, columns, strict=True)]
    sources = dict.fromkeys(edge.source for edge in node.edges)
    edges = tuple(Edge(source, tuple(maps)) for source in sources)
    return replace(node, kind=Kind.HELD, edges=edges)


def _whole(node: Node, extent: int, axes: Sequence[AxisMap]) -> AxisMap:
    alone = node.family in _BY_ROWS and all(axis == Identity() for axis in axes)
    return Identity() if alone else Global(extent)


def lower(graph: Graph) -> Graph:
    """The same network with fewer operators; numbers differ only by rounding.

    An operator is fused only if no other node reads the value before it. Tensors that are no longer
    read are removed.
    """
    graph = settled(split_statistics(graph))
    consumers = graph.consumers()
    nodes: dict[str, Node] = {}
    tensors = dict(graph.tensors)
    order = {name: place for place, name in enumerate(graph.nodes)}
    finite: dict[str, bool] = {}
    for node in graph:
        nodes[node.name] = node
        read = all(finite[edge.source] for edge in node.edges)
        finite[node.name] = read and pointwise.stays_finite(node)
        gate = _fuse_gate(node, nodes, tensors)
        if gate is not None and _read_once(gate.replaced, node, consumers, graph.outputs):
            for name in gate.replaced:
                del nodes[name]
            tensors.update(gate.tensors)
            nodes[node.name] = gate.node
            continue
        # Of two branches, the later: its rows are computed last.
        for before in sorted(_sources(node, nodes), key=lambda one: order[one.name], reverse=True):
            if len(consumers[before.name]) > 1 or before.name in graph.outputs:
                continue
            fused = _fuse(before, node, nodes, tensors)
            activation = "" if fused is None else fused.params.activation or ""
            if pointwise.loses_nan(activation) and not finite[node.name]:
                continue
            if fused is not None:
                del nodes[before.name]
                nodes[node.name] = fused
                break
    _split_concatenations(nodes, tensors, graph)
    weights = {name for node in nodes.values() for name in node.weights}
    used = {name: tensor for name, tensor in tensors.items() if name in weights}
    lowered = replace(graph, nodes=nodes, tensors=used)
    check(lowered)
    return lowered


def _split_concatenations(
    nodes: dict[str, Node], tensors: dict[str, torch.Tensor], graph: Graph
) -> None:
    """Replace a convolution of concatenated channels by a sum of convolutions.

    conv([a, b]) = conv(a) + conv(b), each with its own channels of the kernel. So the skip of a
    U-Net is read from its own buffer, and the concatenated map is never made.
    """
    readers: dict[str, list[str]] = {name: [] for name in nodes}
    for node in nodes.values():
        for edge in node.edges:
            readers[edge.source].append(node.name)
    for name, node in list(nodes.items()):
        joined = nodes.get(node.edges[0].source) if node.edges else None
        if joined is None or Kind.HELD in (node.kind, joined.kind):
            continue
        if readers[joined.name] != [name] or joined.name in graph.outputs:
            continue
        parts = _channels_joined(joined, nodes)
        whole = node.family is Family.CONVOLUTION and node.params.groups == 1
        if not whole or parts is None or sum(parts) != node.params.in_channels:
            continue
        edges = tuple(replace(node.edges[0], source=edge.source) for edge in joined.edges)
        names = tuple(f"{name}.part{i}" for i in range(len(parts)))
        kernel = tensors[node.weights[0]].detach()
        for part, piece in zip(names, torch.split(kernel, parts, dim=1), strict=True):
            tensors[part] = piece.contiguous()
        nodes[name] = replace(
            node,
            edges=(*edges, *node.edges[1:]),
            weights=(*names, *node.weights[1:]),
            params=node.params.but(parts=len(parts)),
            call=_taking(
                node.call,
                input=[Ref(edge.source) for edge in edges],
                weight=[Weight(part) for part in names],
            ),
        )
        del nodes[joined.name]


def _channels_joined(node: Node, nodes: Mapping[str, Node]) -> list[int] | None:
    """Channels of each part of a concatenation over channels; None if it is something else."""
    if node.family is not Family.CONCATENATE or node.weights:
        return None
    if node.params.dim != 1 or len(node.edges) < 2:
        return None
    names = [edge.source for edge in node.edges]
    # A part that is concatenated twice has one edge for two places; such a node is not changed.
    called = [ref.node for ref in node.call.argument("tensors")] if node.call is not None else []
    return [nodes[name].shape[1] for name in names] if called == names else None


def _sources(node: Node, nodes: Mapping[str, Node]) -> list[Node]:
    """The nodes that a node may be fused with: its only source, or both that it adds."""
    if len(node.edges) == 1 or (len(node.edges) == 2 and pointwise.adds(node)):
        return [nodes[edge.source] for edge in node.edges]
    return []


def _fuse(
    before: Node, node: Node, nodes: Mapping[str, Node], tensors: dict[str, torch.Tensor]
) -> Node | None:
    """``node`` fused with the convolution before it, or with the padding that it reads."""
    if before.family is Family.PAD:
        return _fuse_padding(before, node)
    if not before.is_convolution or before.params.activation:
        return None
    if Kind.HELD in (before.kind, node.kind):  # called exactly as in the network
        return None
    if len(node.edges) == 2:
        return _fuse_sum(before, node, nodes)
    activation = pointwise.activation(node)
    if activation is not None:
        name, scalars = activation
        params = before.params.but(activation=name, scalars=scalars or None)
        return replace(before, name=node.name, params=params)
    if node.family is Family.DROPOUT and not node.params.training:
        return replace(before, name=node.name)
    if node.family is Family.BATCH_NORM and not node.params.training and not before.params.adds:
        return _fold(before, node, tensors)
    return None


def _fuse_padding(pad: Node, node: Node) -> Node | None:
    """A convolution that pads by itself what it reads; None if that is not possible."""
    if node.family is not Family.CONVOLUTION or Kind.HELD in (pad.kind, node.kind):
        return None
    padded = with_padding(pad, node)
    if padded is None:
        return None
    return replace(padded, call=_taking(node.call, input=Ref(padded.edges[0].source)))


@dataclass(frozen=True)
class _Gate:
    """A convolution whose activation is a gate, the nodes that it replaces, and its weights."""

    node: Node
    replaced: tuple[str, ...]
    tensors: dict[str, torch.Tensor]


def _fuse_gate(
    node: Node, nodes: Mapping[str, Node], tensors: Mapping[str, torch.Tensor]
) -> _Gate | None:
    """tanh(a)·sigmoid(b) of the halves of a convolution's channels, or of two convolutions.

    It becomes one convolution along one axis, the channels of a first, with the activation
    ``gate``. None if the node is something else.
    """
    factors = pointwise.gate_halves(node, nodes)
    if factors is None:
        return None
    halves = [nodes[factor.edges[0].source] for factor in factors]
    sums = [_convolution_of(half, nodes) for half in halves]
    if None in sums or any(one.shape != node.shape for one in halves):
        return None
    (one, first), (other, second) = (found for found in sums if found is not None)
    if one.edges != other.edges or one.params != other.params or one.params.groups != 1:
        return None
    names = (f"{node.name}.gate_weight", f"{node.name}.gate_bias")
    count, made = node.shape[1], {}
    for place, name in enumerate(names[: len(one.weights)]):
        parts = ((one, first), (other, second))
        rows = [tensors[conv.weights[place]].detach()[at : at + count] for conv, at in parts]
        made[name] = torch.cat(rows)
    params = one.params.but(activation=pointwise.GATE, out_channels=2 * count)
    call = _taking(one.call, weight=Weight(names[0]))
    if one.params.bias:
        call = _taking(call, bias=Weight(names[1]))
    fused = replace(
        one, name=node.name, shape=node.shape, weights=tuple(made), params=params, call=call
    )
    replaced = [node.name for node in (*factors, *halves, one, other)]
    return _Gate(fused, tuple(dict.fromkeys(replaced)), made)


def _convolution_of(half: Node, nodes: Mapping[str, Node]) -> tuple[Node, int] | None:
    """The convolution along one axis that a gate's half is, or is cut from, and where."""
    source, first = half, 0
    if half.family is Family.CROP and half.params.dim == 1 and half.params.step == 1:
        source, first = nodes[half.edges[0].source], half.params.start
    params = source.params
    if source.family is not Family.CONVOLUTION or source.kind is Kind.HELD:
        return None
    if len(params.kernel) != 1 or len(source.edges) != 1 or source.edges[0].beside:
        return None
    return None if params.activation or params.adds or 1 in source.dims else (source, first)


def _read_once(
    names: Sequence[str], by: Node, consumers: Mapping[str, Sequence[Node]], shown: Sequence[str]
) -> bool:
    """Whether the values of these nodes are read by one another and by ``by`` alone."""
    readers = {reader.name for name in names for reader in consumers[name]}
    return readers <= {*names, by.name} and not set(names) & set(shown)


def _fuse_sum(before: Node, node: Node, nodes: Mapping[str, Node]) -> Node | None:
    """The sum of a convolution and another value as one node; None if that is not possible."""
    if before.family is not Family.CONVOLUTION or before.params.adds:
        return None
    if any(edge.beside for edge in before.edges):  # it slides over channels, too
        return None
    (other,) = (edge for edge in node.edges if edge.source != before.name)
    like = [(one.shape, one.dtype, one.dims) for one in (before, nodes[other.source], node)]
    if like[0] != like[1] or like[0] != like[2]:
        return None
    edges = (*before.edges, other)
    return replace(before, name=node.name, edges=edges, params=before.params.but(adds=True))


def _fold(before: Node, norm: Node, tensors: dict[str, torch.Tensor]) -> Node | None:
    """w·x + b, then γ·(y − μ)/√(σ² + ε) + β, as one convolution (computed in float64)."""
    if norm.call is None:
        return None
    scale, shift, mean, variance = (
        _tensor(norm.call.argument(name), tensors)
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    if mean is None or variance is None:
        return None
    epsilon = float(norm.call.argument("eps"))
    weight = tensors[before.weights[0]]
    ratio = (variance.double() + epsilon).rsqrt()
    if scale is not None:
        ratio = ratio * scale.double()
    bias = tensors[before.weights[1]].double() if before.params.bias else 0.0
    offset = (bias - mean.double()) * ratio
    if shift is not None:
        offset = offset + shift.double()
    names = (f"{norm.name}.folded_weight", f"{norm.name}.folded_bias")
    tensors[names[0]] = _scaled(weight, ratio, before).to(weight.dtype)
    tensors[names[1]] = offset.to(weight.dtype)
    params = before.params.but(bias=True)
    call = _taking(before.call, weight=Weight(names[0]), bias=Weight(names[1]))
    return replace(before, name=norm.name, weights=names, params=params, call=call)


def _taking(call: Call | None, **new: Any) -> Call | None:
    """A call with the node's new arguments."""
    return None if call is None else call.with_arguments(**new)


def _tensor(value: object, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    return tensors[value.name].detach() if isinstance(value, Weight) else None


def _scaled(weight: torch.Tensor, ratio: torch.Tensor, node: Node) -> torch.Tensor:
    """Each output channel's kernel times its ratio."""
    detached = weight.detach().double()
    if node.family is Family.CONVOLUTION:
        return detached * ratio.reshape(-1, *(1 for _ in weight.shape[1:]))
    # A transposed weight is (in, out / groups, kernel), so groups are along the first dimension.
    groups = node.params.groups
    per_group = ratio.reshape(groups, 1, -1)
    shaped = detached.reshape(groups, -1, *weight.shape[1:])
    ones = (1 for _ in weight.shape[2:])
    return (shaped * per_group.reshape(*per_group.shape, *ones)).reshape(weight.shape)
