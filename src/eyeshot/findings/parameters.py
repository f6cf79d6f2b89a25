"""The layer with most of the parameters, and a way to save them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from eyeshot.findings.finding import Finding, Severity
from eyeshot.findings.wording import by, called, counted, last_map
from eyeshot.graph import Family, Graph, Node
from eyeshot.language import mark, tr

_MOST = 0.5


def heaviest(graph: Graph) -> Iterator[Finding]:
    """A layer with more than half of the parameters of a network of several."""
    held = _by_layer(graph)
    total = sum(held.values())
    if len(held) < 2:
        return
    layer, count = max(held.items(), key=lambda item: item[1])
    node = next((n for n in graph if n.layer == layer and n.weights), None)
    if node is None or count <= _MOST * total:
        return
    cause = tr(
        "it holds {count:,} of {parameters} ({share:.1%})",
        count=count,
        parameters=counted(total, "parameter"),
        share=count / total,
    )
    cure = _cure(graph, node, count)
    if cure:
        title = mark("most of the parameters")
        yield Finding(Severity.NOTE, node.name, title, cause + cure[0], cure[1])


def _by_layer(graph: Graph) -> dict[str, int]:
    """Parameters of each layer, by its dotted path."""
    held: dict[str, int] = {}
    for name in graph.parameters:
        layer = name.rpartition(".")[0]
        held[layer] = held.get(layer, 0) + graph.tensors[name].numel()
    return held


def _cure(graph: Graph, node: Node, count: int) -> tuple[str, str] | None:
    if node.family is Family.LINEAR:
        return _pooling(graph, node, count)
    kernel = node.params.kernel
    if node.is_convolution and kernel and math.prod(kernel) > 1:
        return _separating(node, kernel, count)
    return None


def _pooling(graph: Graph, node: Node, count: int) -> tuple[str, str] | None:
    """For a linear layer on a flattened map: one number per channel instead of a map."""
    last = last_map(graph, node)
    if last is None or math.prod(last.shape[1:]) != node.params.in_features:
        return None
    outputs = node.params.out_features
    left = last.channels * outputs + outputs * bool(node.params.bias)
    cause = tr(
        ": a weight for each of {numbers} numbers and {outputs} outputs",
        numbers=by(last.shape[1:]),
        outputs=outputs,
    )
    cure = tr(
        "global pooling of {layer} before it leaves {left:,} here and saves {saved:,}",
        layer=called(last),
        left=left,
        saved=count - left,
    )
    return cause, cure


def _separating(node: Node, kernel: tuple[int, ...], count: int) -> tuple[str, str] | None:
    """For a dense convolution: one kernel per channel, then a 1×1 convolution."""
    into, out = node.params.in_channels, node.params.out_channels
    if node.params.groups != 1 or into == 1:
        return None
    left = into * math.prod(kernel) + into * out
    cause = tr(": {into} × {out} kernels of {kernel}", into=into, out=out, kernel=by(kernel))
    cure = tr(
        "fewer channels, or a {kernel} for each channel and a 1×1: {left:,} weights",
        kernel=by(kernel),
        left=left,
    )
    return cause, cure
