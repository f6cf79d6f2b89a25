"""How many rows each buffer keeps, and when: the engine's line buffers, simulated with counts.

Maps that stay in memory whole are counted too. A statistic needs them, or an operator that is
called once on the whole map.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from eyeshot.axes import EMPTY, Interval
from eyeshot.errors import BadValue, Unsupported
from eyeshot.geometry import Region
from eyeshot.graph import Graph, Kind, Node
from eyeshot.planning.schedule import Progress, Walk, itemsize, pushes, row_numbers

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

    def reason_in(self, graph: Graph) -> str:
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
    passed, last = passes_before(graph), dict[str, str]()
    found = []
    for node in graph:
        reads = [*node.after, *(edge.source for edge in node.edges)]
        before = max((passed[name] for name in reads), default=0)
        behind = [name for name in reads if passed[name] == before and name in last]
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


def passes_before(graph: Graph) -> dict[str, int]:
    """For each node, the number of complete passes over rows that must precede its first row."""
    passed: dict[str, int] = {}
    for node in graph:
        reads = [*node.after, *(edge.source for edge in node.edges)]
        before = max((passed[name] for name in reads), default=0)
        passed[node.name] = before + crosses_rows(node, graph)
    return passed


def crosses_rows(node: Node, graph: Graph) -> bool:
    """Whether a node must see every row of its input before it gives its first."""
    return any(
        edge.axes and edge.axes[0].is_global and graph.nodes[edge.source].extents[0] > 1
        for edge in node.edges
    )


def names_held_whole(graph: Graph) -> frozenset[str]:
    """The nodes whose rows are all in memory at some time."""
    return frozenset(one.source for one in maps_held_whole(graph))


def stages(graph: Graph) -> int:
    """The number of passes over the rows that must follow one another; 1 if all rows stream."""
    return 1 + max(passes_before(graph).values(), default=0)


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
    fact = f"{maps[0].reason_in(graph)}, so all rows of {listed} are held, and {room}"
    return BadValue(fact, cure=cure)


def refuse_without_end(graph: Graph) -> None:
    """Refuse a network that would buffer rows without limit if their number is unknown.

    Raises:
        Unsupported: a map must stay in memory for a statistic, or a layer gives no row before it
            knows the number of rows (a resize that aligns corners).
    """
    maps = maps_held_whole(graph)
    waiting = next((node for node in graph if _waits_for_the_end(graph, node)), None)
    if maps:
        reason = maps[0].reason_in(graph)
    elif waiting is not None:
        reason = f"{waiting.name} ({waiting.operator}) must know the height before it gives a row"
    else:
        return
    cure = "use eyeshot.run, which knows the height"
    statistics = [graph.nodes[one.statistic] for one in maps]
    if (
        maps
        and all(n.kind is Kind.GLOBAL_STATISTIC and set(n.extents) == {1} for n in statistics)
        and not _spreads_a_statistic(graph)
    ):
        cure += ", or eyeshot.calibrate(net, images), which makes a network with fixed statistics"
    raise Unsupported(f"{reason}, and a camera's rows have no end", cure=cure)


def _spreads_a_statistic(graph: Graph) -> bool:
    """Whether a statistic is spread over a map's rows by a node of its own (ASPP's resize).

    With fixed statistics that map is a constant, and its size is that of the image.
    """
    alone: set[str] = set()
    for node in graph:
        fixed = node.kind is Kind.GLOBAL_STATISTIC and set(node.extents) == {1}
        if fixed or (node.edges and all(edge.source in alone for edge in node.edges)):
            alone.add(node.name)
            if node.extents[0] > 1:
                return True
    return False


def _waits_for_the_end(graph: Graph, node: Node) -> bool:
    """Whether a node that is not a statistic has no ready row as long as the height is unknown."""
    return any(
        edge.axes
        and not edge.axes[0].is_global
        and graph.nodes[edge.source].extents[0] > 1
        and not edge.axes[0].ready(graph.nodes[edge.source].extents[0], None)
        for edge in node.edges
    )


_STEADY_STEPS = 6
"""How many steps to simulate after every output has rows; from then on all steps are equal."""


class Costs(Protocol):
    """Bytes that the engine uses in addition to the rows that a pass buffers."""

    @property
    def fixed(self) -> int:
        """Bytes of every plan."""

    def opening(self) -> int:
        """Bytes for a moment before the first row, in addition to the fixed bytes."""

    def writing(self, name: str, columns: int) -> int:
        """Bytes of the output itself, if this number of columns is written together."""

    def packing(self, name: str, columns: int) -> int:
        """Bytes of the output in addition, while rows are written."""

    def reading(self, name: str, shape: tuple[int, ...]) -> int:
        """Bytes while a window (rows, …) of an input is read and prepared."""

    def entered(self, name: str, shape: tuple[int, ...]) -> int:
        """Bytes of a window of an input while its rows are used."""

    def leaving(self, name: str, numbers: int) -> int:
        """Bytes while this number of scores is converted and written, in addition to the scores."""

    def written_behind(self, name: str, columns: int, numbers: int) -> int:
        """Bytes of rows of this number of scores that are written while others are computed."""

    def scratch(
        self,
        node: Node,
        sources: Sequence[Node],
        reads: Sequence[int],
        gives: int,
        keeps_output: bool,
    ) -> int:
        """Bytes while a node computes ``gives`` bytes from ``reads`` bytes of each of its inputs.

        Its output counts only if it is stored elsewhere too, as a copy (``keeps_output``).
        """

    def borrows(self, node: Node) -> bool:
        """Whether a node's output is a view of its input."""


