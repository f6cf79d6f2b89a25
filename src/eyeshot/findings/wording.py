"""Helpers shared by several findings: numbers and names in words, and walks over the graph."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from eyeshot.geometry.sizes import nearest_sizes
from eyeshot.graph import Family, Graph, Node
from eyeshot.language import mark, ntr, plural, tr

AXES = {
    1: (mark("positions"),),
    2: (mark("rows"), mark("columns")),
    3: (mark("slices"), mark("rows"), mark("columns")),
}
"""The names of positions along each spatial axis, in English."""

COUNTED = {
    one.removeprefix("{n:,} "): (one, many)
    for one, many in (
        plural("{n:,} bias value", "{n:,} bias values"),
        plural("{n:,} channel", "{n:,} channels"),
        plural("{n:,} error", "{n:,} errors"),
        plural("{n:,} feature", "{n:,} features"),
        plural("{n:,} input", "{n:,} inputs"),
        plural("{n:,} later layer", "{n:,} later layers"),
        plural("{n:,} layer", "{n:,} layers"),
        plural("{n:,} more layer", "{n:,} more layers"),
        plural("{n:,} note", "{n:,} notes"),
        plural("{n:,} number", "{n:,} numbers"),
        plural("{n:,} parameter", "{n:,} parameters"),
        plural("{n:,} picture", "{n:,} pictures"),
        plural("{n:,} row", "{n:,} rows"),
        plural("{n:,} time", "{n:,} times"),
        plural("{n:,} warning", "{n:,} warnings"),
    )
}
"""What is counted in messages that are translated: one and many."""


def counted(n: int, word: str) -> str:
    """``1 channel``, ``1,568 channels``."""
    return ntr(*COUNTED.get(word, (f"{{n:,}} {word}", f"{{n:,}} {word}s")), n)


def scaled(n: float) -> str:
    """``831``, ``24.5 k``, ``1.02 M``, ``7,430 G``: three digits and a prefix of the SI."""
    for prefix, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= size * 0.9995:
            digits = max(0, 2 - int(math.log10(n / size * 1.0005)))
            return f"{n / size:,.{digits}f} {prefix}"
    return f"{n:.0f}"


_BETWEEN_HAN = re.compile(r"(?<=[\u4e00-\u9fff]) (?=[\u4e00-\u9fff])")
"""Names in Latin letters stand apart from Chinese words, and Chinese words do not."""


def by(sizes: Iterable[int]) -> str:
    """``32×7×7``."""
    return "×".join(str(n) for n in sizes)


def joined(words: Iterable[str], last: str = "and") -> str:
    """``a, b and c``; ``last`` is ``and`` or ``or``."""
    *front, end = words
    text = mark("{front} or {last}") if last == "or" else mark("{front} and {last}")
    if not front:
        return end
    return _BETWEEN_HAN.sub("", tr(text, front=tr(", ").join(front), last=end))


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
