"""The least overlap and grid at which tiles give the whole pass's answer, and what that costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from eyeshot.errors import EyeshotError, Unsupported
from eyeshot.geometry.output_geometry import OutputGeometry
from eyeshot.geometry.tiles import AxisTiles, Comparison, cover
from eyeshot.graph import Graph
from eyeshot.tiling.breaks import margins_of

SIDES = (256, 512, 1024, 2048, 4096)
"""Tile sizes whose cost is given."""
_MOST_TRIES = 64


@dataclass(frozen=True, slots=True)
class Cost:
    """What tiles of one size cost with the least overlap that is exact.

    Attributes:
        tile: its side.
        overlap: pixels shared with the next tile; None where no tile of this size is exact.
        work: how many times each pixel is computed on a large image; None likewise.
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
        tile: sides of a tile, which keep the last one on the grid of this image too.
        overlap: pixels shared with the next tile, the least that are enough.
        grid: every tile starts on a multiple of so many pixels.
        halo: pixels to be cut off a tile at each side that is not the image's own.
        work: how many times each pixel of a large image is computed.
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
    """What an output sees; None where that is no bounded patch."""
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
    """Tiles that are exact, near the size asked for; None where none were found.

    Args:
        whole: the network at the size of the image.
        tile: the sides asked for.
        geometry: of its output.
        at: the network's graph at a size (H, W).
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
    """A side near the one asked for that leaves the last tile on the grid and room to step."""
    grid = geometry.alignment
    least = max(tile, 2 * geometry.halo + grid) if tile < length else length
    side = length - max(0, length - least) // grid * grid
    if side > least and side - grid > 2 * geometry.halo and side - grid > 0:
        side -= grid  # rather below the size asked for than above it
    return min(length, side + larger * grid)


def _least(tile: int, geometry: OutputGeometry, grid: int) -> int:
    """The least overlap whose half covers the halo, with tiles a multiple of the grid apart."""
    needed = max(2 * geometry.before, 2 * geometry.after - 1, 0)
    return needed + (tile - needed) % grid


def _proved(both: Comparison, axis: int, side: int, geometry: OutputGeometry) -> int | None:
    """The least overlap that is exact along an axis, by the maps themselves."""
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
    """Whether tiles that are cut in the middle of each overlap give the whole pass's answer."""
    found = [both.output(axis, start) for start in tiles.starts]
    outputs = both.whole.nodes[both.whole.outputs[0]].extents[axis]
    return bool(cover(tiles, found, outputs).cropped.all())