@dataclass(frozen=True, slots=True)
class BufferPlan:
    """The most that one node buffers.

    Attributes:
        name: the node.
        rows: the largest number of buffered rows.
        nbytes: their size, with the free space that keeps rows contiguous.
        waits_for: the reader that still needs the oldest row, and how many rows behind it is.
    """

    name: str
    rows: int
    nbytes: int
    waits_for: str


@dataclass(slots=True)
class _Store:
    """A line buffer as :class:`eyeshot.engine.buffers.LineBuffer` fills it, in rows."""

    unit: int  # bytes of a row
    all: int = 0  # rows for which room is made at once
    on_disk: bool = False
    entering: bool = False  # an input: the borrowed rows count as entered rows
    size: int = 0
    start: int = 0
    rows: int = 0
    owned: bool = False
    borrowed: bool = False

    def append(self, count: int, borrowed: bool) -> int:
        """Append rows; return the bytes of the old store if a larger one replaced it."""
        before = 0
        if self.on_disk:
            self.size, self.borrowed = 0 if borrowed else count, False
        elif self.rows == 0 and count >= self.all:
            self.size, self.start = count, 0
            self.owned, self.borrowed = False, borrowed
        else:
            needed, size = self.rows + count, self.size if self.owned else 0
            if self.start + needed > size:
                if size < needed or self.start < self.rows:
                    before, self.size = self.nbytes, max(self.all or 2 * needed, size, needed)
                self.start, self.owned, self.borrowed = 0, True, False
        self.rows += count
        return before

    def release(self, rows: int) -> None:
        """Set the number of buffered rows."""
        if self.on_disk or (rows == self.rows and not self.borrowed):
            self.rows = rows
            return
        self.start += self.rows - rows
        self.rows = rows
        if not rows or self.borrowed:
            self.size, self.start, self.owned, self.borrowed = rows, 0, False, False

    @property
    def nbytes(self) -> int:
        """The bytes of the store; 0 while it only refers to rows of an input."""
        return 0 if self.entering and self.borrowed else self.size * self.unit


class FileReuse:
    """Which scratch file a map gets: one whose map is not read any more, or else a new one.

    The planner and the run follow it in the same order, so the planner knows the disk space.

    Attributes:
        sizes: the bytes that each file has had.
    """

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self._free: list[int] = []

    def take(self, nbytes: int, *, empty: bool = False) -> int:
        """The number of a file for a map; of a new one if it must be ``empty``."""
        free = [] if empty else self._free
        fitting = [number for number in free if self.sizes[number] >= nbytes]
        if fitting:
            number = min(fitting, key=self.sizes.__getitem__)
        elif free:
            number = max(free, key=self.sizes.__getitem__)
        else:
            self.sizes.append(nbytes)
            return len(self.sizes) - 1
        self._free.remove(number)
        self.sizes[number] = max(self.sizes[number], nbytes)
        return number

    def give_back(self, number: int) -> None:
        """The map in this file is not read any more."""
        self._free.append(number)


