"""Where an interrupted run starts again: at whole calls of the uninterrupted run.

An operator's last bit may depend on how many rows it computes in one call: a sigmoid is computed
on vectors of numbers, and the remainder at the end of a call in another way. A resumed run
therefore repeats the same calls on the same number of rows. It simulates them with counts, and
makes only the calls that compute a row that is still needed. Other rows of a repeated call are
never read, so their inputs may be zeros and are not recomputed.

The cut of a run is defined here too: bands of rows and strips of columns.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eyeshot.axes import Interval
from eyeshot.geometry import Region
from eyeshot.geometry.tiles import hull, input_box
from eyeshot.graph import Graph
from eyeshot.planning.schedule import Progress, Walk, pushes


def first_rows(
    graph: Graph,
    boxes: Mapping[str, Region],
    wanted: Mapping[str, int],
    band: int,
    *,
    independent_rows: bool = True,
) -> dict[str, int]:
    """The first row of each node that a run must compute to return outputs from some row on.

    Args:
        graph: a lowered graph.
        boxes: the box of each node that the uninterrupted run computes, in one strip.
        wanted: for each output, the first missing row.
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
    for name, row in wanted.items():
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
