"""Findings about geometry: zero padding, fields and the size of the picture, checkerboards.

In this file:

- which output units touch zero padding: their values depend on zeros outside the picture;
- fields compared with the size of the picture: layers that see all of it or too little of it;
- transposed convolutions whose windows overlap unevenly, which gives a checkerboard pattern.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from eyeshot.axes import NO_INPUT, AxisMap, IntArray, Interval
from eyeshot.findings.finding import Finding, Severity
from eyeshot.geometry import Fields
from eyeshot.geometry.fields import EXACT
from eyeshot.graph import Edge, Family, Graph, Kind, Node
from eyeshot.language import by, counted, mark, tr

Touched = tuple[NDArray[np.bool_], ...]
"""For each axis, the positions that touch padding. A unit touches it if its position on any axis
does."""


def padded_units(graph: Graph, fields: Fields) -> Iterator[Finding]:
    """The share of the units of each output, or of the last map before it, that touch padding."""
    touched = touching(graph)
    for node in _maps(graph, fields):
        places = touched.get(node.name)
        if places is None:
            continue
        free = [int((~one).sum()) for one in places]
        share = 1 - math.prod(free) / max(1, math.prod(node.extents))
        if not node.extents or share == 0:
            continue
        cause = tr(
            "{share:.1%} of its {units} units depend on zeros outside the picture",
            share=share,
            units=by(node.extents),
        )
        cause += tr("; {units} do not", units=by(free)) if math.prod(free) else ""
        cure = tr(
            "border units are biased by zeros; use reflect or replicate padding, or a larger input"
        )
        yield Finding(Severity.NOTE, node.name, mark("units touch zero padding"), cause, cure)


def touching(graph: Graph) -> dict[str, Touched]:
    """For every node, the positions along each axis that depend on zero padding in a layer before.

    One set of positions per axis is enough: an operator reads a product of positions, so a unit
    touches padding exactly if its position on some axis does. Nodes after an operator without a
    rule are omitted.
    """
    touched: dict[str, Touched] = {}
    for node in graph:
        if node.is_input:
            touched[node.name] = tuple(np.zeros(n, dtype=bool) for n in node.extents)
        elif node.kind is not Kind.UNSUPPORTED and all(e.source in touched for e in node.edges):
            touched[node.name] = _touched(node, touched)
    return touched


def _touched(node: Node, touched: dict[str, Touched]) -> Touched:
    sides = []
    for axis, extent in enumerate(node.extents):
        places = np.zeros(extent, dtype=bool)
        for edge in node.edges:
            places |= _through(node, edge, edge.axes[axis], touched[edge.source][axis], extent)
        sides.append(places)
    return tuple(sides)


def _through(
    node: Node, edge: Edge, axis: AxisMap, before: NDArray[np.bool_], extent: int
) -> NDArray[np.bool_]:
    if axis.is_global:
        return np.full(extent, before.any())
    outputs = np.arange(extent, dtype=np.int64)
    touched = np.zeros(extent, dtype=bool)
    if len(before):  # a slice may leave a map without positions
        taps = axis.inputs_of(outputs, len(before))
        inside = taps != NO_INPUT
        touched |= (before[np.where(inside, taps, 0)] & inside).any(axis=1)
    if _fills_with_zeros(node, axis):
        touched |= _outside(axis, outputs, len(before))
    return touched


def _fills_with_zeros(node: Node, axis: AxisMap) -> bool:
    """Whether an operator reads zeros (or another constant) outside its input."""
    if node.repairs:
        return False
    if node.family is Family.PAD:
        return not axis.repeats_inputs
    if node.family is Family.AVERAGE_POOL:
        return bool(node.params.count_include_pad)
    return node.family in (Family.CONVOLUTION, Family.TRANSPOSED_CONVOLUTION)


def _outside(axis: AxisMap, outputs: IntArray, n: int) -> NDArray[np.bool_]:
    taps = axis.inputs_of_unbounded(outputs)
    outside = ((taps < 0) | (taps >= n)) & (taps != NO_INPUT)
    outside_any: NDArray[np.bool_] = outside.any(axis=1)
    return outside_any


def _maps(graph: Graph, fields: Fields) -> Iterator[Node]:
    """The outputs; for an output without positions, the last map before it with bounded fields."""
    for name in dict.fromkeys(graph.outputs):
        node = graph.nodes[name]
        while node.edges and not (
            math.prod(node.extents) > 1 and fields.status(node.name) == EXACT
        ):
            node = graph.nodes[node.edges[0].source]
        if node.edges:
            yield node


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
        if any(reach < n for reach, n in zip(largest, size, strict=True)):
            cause = tr(
                "a unit of the last map ({map}) sees at most {field} of the {size} input",
                map=by(last.extents),
                field=by(largest),
                size=by(size),
            )
            cure = tr(
                "no unit of a map sees the whole picture; add layers, stride or dilation before "
                "this layer if the class depends on overall shape"
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


def checkerboards(graph: Graph) -> Iterator[Finding]:
    """Transposed convolutions whose kernel is not a multiple of the stride: uneven overlap."""
    for node in graph:
        if node.family is Family.TRANSPOSED_CONVOLUTION:
            finding = _checkerboard(node)
            if finding is not None:
                yield finding


def _checkerboard(node: Node) -> Finding | None:
    numbers = (node.params.kernel, node.params.stride, node.params.dilation)
    each = [_overlaps(*one) for one in zip(*numbers, strict=True)]
    fewest, most = 1, 1
    for low, high in each:
        fewest, most = fewest * low, most * high
    if fewest == most:
        return None
    kernel, stride = node.params.kernel, node.params.stride
    cause = tr(
        "a kernel of {kernel} with stride {stride}: an output is the sum of {fewest} to {inputs}, "
        "depending on its position",
        kernel=by(kernel),
        stride=by(stride),
        fewest=fewest,
        inputs=counted(most, "input"),
    )
    if fewest == 0:
        cause += tr("; outputs without inputs are only the bias")
    multiples = [max(s, -(-k // s) * s) for k, s in zip(kernel, stride, strict=True)]
    cure = tr(
        "a kernel of {kernel}, or resize by {stride} and convolve",
        kernel=by(multiples),
        stride=by(stride),
    )
    return Finding(Severity.WARNING, node.name, mark("checkerboard"), cause, cure)


def _overlaps(kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """The fewest and the most inputs that an output gets along one axis, away from the border."""
    counts = [0] * stride
    for tap in range(kernel):
        counts[tap * dilation % stride] += 1
    return min(counts), max(counts)
