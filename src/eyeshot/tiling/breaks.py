"""Why tiles differ from one whole pass, and which overlap and grid make them equal.

In this file:

- :class:`Break`: a layer that makes a tile's answer differ from that of the whole pass;
- :class:`Remedy`: the smallest overlap and the grid at which tiles are exact, and their cost;
- :func:`settings_of`: exact tiles as settings of other tools (MONAI, SAHI, QuPath and others).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from eyeshot.axes import Interval
from eyeshot.axes.translation import Translated
from eyeshot.errors import EyeshotError, Unsupported
from eyeshot.geometry.sizes import OutputGeometry
from eyeshot.geometry.tiles import AxisTiles, Comparison, cover
from eyeshot.graph import Graph, Kind, Node

Sides = tuple[tuple[int, int], ...]
"""For each axis, pixels (before, after)."""


@dataclass(frozen=True, slots=True)
class Break:
    """One layer that makes a part of every tile wrong.

    Attributes:
        layer: the node's name.
        operator: its operator.
        cause: ``padding`` (it pads at a tile's border inside the image), ``spread`` (its windows
            mix wrong values with right ones), ``statistic`` (it mixes all positions of the tile),
            ``size`` (its result depends on its input's size), ``grid`` (a tile starts between two
            of its strides), ``unknown`` (there is no rule for it).
        sides: for padding and spread, by how many pixels of the image the wrong margin grows,
            (before, after) along each axis.
        step: for a grid, every tile must start at a multiple of this many pixels.
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
    """Along one axis: the growth (before, after) by layer, and the layers that lose all."""

    grown: Mapping[str, tuple[int, int]]
    lost: Mapping[str, tuple[str, int]]


def breaks_of(both: Comparison, tiles: Sequence[AxisTiles]) -> list[Break]:
    """The layers that spoil tiles, in execution order.

    Args:
        both: the network at the image's size and at the tile's size.
        tiles: the tiles along each axis.
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
    """Whether a node reads positions outside its input, so that it pads."""
    for edge in node.edges:
        extents = part.nodes[edge.source].extents
        for axis, n, outputs in zip(edge.axes, extents, node.extents, strict=True):
            read = axis.input_range(Interval(0, outputs), n)
            if read.lo < 0 or read.hi > n:
                return True
    return False


def margins_of(both: Comparison, tiles: Sequence[AxisTiles]) -> Sides | None:
    """The wrong margin of an inner tile in pixels, (before, after) by axis; None if all is."""
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
    """For each node, the number of its positions per pixel of the input."""
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
    """Whether all of a node is wrong, although a part of each of its sources is right."""
    sources = [found[edge.source] for edge in node.edges]
    return bool(sources) and found[node.name].lost and not any(one.lost for one in sources)


def _why(
    node: Node, axis: int, found: Mapping[str, Translated], scales: Mapping[str, Fraction]
) -> tuple[str, int]:
    """(cause, step) for a node at which all of a tile becomes wrong."""
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


SIDES = (256, 512, 1024, 2048, 4096)
"""The tile sizes for which an audit gives the cost."""
_MOST_TRIES = 64


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of tiles of one size, with the smallest overlap that is exact.

    Attributes:
        tile: the side of a tile in pixels.
        overlap: the pixels shared with the next tile; None if no tile of this size is exact.
        work: how often each pixel of a large image is computed; None likewise.
    """

    tile: int
    overlap: int | None
    work: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {"tile": self.tile, "overlap": self.overlap, "work": self.work}


@dataclass(frozen=True, slots=True)
class Remedy:
    """Tiles that are exact when each overlap is cut in its middle.

    Attributes:
        tile: the sides of a tile, such that the last tile is on the grid too.
        overlap: the pixels shared with the next tile, the smallest number that suffices.
        grid: every tile starts at a multiple of this many pixels.
        halo: the pixels to cut off a tile at each side that is not the image's border.
        work: how often each pixel of a large image is computed.
    """

    tile: tuple[int, ...]
    overlap: tuple[int, ...]
    grid: int
    halo: int
    work: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "tile": list(self.tile),
            "overlap": list(self.overlap),
            "grid": self.grid,
            "halo": self.halo,
            "work": self.work,
        }


def geometry_of(whole: Graph) -> OutputGeometry | None:
    """What an output sees; None if it is not a bounded patch."""
    try:
        return OutputGeometry.of(whole)
    except Unsupported:
        return None


