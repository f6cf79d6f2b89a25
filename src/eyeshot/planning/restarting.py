"""Where an interrupted run starts again: at whole calls of the uninterrupted run.

An operator's last bit may depend on how many rows it computes in one call: a sigmoid is computed
by vectors of numbers, and the remainder at the end of a call in another way. A resumed run
therefore repeats the same calls on the same number of rows. It walks them by counts and makes
only those that compute a row which is still needed. Other rows of a repeated call are never read,
so their inputs may be zeros and are not recomputed.

The cuts themselves are defined here too: bands of rows and strips of columns.
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
    """The first row of each node that a run must compute to give outputs from some row on.

    Args:
        graph: a lowered graph.
        boxes: the box of each node that the uninterrupted run computes, in one strip.
        wanted: for each output, the first missing row.
        band: rows that enter together.
        independent_rows: True if every kernel computes each output row from that row's own inputs
            only. A Fourier or Winograd transform does not, in its last bits: then all rows of a
            repeated call must be right, and so must everything that they are computed from.

    Returns:
        For each node the row at which a call of the uninterrupted run begins. For a node that is
        not needed: where its rows end.
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
    """At which rows the calls of each node begin."""

    def __init__(self, graph: Graph, boxes: Mapping[str, Region], band: int) -> None:
        super().__init__(graph, boxes, band)
        self.begin: dict[str, list[int]] = {name: [] for name in boxes}
        for rows in pushes(graph, boxes, band):
            self.push(rows)

    def called(self, progress: Progress, count: int) -> None:
        self.begin[progress.node.name].append(progress.done)

    def around(self, progress: Progress, rows: Interval) -> Region:
        """All that a node's calls compute of which some row is among ``rows``."""
        begin, end = self.begin[progress.node.name], progress.box[0].hi
        after = bisect_left(begin, rows.hi)
        hi = begin[after] if after < len(begin) else end
        return (Interval(_before(begin, rows.lo), hi), *progress.box[1:])


def _before(rows: list[int], row: int) -> int:
    """The last of some ascending rows that is not after ``row``."""
    return rows[max(0, bisect_right(rows, row) - 1)]


@dataclass(frozen=True, slots=True)
class Cut:
    """What a run that goes on keeps of the plan of the run that began.

    Attributes:
        band: rows of the input that enter at a time.
        strips: from left to right, the region of each output.
        spilled: maps that are held on disk.
    """

    band: int
    strips: tuple[Mapping[str, Region], ...]
    spilled: tuple[str, ...] = ()

    def suits(self, regions: Mapping[str, Region]) -> bool:
        """Whether the strips, side by side, are these regions."""
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
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    return Cut(band, strips, spilled) if band > 0 else None


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
