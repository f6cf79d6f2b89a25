"""Maps that are computed again for a later pass over the rows, in place of being kept.

A map that is read in a later pass than the one that computes it must be kept whole, in memory or on
disk. Otherwise its nodes are repeated in that pass, from maps that are kept or from the image,
which is read again. The repeated nodes are nodes of the graph, so the schedule, the memory and the
work are simulated, computed and resumed like those of any other node.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from eyeshot.graph import Call, Edge, Graph, Kind, Node, Ref, check, reaching
from eyeshot.operators import effort
from eyeshot.planning.holding import crosses_rows, names_held_whole, passes_before
from eyeshot.planning.schedule import itemsize

PER_BYTE_ON_DISK = 32
"""The price of a byte that is written to disk and read again, in multiply-adds: measured, a core
makes 40 to 120 G multiply-adds of a convolution a second, and writes new pages of a file at 0.5 to
2 GB a second."""
_PER_BYTE_COMPUTED = 2
"""The price of a byte that an operator without multiply-adds gives."""
_MOST_NODES = 4000
"""With more nodes than this, simulating a plan takes too long."""
_SHARES = (0.25, 0.5, 0.75, 1.0)
"""Shares of the maps that are not cheap, the cheapest first."""


def recompute(graph: Graph, names: Collection[str]) -> Graph:
    """The graph in which some maps that are held whole are computed again where they are read.

    Args:
        graph: a lowered graph.
        names: some of :func:`repeatable`.
    """
    if not names:
        return graph
    graph = reaching(graph, graph.outputs)
    plan = _Repeats(graph, names)
    nodes: dict[str, Node] = {}
    inputs = list(graph.inputs)
    for before, barriers in enumerate(plan.barriers):
        at_this = [node for node in graph if plan.passes[node.name] == before]
        nodes |= {name: plan.reading(graph.nodes[name], before) for name in barriers}
        for node in graph:
            if node.name in plan.needed.get(before, ()):
                again = plan.repeated(node, before)
                nodes[again.name] = again
                inputs += [again.name] if node.is_input else []
        nodes |= {
            node.name: plan.reading(node, before) for node in at_this if node.name not in barriers
        }
    found = reaching(replace(graph, nodes=nodes, inputs=tuple(inputs)), graph.outputs)
    check(found)
    return found


class _Repeats:
    """Which nodes are repeated before which pass.

    Attributes:
        passes: for each node, the passes over rows that precede it.
        barriers: for each number of passes, the nodes that end the pass before: statistics.
        needed: for each number of passes, the nodes to repeat.
    """

    def __init__(self, graph: Graph, names: Collection[str]) -> None:
        self._graph = graph
        self._held_whole = names_held_whole(graph) - set(names)
        self.passes = passes_before(graph)
        self.barriers: list[list[str]] = [[] for _ in range(1 + max(self.passes.values()))]
        for node in graph:
            if crosses_rows(node, graph):
                self.barriers[self.passes[node.name]].append(node.name)
        self.needed: dict[int, set[str]] = {}
        for node in reversed(list(graph)):
            for before in self._where(node):
                for edge in node.edges:
                    if self._must_repeat(edge.source, before):
                        self.needed.setdefault(before, set()).add(edge.source)

    def _where(self, node: Node) -> Iterator[int]:
        """The passes in which a node, or a repetition of it, reads its inputs row by row."""
        if not crosses_rows(node, self._graph):
            yield self.passes[node.name]
        for before, names in list(self.needed.items()):
            if node.name in names:
                yield before

    def _must_repeat(self, name: str, before: int) -> bool:
        node = self._graph.nodes[name]
        return (
            self.passes[name] < before
            and node.extents[0] > 1
            and name not in self._held_whole
            and not crosses_rows(node, self._graph)
        )

    def repeated(self, node: Node, before: int) -> Node:
        """The repetition of a node in a later pass."""
        again, after = self.reading(node, before), tuple(self.barriers[before])
        return replace(again, name=_named(node.name, before), again=node.name, after=after)

    def reading(self, node: Node, before: int) -> Node:
        """A node that reads repeated nodes, where there are some."""
        if crosses_rows(node, self._graph):
            return node
        needed = self.needed.get(before, set())
        new = {
            edge.source: _named(edge.source, before)
            for edge in node.edges
            if edge.source in needed and self.passes[edge.source] < before
        }
        return _renamed(node, new) if new else node


def _named(name: str, before: int) -> str:
    return f"{name} (again, pass {before + 1})"


def _renamed(node: Node, new: Mapping[str, str]) -> Node:
    """The node with other names for some of its inputs."""

    def put(value: Any) -> Any:
        return Ref(new.get(value.node, value.node)) if isinstance(value, Ref) else value

    call: Call | None = None if node.call is None else node.call.substituted(put)
    edges = tuple(replace(edge, source=new.get(edge.source, edge.source)) for edge in node.edges)
    return replace(node, edges=edges, call=call)


def repeatable(graph: Graph) -> tuple[str, ...]:
    """The maps that are held whole and can be computed again instead.

    A node that takes its whole inputs in one call needs them in memory, and a node that must see
    every row is not repeated.
    """
    in_one_call = {
        edge.source for node in graph if node.kind is Kind.HELD for edge in _crossed(node, graph)
    }
    held_whole = names_held_whole(graph)
    return tuple(
        node.name
        for node in graph
        if node.name in held_whole
        and node.name not in in_one_call
        and not crosses_rows(node, graph)
        and node.extents[0] > 1
    )


def _crossed(node: Node, graph: Graph) -> tuple[Edge, ...]:
    return node.edges if crosses_rows(node, graph) else ()


@dataclass(frozen=True, slots=True)
class Choice:
    """Some maps to compute again.

    Attributes:
        again: the names of the maps, in execution order.
        price: of the repeated work, in multiply-adds.
    """

    again: tuple[str, ...]
    price: float


def choices(graph: Graph) -> list[Choice]:
    """Sets of maps to compute again: none, those cheaper than the disk, and up to all of them."""
    names = repeatable(graph)
    found = [Choice((), 0.0)]
    if not names:
        return found
    prices = _prices(graph)
    again: set[str] = set()
    left: list[tuple[float, str]] = []
    price = 0.0
    for name in names:
        more, count = _price(graph, {*again, name}, prices)
        ratio = (more - price) / _bytes(graph.nodes[name])
        if ratio < PER_BYTE_ON_DISK and count <= _MOST_NODES:
            again.add(name)
            price = more
        else:
            left.append((ratio, name))
    left.sort()
    sets = [again] + [again | {n for _, n in left[: round(s * len(left))]} for s in _SHARES]
    for one in sets:
        price, count = _price(graph, one, prices)
        choice = Choice(tuple(name for name in names if name in one), price)
        if count <= _MOST_NODES and choice.again not in [other.again for other in found]:
            found.append(choice)
    return found


def _price(graph: Graph, again: set[str], prices: Mapping[str, float]) -> tuple[float, int]:
    """The multiply-adds of all repeated nodes, and the number of all nodes."""
    needed = _Repeats(graph, again).needed.values()
    total = sum(prices[name] for names in needed for name in names)
    return total, len(graph) + sum(map(len, needed))


def _prices(graph: Graph) -> dict[str, float]:
    """For each node, the price to compute all its rows, in multiply-adds."""
    found = {}
    for node in graph:
        if node.is_input:
            found[node.name] = float(PER_BYTE_ON_DISK * _bytes(node))
            continue
        read = _numbers(graph.nodes[node.edges[0].source]) if node.edges else 0
        work = effort(graph, node).of(read, _numbers(node)) if node.edges else 0
        found[node.name] = float(max(work, _PER_BYTE_COMPUTED * _bytes(node)))
    return found


def _numbers(node: Node) -> int:
    count = 1
    for n in node.shape:
        count *= n
    return count


def _bytes(node: Node) -> int:
    return max(1, _numbers(node) * itemsize(node))
