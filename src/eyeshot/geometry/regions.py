"""What every node must give, so that a region of an output can be computed."""

from __future__ import annotations

from collections.abc import Mapping

from eyeshot.axes import EMPTY, Interval
from eyeshot.errors import BadValue, Unsupported
from eyeshot.graph import Edge, Graph, Kind

Region = tuple[Interval, ...]
"""One interval for each spatial axis."""


def required(graph: Graph, wanted: Mapping[str, Region]) -> dict[str, Region]:
    """The smallest box of each node that the requested boxes of some nodes depend on.

    Args:
        graph: the network at the whole picture's size.
        wanted: a box for each requested output.

    Returns:
        For each node before a requested node, its box, inside ``[0, extent)`` along every axis;
        empty along all axes if only padding is read.

    Raises:
        BadValue: a requested box is empty or reaches outside the node.
        Unsupported: there is an operator without a rule before a requested node.
    """
    boxes: dict[str, Region] = {}
    for name, box in wanted.items():
        node = graph[name]
        for side, n in zip(box, node.extents, strict=True):
            if not side or not Interval(0, n).covers(side):
                raise BadValue(f"region {side} of {name}", cure=f"stay inside [0, {n})")
        boxes[node.name] = box
    for name in reversed(list(graph.nodes)):
        if name not in boxes:
            continue
        node = graph.nodes[name]
        if node.kind is Kind.UNSUPPORTED:
            raise Unsupported(f"{name}: {node.reason}", cure="ask for a layer before it")
        for edge in node.edges:
            reads = input_box(edge, boxes[name], graph.nodes[edge.source].extents)
            boxes[edge.source] = hull(boxes.get(edge.source, reads), reads)
    return boxes


def input_box(edge: Edge, box: Region, extents: tuple[int, ...]) -> Region:
    """The smallest box of a source that a box of its reader depends on.

    Args:
        edge: the edge from the source to the reader.
        box: the computed box of the reader.
        extents: positions of the source along each axis.

    Returns:
        A box inside ``[0, extent)``; empty along all axes if only padding is read.
    """
    reads = tuple(
        axis.input_range_inside(side, n)
        for axis, side, n in zip(edge.axes, box, extents, strict=True)
    )
    return reads if all(reads) else (EMPTY,) * len(extents)


def hull(one: Region, other: Region) -> Region:
    """The smallest box that holds two boxes."""
    return tuple(a.hull(b) for a, b in zip(one, other, strict=True))
