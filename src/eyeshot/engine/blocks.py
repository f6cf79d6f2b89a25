"""An output cut into blocks for many workers: rectangles of whole chunks, computed separately.

A block needs a rectangle of the input with a halo, and positions in two halos are computed twice.
Small blocks repeat more work; large blocks leave workers idle while the last one is computed. The
planner chooses the blocks with the shortest predicted run.

Statistics over all positions are gathered in stages. A stage is a pass over maps whose statistics
are needed. Each worker gathers those of some blocks, and the results are merged in the order of the
blocks. For all later stages the statistics are known inputs, and the nodes that read them are
local.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import torch

from eyeshot.axes import Interval
from eyeshot.engine.buffers import Gatherer, gatherer, is_statistic
from eyeshot.engine.moments import First
from eyeshot.errors import BadValue, Failure, Unsupported
from eyeshot.geometry import Region, required
from eyeshot.graph import Graph, Node, reaching
from eyeshot.operators import effort
from eyeshot.operators.tile import cut, local_shape
from eyeshot.planning import BandPlan, Strip
from eyeshot.planning.schedule import multiply_adds

Edges = tuple[int, ...]
"""Where blocks begin along one axis, and where the last one ends."""

_MOST_LOOKED_AT = 24
"""Up to this many blocks along an axis, the boxes of all are counted; else of three of them."""
_MULTIPLES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Side lengths of blocks to try, in chunks; the whole axis is tried too."""
_TAIL = 0.1
"""How long other workers wait for the last block, as a share of a block's time."""
_DISPATCH = 3e6
"""The cost of sending a block and recording it, in multiply-adds: a few milliseconds."""


@dataclass(frozen=True)
class Blocks:
    """All blocks of a run.

    Attributes:
        cuts: for each output, the edges along every spatial axis. All outputs have the same number
            of blocks along an axis; some blocks of a small output may be empty.
    """

    cuts: Mapping[str, tuple[Edges, ...]]

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """The number of blocks along each axis."""
        return tuple(len(edges) - 1 for edges in next(iter(self.cuts.values())))

    def __len__(self) -> int:
        return math.prod(self.counts)

    def places(self, number: int) -> tuple[int, ...]:
        """The position of a block along each axis, in blocks."""
        places: list[int] = []
        for count in reversed(self.counts):
            number, place = divmod(number, count)
            places.append(place)
        return tuple(reversed(places))

    def regions(self, number: int) -> dict[str, Region]:
        """A block's region of each output that has a part in it."""
        places = self.places(number)
        found = {}
        for name, cuts in self.cuts.items():
            pairs = zip(cuts, places, strict=True)
            box = tuple(Interval(edges[place], edges[place + 1]) for edges, place in pairs)
            if all(box):
                found[name] = box
        return found

    def region_in_words(self, number: int) -> str:
        """A block's region of the first output that has a part in it: ``512:1024,0:512``."""
        regions = self.regions(number)
        box = next(iter(regions.values()), ())
        return ",".join(f"{side.lo}:{side.hi}" for side in box) or f"block {number}"

    def to_dict(self) -> dict[str, list[list[int]]]:
        """Plain data, for JSON."""
        return {name: [list(edges) for edges in cuts] for name, cuts in self.cuts.items()}

    @property
    def largest(self) -> int:
        """The number of a block with the longest sides, not at a border if possible."""
        number = 0
        for axis, count in enumerate(self.counts):
            inner = range(1, count - 1) if count > 2 else range(count)
            place = max(inner, key=lambda one: self._length(axis, one))
            number = number * count + place
        return number

    def _length(self, axis: int, place: int) -> int:
        """The length of the blocks at a place of an axis, summed over the outputs."""
        return sum(cuts[axis][place + 1] - cuts[axis][place] for cuts in self.cuts.values())


