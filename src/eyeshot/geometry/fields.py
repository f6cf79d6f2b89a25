"""The receptive field of every unit of every layer, with borders and on an axis without them.

A receptive field says what an output sees, a :class:`Grid` where it stands: behind a stride of 2
two neighbors are 2 pixels apart, and behind a 3 × 3 convolution without padding the first one
stands on pixel 1. A statistic over the whole image moves nothing.

Without borders, fields repeat with a period: a unit's field depends on its phase, its place on the
stride grid. After a pool by 2 and an up-sampling by 2, even and odd units see different patches,
and no single number describes both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.axes import EMPTY, NO_INPUT, AxisMap, IntArray, Interval
from eyeshot.errors import BadValue, UnknownName, Unsupported
from eyeshot.graph import Graph, Kind, Node
from eyeshot.language import mark
from eyeshot.operators.pointwise import fills

EXACT = "exact"
WHOLE_IMAGE = mark("whole image")


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """The receptive field of one unit.

    Attributes:
        layer: name of the node.
        unit: its position along each spatial axis.
        box: the inputs in its field; may reach outside the picture, into the padding. None if
            the status is unsupported.
        inside: the part inside the picture that its value really depends on.
        status: ``exact``; ``whole image`` (there is a global operator before it); or
            ``unsupported: <operator> at <layer>``, and then the field is unknown.
    """

    layer: str
    unit: tuple[int, ...]
    box: tuple[Interval, ...] | None
    inside: tuple[Interval, ...] | None
    status: str

    @property
    def sizes(self) -> tuple[int, ...]:
        """Inputs along each axis of the box; nothing where there is no box."""
        return tuple(len(side) for side in self.box or ())

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""

        def sides(box: tuple[Interval, ...] | None) -> list[list[int]] | None:
            return None if box is None else [[side.lo, side.hi] for side in box]

        return {
            "layer": self.layer,
            "unit": list(self.unit),
            "box": sides(self.box),
            "inside": sides(self.inside),
            "status": self.status,
        }


@dataclass(frozen=True, slots=True)
class LayerField:
    """The fields of a whole layer along one axis: a range where phases differ.

    Attributes:
        smallest: inputs seen by the unit with the smallest field.
        largest: inputs seen by the unit with the largest field.
        stride: inputs from one unit to the next; None if they are not evenly spaced.
        padding: how far unit 0 sees before the first input.
        center: the middle of unit 0's field, in input positions.
    """

    smallest: int
    largest: int
    stride: Fraction | None
    padding: int
    center: Fraction


@dataclass(frozen=True, slots=True)
class _AxisFields:
    """The fields along one axis: without borders (None if undefined), and inside the picture.

    ``tangled``: branches met, and one of them sees no input along some axis for some units. The
    union of their fields is then not a product of intervals, and only the footprint gives it.
    """

    free: Phases | None
    lo: IntArray
    hi: IntArray
    whole: bool = False
    tangled: bool = False

    def at(self, units: IntArray) -> Pair:
        return self.lo[units], self.hi[units]


class Fields:
    """All receptive fields of a graph, with respect to one of its inputs.

    The fields are computed once, on first use; after that a query is a look-up.
    """

    def __init__(self, graph: Graph, source: str | None = None) -> None:
        self.graph = graph
        self.source = graph.inputs[0] if source is None else source
        if self.source not in graph.inputs:
            raise UnknownName("input", self.source, graph.inputs)

    def field(self, layer: str, unit: Sequence[int] | None = None) -> ReceptiveField:
        """The receptive field of one unit of a layer.

        Args:
            layer: a node's name, or a module's dotted path.
            unit: its position along each spatial axis; None for the middle unit.

        Raises:
            UnknownName: there is no such layer.
            BadValue: the unit is outside the layer's map.
        """
        node = self.graph[layer]
        shown = checked_unit(node, unit)
        place = live_place(node, shown)
        status = self.status(node.name)
        fields = self._all[node.name]
        if isinstance(fields, str):
            return ReceptiveField(node.name, shown, None, None, status)
        inside = self._inside(node, place, fields)
        box = tuple(
            side if a.free is None else Interval(*a.free.one(i))
            for a, i, side in zip(fields, place, inside, strict=True)
        )
        return ReceptiveField(node.name, shown, box, inside, status)

    def _inside(
        self, node: Node, unit: tuple[int, ...], fields: tuple[_AxisFields, ...]
    ) -> tuple[Interval, ...]:
        if any(axis.tangled for axis in fields):
            mask = footprint(self.graph, node.name, unit, self.source)
            places = [np.nonzero(mask.any(axis=_others(mask.ndim, a)))[0] for a in range(mask.ndim)]
            return tuple(_interval(p[0], p[-1] + 1) if len(p) else EMPTY for p in places)
        sides = tuple(_interval(a.lo[i], a.hi[i]) for a, i in zip(fields, unit, strict=True))
        # A unit that sees no input along one axis (it is in the padding) sees no input at all.
        return sides if all(sides) else (EMPTY,) * len(sides)

    def status(self, layer: str) -> str:
        """``exact``, ``whole image``, or ``unsupported: <operator> at <layer>``."""
        fields = self._all[self.graph[layer].name]
        if isinstance(fields, str):
            return fields
        return WHOLE_IMAGE if any(axis.whole for axis in fields) else EXACT

    def phases(self, layer: str) -> tuple[Phases | None, ...]:
        """The layer's fields without borders, one for each axis; None if undefined."""
        fields = self._all[self.graph[layer].name]
        return () if isinstance(fields, str) else tuple(axis.free for axis in fields)

    def bounds(self, layer: str, axis: int) -> Pair:
        """For all units along one axis, (first, one past the last) input really read.

        Empty arrays if the layer is unsupported. A unit that reads no input has first > last.
        """
        fields = self._all[self.graph[layer].name]
        if isinstance(fields, str):
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        return fields[axis].lo, fields[axis].hi

    def layer(self, layer: str) -> tuple[LayerField, ...]:
        """A summary of the layer's fields, one for each axis; empty if it is unsupported."""
        fields = self._all[self.graph[layer].name]
        return () if isinstance(fields, str) else tuple(_in_short(axis) for axis in fields)

    @cached_property
    def _all(self) -> dict[str, tuple[_AxisFields, ...] | str]:
        known: dict[str, tuple[_AxisFields, ...] | str] = {}
        for node in self.graph:
            known[node.name] = self._node(node, known)
        return known

    def _node(
        self, node: Node, known: dict[str, tuple[_AxisFields, ...] | str]
    ) -> tuple[_AxisFields, ...] | str:
        if node.is_input:
            return tuple(_input_axis(n, node.name == self.source) for n in node.extents)
        if node.kind is Kind.UNSUPPORTED:
            return f"unsupported: {node.operator} at {node.name}"
        before = [known[edge.source] for edge in node.edges]
        lost = next((fields for fields in before if isinstance(fields, str)), None)
        if lost is not None:
            return lost
        if fills(node):
            return tuple(_input_axis(n, spatial=False) for n in node.extents)
        axes = []
        for axis, extent in enumerate(node.extents):
            branches = [
                (edge.axes[axis], fields[axis])
                for edge, fields in zip(node.edges, before, strict=True)
                if not isinstance(fields, str)
            ]
            axes.append(_joined(branches, extent))
        return tuple(axes)


