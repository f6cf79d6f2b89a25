"""A plan: which strips, bands how high, and what each node will hold and why.

The planner walks the engine's own schedule with row counts alone, so what it prints is what will
happen, and not an estimate of it; bytes follow from rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from eyeshot.axes import Interval
from eyeshot.errors import BadValue
from eyeshot.geometry import Region, required
from eyeshot.graph import Graph
from eyeshot.plan.schedule import Progress, Schedule
from eyeshot.plan.work import multiply_adds, row_numbers

_MOST_BAND_BYTES = 24 << 20
"""A band of the widest node should stay near the caches; measured best on two desktop cores."""
_TALLEST_BAND = 512
_NARROWEST_STRIP = 16
_LOWEST_BAND = 8
"""Below this a band costs more than a few columns computed twice; strips come first."""
_STEADY_STEPS = 6
"""After the first output rows every step is like the one before; so many are walked."""


@dataclass(frozen=True, slots=True)
class BufferPlan:
    """What one node holds at most.

    Attributes:
        name: the node.
        rows: the most rows held at once.
        nbytes: their size, with the room that lets rows lie together.
        waits_for: the reader for whose sake the oldest row is held, and how far behind it is.
    """

    name: str
    rows: int
    nbytes: int
    waits_for: str


@dataclass(frozen=True, slots=True)
class Strip:
    """One pass over the rows: the output columns it gives, and what it computes of every node."""

    region: Region
    boxes: Mapping[str, Region]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do.

    Attributes:
        output: the node whose region is computed.
        region: of the output.
        strips: column strips, from left to right; one where the memory allows it.
        band: rows of the input that enter at a time.
        buffers: what each node holds at most, in the widest strip.
        delay: rows of the input that must have entered before the first output row leaves.
        multiply_adds: of the whole run.
        redundancy: those beside what one strip would take; 1.00 means no work is done twice.
        peak: predicted bytes, of everything the run adds to the process.
        nodes: how many nodes take part.
    """

    output: str
    region: Region
    strips: tuple[Strip, ...]
    band: int
    buffers: tuple[BufferPlan, ...]
    delay: int
    multiply_adds: int
    redundancy: float
    peak: int
    nodes: int

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "output": self.output,
            "region": [[side.lo, side.hi] for side in self.region],
            "strips": [[[s.lo, s.hi] for s in strip.region] for strip in self.strips],
            "band_rows": self.band,
            "delay_rows": self.delay,
            "multiply_adds": self.multiply_adds,
            "redundancy": self.redundancy,
            "peak_bytes": self.peak,
            "buffers": [
                {"name": b.name, "rows": b.rows, "bytes": b.nbytes, "waits_for": b.waits_for}
                for b in self.buffers
            ],
        }


def make_plan(
    graph: Graph,
    region: Region,
    *,
    output: str | None = None,
    itemsize: int = 4,
    memory: int | None = None,
    fixed: int = 0,
    row_bytes: int = 0,
    band: int | None = None,
) -> Plan:
    """Choose bands and strips for one region of an output.

    Args:
        graph: the network at the size of the picture, as it will be executed.
        region: of the output, inside it.
        output: a node; the graph's first output by default.
        itemsize: bytes of one number of the network.
        memory: the most bytes that the run may add to the process; None for no limit.
        fixed: bytes that are there whatever the plan (weights, and what the image files hold).
        row_bytes: bytes beside the network's own for each row of the input that enters at once.
        band: rows at a time; None to choose.

    Raises:
        BadValue: no plan fits ``memory``; the message says what would.
    """
    name = graph.outputs[0] if output is None else output
    whole = multiply_adds(graph, required(graph, {name: region}))
    smallest: Plan | None = None
    for lowest in (_LOWEST_BAND, 1):
        for count in _strip_counts(region):
            strips = tuple(_strips(graph, name, region, count))
            for height in _band_heights(graph, strips[0], itemsize, band, lowest):
                plan = _priced(
                    graph, name, region, strips, height, itemsize, whole, fixed, row_bytes
                )
                if memory is None or plan.peak <= memory:
                    return plan
                if smallest is None or plan.peak < smallest.peak:
                    smallest = plan
    least = 0 if smallest is None else smallest.peak
    raise BadValue(
        f"--memory {megabytes(memory or 0)} cannot hold this network over this image",
        cure=f"the least that can is {megabytes(least)}",
    )


