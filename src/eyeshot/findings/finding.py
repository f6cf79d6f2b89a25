"""What a finding is, and the findings about operators, empty maps, batches and strides.

In this file:

- one mistake or smell of a network: where, why in numbers, and what to do;
- operators without a rule, and pictures that are cut into a batch;
- where strides round: pixels dropped at the end, and branches that no longer meet;
- the walks over a graph that several findings share.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from eyeshot.geometry import Fields
from eyeshot.geometry.sizes import Clash, extents, leftovers, nearest_sizes
from eyeshot.graph import Family, Graph, Kind, Node
from eyeshot.language import AXES, by, counted, joined, mark, tr
from eyeshot.operators.repaired import missing_stride


class Severity(StrEnum):
    """How much a finding matters. Findings are listed in this order."""

    ERROR = mark("error")
    """The network does not run at this size."""
    WARNING = mark("warning")
    """The network runs, but something is silently lost or wrong."""
    NOTE = mark("note")
    """A fact to know, which may be intended."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    Attributes:
        severity: error, warning or note.
        layer: name of the node that it concerns; the first name if there are several.
        title: a few words, in English; :meth:`__str__` translates them.
        cause: the reason, in numbers, in the language spoken.
        cure: what to do, in the language spoken.
        layers: all nodes that it concerns.
    """

    severity: Severity
    layer: str
    title: str
    cause: str
    cure: str
    layers: tuple[str, ...] = ()

    def __str__(self) -> str:
        words = {"title": tr(self.title), "cause": self.cause, "cure": self.cure}
        severity = tr(str(self.severity))
        if not self.layer:
            return tr("{severity}: {title}: {cause}; {cure}", severity=severity, **words)
        text = mark("{severity}: {layer}: {title}: {cause}; {cure}")
        return tr(text, severity=severity, layer=self.layer, **words)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "severity": str(self.severity),
            "layer": self.layer,
            "title": self.title,
            "cause": self.cause,
            "cure": self.cure,
            "layers": list(self.layers or (self.layer,)),
        }


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
    by_reason: dict[str, list[str]] = {}
    for node in graph:
        read = consumers[node.name] or node.name in graph.outputs  # not a tuple's unused item
        if node.kind is Kind.UNSUPPORTED and read:
            by_reason.setdefault(node.reason, []).append(node.name)
    for reason, names in by_reason.items():
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


def remainders(graph: Graph, fields: Fields) -> Iterator[Finding]:
    """Convolutions and poolings that do not read the last positions of their input."""
    if _faulty(graph):
        return
    dropped: dict[str, dict[int, int]] = {}
    for axis in range(graph.spatial_axes):
        sizes = extents(graph, axis, graph.nodes[graph.inputs[0]].extents[axis])
        if isinstance(sizes, Clash):
            continue
        for name, unread in leftovers(graph, axis, sizes).items():
            dropped.setdefault(name, {})[axis] = unread
    cure = _clean_sizes(graph) if dropped else ""
    for name, lefts in dropped.items():
        cause = _dropped(graph, fields, graph.nodes[name], lefts)
        yield Finding(Severity.WARNING, name, mark("pixels dropped"), cause, cure)


def _faulty(graph: Graph) -> bool:
    return any(node.mismatch for node in graph)


def _dropped(graph: Graph, fields: Fields, node: Node, lefts: dict[int, int]) -> str:
    """The cause in words. ``lefts`` holds the number of unread positions for each axis."""
    source = graph.nodes[node.edges[0].source]
    stride, kernel = node.params.stride, node.params.kernel
    here = joined(
        tr("the last {n} of its {axis}", n=left, axis=axis_name(graph, a))
        for a, left in lefts.items()
    )
    cause = tr(
        "windows of {kernel} with stride {stride} over {size} never read {lost}",
        kernel=by(kernel),
        stride=by(stride),
        size=by(source.extents),
        lost=here,
    )
    paces = [axis.stride or 1 for axis in fields.layer(source.name)]
    if paces and any(paces[axis] > 1 for axis in lefts):
        pixels = (
            tr("{n:g} {axis}", n=float(n * paces[a]), axis=axis_name(graph, a))
            for a, n in lefts.items()
        )
        cause += tr(" ({lost} in input pixels)", lost=joined(pixels))
    return cause


def _clean_sizes(graph: Graph) -> str:
    sizes = sizes_that_work(graph, clean=True)
    return (
        tr("nothing is dropped at {sizes}", sizes=sizes)
        if sizes
        else tr("pad the input at its end")
    )


def spatial_mismatch(graph: Graph, node: Node) -> tuple[str, str, str]:
    """Title, cause and cure where maps of different sizes meet."""
    parts = origins(graph, node)
    sides = joined(
        [tr("{layer} is {size}", layer=called(part), size=by(part.extents)) for part in parts]
    )
    cause = tr("{sides}, and {layer} needs equal sizes", sides=sides, layer=called(node))
    title = mark("sizes do not match")
    missing = _missing_stride(graph, node, parts)
    if missing:
        return title, cause, missing
    rounded = _rounding(graph, parts)
    if rounded:
        cause += tr(": {facts}", facts=joined(rounded))
    sizes = sizes_that_work(graph)
    cure = (
        tr("an input of {size}", size=sizes)
        if sizes
        else tr("make the up-sampling undo the strides")
    )
    return title, cause, tr("{cure}, or pad or crop one branch to the other", cure=cure)


def _missing_stride(graph: Graph, node: Node, parts: list[Node]) -> str:
    """The cure if one branch is a whole number of times as large as the other, else empty."""
    small, *_, large = sorted(parts, key=lambda part: part.extents)
    strides = {missing_stride(n, m) for n, m in zip(large.extents, small.extents, strict=True)}
    if len(parts) != 2 or len(strides) != 1 or max(strides) == 1:
        return ""
    (stride,) = strides
    up = tr("{layer} resized by {stride}", layer=called(small), stride=stride)
    if node.family is Family.CONCATENATE:
        text = mark("{cure}, or stride={stride} in the branch of {layer}")
        return tr(text, cure=up, stride=stride, layer=called(large))
    own = all_before(graph, large) - all_before(graph, small)
    for name in (one.name for one in graph if one.name in own):
        layer = graph.nodes[name]
        if layer.slides and layer.weights and layer.extents == large.extents:
            text = mark("{layer}: stride={stride}, or {cure}")
            return tr(text, layer=called(layer), stride=stride, cure=up)
    text = mark("a 1×1 convolution with stride {stride} after {layer}, or {cure}")
    return tr(text, stride=stride, layer=called(large), cure=up)


def _rounding(graph: Graph, parts: list[Node]) -> list[str]:
    """The strides that do not divide their input, in one branch but not in all."""
    behind = [all_before(graph, part) for part in parts]
    shared = set.intersection(*behind)
    facts: dict[str, str] = {}
    for name, node in graph.nodes.items():
        if any(name in names for names in behind) and name not in shared:
            for axis in _rounded_axes(graph, node):
                before = graph.nodes[node.edges[0].source].extents[axis]
                fact = tr(
                    "{layer} makes {n} of {before} {axis}",
                    layer=called(node),
                    n=node.extents[axis],
                    before=before,
                    axis=axis_name(graph, axis),
                )
                facts.setdefault(name, fact)
    return list(facts.values())


def _rounded_axes(graph: Graph, node: Node) -> Iterable[int]:
    if not node.slides or not node.edges:
        return
    source = graph.nodes[node.edges[0].source]
    strides = node.params.stride
    for axis, stride in enumerate(strides, len(node.dims) - len(strides)):
        if stride > 1 and node.extents[axis] * stride != source.extents[axis]:
            yield axis


def called(node: Node) -> str:
    """A node's name in a sentence: ``conv1``, and ``layer 3`` where the name is a number."""
    return tr("layer {name}", name=node.name) if node.name[:1].isdigit() else node.name


