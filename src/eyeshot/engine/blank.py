"""Blank regions: outputs that see only one constant, so that one of them can be copied.

Away from the borders, a network computes the same at every position, up to its period: with a
stride of 4 and a pixel shuffle, equal pictures that are 4 pixels apart give equal values. So the
output is cut into cells whose sides are multiples of the period. If a cell reads only one constant
and no padding, it equals every other cell that reads the same constant.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from eyeshot.axes import NO_INPUT, AxisMap, Interval
from eyeshot.graph import Family, Graph, Node
from eyeshot.images import Source

CELL = 64
"""The side of a cell of outputs, unless the period is longer."""
_LONGEST_PERIOD = 1024
_GRAIN = 32
"""Side of the squares of the input, in positions; each square is constant or not."""
_READ = 16 << 20
"""Bytes of the input that are read at once to look for constants."""

_KERNELS = frozenset(
    {
        *(Family.CONVOLUTION, Family.TRANSPOSED_CONVOLUTION, Family.LINEAR, Family.BATCH_NORM),
        *(Family.PRELU, Family.GROUP_NORM, Family.LAYER_NORM, Family.RMS_NORM, Family.BLOCK),
    }
)
"""Families whose weights do not have a value for each position."""

Cells = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CellReads:
    """The inputs that cells of outputs read along one axis.

    Attributes:
        side: outputs in a cell; cell k starts at output ``k·side``.
        first: for each input, the range that cell 0 would read if there were no border.
        step: for each input, the distance between the ranges of two neighboring cells.
        inside: the cells that read no padding at any node, half open.
        borders: whether padding is always zeros, so that cells next to each other along a border
            are equal too.
    """

    side: int
    first: Mapping[str, Interval]
    step: Mapping[str, int]
    inside: Interval
    borders: bool = True

    def of(self, name: str, cell: int) -> Interval:
        """The range of an input that a cell reads; it may extend beyond the borders."""
        return self.first[name].shifted(cell * self.step[name])


def cell_reads(graph: Graph, axis: int) -> CellReads | None:
    """Cells of the outputs along an axis that compute the same wherever they are; else None.

    There are none if an operator mixes all positions or has a weight for each position, or if the
    outputs are on different grids.
    """
    grid = _spacing(graph, axis)
    if grid is None or any(_has_a_map(node, graph) for node in graph):
        return None
    spacing, period = grid
    side = period * -(-CELL // period)
    if period > _LONGEST_PERIOD:
        return None
    reads: dict[str, Interval] = {name: Interval(0, side) for name in graph.outputs}
    first, last = 0, graph.nodes[graph.outputs[0]].extents[axis] // side
    for node in reversed(list(graph)):
        if node.name not in reads:
            continue
        for edge in node.edges:
            step, n = int(side * spacing[edge.source]), graph.nodes[edge.source].extents[axis]
            span = _inputs_read(edge.axes[axis], reads[node.name])
            if span is None:
                continue
            reads[edge.source] = reads.get(edge.source, span).hull(span)
            first = max(first, -(span.lo // step))
            last = min(last, (n - span.hi) // step + 1)
    inputs = [name for name in graph.inputs if name in reads]
    steps = {name: int(side * spacing[name]) for name in inputs}
    needed = [node for node in graph if node.name in reads]
    repeats = any(edge.axes[axis].repeats_inputs for node in needed for edge in node.edges)
    own = {name: reads[name] for name in inputs}
    return CellReads(side, own, steps, Interval(first, last), not repeats)


def _spacing(graph: Graph, axis: int) -> tuple[dict[str, Fraction], int] | None:
    """Positions of each node per output, and the period of the network in outputs."""
    spacing = {name: Fraction(1) for name in graph.outputs}
    period = 1
    for node in reversed(list(graph)):
        if node.name not in spacing:
            continue
        if not node.edges and not node.is_input:
            return None  # a constant node may depend on the position in any way
        for edge in node.edges:
            repeats = edge.axes[axis].period
            if repeats is None:
                return None
            blocks = spacing[node.name] / repeats[0]
            before = blocks * repeats[1]
            if spacing.setdefault(edge.source, before) != before:
                return None
            period = math.lcm(period, blocks.denominator, before.denominator)
    return spacing, period


def _inputs_read(axis: AxisMap, outputs: Interval) -> Interval | None:
    """The inputs that some outputs read if there is no border; None if they read nothing."""
    repeats = axis.period
    count = len(outputs) if repeats is None else min(len(outputs), repeats[0])
    ends = [*range(outputs.lo, outputs.lo + count), *range(outputs.hi - count, outputs.hi)]
    taps = axis.inputs_of_unbounded(np.array(ends, dtype=np.int64))
    taps = taps[taps != NO_INPUT]
    return Interval(int(taps.min()), int(taps.max()) + 1) if taps.size else None


def _has_a_map(node: Node, graph: Graph) -> bool:
    """Whether a weight has a separate number for each position."""
    if node.family in _KERNELS:
        return False
    from_the_end = [dim - len(node.shape) for dim in node.dims if dim is not None]
    return any(
        -dim <= graph.tensors[name].ndim and graph.tensors[name].shape[dim] != 1
        for name in node.weights
        for dim in from_the_end
    )


class Constants:
    """Which squares of 32 positions of an image are constant.

    Args:
        source: the image.
        needed: (rows, columns) bool: the squares to examine; others may not be read.
    """

    def __init__(self, source: Source, needed: NDArray[np.bool_]) -> None:
        self.values: dict[bytes, int] = {}
        self._source = source
        self.ids: Cells = np.full(needed.shape, -1, np.int64)
        row = math.prod((source.shape[0], *source.shape[2:])) * source.dtype.itemsize
        step = max(1, _READ // max(1, row * _GRAIN))
        for top in range(0, len(needed), step):
            columns = np.flatnonzero(needed[top : top + step].any(axis=0))
            if columns.size:
                bottom = min(top + step, len(needed))
                self._look(top, bottom, int(columns[0]), int(columns[-1]) + 1)

    def _look(self, top: int, bottom: int, left: int, right: int) -> None:
        space = self._source.shape[1:]
        window = [(top * _GRAIN, min(bottom * _GRAIN, space[0]))]
        if len(space) > 1:
            window.append((left * _GRAIN, min(right * _GRAIN, space[1])))
        samples = self._source.read(*window)
        low, high = _reduced(samples, np.minimum), _reduced(samples, np.maximum)
        same = (low == high).all(0)
        if samples.dtype.kind == "f":
            signs = np.signbit(samples)  # 0 equals -0, and 1 / 0 does not equal 1 / -0
            mixed = _reduced(signs, np.minimum) != _reduced(signs, np.maximum)
            same &= np.isfinite(low).all(0) & ~mixed.any(0)
        if not same.any():
            return
        values, which = np.unique(low[:, same].T, axis=0, return_inverse=True)
        numbers = [
            self.values.setdefault(np.ascontiguousarray(value).tobytes(), len(self.values))
            for value in values
        ]
        place = self.ids[top : top + same.shape[0], left : left + same.shape[1]]
        place[same] = np.array(numbers)[which.reshape(-1)]

    def of(self, rows: Interval, columns: Interval) -> int:
        """The number of the only value in a window; -1 if it has several values."""
        part = self.ids[_squares(rows), _squares(columns)]
        if not part.size:
            return -1  # it reads only padding
        first = int(part.flat[0])
        return first if (part == first).all() else -1


def _reduced(samples: NDArray[np.generic], by: np.ufunc) -> NDArray[np.generic]:
    """(C, rows, columns, …) -> (C, squares, squares) with the smallest or largest value of each."""
    rows = _by_grains(samples, by, 1)
    if rows.ndim == 2:
        return np.asarray(rows[..., np.newaxis])
    both = _by_grains(rows, by, 2)
    return np.asarray(by.reduce(both.reshape(*both.shape[:3], -1), axis=3))


def _by_grains(samples: NDArray[np.generic], by: np.ufunc, axis: int) -> NDArray[np.generic]:
    """Reduce groups of 32 positions along an axis, then the shorter last group.

    ``reduceat`` could do both in one call, but is slow.
    """
    count, rest = divmod(samples.shape[axis], _GRAIN)
    before, behind = (slice(None),) * axis, samples.shape[axis + 1 :]
    grains = samples[(*before, slice(count * _GRAIN))]
    whole = by.reduce(grains.reshape(*samples.shape[:axis], count, _GRAIN, *behind), axis=axis + 1)
    if not rest:
        return np.asarray(whole)
    last = by.reduce(samples[(*before, slice(count * _GRAIN, None))], axis=axis, keepdims=True)
    return np.concatenate([whole, last], axis=axis)


def _squares(side: Interval) -> slice:
    return slice(side.lo // _GRAIN, -(-side.hi // _GRAIN))


_NO_COLUMNS = CellReads(1, defaultdict(lambda: Interval(0, 1)), defaultdict(int), Interval(0, 1))
"""The missing column axis of a signal."""


def blank_cells(
    sources: Mapping[str, Source],
    reads: Sequence[CellReads],
    asked: NDArray[np.bool_],
    corner: Cells,
) -> Cells:
    """For each cell the number of the constant that it reads; -1 if it reads several values.

    Args:
        sources: the image of each input.
        reads: what the cells read along rows and, if there are columns, along columns.
        asked: (rows, columns) bool: the cells to examine.
        corner: the number of the first cell along both axes.
    """
    found: Cells = np.full(asked.shape, -1, np.int64)
    looked_at = asked.copy()
    for axis, one in enumerate(reads):
        if not one.borders:
            numbers = np.arange(asked.shape[axis]) + corner[axis]
            inside = (numbers >= one.inside.lo) & (numbers < one.inside.hi)
            looked_at &= inside[:, np.newaxis] if axis == 0 else inside
    places = np.argwhere(looked_at)
    if not places.size:
        return found
    windows = {
        name: [_windows(sources[name], name, reads, place + corner) for place in places]
        for name in reads[0].first
    }
    constants = {}
    for name, boxes in windows.items():
        space = sources[name].shape[1:]
        sides = [-(-length // _GRAIN) for length in (*space[:2], *(1,) * (2 - len(space[:2])))]
        needed = np.zeros(sides, bool)
        for rows, columns in boxes:
            needed[_squares(rows), _squares(columns)] = True
        constants[name] = Constants(sources[name], needed)
    numbers_of: dict[tuple[int, ...], int] = {}
    for number, (y, x) in enumerate(places):
        ids = tuple(constants[name].of(*boxes[number]) for name, boxes in windows.items())
        if -1 not in ids:
            key = (*ids, *_border(reads, (y + corner[0], x + corner[1])))
            found[y, x] = numbers_of.setdefault(key, len(numbers_of))
    return found


def _border(reads: Sequence[CellReads], cell: Sequence[int]) -> Iterator[int]:
    """For each axis, the cell's number if it reads padding along it, and -1 if it does not.

    Two cells that read padding at different places are not equal.
    """
    for one, number in zip(reads, cell, strict=False):
        yield -1 if number in one.inside else int(number)


def _windows(
    source: Source, name: str, reads: Sequence[CellReads], cell: Cells
) -> tuple[Interval, Interval]:
    rows, columns = (
        one.of(name, int(number)).within(length)
        for one, number, length in zip(
            (*reads, _NO_COLUMNS)[:2], cell, (*source.shape[1:3], 1)[:2], strict=True
        )
    )
    return rows, columns
