"""A network on a tile beside the same network on the whole image: which units agree?

A tile is computed alone: each layer pads at the tile's border, and a norm takes the tile's mean.
Which values are still those of the whole image follows from the axis maps, one axis at a time.

The region that every node must compute for a region of an output is found here too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from eyeshot.axes import EMPTY, Identity, Interval
from eyeshot.axes.translation import BoolArray, Translated, joined, lost, translate
from eyeshot.errors import BadValue, Unsupported
from eyeshot.graph import Edge, Family, Graph, Kind, Node, Ref, Weight

_SIZED = frozenset(
    {
        *(Family.PAD, Family.CROP, Family.SELECT, Family.SCATTER, Family.RESHAPE, Family.SQUEEZE),
        *(Family.EXPAND, Family.REPEAT, Family.REPEAT_EACH, Family.RESIZE, Family.UNFOLD),
    }
)
"""Calls with sizes of maps, or places in them, as arguments."""


@dataclass(frozen=True, slots=True)
class AxisTiles:
    """Tiles along one axis, as most tools lay them: the last one is moved back into the image.

    Attributes:
        length: positions of the image.
        tile: positions of a tile, no more than there are.
        overlap: positions that a tile shares with the next one.
        starts: the first position of each tile.
    """

    length: int
    tile: int
    overlap: int
    starts: tuple[int, ...]

    @classmethod
    def lay(cls, length: int, tile: int, overlap: int) -> AxisTiles:
        """Tiles over so many positions; ``overlap`` is below ``tile``."""
        side = min(tile, length)
        count = 1 + -(-(length - side) // (tile - overlap))
        starts = tuple(min(k * (tile - overlap), length - side) for k in range(count))
        return cls(length, side, overlap, starts)

    @property
    def step(self) -> int:
        """From one tile to the next."""
        return self.tile - self.overlap


class Comparison:
    """One network at the size of a tile and at that of the image, node beside node.

    Pads and crops may stand in one of the two alone: networks pad odd sizes and crop the answer.

    Args:
        whole: the network at the size of the image.
        part: the same network at the size of a tile.

    Attributes:
        differs: the first node at which the network computes otherwise at the other size; "" where
            it does not. No unit behind such a node is called the same.
    """

    def __init__(self, whole: Graph, part: Graph) -> None:
        self.whole, self.part = whole, part
        self._along: dict[tuple[int, int], tuple[dict[str, Translated], Translated]] = {}
        self._alone = {
            name
            for mine, other in ((whole, part), (part, whole))
            for name, node in mine.nodes.items()
            if name not in other.nodes and _only_moves(node)
        }
        self._others = self._differing()
        self.differs = next(iter(self._others), "")

    def nodes(self, axis: int, start: int) -> dict[str, Translated]:
        """For each node of the tile, which of its units are those of the whole image.

        The answer is per axis: a unit is the same if its place along every axis is.

        Args:
            axis: which spatial axis.
            start: the first position of the tile along it.
        """
        return self._translations(axis, start)[0]

    def output(self, axis: int, start: int) -> Translated:
        """The same of the network's (first) output."""
        return self._translations(axis, start)[1]

    def _translations(self, axis: int, start: int) -> tuple[dict[str, Translated], Translated]:
        if (axis, start) not in self._along:
            known: dict[str, Translated] = {}
            for node in self.part:
                known[node.name] = self._of(node, axis, start, known)
            names = self.part.outputs[0], self.whole.outputs[0]
            self._along[axis, start] = known, self._pair(*names, axis, known)
        return self._along[axis, start]

    def _differing(self) -> dict[str, None]:
        """The nodes that are other functions in the two graphs, or in one of them alone."""
        differing = dict.fromkeys(
            mine.name
            for mine in self.part
            if mine.name not in self._alone
            and not (
                mine.name in self.whole.nodes and self._alike(mine, self.whole.nodes[mine.name])
            )
        )
        known = {*self.part.nodes, *self._alone}
        return differing | dict.fromkeys(name for name in self.whole.nodes if name not in known)

    def _alike(self, mine: Node, theirs: Node) -> bool:
        """Whether two nodes do the same to the same: by name, weights and arguments."""
        read, there = (
            [self._origin(graph, edge.source) for edge in node.edges]
            for graph, node in ((self.part, mine), (self.whole, theirs))
        )
        return (
            mine.operator == theirs.operator
            and read == there
            and _arguments(mine) == _arguments(theirs)
            and len(mine.weights) == len(theirs.weights)
            and all(
                self._same_numbers(a, b) for a, b in zip(mine.weights, theirs.weights, strict=True)
            )
        )

    def _same_numbers(self, mine: str, theirs: str) -> bool:
        one, other = self.part.tensors[mine], self.whole.tensors[theirs]
        return one is other or (one.shape == other.shape and bool((one == other).all()))

    def _origin(self, graph: Graph, name: str) -> str:
        """The node itself, or what stands before pads and crops that are in one graph alone."""
        while name in self._alone:
            name = graph.nodes[name].edges[0].source
        return name

    def _of(self, node: Node, axis: int, start: int, known: dict[str, Translated]) -> Translated:
        extent, there = node.extents[axis], self.whole.nodes.get(node.name)
        if node.name in self._others:
            return lost(extent)
        if node.is_input:
            return Translated(start, np.ones(extent, dtype=bool))
        if there is None or node.kind is Kind.UNSUPPORTED or len(node.edges) != len(there.edges):
            return lost(extent)
        branches = []
        for mine, theirs in zip(node.edges, there.edges, strict=True):
            n = self.whole.nodes[theirs.source].extents[axis]
            source = self._pair(mine.source, theirs.source, axis, known)
            bounded = node.kind is not Kind.NONLOCAL or len(source.same) == n
            made = translate(mine.axes[axis], theirs.axes[axis], source, n)
            branches.append(made if bounded else lost(extent))
        return joined(branches) if branches else Translated(None, np.ones(extent, dtype=bool))

    def _pair(self, mine: str, theirs: str, axis: int, known: dict[str, Translated]) -> Translated:
        """A node of the tile beside one of the whole, which may be pads or crops further on."""
        if mine == theirs:
            return known[mine]
        if theirs in self._alone:
            (edge,) = self.whole.nodes[theirs].edges
            source = self._pair(mine, edge.source, axis, known)
            n = self.whole.nodes[edge.source].extents[axis]
            return translate(Identity(), edge.axes[axis], source, n)
        if mine in self._alone:
            (edge,) = self.part.nodes[mine].edges
            source = self._pair(edge.source, theirs, axis, known)
            n = self.whole.nodes[theirs].extents[axis]
            return translate(edge.axes[axis], Identity(), source, n)
        return lost(self.part.nodes[mine].extents[axis])


