"""What makes a tile's answer differ from the whole pass, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from eyeshot.axes import Interval
from eyeshot.axes.translation import Translated
from eyeshot.geometry.tiles import AxisTiles, Comparison
from eyeshot.graph import Graph, Kind, Node

Sides = tuple[tuple[int, int], ...]
"""For each axis, pixels (before, after)."""


@dataclass(frozen=True, slots=True)
class Break:
    """One layer that spoils a part of every tile.

    Attributes:
        layer: the node's name.
        operator: what it is.
        cause: ``padding`` (it pads where the image goes on), ``spread`` (it mixes what is wrong
            with what is right), ``statistic`` (it mixes all positions of the tile), ``size`` (what
            it does depends on the size it is given), ``grid`` (a tile begins between two of its
            steps), ``unknown`` (no rule says what it does).
        sides: of padding and spread, by how many pixels of the image the wrong margin grows,
            (before, after) along each axis.
        step: for a grid, of how many pixels every tile's start must be a multiple.
    """

    layer: str
    operator: str
    cause: str
    sides: Sides = ()
    step: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "layer": self.layer,
            "operator": self.operator,
            "cause": self.cause,
            "sides": [list(side) for side in self.sides],
            "step": self.step,
        }


@dataclass(frozen=True, slots=True)
class _AxisBreaks:
    """Along one axis: (before, after) by layer, and where all was lost."""

    grown: Mapping[str, tuple[int, int]]
    lost: Mapping[str, tuple[str, int]]


def breaks_of(both: Comparison, tiles: Sequence[AxisTiles]) -> list[Break]:
    """The layers that spoil tiles, in execution order.

    Args:
        both: the network at the size of the image and at that of a tile.
        tiles: along each axis.
    """
    axes = [_along(both, axis, one) for axis, one in enumerate(tiles)]
    found = []
    for node in both.part:
        for cause, step in dict.fromkeys(a.lost[node.name] for a in axes if node.name in a.lost):
            found.append(Break(node.name, node.operator, cause, step=step))
        sides = tuple(axis.grown.get(node.name, (0, 0)) for axis in axes)
        if any(map(any, sides)):
            cause = "padding" if _pads(both.part, node) else "spread"
            found.append(Break(node.name, node.operator, cause, sides))
    return found


def _pads(part: Graph, node: Node) -> bool:
    """Whether a node reads places outside of its source."""
    for edge in node.edges:
        extents = part.nodes[edge.source].extents
        for axis, n, outputs in zip(edge.axes, extents, node.extents, strict=True):
            read = axis.input_range(Interval(0, outputs), n)
            if read.lo < 0 or read.hi > n:
                return True
    return False


def margins_of(both: Comparison, tiles: Sequence[AxisTiles]) -> Sides | None:
    """How wide the wrong margin of an inner tile is, in pixels; None where all of it is wrong."""
    found = []
    for axis, one in enumerate(tiles):
        scale = _scales(both.part, axis)[both.part.outputs[0]]
        sides = []
        for place, start in enumerate(_inner(one)):
            same = both.output(axis, start).same
            if not same.any():
                return None
            sides.append(_margins(same, scale)[place])
        found.append((sides[0], sides[1]) if sides else (0, 0))
    return tuple(found)


def _inner(tiles: AxisTiles) -> tuple[int, ...]:
    """Starts of a tile with a neighbor before it and of one with a neighbor after it."""
    if len(tiles.starts) < 2:
        return ()
    return tiles.starts[1], tiles.starts[0]


def _along(both: Comparison, axis: int, tiles: AxisTiles) -> _AxisBreaks:
    grown: dict[str, tuple[int, int]] = {}
    lost: dict[str, tuple[str, int]] = {}
    part, scales = both.part, _scales(both.part, axis)
    before = after = both.nodes(axis, tiles.starts[0])
    if len(tiles.starts) > 1:
        before = both.nodes(axis, tiles.starts[1])
    for node in part:
        more = (
            _grown(node, before, scales, 0),
            _grown(node, after, scales, 1),
        )
        if any(more):
            grown[node.name] = more
    for start in tiles.starts:
        found = both.nodes(axis, start)
        for node in part:
            if node.name not in lost and _loses(node, found):
                lost[node.name] = _why(node, axis, found, scales)
    return _AxisBreaks(grown, {name: why for name, why in lost.items() if why[0]})


def _scales(part: Graph, axis: int) -> dict[str, Fraction]:
    """Units of each node for a pixel of the input."""
    found: dict[str, Fraction] = {}
    for node in part:
        found[node.name] = Fraction(1)
        for edge in node.edges[:1]:
            period = edge.axes[axis].period if node.kind is not Kind.UNSUPPORTED else None
            outputs, inputs = period or (1, 1)
            found[node.name] = found[edge.source] * outputs / inputs
    return found


def _margins(same: Any, scale: Fraction) -> tuple[int, int]:
    """(before, after): pixels up to the first and from the last unit that is the same."""
    places = np.nonzero(same)[0]
    first, last = int(places[0]), len(same) - 1 - int(places[-1])
    return -(-first // scale), -(-last // scale)


def _grown(
    node: Node, found: Mapping[str, Translated], scales: Mapping[str, Fraction], side: int
) -> int:
    """By how many pixels a node widens the wrong margin on one side."""
    mine = found[node.name]
    if mine.lost or not node.edges:
        return 0
    earlier = [
        _margins(found[edge.source].same, scales[edge.source])[side]
        for edge in node.edges
        if found[edge.source].same.any()
    ]
    return max(0, _margins(mine.same, scales[node.name])[side] - max(earlier, default=0))


def _loses(node: Node, found: Mapping[str, Translated]) -> bool:
    """Whether nothing of a node is right although something of each of its sources is."""
    sources = [found[edge.source] for edge in node.edges]
    return bool(sources) and found[node.name].lost and not any(one.lost for one in sources)


def _why(
    node: Node, axis: int, found: Mapping[str, Translated], scales: Mapping[str, Fraction]
) -> tuple[str, int]:
    """(cause, step) of a node at which all of a tile is lost."""
    if node.kind is Kind.UNSUPPORTED:
        return "unknown", 0
    if node.kind in (Kind.GLOBAL_STATISTIC, Kind.NONLOCAL):
        return "statistic", 0
    for edge in node.edges:
        period, source = edge.axes[axis].period, found[edge.source]
        if period is None:
            return "size", 0
        outputs, inputs = period
        if source.offset is not None and source.offset * outputs % inputs:
            step = Fraction(inputs, outputs) / scales[edge.source]
            return "grid", -(-step.numerator // step.denominator)
    return "spread", 0
