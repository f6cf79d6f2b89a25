"""The engine's schedule walked with counts: the same nodes, rows and order, and no numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from eyeshot.axes import Interval
from eyeshot.geometry import Region
from eyeshot.graph import Graph
from eyeshot.planning.schedule import Progress, Schedule

Rows = dict[str, Interval]


def pushes(graph: Graph, boxes: Mapping[str, Region], band: int) -> Iterator[Rows]:
    """The rows of every input that enter at each push, in step with the longest of them."""
    sides = {name: boxes[name][0] for name in graph.inputs if name in boxes}
    longest = max((len(side) for side in sides.values()), default=0)
    for before in range(0, max(1, longest), band):
        now = min(before + band, longest)
        yield {
            name: Interval(side.lo + fed(side, before, longest), side.lo + fed(side, now, longest))
            for name, side in sides.items()
        }


def fed(side: Interval, entered: int, longest: int) -> int:
    """Rows of one input that have entered when ``entered`` of the longest input have."""
    return len(side) if longest == 0 else -(-len(side) * entered // longest)


class Walk:
    """One pass over the rows of one region, like that of :class:`eyeshot.engine.stream.Stream`.

    A subclass records each call and the released rows.

    Args:
        graph: a lowered graph.
        boxes: the box of each node to compute.
        band: rows of the input that one call should correspond to.
    """

    def __init__(self, graph: Graph, boxes: Mapping[str, Region], band: int) -> None:
        self.schedule = Schedule(graph, boxes, band=band)

    def push(self, rows: Mapping[str, Interval]) -> None:
        """Let these rows of the inputs enter, and run nodes until no node has work."""
        fresh = {name: len(side) for name, side in rows.items()}
        while self._round(fresh):
            fresh = {}
            self.rounded()

    def called(self, progress: Progress, count: int) -> None:
        """A node computes its next ``count`` rows in one call; ``progress`` is as before it."""

    def gathered(self, progress: Progress, rows: Interval) -> None:
        """Rows of its input pass a node that mixes all of them."""

    def released(self, progress: Progress) -> None:
        """Rows of a node may now be let go."""

    def rounded(self) -> None:
        """Every node has run once: give the ready rows of the outputs."""

    def _round(self, fresh: Mapping[str, int]) -> bool:
        """Let every node work once; whether any did."""
        moved = False
        for progress in self.schedule:
            if not progress.node.edges:
                count = fresh.get(progress.node.name, 0)
            elif progress.gathers:
                new, last = self.schedule.gatherable(progress)
                self.gathered(progress, new)
                progress.taken = max(progress.taken, new.hi)
                count = int(last)
            else:
                count = len(self.schedule.ready(progress))
            if count:
                moved = True
                self.called(progress, count)
                progress.done += count
            if count or progress.gathers:  # otherwise nothing has changed
                for edge in progress.node.edges:
                    self.released(self.schedule[edge.source])
                self.released(progress)
        return moved
