"""The schedule: which rows of which node are computed when. It uses row counts, not data.

The engine follows a schedule with tensors; the planner follows the same schedule with only
counts, and so knows before the run how many rows the engine will buffer.

The arithmetic and the memory that a region of a node takes are computed here too, and so is where
an interrupted run starts again. An operator's last bit may depend on how many rows it computes in
one call: a sigmoid is computed on vectors of numbers, and the remainder at the end of a call in
another way. A resumed run therefore repeats the same calls on the same number of rows. It simulates
them with counts, and makes only the calls that compute a row that is still needed. Other rows of a
repeated call are never read, so their inputs may be zeros and are not recomputed.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eyeshot.axes import Interval
from eyeshot.geometry import Region
from eyeshot.geometry.tiles import hull, input_box
from eyeshot.graph import Edge, Graph, Kind, Node
from eyeshot.operators import effort
from eyeshot.operators.winograd import rows_together

ENDLESS = 1 << 40
"""The number of rows while the height is unknown, so that no border is near."""
_LEAST_OF_A_BAND = 4
"""Rows of a node in a band; in lower bands, which save memory, no node waits for more rows."""


@dataclass(slots=True)
class Progress:
    """The progress of one node.

    Attributes:
        node: the node.
        box: the box to compute; empty if only padding is read.
        size: rows of the whole map; None while the end is unknown.
        done: the next row to compute; all earlier rows of the box are computed.
        first_buffered: the first row that is still buffered.
        most: the most rows to compute in one call.
        least: the fewest, but for the last call.
        gathered: for a node that reduces all rows, the next row of its input to read.
        readers: its readers, each with its edge.
        gathers: whether it reduces all rows, so that rows pass and are not buffered.
        at_once: whether a single call computes all its rows.
        after: the nodes that must be complete before its first row is computed.
        limited: whether more rows than a band were ready when it was last asked.
        stale: whether rows may be ready: something that it reads has changed since it was asked.
    """

    node: Node
    box: Region
    size: int | None
    done: int
    first_buffered: int
    most: int
    gathered: int = 0
    readers: list[tuple[Progress, Edge]] = field(default_factory=list)
    after: list[Progress] = field(default_factory=list)
    gathers: bool = field(init=False)
    at_once: bool = field(init=False)
    limited: bool = True
    stale: bool = True
    least: int = 1

    def __post_init__(self) -> None:
        edges = self.node.edges  # used at every step, and the same at every height
        mixes = any(edge.axes and edge.axes[0].is_global for edge in edges)
        self.at_once = mixes and self.node.kind is Kind.HELD
        self.gathers = mixes and not self.at_once

    @property
    def end(self) -> int:
        """The end of its rows; very large while the height is unknown."""
        return self.box[0].hi if self.size is not None else ENDLESS


class Schedule:
    """The order of work on one region.

    Args:
        graph: the network at the size of the picture.
        boxes: the box of each node to compute, from :func:`eyeshot.geometry.required`.
        open_ended: the height of ``graph`` is not the picture's height, which is still unknown.
        band: rows of the input that one call of a node should correspond to; None for no limit.
            Many rows of a deep layer become ready together, especially at the first and the last
            rows. Processed band by band, they are never all in memory.
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
                least = rows_together(node) if _LEAST_OF_A_BAND <= most < ENDLESS else 1
                self._all[node.name] = Progress(
                    node, box, size, box[0].lo, box[0].lo, max(most, least), least=least
                )
        for progress in self._all.values():
            for edge in progress.node.edges:
                self._all[edge.source].readers.append((progress, edge))
            progress.after = [self._all[name] for name in progress.node.after if name in boxes]
        self._waiting: dict[str, list[Progress]] = {name: [] for name in self._all}
        for progress in self._all.values():
            for one in progress.after:
                self._waiting[one.node.name].append(progress)

    def __iter__(self) -> Iterator[Progress]:
        return iter(self._all.values())

    def __getitem__(self, name: str) -> Progress:
        return self._all[name]

    def ready(self, progress: Progress) -> Interval:
        """The rows to compute next: those that the inputs now allow, a band of them at most."""
        if any(one.done < one.end for one in progress.after):
            return Interval(progress.done, progress.done)
        band, target = _a_band_on(progress), progress.end
        for edge in progress.node.edges:
            source = self._all[edge.source]
            if source.done < source.end:  # otherwise all rows that are read of it are computed
                target = min(target, edge.axes[0].ready(source.done, source.size))
        if target - progress.done < min(progress.least, progress.end - progress.done):
            return Interval(progress.done, progress.done)
        progress.limited = target > band
        return Interval(progress.done, max(progress.done, min(target, band)))

    def gatherable(self, progress: Progress) -> tuple[Interval, bool]:
        """For a node that gathers: the new rows of its input, and whether they are the last."""
        source = self._all[progress.node.edges[0].source]
        last = source.size is not None and source.done >= source.size
        return Interval(progress.gathered, source.done), last and progress.done < progress.end

    def needed_from(self, source: Progress) -> int:
        """The first row of a node that a reader may still need."""
        rows = [self._asks(source, reader, edge) for reader, edge in source.readers]
        return min(rows, default=source.done)

    def advance(self, progress: Progress, count: int) -> None:
        """Count rows as computed: the node itself and its readers may have rows that are ready."""
        progress.done += count
        progress.stale = progress.limited
        for reader, _ in progress.readers:
            reader.stale = True
        if progress.done >= progress.end:
            for one in self._waiting[progress.node.name]:
                one.stale = True

    def close(self, graph: Graph, boxes: Mapping[str, Region]) -> None:
        """Set the end of the rows: ``graph`` and ``boxes`` are those of the real height."""
        for name, progress in self._all.items():
            progress.node, progress.box = graph.nodes[name], boxes[name]
            progress.size = graph.nodes[name].extents[0]
            progress.stale = True

    @staticmethod
    def _asks(source: Progress, reader: Progress, edge: Edge) -> int:
        if reader.gathers:
            return reader.gathered
        if source.size is None:
            return edge.axes[0].first_needed(reader.done)
        reads = edge.axes[0].input_range_inside(Interval(reader.done, reader.end), source.size)
        return reads.lo if reads else source.done