def costs_of(remedy: Remedy) -> tuple[Cost, ...]:
    """The cost of tiles of each of :data:`SIDES`, a multiple of the grid and no larger."""
    found = []
    overlap = -(-max(remedy.overlap) // remedy.grid) * remedy.grid
    for side in SIDES:
        tile = side // remedy.grid * remedy.grid
        exact = 0 <= overlap < tile
        work = (tile / (tile - overlap)) ** len(remedy.tile) if exact else None
        found.append(Cost(tile or side, overlap if exact else None, work))
    return tuple(found)


def remedy_of(
    whole: Graph, tile: Sequence[int], geometry: OutputGeometry, at: Callable[..., Graph]
) -> Remedy | None:
    """Exact tiles near the requested size; None if none were found.

    Args:
        whole: the network's graph at the size of the image.
        tile: the requested sides.
        geometry: the geometry of its output.
        at: returns the network's graph at a size (H, W).
    """
    lengths = whole.nodes[whole.inputs[0]].extents
    grid = geometry.alignment
    for larger in range(_MOST_TRIES):
        sides = [_on_grid(n, t, geometry, larger) for n, t in zip(lengths, tile, strict=True)]
        try:
            part = at(*sides)
        except EyeshotError:
            continue  # the network does not take tiles of this size
        both = Comparison(whole, part)
        if both.differs:
            continue
        overlaps = [_proved(both, axis, side, geometry) for axis, side in enumerate(sides)]
        found = [one for one in overlaps if one is not None]
        if len(found) == len(sides):
            work = math.prod(t / (t - o) for t, o in zip(sides, found, strict=True))
            return Remedy(tuple(sides), tuple(found), grid, _halo(both, sides, found), work)
        if all(side == n for side, n in zip(sides, lengths, strict=True)):
            return None
    return None


def _halo(both: Comparison, sides: Sequence[int], overlaps: Sequence[int]) -> int:
    """The widest wrong margin of these tiles."""
    lengths = both.whole.nodes[both.whole.inputs[0]].extents
    tiles = [AxisTiles.lay(*one) for one in zip(lengths, sides, overlaps, strict=True)]
    return max((max(one) for one in margins_of(both, tiles) or ()), default=0)


def _on_grid(length: int, tile: int, geometry: OutputGeometry, larger: int) -> int:
    """A side near the requested one that keeps the last tile on the grid and allows a step."""
    grid = geometry.alignment
    least = max(tile, 2 * geometry.halo + grid) if tile < length else length
    side = length - max(0, length - least) // grid * grid
    if side > least and side - grid > 2 * geometry.halo and side - grid > 0:
        side -= grid  # rather below the size asked for than above it
    return min(length, side + larger * grid)


def _least(tile: int, geometry: OutputGeometry, grid: int) -> int:
    """The smallest overlap whose half covers the halo, with tile distances on the grid."""
    needed = max(2 * geometry.before, 2 * geometry.after - 1, 0)
    return needed + (tile - needed) % grid


def _proved(both: Comparison, axis: int, side: int, geometry: OutputGeometry) -> int | None:
    """The smallest overlap that is exact along an axis, tested on the axis maps."""
    whole, grid = both.whole, geometry.alignment
    length = whole.nodes[whole.inputs[0]].extents[axis]
    if side >= length:
        return 0
    overlap = _least(side, geometry, grid)
    while overlap < side and not is_exact(both, axis, AxisTiles.lay(length, side, overlap)):
        overlap += grid
    while grid <= overlap < side and is_exact(
        both, axis, AxisTiles.lay(length, side, overlap - grid)
    ):
        overlap -= grid
    return overlap if overlap < side else None


def is_exact(both: Comparison, axis: int, tiles: AxisTiles) -> bool:
    """Whether tiles, cut in the middle of each overlap, give the whole pass's answer."""
    found = [both.output(axis, start) for start in tiles.starts]
    outputs = both.whole.nodes[both.whole.outputs[0]].extents[axis]
    return bool(cover(tiles, found, outputs).cropped.all())


_MONAI = """\
import torch.nn.functional as F
def right(x, where):  # a tile's answer, and 1 where it is that of the whole pass
    y, mask = {answer}, torch.ones_like(x[:, :1])
    for axis, place in enumerate(where[0][2:], 2):
        if place.start > 0:
            mask.narrow(axis, 0, {halo}).zero_()
        if place.stop < image.shape[axis]:
            mask.narrow(axis, mask.shape[axis] - {halo}, {halo}).zero_()
    mask = F.interpolate(mask, y.shape[2:])
    return y * mask, mask
inferer = SlidingWindowInferer(roi_size={tile}, overlap={ratio}, with_coord=True)
total, count = inferer(image, right)
answer = {result}  # its own blending would mix wrong borders in"""


def ratios_of(tile: Sequence[int], overlap: Sequence[int]) -> tuple[float, ...]:
    """The overlap as a share of the tile, such that tools which cut ``tile·(1 − share)`` off to a
    whole number arrive at the step that is meant."""
    found = []
    for side, shared in zip(tile, overlap, strict=True):
        ratio = shared / side
        if int(side * (1 - ratio)) != side - shared:
            ratio = (shared - 0.5) / side
        found.append(ratio)
    return tuple(found)


def settings_of(remedy: Remedy | None, geometry: OutputGeometry | None) -> dict[str, str]:
    """By tool, the settings for exact tiles; or why there are none.

    Tools for images only are left out for a network with another number of axes.
    """
    if remedy is None or geometry is None:
        tools = ("MONAI", "BioImage.IO", "QuPath InstanSeg", "SAHI", "napari")
        return dict.fromkeys(tools, "no tile size and overlap are exact")
    tile, overlap = remedy.tile, remedy.overlap
    ratios = ratios_of(tile, overlap)
    halo = _cut_off(remedy)
    settings = {
        "MONAI": _monai(remedy, ratios, geometry),
        "BioImage.IO": (
            f"halo: {halo} for each axis of space of the output, input blocks of {by(tile)}; exact "
            f"but for {halo} pixels at the image's border, which the library pads by itself"
        ),
    }
    if len(tile) == 2:
        centered = "it centers its tiles, maybe off the grid, and" if remedy.grid > 1 else "it"
        settings["QuPath InstanSeg"] = (
            f".tileDims({max(tile)}).interTilePadding({halo}); {centered} joins objects by rules "
            "of its own"
        )
        settings["SAHI"] = (
            f"slice_height={tile[0]}, slice_width={tile[1]}, overlap_height_ratio="
            f"{ratios[0]:.6g}, overlap_width_ratio={ratios[1]:.6g}; a box is that of the whole "
            f"pass if all that it depends on lies {halo} pixels or more inside its slice"
        )
    blends = "exact too" if not remedy.halo else "never exact"
    settings["napari"] = (
        f"CAREamics and others that crop: tile {by(tile)}, overlap {by(overlap)}; Cellpose and "
        f"others that blend: tile_overlap={max(ratios):.6g}, {blends}"
    )
    return settings


def _cut_off(remedy: Remedy) -> int:
    """The margin to cut off, one number for all sides, such that steps stay on the grid."""
    halo = max(-(-shared // 2) for shared in remedy.overlap)
    while any((side - 2 * halo) % remedy.grid for side in remedy.tile) and halo % remedy.grid:
        halo += 1
    return halo


def _monai(remedy: Remedy, ratios: tuple[float, ...], geometry: OutputGeometry) -> str:
    tile, margin, axes = remedy.tile, geometry.margin, len(remedy.tile)
    if margin and any(stride != 1 for stride in geometry.stride):
        return "it stretches an output that is smaller than its tile: no settings are exact"
    if not remedy.halo and not margin:
        return f"SlidingWindowInferer(roi_size={tile}, overlap={_number_or_tuple(ratios)})"
    inner = ", ".join(["...", *[f"{margin}:-{margin}"] * axes])
    return _MONAI.format(
        halo=max(remedy.halo, margin),
        tile=tile,
        ratio=_number_or_tuple(ratios),
        answer=f"F.pad(net(x), [{margin}] * {2 * axes})" if margin else "net(x)",
        result=f"(total / count)[{inner}]" if margin else "total / count",
    )


def by(sizes: Sequence[int]) -> str:
    """``512x480``."""
    return "x".join(str(n) for n in sizes)


def _number_or_tuple(ratios: tuple[float, ...]) -> str:
    return repr(ratios[0]) if len(set(ratios)) == 1 else repr(ratios)