def _arguments(node: Node) -> list[Any]:
    """The arguments of a call besides maps and weights.

    Sizes and places are omitted for calls that take some: the axis maps hold them. Elsewhere a
    number that follows the size of the image (``x / x.shape[-1]``) is another function.
    """
    if node.call is None:
        return []
    arguments = [one for one in node.call.leaves if not isinstance(one, Ref | Weight)]
    if node.is_adaptive or node.family in _SIZED:
        kinds: tuple[type, ...] = (int, float) if node.family is Family.RESIZE else (int,)
        return [one for one in arguments if isinstance(one, bool) or not isinstance(one, kinds)]
    return arguments


def _only_moves(node: Node) -> bool:
    return node.family in (Family.PAD, Family.CROP) and len(node.edges) == 1


@dataclass(frozen=True, slots=True, eq=False)
class Cover:
    """The outputs that all tiles give along one axis.

    Attributes:
        places: (first, one past the last) unit of the whole output that each tile gives.
        cores: the same without what is cut off in the middle of each overlap.
        cropped: for each unit of the whole output, whether it is right if tiles are cropped.
        blended: likewise if all tiles that have it are averaged.
    """

    places: tuple[tuple[int, int], ...]
    cores: tuple[tuple[int, int], ...]
    cropped: BoolArray
    blended: BoolArray


