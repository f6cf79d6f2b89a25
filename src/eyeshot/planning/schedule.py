"""Which rows of which node are computed when: row counts alone, no numbers of the picture.

The engine follows a schedule and fills it with tensors; the planner follows the same one with
nothing but counts, and so knows what the engine will hold before it runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from eyeshot.axes import Interval
from eyeshot.geometry import Region
from eyeshot.graph import Edge, Graph, Kind, Node

ENDLESS = 1 << 40
"""Stands for the number of rows while the end has not been seen: no border is near."""


@dataclass(slots=True)
class Progress:
    """How far one node has come.

    Attributes:
        node: the node.
        box: what must be computed of it; empty where only padding is read.
        size: rows of the whole; None while the end is not known.
        done: the next row to compute; all rows of the box before it are there.
        kept: the first row that is still held.
        most: rows to compute at one time.
        taken: for a node that gathers all rows, the next row of its input to take.
        readers: who reads it, and by which edge.
        gathers: whether it mixes all rows, so that they pass by and are not kept.
        at_once: whether all its rows come of one call.
    """

    node: Node
    box: Region
    size: int | None
    done: int
    kept: int
    most: int
    taken: int = 0
    readers: list[tuple[Progress, Edge]] = field(default_factory=list)
    gathers: bool = field(init=False)
    at_once: bool = field(init=False)

    def __post_init__(self) -> None:
        edges = self.node.edges  # asked at every turn, and the same at every height
        mixes = any(edge.axes and edge.axes[0].is_global for edge in edges)
        self.at_once = mixes and self.node.kind is Kind.HELD
        self.gathers = mixes and not self.at_once

    @property
    def end(self) -> int:
        """Where its rows end; far away while that is not known."""
        return self.box[0].hi if self.size is not None else ENDLESS


class Schedule:
    """The order of work on one region.

    Args:
        graph: the network at the size of the picture.
        boxes: what must be computed of each node, from :func:`eyeshot.geometry.required`.
        open_ended: the height of ``graph`` is not that of the picture, which is not yet known.
        band: rows of the input that a node's work at one time should answer to; None for no limit.
            Deep layers become ready in lumps, at the first rows and the last above all. Worked off
            a band at a time, a lump never stands in memory as a whole.
    """

    def __init__(
        self,
        graph: Graph,
        boxes: Mapping[str, Region],
        open_ended: bool = False,
        band: int | None = None,
    ) -> None:
        self._all: dict[str, Progress] = {}
        rows = max(graph.nodes[name].extents[0] for name in graph.inputs)
        for node in graph:
            if node.name in boxes:
                box = boxes[node.name]
                known = not open_ended or node.dims[0] is None
                size = node.extents[0] if known else None
                most = ENDLESS if band is None else max(1, -(-band * node.extents[0] // rows))
                self._all[node.name] = Progress(node, box, size, box[0].lo, box[0].lo, most)
        for progress in self._all.values():
            for edge in progress.node.edges:
                self._all[edge.source].readers.append((progress, edge))

    def __iter__(self) -> Iterator[Progress]:
        return iter(self._all.values())

    def __getitem__(self, name: str) -> Progress:
        return self._all[name]

    def ready(self, progress: Progress) -> Interval:
        """The rows to compute next: those that the inputs now allow, a band of them at most."""
        target = _a_band_on(progress)
        for edge in progress.node.edges:
            source = self._all[edge.source]
            if source.done < source.end:  # else all that is read of it is there
                target = min(target, edge.axes[0].ready(source.done, source.size))
        return Interval(progress.done, max(progress.done, target))

    def gatherable(self, progress: Progress) -> tuple[Interval, bool]:
        """For a node that gathers: the new rows of its input, and whether they are the last."""
        source = self._all[progress.node.edges[0].source]
        last = source.size is not None and source.done >= source.size
        return Interval(progress.taken, source.done), last and progress.done < progress.end

    def needed_from(self, source: Progress) -> int:
        """The first row of a node that somebody may still ask for."""
        rows = [self._asks(source, reader, edge) for reader, edge in source.readers]
        return min(rows, default=source.done)

    def close(self, graph: Graph, boxes: Mapping[str, Region]) -> None:
        """The end is known now: ``graph`` and ``boxes`` are those of the real height."""
        for name, progress in self._all.items():
            progress.node, progress.box = graph.nodes[name], boxes[name]
            progress.size = graph.nodes[name].extents[0]

    @staticmethod
    def _asks(source: Progress, reader: Progress, edge: Edge) -> int:
        if reader.gathers:
            return reader.taken
        if source.size is None:
            return edge.axes[0].first_needed(reader.done)
        reads = edge.axes[0].input_range_inside(Interval(reader.done, reader.end), source.size)
        return reads.lo if reads else source.done


def _a_band_on(progress: Progress) -> int:
    """Where a band of work ends.

    In a transposed window that is where an input's reach ends, so that none is spread out twice.
    """
    if progress.at_once:
        return progress.end
    target = progress.done + progress.most
    for edge in progress.node.edges:
        target = edge.axes[0].whole_blocks(target)
    return min(progress.end, target)
