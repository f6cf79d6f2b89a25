"""A plan: the strips, the height of the bands, and the rows that each node buffers and why.

The planner simulates the engine's own schedule with row counts, so its numbers are exact and not an
estimate; bytes follow from rows.

The plan's text for people is written here too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from eyeshot.axes import Interval
from eyeshot.errors import BadValue, Failure
from eyeshot.geometry import Region, required
from eyeshot.graph import Graph
from eyeshot.language import counted, mark, scaled, tr
from eyeshot.operators.winograd import rows_together
from eyeshot.planning.holding import BufferPlan, Costs, Holding, TooMuch, names_held_whole, stages
from eyeshot.planning.recomputing import PER_BYTE_ON_DISK, choices, recompute
from eyeshot.planning.schedule import Cut, itemsize, multiply_adds, row_numbers

_BAND_BYTES, _MOST_BAND_BYTES = 8 << 20, 24 << 20
"""Of a band of the widest node: what stays in the caches beside what is read for it, and the most
for the sake of deep layers. Measured best for seven networks on a server core with 1 MB of L2."""
_DEEP_ROWS = 4
"""Rows of the deepest layer that a band should have: transforms compute four at a time."""
_MOST_APART = 2
"""How many times as many for a layer that waits for rows which fill its blocks; a layer that needs
more waits longer."""
_TALLEST_BAND = 512
_MOST_POSITIONS = 1 << 16
"""Positions of a band that may be taller: rows of few positions, of a signal one, cost more to
schedule than to compute."""
_APART = 12 << 20
"""Bytes by which the memory of two processes with the same work may differ."""
_NARROWEST_STRIP = 16
_MOST_STRIPS_WITH_MAPS = 4
"""If maps are held whole, each strip repeats all computations before them."""
_LOWEST_BAND_WITH_MAPS = 4
_MOST_NAMES = 3
_LOWEST_BAND = 8
"""Below this a band costs more than a few columns computed twice; strips come first."""


@dataclass(frozen=True, slots=True)
class Strip:
    """One pass over the rows: its part of each output, and the computed box of every node."""

    regions: Mapping[str, Region]
    boxes: Mapping[str, Region]


@dataclass(frozen=True, slots=True)
class BandPlan:
    """The plan of a run.

    Attributes:
        regions: the computed region of each output.
        strips: column strips, from left to right; a single strip if the memory allows it.
        band: rows of the input that enter together.
        buffers: the most that each node buffers, in the widest strip.
        delay: rows of the input that must enter before the first output row leaves.
        multiply_adds: of the whole run.
        redundancy: multiply-adds divided by those of a single strip with all maps kept; 1.00 means
            no repeated work.
        peak: the predicted largest number of bytes that the process uses.
        nodes: the number of nodes that take part.
        spilled: the maps on disk, and the bytes of each in the widest strip.
        stages: the number of passes over the rows that must follow one another; 1 if they stream.
        again: the maps that are computed again in a later pass, and are not kept.
        gaps: the bytes that the gaps between memory blocks may take in addition to the peak.
        disk: the bytes of all scratch files; maps that are on disk at different times share one.
    """

    regions: Mapping[str, Region]
    strips: tuple[Strip, ...]
    band: int
    buffers: tuple[BufferPlan, ...]
    delay: int
    multiply_adds: int
    redundancy: float
    peak: int
    nodes: int
    spilled: Mapping[str, int] = field(default_factory=dict)
    stages: int = 1
    again: tuple[str, ...] = ()
    gaps: int = 0
    disk: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "regions": _plain(self.regions),
            "strips": [_plain(strip.regions) for strip in self.strips],
            "band_rows": self.band,
            "delay_rows": self.delay,
            "multiply_adds": self.multiply_adds,
            "redundancy": self.redundancy,
            "peak_bytes": self.peak,
            "stages": self.stages,
            "spilled": dict(self.spilled),
            "disk_bytes": self.disk,
            "again": list(self.again),
            "buffers": [
                {"name": b.name, "rows": b.rows, "bytes": b.nbytes, "waits_for": b.waits_for}
                for b in self.buffers
            ],
        }


def _plain(regions: Mapping[str, Region]) -> dict[str, list[list[int]]]:
    return {name: [[side.lo, side.hi] for side in box] for name, box in regions.items()}


def make_plan(
    graph: Graph,
    regions: Mapping[str, Region],
    *,
    costs: Costs,
    memory: int | None = None,
    band: int | None = None,
    begun: Cut | None = None,
    disk: int = 0,
) -> BandPlan:
    """Choose bands and strips for a region of each output.

    If maps that are held whole do not fit, some are put on disk or computed again in each pass that
    reads them, by the cheapest choice that fits: a byte on disk has a price in multiply-adds.

    Args:
        graph: the lowered network at the size of the picture.
        regions: for each requested output, a region inside it.
        costs: bytes in addition to the buffered rows.
        memory: the most bytes that the process may use; None for no limit.
        band: rows that enter together; None to choose.
        begun: the strips and bands of the run to resume, which are reused if the regions agree.
        disk: bytes of disk space for maps.

    Raises:
        BadValue: no plan fits ``memory``; the message names the least memory that does.
        Failure: no strips and bands were tried, which is a mistake of Eyeshot.
    """
    whole = multiply_adds(graph, required(graph, regions))
    if begun is not None and begun.suits(regions):
        keeping = _Keeping(graph, begun.spilled, begun.again)
        strips = tuple(Strip(part, required(keeping.graph, part)) for part in begun.strips)
        plan = _priced(keeping, regions, strips, band or begun.band, whole, costs)
        return _allowed(plan, memory)
    attempts = _Attempts(graph, regions, costs, memory, disk, whole)
    # Seldom is more than the first tried, and many strips take long to work out.
    roomy, first, all_tries = itertools.tee(_tries(graph, regions, band, disk, memory), 3)
    best = attempts.roomy_plan(roomy) or attempts.first_plan(first)
    if best is not None:
        return best
    smallest = attempts.smallest_plan(all_tries, band)
    if smallest is None:
        raise Failure("no strips and bands were tried", cure="please report this network")
    raise BadValue(
        tr(
            "--memory {memory} cannot hold this network over this image",
            memory=megabytes(memory or 0),
        ),
        cure=tr("the least that can is {memory}", memory=_enough(smallest.peak)),
    )


@dataclass(slots=True)
class _Attempts:
    """Plans that are simulated until one fits the memory limit; each is simulated once.

    Attributes:
        graph: the lowered network.
        regions: of each output.
        costs: bytes in addition to the buffered rows.
        memory: the most bytes that the process may use; None for no limit.
        disk: bytes of disk space for maps.
        whole: multiply-adds of a single strip with all maps kept.
        too_large: the plans that need more memory.
        known: the plan of each attempt; None if it does not fit.
    """

    graph: Graph
    regions: Mapping[str, Region]
    costs: Costs
    memory: int | None
    disk: int
    whole: int
    too_large: list[BandPlan] = field(default_factory=list)
    known: dict[tuple[Any, ...], BandPlan | None] = field(default_factory=dict)

    @property
    def most(self) -> int | None:
        """The bytes at which a simulation stops: for maps that are held whole it takes long."""
        return self.memory if names_held_whole(self.graph) else None

    def roomy_plan(self, tries: Iterable[Try]) -> BandPlan | None:
        """A plan that leaves room for gaps between memory blocks: the fastest (see Allocation)."""
        if self.most is None:
            return None
        for strips, heights, keeping in tries:
            for height in heights[:2] if len(strips) == 1 else ():
                roomy = self._plan(strips, height, keeping)
                if roomy is not None and roomy.peak + roomy.gaps <= (self.memory or 0):
                    return roomy
        return None

    def first_plan(self, tries: Iterable[Try]) -> BandPlan | None:
        """The first plan that fits, with the highest bands that fit."""
        for strips, heights, keeping in tries:
            tallest = self._plan(strips, heights[0], keeping)
            if tallest is not None:
                return tallest
            lowest = self._plan(strips, heights[-1], keeping) if len(heights) > 1 else None
            if lowest is not None:  # otherwise no height in between fits
                between = (self._plan(strips, height, keeping) for height in heights[1:-1])
                return next((plan for plan in between if plan is not None), lowest)
        return None

    def smallest_plan(self, tries: Iterable[Try], band: int | None) -> BandPlan | None:
        """After all tries, the plan that needs the least memory; None if there were no tries."""
        smallest = min(self.too_large, key=lambda plan: plan.peak, default=None)
        if smallest is not None:
            return smallest
        leanest = {  # for each number of strips, the last try with bands not too low
            len(strips): (strips, heights, keeping)
            for strips, heights, keeping in tries
            if keeping.fits and (band is not None or heights[-1] >= _LOWEST_BAND)
        }
        for strips, heights, keeping in reversed(leanest.values()):
            plan = _priced(keeping, self.regions, strips, heights[-1], self.whole, self.costs)
            if smallest is not None and plan.peak >= smallest.peak:
                break  # fewer strips need more memory
            smallest = plan
        return smallest

    def _plan(self, strips: tuple[Strip, ...], height: int, keeping: _Keeping) -> BandPlan | None:
        key = (len(strips), height, keeping.spilled, keeping.again)
        if key not in self.known:
            self.known[key] = self._simulated(strips, height, keeping)
        return self.known[key]

    def _simulated(
        self, strips: tuple[Strip, ...], height: int, keeping: _Keeping
    ) -> BandPlan | None:
        try:
            plan = _priced(keeping, self.regions, strips, height, self.whole, self.costs, self.most)
        except TooMuch:
            return None
        if plan.disk > self.disk:
            return None
        if self.memory is None or plan.peak <= self.memory:
            return plan
        self.too_large.append(plan)
        return None


@dataclass(frozen=True, slots=True)
class _Keeping:
    """What happens to maps that are read in a later pass; others are held in memory.

    Attributes:
        graph: the graph to compute, with the repeated nodes.
        spilled: the maps on disk.
        again: the maps that are computed again.
        fits: whether the disk has room for all maps at the same time, so also at different times.
    """

    graph: Graph
    spilled: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    fits: bool = True

    def __init__(
        self,
        graph: Graph,
        spilled: tuple[str, ...] = (),
        again: tuple[str, ...] = (),
        *,
        fits: bool = True,
    ) -> None:
        """``graph`` is without repeated nodes."""
        object.__setattr__(self, "fits", fits)
        object.__setattr__(self, "graph", recompute(graph, again))
        object.__setattr__(self, "spilled", spilled)
        object.__setattr__(self, "again", again)


Try = tuple[tuple[Strip, ...], list[int], _Keeping]
"""Strips, heights of bands from the best to the lowest, and what is kept."""


def _tries(
    graph: Graph, regions: Mapping[str, Region], band: int | None, disk: int, memory: int | None
) -> Iterator[Try]:
    """Strips, heights of bands and what is kept, the fastest first."""
    # Compared with maps that are held whole, a band of one row saves little over one of four.
    least = _LOWEST_BAND_WITH_MAPS if names_held_whole(graph) else 1
    keepings = _keepings(graph, regions, disk, memory)
    for lowest in (_LOWEST_BAND, least):
        for count in _strip_counts(regions):
            if len(keepings) > 1 and count > _MOST_STRIPS_WITH_MAPS:
                break
            certain = [keeping for keeping in keepings if keeping.fits]
            for keeping in keepings if count == 1 else certain[-1:]:
                strips = tuple(_strips(keeping.graph, regions, count))
                heights = _band_heights(keeping.graph, strips[0], band, lowest)
                if heights:
                    yield strips, heights, keeping


def _keepings(
    graph: Graph, regions: Mapping[str, Region], disk: int, memory: int | None
) -> list[_Keeping]:
    """The choices for maps that are read in a later pass, the cheapest first."""
    priced: list[tuple[float, int, int, _Keeping]] = []
    for choice in choices(graph):
        repeating = _Keeping(graph, again=choice.again).graph
        (strip,) = _strips(repeating, regions, 1)
        sizes = _sizes(repeating, strip, names_held_whole(repeating))
        for names in _spills(sizes, disk):
            in_memory = [size for name, size in sizes.items() if name not in names]
            price = choice.price + PER_BYTE_ON_DISK * (sum(sizes.values()) - sum(in_memory))
            fits = sum(sizes[name] for name in names) <= disk
            keeping = _Keeping(graph, names, choice.again, fits=fits)
            priced.append((price, sum(in_memory), max(in_memory, default=0), keeping))
    priced.sort(key=lambda one: one[:3])
    least_bytes = min(one[1] for one in priced if one[3].fits)
    found: list[_Keeping] = []
    least: int | None = None
    ended = False
    for _, held_bytes, largest, keeping in priced:
        # A choice that costs more and holds as much as another is never better, and one map that
        # does not fit needs no simulation.
        last = keeping.fits and held_bytes == least_bytes and not ended
        ended = ended or last
        possible = memory is None or largest <= memory or last
        if possible and (last or least is None or held_bytes < least):
            found.append(keeping)
            least = held_bytes if least is None else min(least, held_bytes)
    return found


def _spills(sizes: Mapping[str, int], disk: int) -> list[tuple[str, ...]]:
    """The choices of maps on disk, in the order to try: none, the largest, a quarter, half, all."""
    largest = sorted(sizes, key=lambda name: (-sizes[name], name))
    counts = dict.fromkeys((0, 1, len(largest) // 4, len(largest) // 2, len(largest)))
    tried = [tuple(largest[:count]) for count in counts if count <= len(largest)]
    return [names for names in tried if max((sizes[n] for n in names), default=0) <= disk]


def _sizes(graph: Graph, strip: Strip, names: Collection[str]) -> dict[str, int]:
    """The bytes of all computed rows of some nodes."""
    found = {}
    for name in names:
        box, node = strip.boxes.get(name), graph.nodes[name]
        if box is not None and node.dims[0] is not None:
            found[name] = len(box[0]) * row_numbers(node, box) * itemsize(node)
    return found


def _allowed(plan: BandPlan, memory: int | None) -> BandPlan:
    """The plan of a run that has started, if it fits the memory limit."""
    if memory is not None and plan.peak > memory:
        raise BadValue(
            f"--memory {megabytes(memory)} cannot hold the run as it was begun, in "
            f"{counted(len(plan.strips), 'strip')} of bands of {plan.band} rows",
            cure=f"give {_enough(plan.peak)}, or start again with --force",
        )
    return plan


def megabytes(count: int) -> str:
    """Bytes in words: 1.50 GB, 24 MB, 3 kB."""
    for unit, size, digits in (("GB", 10**9, 2), ("MB", 10**6, 0), ("kB", 10**3, 0)):
        if count >= size:
            return f"{count / size:.{digits}f} {unit}"
    return f"{count} bytes"


def _enough(count: int) -> str:
    """Bytes in words, rounded up, so that this memory is also enough in another process."""
    step = 10**7 if count >= 10**9 else 10**6
    return megabytes(-(-(count + _APART) // step) * step)


def _strip_counts(regions: Mapping[str, Region]) -> list[int]:
    """Numbers of column strips to try: 1, 2, 3, 4, 6, 8 …, up to a sensible smallest width."""
    columns = min((len(box[1]) for box in regions.values() if len(box) > 1), default=1)
    halves = [1 << i for i in range(20)]
    counts = sorted({*halves, *(3 * n for n in halves)})
    return [n for n in counts if n == 1 or columns // n >= _NARROWEST_STRIP]


def _strips(graph: Graph, regions: Mapping[str, Region], count: int) -> list[Strip]:
    """Each output's columns cut into ``count`` parts."""
    strips = []
    for i in range(count):
        part = {name: _part(box, i, count) for name, box in regions.items()}
        strips.append(Strip(part, required(graph, part)))
    return strips


