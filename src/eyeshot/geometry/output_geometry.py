"""What the outputs of a network see, and on which grid: the figures that crops and tiles follow."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from eyeshot.axes import Identity
from eyeshot.errors import Unsupported
from eyeshot.geometry.fields import Fields
from eyeshot.geometry.phases import Phases
from eyeshot.graph import Edge, Family, Graph, Kind, Node


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
    """

    receptive_field: tuple[int, ...]
    smallest_field: tuple[int, ...]
    before: int
    after: int
    alignment: int
    margin: int
    stride: tuple[Fraction, ...]
    padded: bool

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
        )


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
