"""Operators without a rule, and pictures that are cut into a batch."""

from __future__ import annotations

import math
from collections.abc import Iterator

from eyeshot.findings.finding import Finding, Severity
from eyeshot.findings.wording import by, counted
from eyeshot.graph import Family, Graph, Kind
from eyeshot.language import mark, tr


def not_compared(graph: Graph) -> Iterator[Finding]:
    """A note that the graph was not compared with the network's own numbers, and why."""
    if graph.unchecked:
        cause = tr(
            "the traced graph, on which this report is based, was not compared with the network: "
            "{reason}",
            reason=graph.unchecked,
        )
        cure = tr("compare a crop: eyeshot.run(net, crop) and net(crop)")
        name = (*graph.outputs, *graph.nodes)[0]
        yield Finding(Severity.NOTE, name, mark("not compared"), cause, cure)


def without_rule(graph: Graph) -> Iterator[Finding]:
    """Operators without a rule: nothing is known about them and the layers after them."""
    consumers = graph.consumers()
    found: dict[str, list[str]] = {}
    for node in graph:
        read = consumers[node.name] or node.name in graph.outputs  # not a tuple's unused item
        if node.kind is Kind.UNSUPPORTED and read:
            found.setdefault(node.reason, []).append(node.name)
    for reason, names in found.items():
        cause = reason
        if len(names) > 1:
            cause += tr(", and {times} more", times=counted(len(names) - 1, "time"))
        cure = tr("fields, sizes and halo are known up to here only")
        title = mark("unsupported")
        yield Finding(Severity.WARNING, names[0], title, cause, cure, tuple(names))


def empty_maps(graph: Graph) -> Iterator[Finding]:
    """The first map without positions: torch continues with empty tensors."""
    for node in graph:
        if 0 in node.extents:
            cause = tr("its map is {size} at this input size", size=by(node.extents))
            cure = tr("use a larger input")
            yield Finding(Severity.WARNING, node.name, mark("nothing left"), cause, cure)
            return


def folded_batches(graph: Graph) -> Iterator[Finding]:
    """A view that turns one picture into several rows that reach the output."""
    pictures = graph.nodes[graph.inputs[0]].shape[0]
    if all(graph.nodes[name].shape[:1] == (pictures,) for name in graph.outputs):
        return
    for node in graph:
        if node.family is not Family.RESHAPE:
            continue
        source = graph.nodes[node.edges[0].source]
        if source.shape[0] == pictures and node.shape[0] != pictures:
            cause = tr(
                "{before} becomes {after}: {pictures} picture gives {rows} rows, also in the "
                "output",
                before=by(source.shape),
                after=by(node.shape),
                pictures=pictures,
                rows=node.shape[0],
            )
            cure = tr(
                "flatten(1) keeps one row per picture; then in_features is {features}",
                features=math.prod(source.shape[1:]),
            )
            title = mark("picture cut into a batch")
            yield Finding(Severity.WARNING, node.name, title, cause, cure)
            return
