"""Where a run that was cut off begins again: at whole calls of the run that was not.

An operator's last bit may depend on how many rows it is given at once: a sigmoid is computed by
vectors of numbers, and those left over at the end of a call in another way. So a run that goes on
repeats the very calls of the uninterrupted one, on rows as many. It walks them by counts, and
makes those alone that give a row which is still asked for. Of a call's other rows no answer is
asked, so what those are computed from does not matter: it is nought, and no call before is made
for its sake.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping

from eyeshot.axes import Interval
from eyeshot.geometry import Region
from eyeshot.graph import Edge, Graph
from eyeshot.plan.schedule import Progress
from eyeshot.plan.walking import Walk, pushes


def first_rows(
    graph: Graph,
    boxes: Mapping[str, Region],
    wanted: Mapping[str, int],
    band: int,
    *,
    apart: bool = True,
) -> dict[str, int]:
    """The first row of each node that a run must compute to give outputs from some row on.

    Args:
        graph: a lowered graph.
        boxes: what the uninterrupted run computes of each node, in one strip.
        wanted: of each output, the first row that is still to be given.
        band: rows that enter at a time.
        apart: no kernel mixes what it computes one output row from with what it computes another
            from. By a Fourier or a Winograd transform they do, in their last bits; then all rows
            of a call must be as they were, and so must be all that those were computed from.

    Returns:
        For each node the row at which a call of the uninterrupted run begins; for each output the
        row at which a push begins to give. A node of which nothing is asked: where its rows end.
    """
    calls = _Calls(graph, boxes, band)
    asked = {name: box[0].hi for name, box in boxes.items()}
    first = dict(asked)
    for name, row in wanted.items():
        if row < first[name]:
            first[name] = _before(calls.pushes[name], row)
            asked[name] = row if apart else first[name]
    for progress in reversed(list(calls.schedule)):
        name = progress.node.name
        if asked[name] >= progress.box[0].hi:
            continue
        first[name] = min(first[name], _before(calls.begin[name], asked[name]))
        origin = asked[name] if apart else first[name]
        for edge in progress.node.edges:
            source = calls.schedule[edge.source]
            asked[edge.source] = min(
                asked[edge.source], _reads_from(progress, edge, source, origin)
            )
    return first


class _Calls(Walk):
    """At which rows the calls of each node begin, and what each push gives of it."""

    def __init__(self, graph: Graph, boxes: Mapping[str, Region], band: int) -> None:
        super().__init__(graph, boxes, band)
        self.begin: dict[str, list[int]] = {name: [] for name in boxes}
        self.pushes: dict[str, list[int]] = {name: [] for name in boxes}
        for rows in pushes(graph, boxes, band):
            for progress in self.schedule:
                self.pushes[progress.node.name].append(progress.done)
            self.push(rows)

    def called(self, progress: Progress, count: int) -> None:
        self.begin[progress.node.name].append(progress.done)


def _before(rows: list[int], row: int) -> int:
    """The last of some ascending rows that is not after ``row``."""
    return rows[max(0, bisect_right(rows, row) - 1)]


def _reads_from(reader: Progress, edge: Edge, source: Progress, first: int) -> int:
    """The first row of ``source`` that a node reads to compute its rows from ``first`` on."""
    if reader.gathers:
        return source.box[0].lo
    reads = edge.axes[0].reads(Interval(first, reader.box[0].hi), source.node.extents[0])
    return reads.lo if reads else source.box[0].hi
