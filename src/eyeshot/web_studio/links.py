"""The links from a unit to the layer before it: the place of each number of its sum.

The kernel playground's questions are answered here too: one operation on a small typed matrix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import UnknownName
from eyeshot.explanation import (
    Part,
    UnitTrace,
    Walk,
    walk_bilinear,
    walk_conv,
    walk_nearest,
    walk_pool,
    walk_transpose,
)
from eyeshot.explanation.traces import parse_matrix
from eyeshot.graph import Graph, Node
from eyeshot.web_studio.payloads import Query

Unit = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Link:
    """Where the cells of one part come from.

    Attributes:
        source: the layer.
        axes: of a patch, the places of its cells along each of its axes; -1 outside.
        before: what stands before those places in the number of a unit: the channel.
        strongest: the unit that gives most to the part, in its direction; None where the patch is
            all padding.
    """

    source: str
    axes: tuple[tuple[int, ...], ...]
    before: Unit
    strongest: Unit | None

    def moved(self, shift: Sequence[int]) -> Link:
        """The same in a map of which this one is a part that begins at ``shift``."""

        def along(place: Unit) -> Unit:
            return (*place[:1], *(at + by for at, by in zip(place[1:], shift, strict=False)))

        axes = tuple(
            tuple(at if at < 0 else at + by for at in axis)
            for axis, by in zip(self.axes, shift, strict=False)
        )
        best = None if self.strongest is None else along(self.strongest)
        return Link(self.source, axes, along(self.before), best)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "source": self.source,
            "axes": [list(axis) for axis in self.axes],
            "before": list(self.before),
            "strongest": None if self.strongest is None else list(self.strongest),
        }


def links_of(graph: Graph, node: Node, trace: UnitTrace) -> list[Link]:
    """One for each part of a trace."""
    sources = [one.source for one in node.edges] or [node.name]
    return [_link(graph, part, trace, part.source or sources[0]) for part in trace.parts]


def _link(graph: Graph, part: Part, trace: UnitTrace, source: str) -> Link:
    rank = len(graph.nodes[source].shape) - 1
    axes, before = _places(part, trace, rank)
    if len(axes) + len(before) != rank:  # its first dimension is not the batch: no unit there
        return Link(source, axes, before, None)
    strength = _strength(part, trace.rule, -1.0 if part.sum < 0 else 1.0)
    if not strength.size or not np.isfinite(strength).any() or strength.max() == -np.inf:
        return Link(source, axes, before, None)
    best = np.unravel_index(int(np.nanargmax(strength)), strength.shape)
    place = (*before, *(axis[int(i)] for axis, i in zip(axes, best, strict=True)))
    return Link(source, axes, before, tuple(place))


def _places(part: Part, trace: UnitTrace, rank: int) -> tuple[tuple[tuple[int, ...], ...], Unit]:
    """The axes of a patch, and what stands before them; ``rank`` numbers name a unit."""
    shape = part.patch.shape
    if part.cells:
        return part.cells, (part.channel,)
    if not shape:
        if part.at:
            return (), part.at
        if rank == len(trace.unit) and part.kernel is None:
            return (), trace.unit
        return (), trace.unit if part.channel == trace.unit[0] and rank > 1 else (
            *trace.unit[: rank - 1],
            part.channel,
        )
    starts = part.at[1:] if part.at else (0,) * len(shape)
    axes = tuple(tuple(range(lo, lo + n)) for lo, n in zip(starts, shape, strict=True))
    return axes, (part.channel,)


def _strength(part: Part, rule: str, sign: float) -> NDArray[np.float64]:
    """How much each cell gives in the direction of ``sign``; −∞ where there is none."""
    if rule in ("max", "min"):
        products = part.patch if rule == "max" else -part.patch
    else:
        products = sign * part.patch * (1.0 if part.kernel is None else part.kernel)
    return np.asarray(np.where(part.outside, -np.inf, products), np.float64)


def heaviest(trace: UnitTrace, links: Sequence[Link]) -> tuple[str, Unit, float | None] | None:
    """The unit that gives most to another, in the direction of its total.

    Returns:
        Its layer, the unit, and its share of all that is added in that direction, the bias
        included: 1 where one number decides, as in a maximum or a ReLU; None for a product. None
        in place of all where no unit gives anything in that direction.
    """
    extreme = -1.0 if trace.rule == "min" else 1.0
    sign = extreme if trace.rule in ("max", "min") or trace.total >= 0 else -1.0
    best: tuple[float, str, Unit] | None = None
    along = max(sign * (trace.bias or 0.0), 0.0)
    for part, link in zip(trace.parts, links, strict=True):
        strength = _strength(part, trace.rule, sign)
        adding = np.where(np.isfinite(strength), strength, 0.0)
        along += float(np.maximum(adding, 0.0).sum())
        if link.strongest is None or not strength.size:
            continue
        place = np.unravel_index(int(np.nanargmax(strength)), strength.shape)
        if best is None or strength[place] > best[0]:
            at = (axis[int(i)] for axis, i in zip(link.axes, place, strict=True))
            best = float(strength[place]), link.source, (*link.before, *at)
    if best is None:
        return None
    if trace.rule not in ("sum", "mean"):
        return best[1], best[2], None if trace.rule == "product" else 1.0
    return (best[1], best[2], best[0] / along) if best[0] > 0 else None


OPERATIONS = ("conv", "transpose", "pool", "nearest", "bilinear")


_FIVE = "1 1 1 0 0 / 0 1 1 1 0 / 0 0 1 1 1 / 0 0 1 1 0 / 0 1 1 0 0"
EXAMPLES: Mapping[str, Mapping[str, str]] = {
    "conv": {
        "input": _FIVE,
        "kernel": "1 0 1 / 0 1 0 / 1 0 1",
        "stride": "1",
        "padding": "0",
        "dilation": "1",
        "mode": "zeros",
    },
    "transpose": {
        "input": "1 2 / 3 4",
        "kernel": "1 2 1 / 2 4 2 / 1 2 1",
        "stride": "2",
        "padding": "0",
        "dilation": "1",
    },
    "pool": {
        "input": "1 3 2 1 / 4 6 5 2 / 3 1 1 0 / 1 2 2 4",
        "size": "2",
        "stride": "2",
        "padding": "0",
        "pool": "max",
    },
    "nearest": {"input": "1 2 / 3 4", "scale": "2"},
    "bilinear": {"input": "1 2 / 3 4", "scale": "2"},
}
"""What is walked over where nothing is typed; the first is that of the tutorials."""


def walk(query: Query) -> dict[str, Any]:
    """The walk that was asked for, step by step, with where its padding and zeros are.

    What was not asked for is as in the example of the operation; ``asked`` says all of it.

    Raises:
        UnknownName: no such operation.
        BadValue: numbers that do not fit.
    """
    operation = query.text("operation", "conv")
    if operation not in EXAMPLES:
        raise UnknownName("operation", operation, OPERATIONS)
    asked = {**EXAMPLES[operation], **query.values, "operation": operation}
    found = _walked(Query(asked))
    made = [[bool(cell) for cell in row] for row in found.made]
    return {**found.to_dict(), "made": made, "asked": asked}


def _walked(query: Query) -> Walk:
    operation = query.text("operation", "conv")
    image = parse_matrix(query.text("input"))
    if operation == "conv":
        padding = query.text("padding", "0")
        return walk_conv(
            image,
            parse_matrix(query.text("kernel")),
            bias=query.number("bias", 0.0),
            stride=query.whole("stride", 1),
            padding=padding if padding.isalpha() else query.whole("padding"),  # type: ignore[arg-type]
            padding_mode=query.text("mode", "zeros"),
            dilation=query.whole("dilation", 1),
            flip=query.flag("flip"),
        )
    if operation == "transpose":
        return walk_transpose(
            image,
            parse_matrix(query.text("kernel")),
            stride=query.whole("stride", 1),
            padding=query.whole("padding", 0),
            dilation=query.whole("dilation", 1),
        )
    if operation == "pool":
        return walk_pool(
            image,
            query.whole("size", 2),
            mode=query.text("pool", "max"),
            stride=query.whole("stride", 2),
            padding=query.whole("padding", 0),
        )
    if operation == "nearest":
        return walk_nearest(image, scale=query.number("scale", 2.0))
    return walk_bilinear(image, scale=query.number("scale", 2.0))