class TooMuch(Exception):
    """A simulation exceeds its memory limit. It is always caught in the planner."""


class Holding(Walk):
    """The buffers of all nodes over time, simulated until all steps are equal.

    Raises:
        TooMuch: more than ``most`` bytes are needed.

    Attributes:
        delay: rows of the input that have entered when the first output row leaves.
        peak: the most bytes at one time, without the fixed bytes.
    """

    def __init__(
        self,
        graph: Graph,
        regions: Mapping[str, Region],
        boxes: Mapping[str, Region],
        band: int,
        costs: Costs,
        spilled: Collection[str] = (),
        most: int | None = None,
    ) -> None:
        super().__init__(graph, boxes, band)
        self._limit = most
        self.delay, self.peak = 0, costs.opening()
        self._costs, self._outputs = costs, frozenset(regions)
        self._row = {name: row_numbers(graph.nodes[name], box) for name, box in boxes.items()}
        whole = names_held_whole(graph)
        self._stores = {
            name: _Store(
                row * itemsize(graph.nodes[name]),
                all=len(boxes[name][0]) if name in whole else 0,
                on_disk=name in spilled,
                entering=not graph.nodes[name].edges,
            )
            for name, row in self._row.items()
        }
        self._files, self._numbers = FileReuse(), dict[str, int]()
        self._held = 0  # by all stores together
        self._entered = 0  # by the rows of the inputs
        self._sinks = sum(costs.writing(name, _columns(box)) for name, box in regions.items())
        self._across = {name: _columns(box) for name, box in regions.items()}
        self._behind = 0  # by rows that are written while others are computed
        self._ready: dict[str, list[int]] = {}  # rows of each output that wait to be written
        self._most: dict[str, tuple[int, int, str]] = {}
        entered, steady = 0, 0
        for rows in pushes(graph, boxes, band):
            self._read(rows)
            self.push(rows)
            entered += max(map(len, rows.values()), default=0)
            started = [self.schedule[n].done > box[0].lo for n, box in regions.items()]
            if any(started):
                self.delay = self.delay or entered
            steady += all(started)  # a late output buffers rows that the others do not
            if steady >= _STEADY_STEPS:
                break

    @property
    def disk(self) -> int:
        """Bytes of all scratch files."""
        return sum(self._files.sizes)

    def rounded(self) -> None:
        """Write the ready rows of the outputs, one output after another."""
        for name, rows in self._ready.items():
            numbers, across = sum(rows) * self._row[name], self._across[name]
            self._note(self._waiting() + self._costs.leaving(name, numbers))
            behind = self._costs.written_behind(name, across, numbers)
            if not behind:
                self._behind = 0
                leaving = self._costs.leaving(name, numbers)
                self._note(self._waiting() + leaving + self._costs.packing(name, across))
            self._behind = behind
        self._ready.clear()

    def buffers(self) -> tuple[BufferPlan, ...]:
        """The most that each node has buffered."""
        return tuple(
            BufferPlan(name, rows, nbytes, why) for name, (rows, nbytes, why) in self._most.items()
        )

    def called(self, progress: Progress, count: int) -> None:
        """Record the memory of a call: its inputs, its buffered rows, and its temporary memory."""
        node, store = progress.node, self._stores[progress.node.name]
        gives = count * store.unit
        borrows = not node.edges or self._costs.borrows(node)
        if store.on_disk and node.name not in self._numbers:
            self._numbers[node.name] = self._files.take(len(progress.box[0]) * store.unit)
        buffers, before = store.rows > 0, store.nbytes
        left = store.append(count, borrows)
        self._held += store.nbytes - before
        waiting = self._wait(progress, count, borrows)
        if node.edges and not progress.gathers:
            self._note(waiting + left)
            reads = [self._bytes_read(progress, i, count) for i in range(len(node.edges))]
            beside = self._costs.scratch(
                node, self._read_by(node), reads, gives, buffers
            ) + self._from_disk(node, reads)
            beside += gives if store.on_disk else 0  # in the order of the file
            self._note(waiting + beside - (gives if borrows and not buffers else 0))
        rows = store.rows
        if rows > self._most.get(node.name, (0, 0, ""))[0]:
            why = _reason(progress, progress.done + count)
            self._most[node.name] = (rows, store.nbytes, why)

    def _read_by(self, node: Node) -> list[Node]:
        return [self.schedule[edge.source].node for edge in node.edges]

    def _from_disk(self, node: Node, reads: Sequence[int]) -> int:
        """Bytes of the windows that a call reads from disk."""
        sources = (self._stores[edge.source].on_disk for edge in node.edges)
        return sum(read for read, on_disk in zip(reads, sources, strict=True) if on_disk)

    def gathered(self, progress: Progress, rows: Interval) -> None:
        """Record the memory of a node that gathers rows of its input."""
        reads = [len(rows) * self._stores[progress.node.edges[0].source].unit]
        beside = self._costs.scratch(progress.node, self._read_by(progress.node), reads, 0, True)
        self._note(self._waiting() + beside + self._from_disk(progress.node, reads))

    def released(self, progress: Progress) -> None:
        """Release rows that no reader needs any more."""
        progress.first_buffered = max(progress.first_buffered, self.schedule.needed_from(progress))
        store = self._stores[progress.node.name]
        before = store.nbytes
        had_rows = store.rows
        store.release(max(0, progress.done - progress.first_buffered))
        self._held += store.nbytes - before
        if store.on_disk and had_rows and progress.first_buffered >= progress.end:
            self._files.give_back(self._numbers[progress.node.name])

    def _wait(self, progress: Progress, count: int, borrows: bool) -> int:
        """Bytes of the outputs that wait to be written; rows just passed to a reader are copied."""
        if progress.node.name in self._outputs:
            shared = borrows or bool(progress.readers)
            before = self._waiting()
            self._ready.setdefault(progress.node.name, []).append(count)
            return self._waiting() if shared else before
        return self._waiting()

    def _waiting(self) -> int:
        return sum(sum(rows) * self._stores[name].unit for name, rows in self._ready.items())

    def _bytes_read(self, progress: Progress, place: int, count: int) -> int:
        """Bytes of the rows of one input that a call reads."""
        edge = progress.node.edges[place]
        source = self.schedule[edge.source]
        outputs = Interval(progress.done, progress.done + count)
        reads = (
            edge.axes[0].input_range_inside(outputs, source.node.extents[0]) if edge.axes else EMPTY
        )
        return max(1, len(reads)) * self._stores[edge.source].unit

    def _read(self, rows: Mapping[str, Interval]) -> None:
        """Read the inputs of a push, one after another; they stay in memory until it ends."""
        self._entered = 0
        for name, side in rows.items():
            if side:
                shape = (len(side), *(len(other) for other in self.schedule[name].box[1:]))
                image = self.schedule[name].node.again or name
                self._note(self._costs.reading(image, shape))
                self._entered += self._costs.entered(image, shape)

    def _note(self, beside: int) -> None:
        self.peak = max(self.peak, self._held + self._entered + self._sinks + self._behind + beside)
        if self._limit is not None and self.peak > self._limit:
            raise TooMuch


def _columns(box: Region) -> int:
    return len(box[1]) if len(box) > 1 else 1


def _reason(progress: Progress, done: int) -> str:
    """The reader that is furthest behind row ``done``; it is the reason for the buffered rows."""
    behind = [
        (
            done - edge.axes[0].input_range(Interval(reader.done, reader.done + 1), 1 << 40).lo,
            reader,
        )
        for reader, edge in progress.readers
        if edge.axes and not reader.gathers and reader.done < reader.end
    ]
    if not behind:
        return ""
    rows, reader = max(behind, key=lambda one: one[0])
    return f"{reader.node.name} ({rows} rows behind)"
