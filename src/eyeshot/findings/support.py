"""Operators of which nothing can be claimed, and pictures cut up into a batch."""

from __future__ import annotations

import math
from collections.abc import Iterator

from eyeshot.findings.finding import Finding, Severity
from eyeshot.findings.wording import by, counted
from eyeshot.graph import Family, Graph, Kind


def not_compared(graph: Graph) -> Iterator[Finding]:
    """That the graph was not held against the network's own numbers, and why."""
    if graph.unchecked:
        cause = "the traced graph, of which all this is said, was not compared with the network: "
        cure = "compare a crop: eyeshot.run(net, crop) and net(crop)"
        name = (*graph.outputs, *graph.nodes)[0]
        yield Finding(Severity.NOTE, name, "not compared", cause + graph.unchecked, cure)


def without_rule(graph: Graph) -> Iterator[Finding]:
    """Operators that no rule covers: nothing is claimed of them, nor of what follows."""
    consumers = graph.consumers()
    found: dict[str, list[str]] = {}
    for node in graph:
        read = consumers[node.name] or node.name in graph.outputs  # not a tuple's unused item
        if node.kind is Kind.UNSUPPORTED and read:
            found.setdefault(node.reason, []).append(node.name)
    for reason, names in found.items():
        others = f", and {counted(len(names) - 1, 'time')} more" if len(names) > 1 else ""
        cure = "fields, sizes and halo are known up to here only"
        yield Finding(
            Severity.WARNING, names[0], "unsupported", reason + others, cure, tuple(names)
        )


def empty_maps(graph: Graph) -> Iterator[Finding]:
    """The first map that has no positions: torch computes on with nothing."""
    for node in graph:
        if 0 in node.extents:
            cause = f"its map is {by(node.extents)} at this input size"
            cure = "show it a larger input"
            yield Finding(Severity.WARNING, node.name, "nothing left", cause, cure)
            return


def folded_batches(graph: Graph) -> Iterator[Finding]:
    """A view that makes several rows of one picture, where the output still has them."""
    pictures = graph.nodes[graph.inputs[0]].shape[0]
    if all(graph.nodes[name].shape[:1] == (pictures,) for name in graph.outputs):
        return
    for node in graph:
        if node.family is not Family.RESHAPE:
            continue
        source = graph.nodes[node.edges[0].source]
        if source.shape[0] == pictures and node.shape[0] != pictures:
            cause = f"{by(source.shape)} becomes {by(node.shape)}: {pictures} picture gives "
            cause += f"{node.shape[0]} rows, and the output has as many"
            cure = "flatten(1) keeps one row a picture; then in_features is "
            cure += f"{math.prod(source.shape[1:])}"
            yield Finding(Severity.WARNING, node.name, "picture cut into a batch", cause, cure)
            return
