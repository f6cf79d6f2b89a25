"""Operators that will be called whole, and the positions that come back behind them.

A run may hold the inputs of any operator whole and call it as the network does. What comes of it
may have positions again, which the rules lost: an attention over tokens ends in a map. To say that
each of these positions depends on all of the input is true of whatever numbers they are, so a map
is taken for what it looks like, and what follows streams over it as over any other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from eyeshot.axes import Global
from eyeshot.graph import Edge, Family, Kind, Node
from eyeshot.operators.site import Described, Site

Dims = tuple[int | None, ...]

_OVER_MAPS = (
    *(Family.CONVOLUTION, Family.TRANSPOSED_CONVOLUTION, Family.MAX_POOL, Family.AVERAGE_POOL),
    *(Family.RESIZE, Family.PIXEL_SHUFFLE, Family.ADAPTIVE_AVERAGE_POOL),
)
"""Operators whose last dimensions are positions, whatever stands before them."""


class Held:
    """Which nodes of a graph are held, and on which grids its maps lie."""

    def __init__(self) -> None:
        self._grids: dict[tuple[int, ...], None] = {}
        self._lost: set[str] = set()

    def settled(self, site: Site, family: Family, told: Described) -> Described:
        """What a rule says of a call, or what is true of it where the call is made whole."""
        lost = [source for source in site.sources if source.name in self._lost]
        if told.kind is Kind.UNSUPPORTED:
            return _whole(site, told, self._dims(site))
        regained = len(lost) == len(site.sources) and all(dim is None for dim in told.dims)
        if not regained or told.kind is not Kind.LOCAL or not self._is_map(site, family):
            return told
        return _whole(site, told, self._dims(site))

    def noted(self, node: Node, sources: Sequence[Node]) -> None:
        """A node has been made."""
        if all(dim is not None for dim in node.dims):
            if math.prod(node.extents) > 1:
                self._grids[node.extents] = None
            return
        if self.stands_before(node) or any(source.name in self._lost for source in sources):
            self._lost.add(node.name)

    def stands_before(self, node: Node) -> bool:
        """Whether positions were lost in a node or before it."""
        return node.kind in (Kind.NONLOCAL, Kind.HELD) or node.name in self._lost

    def _is_map(self, site: Site, family: Family) -> bool:
        """Whether what a call gives is a map: by its operator, or by its size."""
        axes = len(site.sources[0].dims)
        if len(site.shape) != axes + 2 or math.prod(site.shape[2:]) == 1:
            return False
        return family in _OVER_MAPS or self._on_grid(site.shape, axes) is not None

    def _dims(self, site: Site) -> Dims:
        """Where the axes lie in what a call gives; None for each where that cannot be told."""
        shape, axes = site.shape, len(site.sources[0].dims)
        for source in site.sources:
            kept = [dim for dim in source.dims if dim is not None]
            alike = all(dim < len(shape) and shape[dim] == source.shape[dim] for dim in kept)
            if len(kept) == axes and alike:
                return source.dims
        found = self._on_grid(shape, axes)
        if found is None and len(shape) == axes + 2 and math.prod(shape[2:]) > 1:
            found = tuple(range(2, axes + 2))
        return found or (None,) * axes

    def _on_grid(self, shape: Sequence[int], axes: int) -> tuple[int, ...] | None:
        """The dimensions that are as large as a map before; the last ones rather than others."""
        for first in range(len(shape) - axes, 0, -1):
            if tuple(shape[first : first + axes]) in self._grids:
                return tuple(range(first, first + axes))
        return None


def _whole(site: Site, told: Described, dims: Dims) -> Described:
    """Every position of what a call gives depends on everything that it reads."""
    sizes = [1 if dim is None else site.shape[dim] for dim in dims]
    sources = dict.fromkeys(source.name for source in site.sources)
    edges = tuple(Edge(name, tuple(Global(n) for n in sizes)) for name in sources)
    return Described(edges, dims, Kind.HELD, told.params, told.reason)
