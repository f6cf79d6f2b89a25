"""Helpers shared by several findings: numbers and names in words, and walks over the graph."""

from __future__ import annotations

import math
from collections.abc import Iterable

from eyeshot.geometry.sizes import nearest_sizes
from eyeshot.graph import Family, Graph, Node

AXES = {1: ("positions",), 2: ("rows", "columns"), 3: ("slices", "rows", "columns")}
"""The names of positions along each spatial axis."""


def counted(n: int, word: str) -> str:
    """``1 channel``, ``1,568 channels``."""
    return f"{n:,} {word}" if n == 1 else f"{n:,} {word}s"


def by(sizes: Iterable[int]) -> str:
    """``32×7×7``."""
    return "×".join(str(n) for n in sizes)


def joined(words: Iterable[str], last: str = "and") -> str:
    """``a, b and c``."""
    *front, end = words
    return f"{', '.join(front)} {last} {end}" if front else end


def called(node: Node) -> str:
    """A node's name in a sentence: ``conv1``, and ``layer 3`` where the name is a number."""
    return f"layer {node.name}" if node.name[:1].isdigit() else node.name


def axis_name(graph: Graph, axis: int) -> str:
    """``rows``."""
    return AXES[graph.spatial_axes][axis]


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
    """What a node reads, repairs left out."""
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
    found, waiting = {node.name}, [node]
    while waiting:
        for edge in waiting.pop().edges:
            if edge.source not in found:
                found.add(edge.source)
                waiting.append(graph.nodes[edge.source])
    return found


def ancestors(graph: Graph, node: Node) -> list[Node]:
    """The node, and what stands before it, along first inputs."""
    found = [node]
    while found[-1].edges:
        found.append(graph.nodes[found[-1].edges[0].source])
    return found


def last_map(graph: Graph, node: Node) -> Node | None:
    """The last node before it, along first inputs, whose positions can be told apart."""
    while node.edges:
        node = origin(graph, node.edges[0].source)
        if math.prod(node.extents) > 1:
            return node
    return None
