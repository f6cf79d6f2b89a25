"""Fields compared with the size of the picture: layers that see all of it or too little of it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from eyeshot.axes import Interval
from eyeshot.findings.finding import Finding, Severity
from eyeshot.findings.wording import by, counted
from eyeshot.geometry import Fields
from eyeshot.geometry.fields import EXACT
from eyeshot.graph import Graph, Node
from eyeshot.language import mark, tr


def covering(graph: Graph, fields: Fields) -> Iterator[Finding]:
    """The first layer whose middle unit sees the whole picture, if more windows follow it."""
    size = graph.nodes[fields.source].extents
    if math.prod(size) == 1:
        return
    seeing = [node for node in graph if _sees_all(node, fields, size)]
    wide = [node for node in seeing if node.slides and max(node.params.kernel) > 1]
    if not wide:
        return
    first, behind = wide[0], wide[1:]
    if not behind:
        return
    largest = by(field.largest for field in fields.layer(first.name))
    cause = tr(
        "its middle unit's field of {field} covers the {size} input, and so do the fields of "
        "{layers}",
        field=largest,
        size=by(size),
        layers=counted(len(behind), "later layer"),
    )
    cure = tr(
        "these layers cannot enlarge the receptive field at this size; remove some, or use a "
        "larger input"
    )
    layers = tuple(node.name for node in wide)
    yield Finding(Severity.NOTE, first.name, mark("field covers the input"), cause, cure, layers)


def _sees_all(node: Node, fields: Fields, size: tuple[int, ...]) -> bool:
    empty = 0 in node.extents
    if empty or node.is_input or fields.status(node.name) != EXACT:
        return False
    inside = fields.field(node.name).inside or ()
    return all(side.covers(Interval(0, n)) for side, n in zip(inside, size, strict=True))


def short_sighted(graph: Graph, fields: Fields) -> Iterator[Finding]:
    """The last map of a classifier, if its units see less than the picture."""
    size = graph.nodes[fields.source].extents
    for name in graph.outputs:
        last = _last_local(graph, graph.nodes[name], fields)
        if last is None or last.is_input:
            continue
        largest = tuple(field.largest for field in fields.layer(last.name))
        if any(seen < n for seen, n in zip(largest, size, strict=True)):
            cause = tr(
                "a unit of the last map ({map}) sees at most {field} of the {size} input",
                map=by(last.extents),
                field=by(largest),
                size=by(size),
            )
            cure = tr(
                "no unit sees the whole picture; add layers, stride or dilation before this "
                "layer if the class depends on overall shape"
            )
            title = mark("field smaller than the input")
            yield Finding(Severity.NOTE, last.name, title, cause, cure)


def _last_local(graph: Graph, output: Node, fields: Fields) -> Node | None:
    """The last map before all positions are mixed, if the output has no positions."""
    if math.prod(output.extents) > 1:
        return None
    node = output
    while node.edges:
        source = graph.nodes[node.edges[0].source]
        mixed = any(
            axis.is_global and n > 1
            for axis, n in zip(node.edges[0].axes, source.extents, strict=False)
        )
        if node.params.training:
            return None  # mixed by the batch's statistics, which eval mode does not use
        if mixed and fields.status(source.name) == EXACT:
            return source
        node = source
    return None