def _input_axis(n: int, spatial: bool) -> _AxisFields:
    places = np.arange(n, dtype=np.int64)
    if spatial:
        return _AxisFields(start(), places, places + 1)
    # Another input of the network, or a constant: its units do not see the requested input.
    return _AxisFields(None, np.ones_like(places), np.zeros_like(places))


def _joined(branches: list[tuple[AxisMap, _AxisFields]], extent: int) -> _AxisFields:
    """The fields along one axis at a node where branches meet."""
    units = np.arange(extent, dtype=np.int64)
    # A branch that no input reaches, such as ones_like, adds nothing.
    branches = [one for one in branches if (one[1].lo < one[1].hi).any()] or branches
    bounds = [_bounds(axis, before, units) for axis, before in branches]
    lo = np.minimum.reduce([one[0] for one in bounds])
    hi = np.maximum.reduce([one[1] for one in bounds])
    whole = any(
        before.whole or (axis.is_global and len(before.lo) > 1) for axis, before in branches
    )
    tangled = any(before.tangled for _, before in branches) or (
        len(branches) > 1 and any((one[0] > one[1]).any() for one in bounds)
    )
    seeing = [(axis, before) for axis, before in branches if (before.lo < before.hi).any()]
    free: Phases | None = None
    for i, (axis, before) in enumerate(seeing):
        ahead = None if before.free is None else through(axis, before.free)
        free = ahead if i == 0 else (union(free, ahead) if free and ahead else None)
        if free is None:
            break
    return _AxisFields(free, lo, hi, whole, tangled)


