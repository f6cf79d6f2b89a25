"""Which output units touch zero padding: their values depend on zeros outside the picture."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from eyeshot.axes import NO_INPUT, AxisMap, IntArray
from eyeshot.findings.finding import Finding, Severity
from eyeshot.findings.wording import by
from eyeshot.geometry import Fields
from eyeshot.geometry.fields import EXACT
from eyeshot.graph import Edge, Family, Graph, Kind, Node
from eyeshot.language import mark, tr

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
    rule are left out.
    """
    found: dict[str, Touched] = {}
    for node in graph:
        if node.is_input:
            found[node.name] = tuple(np.zeros(n, dtype=bool) for n in node.extents)
        elif node.kind is not Kind.UNSUPPORTED and all(e.source in found for e in node.edges):
            found[node.name] = _touched(node, found)
    return found


def _touched(node: Node, found: dict[str, Touched]) -> Touched:
    sides = []
    for axis, extent in enumerate(node.extents):
        places = np.zeros(extent, dtype=bool)
        for edge in node.edges:
            places |= _through(node, edge, edge.axes[axis], found[edge.source][axis], extent)
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
    found: NDArray[np.bool_] = outside.any(axis=1)
    return found


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
