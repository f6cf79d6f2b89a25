"""The receptive field of every unit of every layer, from one pass over the graph.

A receptive field says what an output sees, a :class:`Grid` where it stands: behind a stride of 2
two neighbors are 2 pixels apart, and behind a 3 × 3 convolution without padding the first one
stands on pixel 1. A statistic over the whole image moves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from eyeshot.axes import EMPTY, AxisMap, IntArray, Interval
from eyeshot.errors import UnknownName
from eyeshot.geometry.phases import (
    Pair,
    Phases,
    checked_unit,
    footprint,
    hull_of_taps,
    live_place,
    start,
    through,
    union,
)
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
