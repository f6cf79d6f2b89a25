"""Where the positions of a map lie in the image: how far apart, and where the first one is.

A receptive field says what an output sees, a grid where it stands: behind a stride of 2 two
neighbors are 2 pixels apart, and behind a 3 × 3 convolution without padding the first one stands on
pixel 1. A statistic over the whole image moves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from eyeshot.graph import Graph, Node


@dataclass(frozen=True, slots=True)
class Grid:
    """The positions of a map along one axis.

    Attributes:
        step: from one position to the next, in pixels of the input.
        first: where position 0 is: the center of what it sees, in pixels of the input. The center
            of pixel 0 is 0; the mean over the phases, where they differ.
    """

    step: Fraction
    first: Fraction


def grids_of(graph: Graph, name: str, source: str | None = None) -> tuple[Grid | None, ...]:
    """The grid of a node along each axis of the image; None where its positions have no place.

    Where branches meet that stand on different places of the same stride, the grid is in the
    middle.

    Args:
        graph: the network at one size.
        name: of the node.
        source: of the input; None for the first one.
    """
    start = graph.inputs[0] if source is None else source
    known: dict[str, tuple[Grid | None, ...]] = {}
    for node in graph:
        if node.is_input:
            own = Grid(Fraction(1), Fraction(0)) if node.name == start else None
            known[node.name] = (own,) * len(node.extents)
        else:
            known[node.name] = tuple(
                _joined(graph, node, axis, known) for axis in range(len(node.extents))
            )
        if node.name == name:
            break
    axes = graph.nodes[name].dims
    return tuple(None if dim is None else grid for dim, grid in zip(axes, known[name], strict=True))


def _joined(
    graph: Graph, node: Node, axis: int, known: dict[str, tuple[Grid | None, ...]]
) -> Grid | None:
    grids = []
    for edge in node.edges:
        before = known[edge.source][axis] if axis < len(known[edge.source]) else None
        if before is None or axis >= len(edge.axes):
            continue
        placed = edge.axes[axis].grid(graph.nodes[edge.source].extents[axis])
        if placed is not None:
            step, first = placed
            grids.append(Grid(before.step * step, before.first + before.step * first))
    if not grids or len({grid.step for grid in grids}) > 1:
        return None
    firsts = [grid.first for grid in grids]
    return Grid(grids[0].step, (min(firsts) + max(firsts)) / 2)