def _bounds(axis: AxisMap, before: _AxisFields, units: IntArray) -> Pair:
    n = len(before.lo)
    if axis.is_global:
        lo, hi = before.lo.min(initial=np.iinfo(np.int64).max), before.hi.max(initial=0)
        return np.full_like(units, lo), np.full_like(units, hi)
    return hull_of_taps(axis.inputs_of(units, n), before.at)


def _in_short(axis: _AxisFields) -> LayerField:
    if axis.free is not None:
        smallest, largest = axis.free.sizes
        lo, hi = axis.free.one(0)
        return LayerField(smallest, largest, axis.free.stride, -lo, Fraction(lo + hi - 1, 2))
    sizes = np.maximum(axis.hi - axis.lo, 0)
    first = _interval(axis.lo[0], axis.hi[0])
    center = Fraction(first.lo + first.hi - 1, 2)
    return LayerField(int(sizes.min()), int(sizes.max()), None, -first.lo, center)


def _others(axes: int, axis: int) -> tuple[int, ...]:
    return tuple(other for other in range(axes) if other != axis)


def _interval(lo: Any, hi: Any) -> Interval:
    return Interval(int(lo), int(hi)) if lo < hi else EMPTY


@dataclass(frozen=True, slots=True)
class Grid:
    """The positions of a map along one axis.

    Attributes:
        step: from one position to the next, in pixels of the input.
        first: where position 0 is: the center of what it sees, in pixels of the input. The center
            of pixel 0 is 0; the mean over the phases, where they differ.
    """

    step: Fraction
    first: Fraction


def grids_of(graph: Graph, name: str, source: str | None = None) -> tuple[Grid | None, ...]:
    """The grid of a node along each axis of the image; None where its positions have no place.

    Where branches meet that stand on different places of the same stride, the grid is in the
    middle.

    Args:
        graph: the network at one size.
        name: of the node.
        source: of the input; None for the first one.
    """
    start = graph.inputs[0] if source is None else source
    known: dict[str, tuple[Grid | None, ...]] = {}
    for node in graph:
        if node.is_input:
            own = Grid(Fraction(1), Fraction(0)) if node.name == start else None
            known[node.name] = (own,) * len(node.extents)
        else:
            known[node.name] = tuple(
                _grid_of_branches(graph, node, axis, known) for axis in range(len(node.extents))
            )
        if node.name == name:
            break
    axes = graph.nodes[name].dims
    return tuple(None if dim is None else grid for dim, grid in zip(axes, known[name], strict=True))


def _grid_of_branches(
    graph: Graph, node: Node, axis: int, known: dict[str, tuple[Grid | None, ...]]
) -> Grid | None:
    grids = []
    for edge in node.edges:
        before = known[edge.source][axis] if axis < len(known[edge.source]) else None
        if before is None or axis >= len(edge.axes):
            continue
        placed = edge.axes[axis].grid(graph.nodes[edge.source].extents[axis])
        if placed is not None:
            step, first = placed
            grids.append(Grid(before.step * step, before.first + before.step * first))
    if not grids or len({grid.step for grid in grids}) > 1:
        return None
    firsts = [grid.first for grid in grids]
    return Grid(grids[0].step, (min(firsts) + max(firsts)) / 2)


Pair = tuple[IntArray, IntArray]

# A unit that depends on nothing (a gap between strides) has an empty field: lo > hi.
_NO_LO = np.iinfo(np.int64).max // 4
_NO_HI = -_NO_LO