def cover(tiles: AxisTiles, translations: Sequence[Translated], outputs: int) -> Cover:
    """Tiles put together along one axis.

    Args:
        tiles: as they lie on the input.
        translations: of the output, for each tile.
        outputs: units of the whole output.
    """
    places = [
        _place(start, one, tiles, outputs)
        for start, one in zip(tiles.starts, translations, strict=True)
    ]
    seams = [(one[1] + two[0]) // 2 for one, two in pairwise(places)]
    firsts, lasts = [places[0][0], *seams], [*seams, places[-1][1]]
    cores = [
        (max(lo, place[0]), min(hi, place[1]))
        for lo, hi, place in zip(firsts, lasts, places, strict=True)
    ]
    cropped, wrong, there = (np.zeros(outputs, dtype=bool) for _ in range(3))
    for (lo, hi), (first, last), one in zip(places, cores, translations, strict=True):
        cropped[first:last] = one.same[first - lo : last - lo]
        wrong[lo:hi] |= ~one.same[: hi - lo]
        there[lo:hi] = True
    return Cover(tuple(places), tuple(cores), cropped, there & ~wrong)


def _place(start: int, one: Translated, tiles: AxisTiles, outputs: int) -> tuple[int, int]:
    """Where a tile's units go; where nothing says it, in proportion, as tools do."""
    count = len(one.same)
    first = one.offset
    if first is None:
        first = 0 if len(tiles.starts) == 1 else start * outputs // tiles.length
    first = max(0, min(first, outputs - 1))
    return first, min(first + count, outputs)


Region = tuple[Interval, ...]
"""One interval for each spatial axis."""


def required(graph: Graph, requested: Mapping[str, Region]) -> dict[str, Region]:
    """The smallest box of each node that the requested boxes of some nodes depend on.

    Args:
        graph: the network at the whole picture's size.
        requested: a box for each requested output.

    Returns:
        For each node before a requested node, its box, inside ``[0, extent)`` along every axis;
        empty along all axes if only padding is read.

    Raises:
        BadValue: a requested box is empty or reaches outside the node.
        Unsupported: there is an operator without a rule before a requested node.
    """
    boxes: dict[str, Region] = {}
    for name, box in requested.items():
        node = graph[name]
        for side, n in zip(box, node.extents, strict=True):
            if not side or not Interval(0, n).covers(side):
                raise BadValue(f"region {side} of {name}", cure=f"stay inside [0, {n})")
        boxes[node.name] = box
    for name in reversed(list(graph.nodes)):
        if name not in boxes:
            continue
        node = graph.nodes[name]
        if node.kind is Kind.UNSUPPORTED:
            raise Unsupported(f"{name}: {node.reason}", cure="ask for a layer before it")
        for edge in node.edges:
            reads = input_box(edge, boxes[name], graph.nodes[edge.source].extents)
            boxes[edge.source] = hull(boxes.get(edge.source, reads), reads)
    return boxes


def input_box(edge: Edge, box: Region, extents: tuple[int, ...]) -> Region:
    """The smallest box of a source that a box of its reader depends on.

    Args:
        edge: the edge from the source to the reader.
        box: the computed box of the reader.
        extents: positions of the source along each axis.

    Returns:
        A box inside ``[0, extent)``; empty along all axes if only padding is read.
    """
    reads = tuple(
        axis.input_range_inside(side, n)
        for axis, side, n in zip(edge.axes, box, extents, strict=True)
    )
    return reads if all(reads) else (EMPTY,) * len(extents)


def hull(one: Region, other: Region) -> Region:
    """The smallest box that holds two boxes."""
    return tuple(a.hull(b) for a, b in zip(one, other, strict=True))