def megabytes(count: int) -> str:
    """Bytes for people: 1.5 GB, 24 MB."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _strip_counts(region: Region) -> list[int]:
    """How many column strips to try: 1, then half as wide each time."""
    if len(region) < 2:
        return [1]
    counts = [1]
    while len(region[1]) // (2 * counts[-1]) >= _NARROWEST_STRIP:
        counts.append(2 * counts[-1])
        if counts[-1] >= 4:
            counts.insert(-1, counts[-1] * 3 // 4)
    return counts


def _strips(graph: Graph, output: str, region: Region, count: int) -> list[Strip]:
    if count == 1:
        return [Strip(region, required(graph, {output: region}))]
    columns = region[1]
    edges = [columns.lo + len(columns) * i // count for i in range(count + 1)]
    strips = []
    for lo, hi in pairwise(edges):
        part = (region[0], Interval(lo, hi), *region[2:])
        strips.append(Strip(part, required(graph, {output: part})))
    return strips


def _band_heights(
    graph: Graph, strip: Strip, itemsize: int, band: int | None, lowest: int
) -> list[int]:
    """Heights to try, the best first."""
    if band is not None:
        return [band]
    source = graph.inputs[0]
    rows = len(strip.boxes[source][0]) if source in strip.boxes else 1
    widest = 1
    for name, box in strip.boxes.items():
        node = graph.nodes[name]
        share = len(box[0]) / max(1, rows)  # rows of this node for one row of the input
        widest = max(widest, int(row_numbers(node, box) * share) * itemsize)
    best = min(_TALLEST_BAND, max(_LOWEST_BAND, _MOST_BAND_BYTES // widest))
    powers = [1 << i for i in reversed(range(best.bit_length()))]
    return [height for height in powers if height >= lowest]


def _priced(
    graph: Graph,
    output: str,
    region: Region,
    strips: tuple[Strip, ...],
    band: int,
    itemsize: int,
    whole: int,
    fixed: int,
    row_bytes: int,
) -> Plan:
    widest = max(strips, key=lambda strip: len(strip.region[1]) if len(region) > 1 else 0)
    walk = _Walk(graph, widest.boxes, output, band, itemsize)
    total = sum(multiply_adds(graph, strip.boxes) for strip in strips)
    return Plan(
        output=output,
        region=region,
        strips=strips,
        band=band,
        buffers=walk.buffers(),
        delay=walk.delay,
        multiply_adds=total,
        redundancy=total / whole if whole else 1.0,
        peak=fixed + walk.peak + band * row_bytes,
        nodes=len(widest.boxes),
    )


class _Walk:
    """The engine's schedule walked with counts: who holds how much, and when."""

    def __init__(
        self, graph: Graph, boxes: Mapping[str, Region], output: str, band: int, itemsize: int
    ) -> None:
        self.delay = 0
        self.peak = 0
        self._most: dict[str, tuple[int, int, str]] = {}
        self._stores: dict[str, int] = {}
        self._row = {name: row_numbers(graph.nodes[name], box) for name, box in boxes.items()}
        self._itemsize = itemsize
        schedule = Schedule(graph, boxes, band=band)
        ends = {n: boxes[n][0] for n in graph.inputs if n in boxes}
        longest = max((len(side) for side in ends.values()), default=0)
        entered, steady = 0, 0
        while steady < _STEADY_STEPS:
            now = min(entered + band, longest)
            counts = {n: fed(s, now, longest) - fed(s, entered, longest) for n, s in ends.items()}
            while self._round(schedule, counts):
                counts = {}
            entered = now
            if schedule[output].done > boxes[output][0].lo:
                self.delay = self.delay or entered
                steady += 1
            if entered >= longest:
                break

    def buffers(self) -> tuple[BufferPlan, ...]:
        """What each node held at most."""
        return tuple(
            BufferPlan(name, rows, nbytes, why) for name, (rows, nbytes, why) in self._most.items()
        )

    def _round(self, schedule: Schedule, fresh: Mapping[str, int]) -> bool:
        """One round of the engine; whether any row was computed."""
        moved = False
        for progress in schedule:
            if not progress.node.edges:
                count = fresh.get(progress.node.name, 0)
            elif progress.gathers:
                new, last = schedule.gatherable(progress)
                progress.taken = max(progress.taken, new.hi)
                count = int(last)
            else:
                count = len(schedule.ready(progress))
            if count:
                moved = True
                self._append(progress, count)
            for edge in progress.node.edges:
                self._release(schedule, schedule[edge.source])
            self._release(schedule, progress)
        return moved

    def _append(self, progress: Progress, count: int) -> None:
        """Book what a line buffer takes: handed over when empty, else room for rows together."""
        name, held = progress.node.name, progress.done - progress.kept
        unit = self._row[name] * self._itemsize
        rows = held + count
        store = count if held == 0 else max(self._stores.get(name, 0) // max(1, unit), 2 * rows)
        self._stores[name] = store * unit
        progress.done += count
        # The operator's own output stands beside the store until it has been copied in.
        now = sum(self._stores.values()) + (count * unit if held else 0)
        self.peak = max(self.peak, now)
        if rows > self._most.get(name, (0, 0, ""))[0]:
            self._most[name] = (rows, store * unit, _reason(progress))

    def _release(self, schedule: Schedule, progress: Progress) -> None:
        progress.kept = max(progress.kept, schedule.needed_from(progress))
        if progress.kept >= progress.done:
            self._stores[progress.node.name] = 0


def fed(side: Interval, entered: int, longest: int) -> int:
    """Rows of one input that have entered when ``entered`` of the longest input have."""
    return len(side) if longest == 0 else -(-len(side) * entered // longest)


def _reason(progress: Progress) -> str:
    """The reader that is furthest behind, and so the price of a skip."""
    behind = [
        (
            progress.done - edge.axes[0].needs(Interval(reader.done, reader.done + 1), 1 << 40).lo,
            reader,
        )
        for reader, edge in progress.readers
        if edge.axes and not reader.gathers and reader.done < reader.end
    ]
    if not behind:
        return ""
    rows, reader = max(behind, key=lambda one: one[0])
    return f"{reader.node.name} ({rows} rows behind)"