@dataclass(frozen=True, slots=True, eq=False)
class Phases:
    """The fields of all units along one axis, stored as one period.

    Unit ``i = p·outputs + r`` sees the inputs ``[lo[r] + p·inputs, hi[r] + p·inputs)``.

    Attributes:
        outputs: units in one period.
        inputs: how far the field moves from one period to the next.
        lo: first input seen, for each phase; may be negative (padding).
        hi: one past the last input seen, for each phase.
    """

    outputs: int
    inputs: int
    lo: IntArray
    hi: IntArray

    @property
    def stride(self) -> Fraction:
        """Inputs from one unit to the next, on average."""
        return Fraction(self.inputs, self.outputs)

    @property
    def sizes(self) -> tuple[int, int]:
        """The smallest and the largest field among the phases, in inputs."""
        sizes = np.maximum(self.hi - self.lo, 0)
        return int(sizes.min()), int(sizes.max())

    def at(self, units: IntArray) -> tuple[IntArray, IntArray]:
        """First and one past the last input seen by each of ``units``, which may be negative."""
        phase, block = units % self.outputs, units // self.outputs
        lo, hi = self.lo[phase], self.hi[phase]
        some = lo < hi
        shift = block * self.inputs
        return np.where(some, lo + shift, _NO_LO), np.where(some, hi + shift, _NO_HI)

    def one(self, unit: int) -> tuple[int, int]:
        """First and one past the last input seen by one unit; (0, 0) if it sees none."""
        block, phase = divmod(unit, self.outputs)
        lo, hi = int(self.lo[phase]), int(self.hi[phase])
        return (lo + block * self.inputs, hi + block * self.inputs) if lo < hi else (0, 0)

    def unit_halo(self) -> tuple[int, int]:
        """The largest distance that a unit sees before and after its own inputs.

        A unit's own inputs are the ``stride`` inputs at its position.
        """
        units = np.arange(self.outputs, dtype=np.int64)
        some = self.lo < self.hi
        before = units * self.inputs // self.outputs - self.lo
        after = self.hi - -(-(units + 1) * self.inputs // self.outputs)
        return int(before[some].max(initial=0)), int(after[some].max(initial=0))

    def block_halo(self) -> tuple[int, int]:
        """What a block of whole periods needs before its first and after its last own input."""
        some = self.lo < self.hi
        before = int((-self.lo)[some].max(initial=0))
        after = int((self.hi - self.inputs)[some].max(initial=0))
        return before, after


def start() -> Phases:
    """The input itself: unit i sees input i."""
    return Phases(1, 1, np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64))


def through(axis: AxisMap, source: Phases) -> Phases | None:
    """The fields after an axis map, from the fields before it; None if the map has no period."""
    if axis.period is None:
        return None
    step_out, step_in = axis.period
    repeats = source.outputs // math.gcd(step_in, source.outputs)
    outputs = step_out * repeats
    inputs = step_in * repeats // source.outputs * source.inputs
    lo, hi = hull_of_taps(axis.inputs_of_unbounded(np.arange(outputs, dtype=np.int64)), source.at)
    return _shortest(Phases(outputs, inputs, lo, hi))


def union(one: Phases, other: Phases) -> Phases | None:
    """The fields where two branches meet; None if the branches run at different strides."""
    if one.stride != other.stride:
        return None
    outputs = math.lcm(one.outputs, other.outputs)
    units = np.arange(outputs, dtype=np.int64)
    (lo, hi), (lo2, hi2) = one.at(units), other.at(units)
    inputs = int(one.stride * outputs)
    return _shortest(Phases(outputs, inputs, np.minimum(lo, lo2), np.maximum(hi, hi2)))


def hull_of_taps(taps: IntArray, at: Callable[[IntArray], Pair]) -> Pair:
    """For each row of taps, the smallest interval that holds the fields of all of them.

    Args:
        taps: (units, m), with NO_INPUT in unused places.
        at: the fields (lo, hi) of an array of source units.
    """
    real = taps != NO_INPUT
    if not real.any():  # only padding: there may be no source unit at all
        return np.full(len(taps), _NO_LO), np.full(len(taps), _NO_HI)
    lo, hi = at(np.where(real, taps, 0))
    lo = np.where(real, lo, _NO_LO).min(axis=1, initial=_NO_LO)
    hi = np.where(real, hi, _NO_HI).max(axis=1, initial=_NO_HI)
    return lo, hi


def _shortest(phases: Phases) -> Phases:
    """The same fields with the shortest possible period."""
    units = np.arange(phases.outputs, dtype=np.int64)
    for outputs in range(1, phases.outputs):
        if phases.outputs % outputs or (phases.inputs * outputs) % phases.outputs:
            continue
        inputs = phases.inputs * outputs // phases.outputs
        shorter = Phases(outputs, inputs, phases.lo[:outputs], phases.hi[:outputs])
        lo, hi = shorter.at(units)
        if (lo == phases.at(units)[0]).all() and (hi == phases.at(units)[1]).all():
            return shorter
    return phases


Product = tuple[NDArray[np.bool_], ...]


