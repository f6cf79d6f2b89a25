"""How much arithmetic and memory a box of a node takes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from eyeshot.geometry import Region
from eyeshot.graph import Graph, Node
from eyeshot.operators import effort


def itemsize(node: Node) -> int:
    """Bytes of one number of a node."""
    return 2 if node.dtype == "bfloat16" else np.dtype(node.dtype).itemsize


def positions(node: Node, box: Region) -> int:
    """Numbers in a box of a node, all channels."""
    count = math.prod(node.shape) // max(1, math.prod(node.extents))
    sides = [1 if d is None else len(side) for d, side in zip(node.dims, box, strict=True)]
    return count * math.prod(sides)


def row_numbers(node: Node, box: Region) -> int:
    """Numbers in one row of a box; the whole value where a node has no rows."""
    count = math.prod(node.shape) // max(1, math.prod(node.extents))
    rest = zip(node.dims[1:], box[1:], strict=True)
    return count * math.prod(1 if d is None else len(side) for d, side in rest)


def multiply_adds(graph: Graph, boxes: Mapping[str, Region]) -> int:
    """Multiply-adds to compute these boxes once each, as the field counts them."""
    total = 0
    for node in graph:
        box = boxes.get(node.name)
        if box is None or not node.edges:
            continue
        source = node.edges[0].source
        read = positions(graph.nodes[source], boxes[source])
        total += effort(graph, node).of(read, positions(node, box))
    return total
