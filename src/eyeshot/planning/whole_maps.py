"""Maps that stay in memory whole: for a statistic, or for an operator that is called once.

A global pool needs every row before it gives its result. A node that combines this result with a
map, such as the gate of a squeeze-and-excite, cannot give its first row before that, so all rows of
the map wait. An operator that mixes positions, such as attention, reads all rows of its inputs in
one call. Both are exact, but their memory grows with the height. If the memory is enough, the run
does this and the plan lists the maps and the reasons; otherwise the run is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from eyeshot.errors import BadValue, Unsupported
from eyeshot.graph import Graph, Kind, Node

if TYPE_CHECKING:
    from eyeshot.planning.band_plan import BandPlan

_MOST_NAMES = 4


@dataclass(frozen=True, slots=True)
class HeldMap:
    """A map whose rows all stay in memory.

    Attributes:
        source: the node of the map.
        reader: the node that reads the map in addition to the statistic.
        statistic: the node that must read every row first; the reader itself if it is called once.
    """

    source: str
    reader: str
    statistic: str

    def told(self, graph: Graph) -> str:
        """In words."""
        statistic = graph.nodes[self.statistic]
        if self.statistic == self.reader:
            return f"{self.statistic} ({statistic.operator}) reads every row in one call"
        return (
            f"{self.statistic} ({statistic.operator}) must see every row before {self.reader} "
            f"gives its first"
        )


def maps_held_whole(graph: Graph) -> tuple[HeldMap, ...]:
    """Every map whose rows must all stay in memory, in execution order."""
    passed, last = _passed(graph), dict[str, str]()
    found = []
    for node in graph:
        before = max((passed[edge.source] for edge in node.edges), default=0)
        behind = [e.source for e in node.edges if passed[e.source] == before and e.source in last]
        if passed[node.name] > before:
            last[node.name] = node.name
            if node.kind is Kind.HELD:
                found += [
                    HeldMap(edge.source, node.name, node.name)
                    for edge in node.edges
                    if graph.nodes[edge.source].extents[0] > 1
                ]
        elif behind:
            last[node.name] = last[behind[0]]
            found += [
                HeldMap(edge.source, node.name, last[node.name])
                for edge in node.edges
                if passed[edge.source] < before and graph.nodes[edge.source].extents[0] > 1
            ]
    return tuple(found)


def _passed(graph: Graph) -> dict[str, int]:
    """Before each node gives a row: how often all rows have passed, one time after another."""
    passed: dict[str, int] = {}
    for node in graph:
        before = max((passed[edge.source] for edge in node.edges), default=0)
        passed[node.name] = before + any(
            edge.axes and edge.axes[0].is_global and graph.nodes[edge.source].extents[0] > 1
            for edge in node.edges
        )
    return passed


def names_held_whole(graph: Graph) -> frozenset[str]:
    """The nodes whose rows are all in memory at some time."""
    return frozenset(one.source for one in maps_held_whole(graph))


def stages(graph: Graph) -> int:
    """How often all rows of a map must have passed before rows behind it can: 1 where none must."""
    return 1 + max(_passed(graph).values(), default=0)


def say_what_is_held(plan: BandPlan, graph: Graph, maps: Sequence[HeldMap]) -> BandPlan:
    """The plan with a reason for each map that stays in memory whole."""
    buffers = []
    for buffer in plan.buffers:
        for one in maps:
            if one.source == buffer.name and buffer.waits_for.startswith(f"{one.reader} ("):
                why = f"{buffer.waits_for}: held whole, " + (
                    f"for one call of {graph.nodes[one.reader].operator}"
                    if one.statistic == one.reader
                    else f"until {one.statistic} has seen every row"
                )
                buffer = replace(buffer, waits_for=why)
        buffers.append(buffer)
    return replace(plan, buffers=tuple(buffers))


def too_much_to_hold(graph: Graph, maps: Sequence[HeldMap], room: str, cure: str) -> BadValue:
    """The error for a network whose maps do not fit in memory; it names the first statistic."""
    names = list(dict.fromkeys(one.source for one in maps))
    listed = ", ".join(names[:_MOST_NAMES]) + (" …" if len(names) > _MOST_NAMES else "")
    told = f"{maps[0].told(graph)}, so all rows of {listed} are held, and {room}"
    return BadValue(told, cure=cure)


def refuse_without_end(graph: Graph) -> None:
    """Refuse a network that would buffer rows without limit if their number is unknown.

    Raises:
        Unsupported: a map must stay in memory for a statistic, or a layer gives no row before it
            knows the number of rows (a resize that aligns corners).
    """
    maps = maps_held_whole(graph)
    waiting = next((node for node in graph if _waits_for_the_end(graph, node)), None)
    if maps:
        told = maps[0].told(graph)
    elif waiting is not None:
        told = f"{waiting.name} ({waiting.operator}) must know the height before it gives a row"
    else:
        return
    raise Unsupported(
        f"{told}, and a camera's rows have no end", cure="use eyeshot.run, which knows the height"
    )


def _waits_for_the_end(graph: Graph, node: Node) -> bool:
    """Whether no number of rows of a map gives an output row, and it is not a statistic."""
    return any(
        edge.axes
        and not edge.axes[0].is_global
        and graph.nodes[edge.source].extents[0] > 1
        and not edge.axes[0].ready(graph.nodes[edge.source].extents[0], None)
        for edge in node.edges
    )