def footprint(
    graph: Graph, layer: str, unit: Sequence[int] | None = None, source: str | None = None
) -> NDArray[np.bool_]:
    """The positions of the input that one unit depends on, over all channels.

    Args:
        graph: the network at one size.
        layer: a node's name or a module's path.
        unit: its position along each spatial axis; None for the middle.
        source: which input of the network; None for the first.

    Returns:
        A mask over the input's positions, (H, W) for a picture.

    Raises:
        UnknownName: there is no such layer or input.
        BadValue: the unit is outside the layer's map.
        Unsupported: there is an operator without a rule before the unit.
    """
    source = graph.inputs[0] if source is None else source
    if source not in graph.inputs:
        raise UnknownName("input", source, graph.inputs)
    node = graph[layer]
    chosen = live_place(node, checked_unit(node, unit))
    requests: dict[str, list[Product]] = {
        node.name: [tuple(np.arange(n) == i for n, i in zip(node.extents, chosen, strict=True))]
    }
    for name in reversed(list(graph.nodes)):
        if name in requests and graph.nodes[name].kind is Kind.UNSUPPORTED:
            raise Unsupported(
                f"{name}: {graph.nodes[name].reason}", cure="ask about a layer before it"
            )
        if fills(graph.nodes[name]):
            continue
        for product in requests.get(name, []):
            for edge in graph.nodes[name].edges:
                extents = graph.nodes[edge.source].extents
                needed = tuple(
                    _needed(axis, places, n)
                    for axis, places, n in zip(edge.axes, product, extents, strict=True)
                )
                _add(requests.setdefault(edge.source, []), needed)
    shape = graph.nodes[source].extents
    mask = np.zeros(shape, dtype=bool)
    for product in requests.get(source, []):
        mask[np.ix_(*product)] = True
    return mask


def _needed(axis: AxisMap, outputs: NDArray[np.bool_], n: int) -> NDArray[np.bool_]:
    if axis.is_global:
        return np.full(n, outputs.any())
    needed = np.zeros(n, dtype=bool)
    taps = axis.inputs_of(np.nonzero(outputs)[0], n)
    needed[taps[taps != NO_INPUT]] = True
    return needed


def _add(products: list[Product], new: Product) -> None:
    """Add one product to a union, unless it is empty or inside another; drop those inside it."""
    if not all(places.any() for places in new):
        return
    if any(_inside(new, old) for old in products):
        return
    products[:] = [old for old in products if not _inside(old, new)] + [new]


def _inside(one: Product, other: Product) -> bool:
    return all(not (a & ~b).any() for a, b in zip(one, other, strict=True))


def checked_unit(node: Node, unit: Sequence[int] | None) -> tuple[int, ...]:
    """A unit's position along every axis, by default the middle; vanished axes may be omitted.

    Behind an operator that mixes positions, such as attention, the axes stay vanished though there
    is a map again: any unit of that map may be named. All see the same (:func:`live_place`).

    Raises:
        BadValue: it is outside the node's map.
    """
    extents = node.extents
    if unit is None:
        return tuple(n // 2 for n in extents)
    chosen = tuple(int(i) for i in unit)
    live = [n for n, dim in zip(extents, node.dims, strict=True) if dim is not None]
    if len(chosen) == len(live) < len(extents):
        indices = iter(chosen)
        chosen = tuple(next(indices) if dim is not None else 0 for dim in node.dims)
    sides = tuple(_side(node, axis) for axis in range(len(extents)))
    size = " x ".join(str(n) for n in sides)
    if len(chosen) != len(extents):
        raise BadValue(f"unit {chosen} of {node.name}", cure=f"give a place in its {size} map")
    if not all(0 <= i < n for i, n in zip(chosen, sides, strict=True)):
        raise BadValue(f"unit {chosen} lies outside {node.name}", cure=f"its map is {size}")
    return chosen


def live_place(node: Node, unit: Sequence[int]) -> tuple[int, ...]:
    """A checked unit's position among the units that differ: 0 along vanished axes."""
    return tuple(0 if dim is None else i for i, dim in zip(unit, node.dims, strict=True))


def dimension_of(node: Node, axis: int) -> int | None:
    """The dimension of a node's value that an axis runs along; of a vanished axis, in its place."""
    if node.dims[axis] is not None or len(node.shape) != len(node.dims) + 2:
        return node.dims[axis]
    return None if axis + 2 in node.dims else axis + 2


def _side(node: Node, axis: int) -> int:
    dim = dimension_of(node, axis)
    return 1 if dim is None else node.shape[dim]