def blocks_from(settings: Mapping[str, object], regions: Mapping[str, Region]) -> Blocks | None:
    """The blocks of an unfinished run, from its settings; None if they do not fit the regions."""
    saved = settings.get("blocks")
    try:
        cuts = {
            str(name): tuple(tuple(int(one) for one in edges) for edges in sides)
            for name, sides in dict(saved).items()  # type: ignore[call-overload]
        }
    except (TypeError, ValueError):
        return None
    fits = cuts.keys() == regions.keys() and all(
        len(sides) == len(regions[name])
        and all(
            (edges[0], edges[-1]) == (side.lo, side.hi) and list(edges) == sorted(edges)
            for edges, side in zip(sides, regions[name], strict=True)
        )
        for name, sides in cuts.items()
        if all(sides)
    )
    same_counts = len({tuple(map(len, sides)) for sides in cuts.values()}) == 1
    return Blocks(cuts) if fits and same_counts and all(map(all, cuts.values())) else None


@dataclass(frozen=True)
class BlockPlan:
    """Blocks and their cost.

    Attributes:
        blocks: all of them.
        bands: the plan of the largest block; its multiply-adds and redundancy are of all blocks.
    """

    blocks: Blocks
    bands: BandPlan


def plan_blocks(
    graph: Graph,
    regions: Mapping[str, Region],
    chunks: Mapping[str, Sequence[int]],
    workers: int,
    priced: Callable[[Mapping[str, Region]], BandPlan],
) -> BlockPlan:
    """The blocks with the shortest predicted run among those that fit into a worker's memory.

    Args:
        graph: the lowered network at the size of the picture.
        regions: for each output, the region to compute.
        chunks: for each output, the length of a chunk along every spatial axis.
        workers: the number of blocks that are computed at the same time.
        priced: returns the plan of one block.

    Raises:
        BadValue: not even blocks of one chunk fit; the error is that of ``priced``.
    """
    refused: BadValue | None = None
    for blocks in _by_time(graph, regions, chunks, workers):
        try:
            bands = priced(blocks.regions(blocks.largest))
        except BadValue as error:
            refused = error
            continue
        if len(bands.strips) == 1:
            return BlockPlan(blocks, _of_all(graph, regions, blocks, bands))
    raise refused or BadValue(
        "no block of one chunk fits into the memory of a worker", cure="give --memory more"
    )


def priced_as_begun(
    graph: Graph,
    regions: Mapping[str, Region],
    blocks: Blocks,
    priced: Callable[[Mapping[str, Region]], BandPlan],
) -> BlockPlan:
    """The plan of a run that continues with the blocks of the unfinished run."""
    bands = priced(blocks.regions(blocks.largest))
    return BlockPlan(blocks, _of_all(graph, regions, blocks, bands))


def block_strip(graph: Graph, regions: Mapping[str, Region]) -> Strip:
    """A block as a strip of the engine: one pass over its rows."""
    return Strip(regions, required(graph, regions))


def _of_all(
    graph: Graph, regions: Mapping[str, Region], blocks: Blocks, bands: BandPlan
) -> BandPlan:
    whole = multiply_adds(graph, required(graph, regions))
    total = _Work(graph, regions).of(blocks.cuts)
    return replace(
        bands,
        regions=dict(regions),
        multiply_adds=total,
        redundancy=total / whole if whole else 1.0,
    )


