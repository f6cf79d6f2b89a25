"""The sizes of a network's maps, from the size of its input, one axis at a time.

A :class:`Graph` holds one network at one size. Its axis maps also give the sizes for other inputs,
unless the network computes numbers from the size of its input (a crop computed in ``forward``):
such numbers belong to the traced size.

The receptive field and the alignment of the outputs are here too; crops and tiles are cut by them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from eyeshot.axes import AxisMap, Identity
from eyeshot.errors import Unsupported
from eyeshot.geometry.fields import Fields, Phases
from eyeshot.graph import Edge, Family, Graph, Kind, Node

_CUTS = (Family.CROP, Family.SELECT, Family.SCATTER)
_BLOCKS = (Family.RESHAPE, Family.PIXEL_SHUFFLE)
_MEETS = (Family.POINTWISE, Family.CONCATENATE)
_FARTHEST = 256


@dataclass(frozen=True, slots=True)
class Clash:
    """Why a size is not accepted, and by which node."""

    node: str
    fact: str


def extents(graph: Graph, axis: int, n: int) -> dict[str, int] | Clash:
    """Positions of every node along one axis, for an input of ``n`` positions there.

    Inputs with the same extent as the first input follow it; others keep theirs. Nodes after an
    operator without a rule are omitted.
    """
    sizes, clash = _walk(graph, axis, n)
    return sizes if clash is None else clash


def _walk(graph: Graph, axis: int, n: int) -> tuple[dict[str, int], Clash | None]:
    """The positions of every node up to the first that clashes."""
    traced_size = graph.nodes[graph.inputs[0]].extents[axis]
    sizes: dict[str, int] = {}
    for node in graph:
        if node.is_input:
            traced = node.extents[axis]
            sizes[node.name] = n if traced == traced_size else traced
        elif node.kind is not Kind.UNSUPPORTED and all(e.source in sizes for e in node.edges):
            count = _count(graph, node, axis, sizes)
            if isinstance(count, Clash):
                return sizes, count
            sizes[node.name] = count
    return sizes, None


def leftovers(graph: Graph, axis: int, sizes: dict[str, int]) -> dict[str, int]:
    """For each convolution and pooling, the number of positions at the end that no window reads.

    A stride larger than its kernel skips positions on purpose: only positions beyond such a gap
    are counted.

    Args:
        graph: the network.
        axis: which spatial axis.
        sizes: positions of every node along it, from :func:`extents`.
    """
    unread: dict[str, int] = {}
    for node in graph:
        for edge in node.edges:
            if node.name in sizes and node.slides:
                count = edge.axes[axis].unread(sizes[edge.source])
                if count:
                    unread[node.name] = count
    return unread


def nearest(
    graph: Graph, axis: int, *, clean: bool = False, around: int | None = None
) -> tuple[int | None, int | None]:
    """The nearest smaller and the nearest larger input size that the network accepts.

    Args:
        graph: the network.
        axis: which spatial axis.
        clean: whether no convolution or pooling may leave positions unread.
        around: the size to start from; by default the size of the graph.

    Returns:
        The two sizes; None for a side without such a size within 256.
    """
    n = graph.nodes[graph.inputs[0]].extents[axis] if around is None else around
    below = range(n - 1, max(0, n - _FARTHEST), -1)
    above = range(n + 1, n + _FARTHEST)
    return (
        next((size for size in below if takes(graph, axis, size, clean=clean)), None),
        next((size for size in above if takes(graph, axis, size, clean=clean)), None),
    )


def takes(graph: Graph, axis: int, n: int, *, clean: bool = False) -> bool:
    """Whether the network takes an input of ``n`` positions along an axis."""
    sizes = extents(graph, axis, n)
    if isinstance(sizes, Clash):
        return False
    return not (clean and leftovers(graph, axis, sizes))


def certainly_takes(graph: Graph, axis: int, n: int) -> bool | None:
    """Whether the network accepts ``n`` positions along an axis, if its maps can decide it.

    None if an operator contains numbers of the traced size (a reshape, a crop to a skip's size):
    at another size the network may choose other numbers.
    """
    if n == graph.nodes[graph.inputs[0]].extents[axis]:
        return True
    sizes, clash = _walk(graph, axis, n)
    for node in graph:
        if not node.is_input and not _tells(graph, node, axis, sizes):
            return None
        if clash is not None and node.name == clash.node:
            return False
    return True


def nearest_sizes(graph: Graph, *, clean: bool = False) -> list[tuple[int, ...]]:
    """The nearest accepted sizes of the whole first input, smaller sizes first.

    An axis whose size is already accepted keeps it.

    Args:
        graph: the network.
        clean: whether no convolution or pooling may leave positions unread.
    """
    below: list[int | None] = []
    above: list[int | None] = []
    for axis, n in enumerate(graph.nodes[graph.inputs[0]].extents):
        accepted = takes(graph, axis, n, clean=clean)
        smaller, larger = (n, n) if accepted else nearest(graph, axis, clean=clean)
        below.append(smaller)
        above.append(larger)
    candidates = []
    for sides in (below, above):
        whole = tuple(side for side in sides if side is not None)
        if len(whole) == len(sides) and whole not in candidates:
            candidates.append(whole)
    return candidates


def _count(graph: Graph, node: Node, axis: int, sizes: dict[str, int]) -> int | Clash:
    """A node's positions; the branches that meet in it must agree."""
    if node.is_adaptive:
        return node.extents[axis]
    if _joins_along(node, axis):
        before = sum(graph.nodes[edge.source].extents[axis] for edge in node.edges)
        return node.extents[axis] - before + sum(sizes[edge.source] for edge in node.edges)
    counts: list[int] = []
    for edge in node.edges:
        count = _through(graph, node, edge, axis, sizes[edge.source])
        if isinstance(count, Clash):
            return count
        counts.append(count)
    followed = [
        count
        for count, edge in zip(counts, node.edges, strict=True)
        if not edge.axes[axis].is_broadcast
    ] or counts
    if not node.repairs:
        own = _extents_of_weights(graph, node, axis)
        followed += [count for name, count in own.items() if name not in graph.made_of]
    if len(set(followed)) > 1:  # broadcasting one position against many is not intended
        numbers = " and ".join(str(count) for count in dict.fromkeys(followed))
        return Clash(node.name, f"its branches have {numbers} positions")
    return followed[0]


def _extents_of_weights(graph: Graph, node: Node, axis: int) -> dict[str, int]:
    """Positions along an axis of the tensors that a map is added to or joined with, by name."""
    dim = node.dims[axis]
    if dim is None or node.family not in _MEETS:
        return {}
    lengths = {}
    for name in node.weights:
        shape = graph.tensors[name].shape
        own = dim - len(node.shape) + len(shape)
        if own >= 0 and shape[own] > 1:
            lengths[name] = int(shape[own])
    return lengths


def _through(graph: Graph, node: Node, edge: Edge, axis: int, n: int) -> int | Clash:
    step: AxisMap = edge.axes[axis]
    if node.repairs:
        return n  # it replaces no layer of the network itself
    if node.family is Family.RESHAPE:
        tied = step.is_global and n != graph.nodes[edge.source].extents[axis]
        if tied:
            return Clash(node.name, "the layers behind it take one size only")
    if node.family in _BLOCKS and step.period is not None and n % step.period[1]:
        return Clash(node.name, f"{n} positions cannot be cut into blocks of {step.period[1]}")
    if n < step.fewest_inputs:
        return Clash(node.name, f"{n} positions are too few to be reflected")
    count = step.output_size(n)
    return count if count > 0 else Clash(node.name, f"no position is left of {n}")


def _tells(graph: Graph, node: Node, axis: int, sizes: dict[str, int]) -> bool:
    """Whether a node's maps are those of every size, and not only of the one traced."""
    if node.kind is Kind.UNSUPPORTED:
        return False
    steps = [edge.axes[axis] for edge in node.edges]
    if all(step.is_broadcast for step in steps):
        return False
    if any(name in graph.made_of for name in _extents_of_weights(graph, node, axis)):
        return False  # forward may make another one for every size
    for edge, step in zip(node.edges, steps, strict=True):
        if node.family is Family.RESHAPE or node.kind is Kind.NONLOCAL:
            if not sizes[edge.source] == graph.nodes[edge.source].extents[axis] == 1:
                return False
        elif not _is_free(node, step):
            return False
    return True


def _is_free(node: Node, step: AxisMap) -> bool:
    """Whether a map holds no number of the size traced."""
    if step == Identity():
        return True
    if step.is_broadcast:
        return node.family is not Family.EXPAND
    if node.is_adaptive:
        return step.is_global
    return step.is_free and node.family not in _CUTS and not node.params.size


def _joins_along(node: Node, axis: int) -> bool:
    joins = node.family is Family.CONCATENATE
    return joins and node.params.dim == node.dims[axis]


@dataclass(frozen=True, slots=True)
class OutputGeometry:
    """What the outputs of a network see, in pixels of its input, away from the image's borders.

    If the axes differ, ``before``, ``after`` and ``margin`` are the largest of all axes, and
    ``alignment`` is valid for all axes.

    Attributes:
        receptive_field: (height, width) of the largest field; how much an output sees depends on
            its phase, its position on the grid of ``alignment`` pixels.
        smallest_field: (height, width) of the smallest field among the phases.
        before: how far an output sees beyond its own pixel, up and to the left, in the phase with
            the largest distance.
        after: the same, down and to the right.
        alignment: the pattern of fields repeats after this number of pixels. A crop that starts on
            a multiple of it gives the same outputs as the whole image, away from its sides.
        margin: the number of pixels by which the output is smaller than the input at each side;
            output (y, x) belongs to the pixel (y + margin, x + margin).
        stride: pixels from one output to the next, along each axis.
        padded: outputs near the border see padding, or a repeated border.
        offset: along each axis, the first pixel that output 0 belongs to, where the output covers
            less than the input: its stride of pixels lies around the middle of what it sees,
            whatever remains at the end of an input of another size.
    """

    receptive_field: tuple[int, ...]
    smallest_field: tuple[int, ...]
    before: int
    after: int
    alignment: int
    margin: int
    stride: tuple[Fraction, ...]
    padded: bool
    offset: tuple[int, ...]

    @property
    def halo(self) -> int:
        """How far an output sees beyond its own pixel, on the side with the larger distance."""
        return max(self.before, self.after)

    @classmethod
    def of(cls, graph: Graph) -> OutputGeometry:
        """The geometry of a network's (first) output.

        Raises:
            Unsupported: no bounded patch of the input decides an output's value.
        """
        fields = Fields(graph)
        node = graph[graph.outputs[0]]
        phases = _bounded(node, fields)
        extents = graph.nodes[fields.source].extents
        sides = [_Side.of(p, n, m) for p, n, m in zip(phases, extents, node.extents, strict=True)]
        return cls(
            receptive_field=tuple(p.sizes[1] for p in phases),
            smallest_field=tuple(p.sizes[0] for p in phases),
            before=max(side.before for side in sides),
            after=max(side.after for side in sides),
            alignment=_alignment(graph, fields),
            margin=max(side.margin for side in sides),
            stride=tuple(p.stride for p in phases),
            padded=any(side.padded for side in sides),
            offset=tuple(map(_offset, phases)),
        )

    def place(self, axis: int, inputs: int, outputs: int) -> int:
        """The first pixel that output 0 belongs to, of an input of any size along an axis."""
        return min(self.offset[axis], max(0, math.floor(inputs - outputs * self.stride[axis])))


def by_neighborhood(graph: Graph) -> Graph:
    """The graph as it would be if an output depended on its neighborhood alone, as crops need it.

    What is gathered over all positions is taken as known: a norm over positions reads each position
    for itself, and a global pool is an input of its own. A resize that aligns the corners, and so
    stretches each picture by a factor of its own, is one that does not.
    """
    nodes: dict[str, Node] = {}
    for node in graph:
        node = replace(node, edges=tuple(_repeating(graph, edge) for edge in node.edges))
        if node.kind is Kind.GLOBAL_STATISTIC:
            gathered = [
                axis.output_size(n) == n
                for edge in node.edges
                for axis, n in zip(edge.axes, graph.nodes[edge.source].extents, strict=False)
                if axis.is_global
            ]
            if all(gathered):
                node = replace(node, edges=tuple(_by_position(edge) for edge in node.edges))
            else:
                node = replace(node, edges=(), family=Family.INPUT)
        nodes[node.name] = node
    return replace(graph, nodes=nodes)


def _repeating(graph: Graph, edge: Edge) -> Edge:
    extents = graph.nodes[edge.source].extents
    if len(edge.axes) != len(extents):  # of an operator without a rule
        return edge
    axes = (axis.as_periodic(n) for axis, n in zip(edge.axes, extents, strict=True))
    return replace(edge, axes=tuple(axes))


def _by_position(edge: Edge) -> Edge:
    return replace(edge, axes=tuple(Identity() if axis.is_global else axis for axis in edge.axes))


def _bounded(node: Node, fields: Fields) -> tuple[Phases, ...]:
    phases = fields.phases(node.name)
    bounded = tuple(one for one in phases if one is not None)
    if None in node.dims or not phases or len(bounded) < len(phases):
        reason = (
            "it has no position in the image" if None in node.dims else fields.status(node.name)
        )
        raise Unsupported(
            f"{node.name}: no bounded patch of the image decides an output ({reason})",
            cure="use a network of convolutions, pools and resizes that answers at every pixel",
        )
    return bounded


def _alignment(graph: Graph, fields: Fields) -> int:
    """The period of all maps together; an output's field may have a shorter period."""
    periods = [
        phases.inputs for node in graph for phases in fields.phases(node.name) if phases is not None
    ]
    return math.lcm(*periods)


def _offset(phases: Phases) -> int:
    """See :attr:`OutputGeometry.offset`: the mean over the phases that see anything."""
    some = np.flatnonzero(phases.lo < phases.hi).tolist()
    middles = [Fraction(int(phases.lo[unit] + phases.hi[unit]) - 1, 2) for unit in some]
    apart = [middle - unit * phases.stride for middle, unit in zip(middles, some, strict=True)]
    first = sum(apart, Fraction(0)) / max(1, len(apart)) - (phases.stride - 1) / 2
    return max(0, math.floor(first))


@dataclass(frozen=True, slots=True)
class _Side:
    """Along one axis; see :class:`OutputGeometry`."""

    before: int
    after: int
    margin: int
    padded: bool

    @classmethod
    def of(cls, phases: Phases, inputs: int, outputs: int) -> _Side:
        """The geometry from the fields without borders and the numbers of inputs and outputs."""
        margin = max(0, math.floor((inputs - outputs * phases.stride) / 2))
        some = phases.lo < phases.hi
        units = np.arange(phases.outputs, dtype=np.int64)[some]
        lo, hi = phases.lo[some], phases.hi[some]
        # Unit u belongs to the pixels from u to u + 1 strides, after the margin.
        first = units * phases.inputs // phases.outputs + margin
        last = -(-(units + 1) * phases.inputs // phases.outputs) + margin
        all_lo, all_hi = phases.at(np.arange(outputs, dtype=np.int64))
        sees = all_lo < all_hi
        padded = bool((all_lo[sees] < 0).any() or (all_hi[sees] > inputs).any())
        return cls(
            before=int((first - lo).max(initial=0)),
            after=int((hi - last).max(initial=0)),
            margin=margin,
            padded=padded,
        )
