"""Receptive fields on an axis without borders, where they repeat with a period.

A unit's field depends on its phase: its place on the stride grid. After a pool by 2 and an
up-sampling by 2, even and odd units see different patches, and no single number describes both.

The exact set of inputs that one unit depends on, with its holes, is computed here too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from eyeshot.axes import NO_INPUT, AxisMap, IntArray
from eyeshot.errors import BadValue, UnknownName, Unsupported
from eyeshot.graph import Graph, Kind, Node
from eyeshot.operators.pointwise import fills

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