def _by_time(
    graph: Graph,
    regions: Mapping[str, Region],
    chunks: Mapping[str, Sequence[int]],
    workers: int,
) -> Iterator[Blocks]:
    """Blocks of all shapes to try, in the order of the predicted time of the run."""
    name = max(regions, key=lambda one: math.prod(map(len, regions[one])))
    lengths = [-(-len(side) // n) for side, n in zip(regions[name], chunks[name], strict=True)]
    sides = [[n for n in _MULTIPLES if n < length] + [length] for length in lengths]
    work = _Work(graph, regions)
    whole = max(1, multiply_adds(graph, required(graph, regions)))
    positions = sum(math.prod(map(len, region)) for region in regions.values())
    tried: list[tuple[float, Blocks]] = []
    for shape in product(*sides):
        cuts = _cuts(regions, chunks, name, shape)
        blocks = Blocks(cuts)
        count = len(blocks)
        # ``rounds``: the blocks of the slowest worker, relative to an even share. ``tail``: the
        # waiting for the last block. ``each``: the cost of sending the blocks.
        rounds = -(-count // workers) * workers / count
        tail = 1 + _TAIL * workers / count
        each = _DISPATCH * count / (whole + positions)
        tried.append((work.of(cuts) / whole * rounds * tail + each, blocks))
    tried.sort(key=lambda one: (one[0], len(one[1])))
    yield from (blocks for _, blocks in tried)


def _cuts(
    regions: Mapping[str, Region],
    chunks: Mapping[str, Sequence[int]],
    largest: str,
    shape: Sequence[int],
) -> dict[str, tuple[Edges, ...]]:
    """The edges of blocks: ``shape`` chunks of the largest output, the others in proportion."""
    first = [
        _edges(side, n * many)
        for side, n, many in zip(regions[largest], chunks[largest], shape, strict=True)
    ]
    cuts = {}
    for name, region in regions.items():
        if name == largest:
            cuts[name] = tuple(first)
            continue
        cuts[name] = tuple(
            _in_proportion(edges, there, side, n)
            for edges, there, side, n in zip(
                first, regions[largest], region, chunks[name], strict=True
            )
        )
    return cuts


def _edges(side: Interval, step: int) -> Edges:
    return (*range(side.lo, side.hi, step), side.hi)


def _in_proportion(edges: Edges, there: Interval, side: Interval, chunk: int) -> Edges:
    """Edges at the same fractions of another output's side, moved to its nearest chunk edges."""
    places = ((edge - there.lo) * len(side) / (len(there) * chunk) for edge in edges[:-1])
    inner = [side.lo + min(len(side), round(place) * chunk) for place in places]
    return (*inner, side.hi)


class _Work:
    """The multiply-adds of blocks, counted along one axis at a time.

    Axes are independent: the number of positions of a node, summed over all blocks, is the product
    over the axes of the summed lengths.
    """

    def __init__(self, graph: Graph, regions: Mapping[str, Region]) -> None:
        self._graph, self._regions = graph, regions
        self._sums: dict[tuple[int, tuple[Edges, ...]], Mapping[str, int]] = {}
        self._efforts = {node.name: effort(graph, node) for node in graph if node.edges}

    def of(self, cuts: Mapping[str, tuple[Edges, ...]]) -> int:
        """The multiply-adds of all blocks."""
        axes = range(self._graph.spatial_axes)
        sums = [self._along(axis, cuts) for axis in axes]

        def numbers(name: str) -> int:
            node = self._graph.nodes[name]
            lengths = math.prod(one.get(name, 0) for one in sums)
            return math.prod(node.shape) // max(1, math.prod(node.extents)) * lengths

        return sum(
            one.of(numbers(self._graph.nodes[name].edges[0].source), numbers(name))
            for name, one in self._efforts.items()
            if name in sums[0]
        )

    def _along(self, axis: int, cuts: Mapping[str, tuple[Edges, ...]]) -> Mapping[str, int]:
        """For each node, the summed length of all blocks' boxes along an axis."""
        key = (axis, tuple(edges[axis] for edges in cuts.values()))
        if key not in self._sums:
            count = len(key[1][0]) - 1
            found: dict[str, int] = {}
            for place, times in _looked_at(count):
                part = {}
                for name, region in self._regions.items():
                    edges = cuts[name][axis]
                    side = Interval(edges[place], edges[place + 1])
                    if side:
                        part[name] = (*region[:axis], side, *region[axis + 1 :])
                for name, box in required(self._graph, part).items():
                    found[name] = found.get(name, 0) + times * len(box[axis])
            self._sums[key] = found
        return self._sums[key]


def _looked_at(count: int) -> list[tuple[int, int]]:
    """Blocks to count along an axis, each with the number of blocks that it represents."""
    if count <= _MOST_LOOKED_AT:
        return [(place, 1) for place in range(count)]
    return [(0, 1), (count // 2, count - 2), (count - 1, 1)]


SIDES = {1: 1 << 16, 2: 256, 3: 32}
"""The side of the smallest block of a map in positions, by its number of spatial axes."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Statistics that are gathered in one pass.

    Attributes:
        statistics: the names of the nodes to gather.
        graph: the graph to compute; its outputs are the maps that these nodes read.
        stored: those of the maps that are stored, so that later passes need not compute them.
    """

    statistics: tuple[str, ...]
    graph: Graph
    stored: tuple[str, ...] = ()

    @property
    def regions(self) -> dict[str, Region]:
        """The whole of every map."""
        return {
            name: tuple(Interval(0, n) for n in self.graph.nodes[name].extents)
            for name in self.graph.outputs
        }

    def chunks(self) -> dict[str, tuple[int, ...]]:
        """For each map, the sides of the smallest block."""
        found = {}
        for name in self.graph.outputs:
            extents = self.graph.nodes[name].extents
            found[name] = tuple(min(SIDES[len(extents)], n) for n in extents)
        return found


def stages_of(graph: Graph, stored: Collection[str] = ()) -> tuple[tuple[Stage, ...], Graph]:
    """The stages of a network, and the last graph, in which all statistics are inputs.

    Args:
        graph: a lowered graph.
        stored: maps of which statistics are taken, and which are inputs of all later passes.

    A map that depends on an image only by statistics, such as a line of means, is small, and each
    worker computes as much of it as a block needs. So its layers may read all of it in one call.

    Raises:
        Unsupported: a node reads every position, and is not a statistic.
    """
    after: dict[str, int] = {}
    groups: dict[int, list[str]] = {}
    of_images = set(graph.inputs)  # what depends on images other than by a statistic
    for node in graph:
        before = max((after[edge.source] for edge in node.edges), default=0)
        after[node.name] = before
        if not any(edge.source in of_images for edge in node.edges):
            continue  # every worker can compute all of it
        of_images.add(node.name)
        if _is_global(node, graph):
            _require_statistic(node, graph)
            groups.setdefault(before, []).append(node.name)
            after[node.name] = before + 1
            of_images.remove(node.name)
    stages: list[Stage] = []
    gathered: list[str] = []
    for number in sorted(groups):
        names = tuple(groups[number])
        maps = dict.fromkeys(graph.nodes[name].edges[0].source for name in names)
        kept = tuple(name for name in maps if name in stored)
        stages.append(Stage(names, reaching(graph, tuple(maps), gathered), kept))
        gathered += (*names, *kept)
    return tuple(stages), reaching(graph, graph.outputs, gathered) if gathered else graph


def _is_global(node: Node, graph: Graph) -> bool:
    return any(
        axis.is_global and n > 1
        for edge in node.edges
        for axis, n in zip(edge.axes, graph.nodes[edge.source].extents, strict=False)
    )


def _require_statistic(node: Node, graph: Graph) -> None:
    if not is_statistic(node, graph):
        source = node.edges[0].source
        raise Unsupported(
            f"{node.name} ({node.operator}) reads every position of {source} along an axis in one "
            "call, and no worker has them all",
            cure="run it without a client",
        )


class _Parts:
    """A statistic of a map: a gatherer for each part of the axes that it keeps.

    A mean over rows keeps the columns: each block gives a part of the line. A mean over columns
    keeps the rows: each band of each block gives a part.
    """

    def __init__(self, node: Node, source: Node) -> None:
        self._node, self._source = node, source
        axes = zip(node.edges[0].axes, source.extents, strict=True)
        self._kept = [place for place, (axis, n) in enumerate(axes) if n > 1 and not axis.is_global]
        self._whole = tuple(Interval(0, n) for n in node.extents)
        self._parts: dict[Region, Gatherer] = {}

    def _part(self, box: Region) -> Gatherer:
        if box not in self._parts:
            node = self._node
            part = replace(node, shape=local_shape(node, box)) if self._kept else node
            made = gatherer(part, self._source)
            if made is None:
                raise Failure(f"{node.name} is not gathered", cure="please report this network")
            self._parts[box] = made
        return self._parts[box]

    def take(self, band: torch.Tensor, first: First) -> None:
        """Add rows of the map, each once; ``first`` is the position of the first one."""
        box = list(self._whole)
        for axis in self._kept:
            dim = self._source.dims[axis]
            count = 1 if dim is None else band.shape[dim]
            box[axis] = Interval(first[axis], first[axis] + count)
        self._part(tuple(box)).take(band, first)

    def state(self) -> list[Any]:
        """The parts so far, as plain data."""
        return [
            [[[side.lo, side.hi] for side in box], _plain(one.state())]
            for box, one in self._parts.items()
        ]

    def merge(self, state: Sequence[Any]) -> None:
        """Add the parts that another process has gathered."""
        for sides, stored in state:
            self._part(tuple(Interval(*side) for side in sides)).merge(_tensors(stored))

    def result(self) -> torch.Tensor:
        """The value of the node."""
        if not self._kept:
            return self._part(self._whole).result()
        found = {box: one.result() for box, one in self._parts.items()}
        if sum(math.prod(map(len, box)) for box in found) != math.prod(self._node.extents):
            raise Failure(
                f"{self._node.name}: parts of the statistic are missing, or there twice",
                cure="please report this network",
            )
        made = next(iter(found.values())).new_empty(self._node.shape)
        for box, part in found.items():
            cut(made, self._node.dims, self._whole, box).copy_(part)
        return made


class Gathering:
    """The statistics of a stage, gathered band by band."""

    def __init__(self, whole: Graph, stage: Stage) -> None:
        """Start without any rows.

        Args:
            whole: the network, with the statistics as nodes.
            stage: the stage whose statistics are gathered.
        """
        self._readers: dict[str, list[_Parts]] = {name: [] for name in stage.graph.outputs}
        self._all: dict[str, _Parts] = {}
        for name in stage.statistics:
            node = whole.nodes[name]
            source = whole.nodes[node.edges[0].source]
            self._all[name] = _Parts(node, source)
            self._readers[source.name].append(self._all[name])

    def take(self, name: str, band: torch.Tensor, first: First = ()) -> None:
        """Add rows of a map, each once; ``first`` is the position of the first one."""
        for one in self._readers[name]:
            one.take(band, first)

    def state(self) -> dict[str, Any]:
        """The statistics so far, as plain data."""
        return {name: one.state() for name, one in self._all.items()}

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add the statistics that another process has gathered over later positions."""
        for name, stored in state.items():
            self._all[name].merge(stored)

    def results(self) -> dict[str, torch.Tensor]:
        """The value of each node."""
        return {name: one.result() for name, one in self._all.items()}


def plain_values(values: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Values of nodes as plain data, without rounding."""
    return {name: _plain((value,)) for name, value in values.items()}


def values_of(stored: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The values that :func:`plain_values` converted."""
    return {name: _tensors(one)[0] for name, one in stored.items()}


def _plain(state: Sequence[Any]) -> list[Any]:
    """Numbers as they are, tensors as their type, shape and bytes; the latter in base64."""
    return [
        [str(one.dtype).removeprefix("torch."), list(one.shape), _bytes_of(one)]
        if isinstance(one, torch.Tensor)
        else one
        for one in state
    ]


def _bytes_of(tensor: torch.Tensor) -> str:
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return base64.b64encode(flat.numpy().tobytes()).decode("ascii")


def _tensors(stored: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(
        torch.frombuffer(bytearray(base64.b64decode(one[2])), dtype=getattr(torch, one[0]))
        .reshape(one[1])
        .clone()
        if isinstance(one, list)
        else one
        for one in stored
    )
