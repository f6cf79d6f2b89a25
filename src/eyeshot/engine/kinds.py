"""What becomes of each node in a run: its rows stream, they are gathered, or it is called whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from eyeshot.axes import AxisMap, Global, Identity
from eyeshot.engine.gathering import gathers, gives_indices
from eyeshot.errors import Unsupported
from eyeshot.graph import Edge, Family, Graph, Kind, Node, check
from eyeshot.operators import prepare

_BY_ROWS = (
    *(Family.MEAN, Family.SUM, Family.LARGEST, Family.SMALLEST, Family.STATISTIC, Family.SOFTMAX),
    *(Family.LINEAR, Family.LAYER_NORM, Family.RMS_NORM),
    *(Family.VARIANCE, Family.DEVIATION, Family.MAGNITUDE),
)
"""Operators whose call names no size, and which take each row by itself where they mix columns."""
_PREPARED = (Family.CONCATENATE, Family.SELECT, Family.SCATTER)
"""Operators of which some have no form for a part of the picture, though a rule tells of them."""


def settled(graph: Graph) -> Graph:
    """The graph in which whatever cannot be computed by parts is held: it is called whole.

    A layer in training mode is left as it is, to be refused.
    """
    nodes: dict[str, Node] = {}
    for node in graph:
        whole = not node.is_input and _is_whole(node, graph)
        nodes[node.name] = _held(node) if whole else node
    if all(one is other for one, other in zip(nodes.values(), graph, strict=True)):
        return graph
    found = replace(graph, nodes=nodes)
    check(found)
    return found


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


def _held(node: Node) -> Node:
    """The node called on all that it reads; on each position of an axis that it leaves alone."""
    columns = list(zip(*(edge.axes for edge in node.edges), strict=True))
    maps = [_whole(node, n, axes) for n, axes in zip(node.extents, columns, strict=True)]
    sources = dict.fromkeys(edge.source for edge in node.edges)
    edges = tuple(Edge(source, tuple(maps)) for source in sources)
    return replace(node, kind=Kind.HELD, edges=edges)


def _whole(node: Node, extent: int, axes: Sequence[AxisMap]) -> AxisMap:
    alone = node.family in _BY_ROWS and all(axis == Identity() for axis in axes)
    return Identity() if alone else Global(extent)