def _part(box: Region, place: int, count: int) -> Region:
    if count == 1:
        return box
    columns = box[1]
    lo = columns.lo + len(columns) * place // count
    hi = columns.lo + len(columns) * (place + 1) // count
    return (box[0], Interval(lo, hi), *box[2:])


def _band_heights(graph: Graph, strip: Strip, band: int | None, lowest: int) -> list[int]:
    """Heights to try, the best first."""
    if band is not None:
        return [band]
    source = graph.inputs[0]
    rows = len(strip.boxes[source][0]) if source in strip.boxes else 1
    widest, deepest = 1, 1.0
    for name, box in strip.boxes.items():
        node = graph.nodes[name]
        share = len(box[0]) / max(1, rows)  # rows of this node for one row of the input
        widest = max(widest, int(row_numbers(node, box) * share) * itemsize(node))
        if node.is_convolution and len(box[0]) > _DEEP_ROWS:
            deepest = min(deepest, share / min(_MOST_APART, rows_together(node)))
    deep = 1 << round(math.log2(_DEEP_ROWS / deepest))
    high = min(_MOST_BAND_BYTES // widest, max(_BAND_BYTES // widest, deep))
    columns = math.prod(map(len, strip.boxes[source][1:])) if source in strip.boxes else 1
    tallest = max(_TALLEST_BAND, _MOST_POSITIONS // max(1, columns))
    best = min(tallest, max(_LOWEST_BAND, high))
    powers = [1 << i for i in reversed(range(best.bit_length()))]
    return [height for height in powers if height >= lowest]


def _priced(
    keeping: _Keeping,
    regions: Mapping[str, Region],
    strips: tuple[Strip, ...],
    band: int,
    whole: int,
    costs: Costs,
    most: int | None = None,
) -> BandPlan:
    """The plan with these strips and bands, and its memory and work.

    Raises:
        TooMuch: it needs more than ``most`` bytes.
    """
    graph, spilled = keeping.graph, keeping.spilled
    widest = max(strips, key=lambda strip: _columns(strip.boxes))
    room = None if most is None else most - costs.fixed
    walk = Holding(graph, widest.regions, widest.boxes, band, costs, spilled, room)
    total = sum(multiply_adds(graph, strip.boxes) for strip in strips)
    return BandPlan(
        regions=dict(regions),
        strips=strips,
        band=band,
        buffers=walk.buffers(),
        delay=walk.delay,
        multiply_adds=total,
        redundancy=total / whole if whole else 1.0,
        peak=costs.fixed + walk.peak,
        nodes=len(widest.boxes),
        spilled=_sizes(graph, widest, spilled),
        stages=stages(graph),
        again=keeping.again,
        gaps=walk.peak,
        disk=walk.disk,
    )


def _columns(boxes: Mapping[str, Region]) -> int:
    return sum(len(box[1]) for box in boxes.values() if len(box) > 1)


def _said_again(plan: BandPlan) -> str:
    names = ", ".join(plan.again[:_MOST_NAMES]) + (" …" if len(plan.again) > _MOST_NAMES else "")
    maps = counted(len(plan.again), "map")
    text = mark("{maps} computed again for a later pass, {times:.2f} x the work: {names}")
    return tr(text, maps=maps, times=plan.redundancy, names=names)


def render(
    plan: BandPlan, seconds: float | None = None, answers: Mapping[str, str] | None = None
) -> RenderableType:
    """The plan in words, and the rows that each node keeps; ``answers`` describe the outputs."""
    words = Table.grid(padding=(0, 2))
    for name, region in plan.regions.items():
        sides = " x ".join(f"{side.lo}:{side.hi}" for side in region)
        words.add_row(tr("output"), (answers or {}).get(name, f"{name}, {sides}"))
    words.add_row(tr("bands"), tr("{n} rows at a time", n=plan.band))
    again = tr("{times:.2f} x the work of one", times=plan.redundancy)
    words.add_row(
        tr("strips"), f"{len(plan.strips)}, {again}" if len(plan.strips) > 1 else "1 (1.00)"
    )
    words.add_row(tr("delay"), tr("{n} rows enter before the first leaves", n=plan.delay))
    words.add_row(tr("work"), tr("{n} multiply-adds", n=scaled(plan.multiply_adds)))
    if plan.stages > 1:
        words.add_row(
            tr("stages"),
            tr(
                "{n}: {times} times, all rows must have passed",
                n=plan.stages,
                times=plan.stages - 1,
            ),
        )
    if plan.again:
        words.add_row(tr("again"), _said_again(plan))
    if plan.spilled:
        maps = counted(len(plan.spilled), "map")
        words.add_row(tr("on disk"), tr("{size} for {maps}", size=megabytes(plan.disk), maps=maps))
    words.add_row(
        tr("peak memory"), tr("{memory}, the process itself included", memory=megabytes(plan.peak))
    )
    if seconds is not None:
        words.add_row(
            tr("time"), tr("about {seconds:.1f} s, by a short trial on noise", seconds=seconds)
        )
    buffers = Table(
        box=None, padding=(0, 2), title=tr("What is held, and for whom"), title_justify="left"
    )
    buffers.add_column(tr("node"), overflow="fold")
    buffers.add_column(tr("rows"), justify="right")
    buffers.add_column(tr("memory"), justify="right")
    buffers.add_column(tr("waits for"), overflow="fold")
    for buffer in plan.buffers:
        where = tr("on disk") if buffer.name in plan.spilled else megabytes(buffer.nbytes)
        buffers.add_row(buffer.name, str(buffer.rows), where, buffer.waits_for)
    return Group(words, "", buffers)
