"""Where strides round: pixels dropped at the end, and branches that no longer meet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from eyeshot.findings.finding import Finding, Severity
from eyeshot.findings.wording import (
    all_before,
    axis_name,
    by,
    called,
    joined,
    origins,
    sizes_that_work,
)
from eyeshot.geometry import Fields
from eyeshot.geometry.sizes import Clash, extents, leftovers
from eyeshot.graph import Family, Graph, Node
from eyeshot.language import mark, tr
from eyeshot.operators.mismatches import missing_stride


def remainders(graph: Graph, fields: Fields) -> Iterator[Finding]:
    """Convolutions and poolings that do not read the last positions of their input."""
    if _faulty(graph):
        return
    dropped: dict[str, dict[int, int]] = {}
    for axis in range(graph.spatial_axes):
        sizes = extents(graph, axis, graph.nodes[graph.inputs[0]].extents[axis])
        if isinstance(sizes, Clash):
            continue
        for name, left in leftovers(graph, axis, sizes).items():
            dropped.setdefault(name, {})[axis] = left
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