def _a_band_on(progress: Progress) -> int:
    """The end of a band of work.

    For a transposed window it is the end of an input's outputs, so that no input is used twice.
    """
    if progress.at_once:
        return progress.end
    target = progress.done + progress.most
    for edge in progress.node.edges:
        target = edge.axes[0].whole_blocks(target)
    return min(progress.end, target)


Rows = dict[str, Interval]


def pushes(graph: Graph, boxes: Mapping[str, Region], band: int) -> Iterator[Rows]:
    """The rows of every input that enter at each push, in step with the longest of them.

    Inputs that are read again for a later pass enter after all rows of the earlier ones.
    """
    groups: dict[tuple[str, ...], Rows] = {(): {}}
    for name in graph.inputs:
        if name in boxes:
            groups.setdefault(graph.nodes[name].after, {})[name] = boxes[name][0]
    for after, sides in groups.items():
        longest = max((len(side) for side in sides.values()), default=0)
        if after and not longest:
            continue
        for before in range(0, max(1, longest), band):
            now = min(before + band, longest)
            yield {
                name: Interval(
                    side.lo + fed(side, before, longest), side.lo + fed(side, now, longest)
                )
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
        """A node computes its next ``count`` rows in one call; ``progress`` is the state before."""

    def gathered(self, progress: Progress, rows: Interval) -> None:
        """A node that gathers reads new rows of its input."""

    def released(self, progress: Progress) -> None:
        """Rows of a node may be released now."""

    def rounded(self) -> None:
        """Every node has run once; the ready rows of the outputs can be written."""

    def _round(self, fresh: Mapping[str, int]) -> bool:
        """Let every node compute once; return whether any node had new rows."""
        moved = False
        for progress in self.schedule:
            if not progress.stale and progress.node.edges:
                continue  # nothing that it reads has changed
            progress.stale = False
            if not progress.node.edges:
                count = fresh.get(progress.node.name, 0)
            elif progress.gathers:
                new, last = self.schedule.gatherable(progress)
                if new:
                    self.gathered(progress, new)
                progress.gathered = max(progress.gathered, new.hi)
                count = int(last)
            else:
                count = len(self.schedule.ready(progress))
            if count:
                moved = True
                self.called(progress, count)
                self.schedule.advance(progress, count)
            if count or progress.gathers:  # otherwise nothing has changed
                for edge in progress.node.edges:
                    self.released(self.schedule[edge.source])
                self.released(progress)
        return moved


def itemsize(node: Node) -> int:
    """Bytes of one number of a node."""
    return 2 if node.dtype == "bfloat16" else np.dtype(node.dtype).itemsize


def positions(node: Node, box: Region) -> int:
    """Numbers in a box of a node, all channels."""
    count = math.prod(node.shape) // max(1, math.prod(node.extents))
    sides = [1 if d is None else len(side) for d, side in zip(node.dims, box, strict=True)]
    return count * math.prod(sides)


def row_numbers(node: Node, box: Region) -> int:
    """Numbers in one row of a box; in the whole value if a node has no rows."""
    count = math.prod(node.shape) // max(1, math.prod(node.extents))
    rest = zip(node.dims[1:], box[1:], strict=True)
    return count * math.prod(1 if d is None else len(side) for d, side in rest)


def multiply_adds(graph: Graph, boxes: Mapping[str, Region]) -> int:
    """The multiply-adds to compute each of these boxes once."""
    total = 0
    for node in graph:
        box = boxes.get(node.name)
        if box is None or not node.edges:
            continue
        source = node.edges[0].source
        read = positions(graph.nodes[source], boxes[source])
        total += effort(graph, node).of(read, positions(node, box))
    return total


def first_rows(
    graph: Graph,
    boxes: Mapping[str, Region],
    missing: Mapping[str, int],
    band: int,
    *,
    independent_rows: bool = True,
) -> dict[str, int]:
    """The first row of each node that a run must compute to return outputs from some row on.

    Args:
        graph: a lowered graph.
        boxes: the box of each node that the uninterrupted run computes, in one strip.
        missing: for each output, the first missing row.
        band: rows that enter together.
        independent_rows: True if every kernel computes each output row from its own inputs only.
            With a Fourier or Winograd transform the last bits depend on other rows: then all rows
            of a repeated call must be right, and all their inputs too.

    Returns:
        For each node, the row at which a call of the uninterrupted run begins; the end of its rows
        for a node that is not needed.
    """
    calls = _Calls(graph, boxes, band)
    first = {name: box[0].hi for name, box in boxes.items()}
    needed: dict[str, Region] = {}
    for name, row in missing.items():
        if row < first[name]:
            first[name] = _before(calls.begin[name], row)
            rows = Interval(row if independent_rows else first[name], boxes[name][0].hi)
            needed[name] = (rows, *boxes[name][1:])
    for progress in reversed(list(calls.schedule)):
        name = progress.node.name
        if name not in needed or not needed[name][0]:
            continue
        first[name] = min(first[name], _before(calls.begin[name], needed[name][0].lo))
        computed = needed[name] if independent_rows else calls.around(progress, needed[name][0])
        for edge in progress.node.edges:
            source = calls.schedule[edge.source]
            gathered = progress.gathers and source.box
            reads = gathered or input_box(edge, computed, source.node.extents)
            before = needed.get(edge.source, reads)
            needed[edge.source] = hull(before, reads)
    return first


class _Calls(Walk):
    """The first row of every call of each node."""

    def __init__(self, graph: Graph, boxes: Mapping[str, Region], band: int) -> None:
        super().__init__(graph, boxes, band)
        self.begin: dict[str, list[int]] = {name: [] for name in boxes}
        for rows in pushes(graph, boxes, band):
            self.push(rows)

    def called(self, progress: Progress, count: int) -> None:
        self.begin[progress.node.name].append(progress.done)

    def around(self, progress: Progress, rows: Interval) -> Region:
        """The region of all calls of a node that compute some of ``rows``."""
        begin, end = self.begin[progress.node.name], progress.box[0].hi
        after = bisect_left(begin, rows.hi)
        hi = begin[after] if after < len(begin) else end
        return (Interval(_before(begin, rows.lo), hi), *progress.box[1:])


def _before(rows: list[int], row: int) -> int:
    """The last of the ascending ``rows`` that is not after ``row``."""
    return rows[max(0, bisect_right(rows, row) - 1)]


@dataclass(frozen=True, slots=True)
class Cut:
    """The part of an unfinished run's plan that the resumed run must keep.

    Attributes:
        band: rows of the input that enter together.
        strips: the region of each output for each strip, from left to right.
        spilled: the names of maps on disk.
        again: the names of maps that are computed again.
    """

    band: int
    strips: tuple[Mapping[str, Region], ...]
    spilled: tuple[str, ...] = ()
    again: tuple[str, ...] = ()

    def suits(self, regions: Mapping[str, Region]) -> bool:
        """Whether the strips together equal these regions."""
        if not self.strips or any(strip.keys() != regions.keys() for strip in self.strips):
            return False
        return all(
            _tile(box, [part[name] for part in self.strips]) for name, box in regions.items()
        )


def cut_from(settings: Mapping[str, Any]) -> Cut | None:
    """The strips and bands in the settings of a run, or None."""
    try:
        strips = tuple(
            {str(name): tuple(Interval(int(lo), int(hi)) for lo, hi in box) for name, box in each}
            for each in (strip.items() for strip in settings["strips"])
        )
        band = int(settings["band"])
        spilled = tuple(str(name) for name in settings.get("spilled", ()))
        again = tuple(str(name) for name in settings.get("again", ()))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    return Cut(band, strips, spilled, again) if band > 0 else None


def _tile(box: Region, parts: list[Region]) -> bool:
    """Whether the parts are adjacent along the columns and together equal the box."""
    if any(len(part) != len(box) for part in parts):
        return False
    if len(box) < 2:
        return parts == [box]
    ends = [box[1].lo, *(part[1].hi for part in parts)]
    return ends[-1] == box[1].hi and all(
        (part[0], *part[2:]) == (box[0], *box[2:]) and part[1].lo == before < part[1].hi
        for part, before in zip(parts, ends, strict=False)
    )