def axis_name(graph: Graph, axis: int) -> str:
    """``rows``, in the language spoken."""
    return tr(AXES[graph.spatial_axes][axis])


def sizes_that_work(graph: Graph, *, clean: bool = False) -> str:
    """``48×48 or 64×64``; empty if no size is near."""
    sizes = nearest_sizes(graph, clean=clean)
    return joined([by(size) for size in sizes], "or") if sizes else ""


def origin(graph: Graph, name: str) -> Node:
    """The node itself, or the node before it if a repair added it."""
    node = graph.nodes[name]
    while node.repairs:
        node = graph.nodes[node.edges[0].source]
    return node


def origins(graph: Graph, node: Node) -> list[Node]:
    """What a node reads, without repairs."""
    return [origin(graph, edge.source) for edge in node.edges]


def branches(graph: Graph, node: Node) -> list[Node]:
    """The nodes that give a node its channels: the inputs of a concatenation, or a single node.

    Operators in between that do not change channels (an activation, a dropout) are skipped.
    """
    before = origins(graph, node)[0]
    one = before
    while one.family is not Family.CONCATENATE:
        sources = origins(graph, one)
        if len(sources) != 1 or sources[0].shape[1:2] != one.shape[1:2] or one.weights:
            return [before]
        one = sources[0]
    return origins(graph, one) if one.params.dim == 1 else [before]


def all_before(graph: Graph, node: Node) -> set[str]:
    """The names of the node and of all that it depends on."""
    names, waiting = {node.name}, [node]
    while waiting:
        for edge in waiting.pop().edges:
            if edge.source not in names:
                names.add(edge.source)
                waiting.append(graph.nodes[edge.source])
    return names


def ancestors(graph: Graph, node: Node) -> list[Node]:
    """The node, and what stands before it, along first inputs."""
    nodes = [node]
    while nodes[-1].edges:
        nodes.append(graph.nodes[nodes[-1].edges[0].source])
    return nodes


def last_map(graph: Graph, node: Node) -> Node | None:
    """The last node before it, along first inputs, whose positions can be told apart."""
    while node.edges:
        node = origin(graph, node.edges[0].source)
        if math.prod(node.extents) > 1:
            return node
    return None
