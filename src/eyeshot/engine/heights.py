"""One network traced at two heights: whether it computes the same rows in the same way at both.

The rows of a camera arrive before their number is known. The network is therefore traced at one
height, and must compute the same at the real one. It may differ only after the last row: a U-Net
that takes any size pads the image there to a multiple of its grid and crops its scores by the same
amount, and does neither if the height is such a multiple.

The largest samples read and the scores clipped are recorded here too: they are signs of a wrong
scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from numpy.typing import NDArray

from eyeshot.axes import AxisMap, Identity, Pad
from eyeshot.engine.job import Job
from eyeshot.errors import Unsupported
from eyeshot.graph import Family, Graph, Node, Ref, check
from eyeshot.images.whole import note_dark, unit_of
from eyeshot.operators import has_own_form

_MOST_BEHIND = 1024
"""The most rows that may be added or cropped after the last one. More is not a border effect."""
_PARTS = (Family.CROP, Family.SELECT)
_SIZED = (Family.RESHAPE, Family.SQUEEZE, Family.EXPAND, Family.REPEAT, Family.RESIZE)
"""Families whose call names output sizes, which their shape and edges determine too."""


def as_at(graph: Graph, like: Graph) -> Graph:
    """The graph of one height, with the names and nodes of the graph of another height.

    If ``like`` pads or crops after the last row and ``graph`` does not, the result has a node there
    that does nothing.

    Args:
        graph: the network traced at one height.
        like: the network at another height, where it pads and crops at least as much.

    Raises:
        Unsupported: they compute rows in different ways; the first layer that differs is named.
    """
    names = _Names()
    nodes: dict[str, Node] = {}
    left = list(graph)
    for node in like:
        names.passed_over(left, node)
        twin = _renamed(left[0], node, names) if left else None
        if twin is not None:
            names.of[left.pop(0).name] = [node.name]
            nodes[node.name] = twin
        elif _only_ends(like, node):
            names.followed(node)
            nodes[node.name] = _idle(node, nodes[node.edges[0].source])
        else:
            raise _differs(node)
    same_outputs = len(graph.outputs) == len(like.outputs) and all(
        output in names.of.get(name, ())
        for name, output in zip(graph.outputs, like.outputs, strict=False)
    )
    if left or not same_outputs:
        raise _differs(left[0] if left else like.nodes[like.outputs[0]])
    for name, tensor in like.tensors.items():
        if not _same_numbers(tensor, graph.tensors.get(name)):
            raise Unsupported(
                f"{name}, a tensor that the network computes itself, differs at another height",
                cure="use eyeshot.run, which knows the height",
            )
    found = replace(graph, nodes=nodes, inputs=like.inputs, outputs=like.outputs, batch=like.batch)
    check(found)
    return found


@dataclass
class _Names:
    """For each node of one graph, the names in the other: of itself and of idle nodes after it."""

    of: dict[str, list[str]] = field(default_factory=dict)

    def passed_over(self, left: list[Node], node: Node) -> None:
        """Skip slices of the whole range: they do nothing, and have no node in the other graph."""
        while left and left[0].family is Family.ALIAS is not node.family:
            one = left.pop(0)
            self.of[one.name] = self.of[one.edges[0].source]

    def followed(self, node: Node) -> None:
        """Note that an idle node may be read in place of its source."""
        for known in self.of.values():
            if node.edges[0].source in known and node.name not in known:
                known.append(node.name)


def _renamed(twin: Node, node: Node, names: _Names) -> Node | None:
    """The twin with the node's name and sources; None if it computes something else."""
    same = (
        twin.operator == node.operator
        and twin.layer == node.layer
        and twin.weights == node.weights
        and len(twin.edges) == len(node.edges)
        and all(
            mine.source in names.of[its.source]
            and _same_axes(mine.axes, its.axes)
            and mine.beside == its.beside
            for mine, its in zip(node.edges, twin.edges, strict=True)
        )
    )
    if not same:
        return None
    sources = {its.source: mine.source for mine, its in zip(node.edges, twin.edges, strict=True)}
    edges = tuple(replace(edge, source=sources[edge.source]) for edge in twin.edges)
    call = twin.call
    if call is not None:
        call = call.substituted(lambda one: Ref(sources[one.node]) if isinstance(one, Ref) else one)
        if node.call != call and not _follows_rows(twin, node):
            return None
    return replace(twin, name=node.name, edges=edges, call=call)


def _follows_rows(twin: Node, node: Node) -> bool:
    """Whether two calls differ only in sizes along the rows, which the edges determine."""
    if not has_own_form(node) or twin.dims != node.dims or _beside(twin) != _beside(node):
        return False
    if node.family is Family.PAD:
        return _padded_beside(twin) == _padded_beside(node)
    if node.family in _PARTS:  # along a spatial axis; edges do not describe channels
        return any(axis != Identity() for axis in node.edges[0].axes)
    return node.is_adaptive or node.family in _SIZED


def _beside(node: Node) -> list[int]:
    """The shape without its rows."""
    return [n for dim, n in enumerate(node.shape) if dim != node.dims[0]]


def _padded_beside(node: Node) -> Mapping[str, Any]:
    """The parameters of a padding without the number of rows that it adds."""
    params = node.params.to_dict()
    amounts = list(params["padding"])
    if node.dims[0] is not None:
        rows = 2 * (len(node.shape) - 1 - node.dims[0])
        amounts[rows : rows + 2] = []
    while amounts[-2:] == [0, 0]:  # zeros for the first dimensions may be omitted
        del amounts[-2:]
    return {**params, "padding": amounts}


def _same_axes(mine: Sequence[AxisMap], its: Sequence[AxisMap]) -> bool:
    """Whether the maps are equal except for the number of rows added or cropped after the last."""
    if len(mine) != len(its) or mine[1:] != its[1:]:
        return False
    if not mine or mine[0] == its[0]:
        return True
    here, there = _as_ending(mine[0]), _as_ending(its[0])
    if here is None or there is None or here.before != there.before:
        return False
    # Cropping more rows than at the other height would remove rows that were already returned.
    return min(here.after, 0) <= there.after


def _as_ending(axis: AxisMap) -> Pad | None:
    pad = axis.as_pad()
    return pad if pad is not None and abs(pad.after) <= _MOST_BEHIND else None


def _only_ends(graph: Graph, node: Node) -> bool:
    """Whether a node only adds or crops rows after the last one."""
    if node.family not in (Family.PAD, Family.CROP) or len(node.edges) != 1:
        return False
    edge, source = node.edges[0], graph.nodes[node.edges[0].source]
    rows = _as_ending(edge.axes[0]) if edge.axes else None
    idle = all(axis in (Identity(), Pad(0, 0)) for axis in edge.axes[1:])
    same_layout = source.dims == node.dims and _beside(source) == _beside(node)
    return rows is not None and rows.before == 0 and idle and same_layout


def _idle(node: Node, source: Node) -> Node:
    """The node with nothing to add or crop."""
    (edge,) = node.edges
    edge = replace(edge, source=source.name, axes=(Pad(0, 0), *edge.axes[1:]))
    return replace(node, edges=(edge,), shape=source.shape, dims=source.dims)


def _differs(node: Node) -> Unsupported:
    return Unsupported(
        f"{node.name} ({node.operator}) does something else at another height",
        cure="use eyeshot.run, which knows the height, or a factor in place of a size",
    )


def _same_numbers(one: torch.Tensor, other: torch.Tensor | None) -> bool:
    if other is None or one.shape != other.shape or one.dtype != other.dtype:
        return False
    return one is other or torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


_CLIPPED = 0.5
"""How far scores may be outside of 0 … 1 before clipping is reported: resizing and sharpening
overshoot by less."""


class Extremes:
    """The largest sample of each image, and the range of scores of each output."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._largest: dict[str, int] = {}
        self._scores: dict[str, tuple[float, float]] = {}
        self._nan: dict[str, None] = {}  # outputs of whole numbers with scores that are NaN
        self._infinite: dict[str, None] = {}  # outputs with scores that are not finite

    def read(self, name: str, samples: NDArray[Any]) -> None:
        """Record samples of an input, if their scale may be wrong."""
        dtype = samples.dtype
        if dtype.kind not in "ui" or dtype.itemsize == 1:
            return
        if self._job.preparation.scale(dtype) == unit_of(dtype):
            self._largest[name] = max(self._largest.get(name, 0), int(samples.max()))

    def record(self, name: str, scores: torch.Tensor) -> None:
        """Record the range of an output's scores, and those that are not finite."""
        form = self._job.forms[name]
        if not scores.numel() or not (scores.is_floating_point() or form.name == "uint8"):
            return
        low, high = (float(one) for one in scores.aminmax())  # both NaN if any score is
        if form.dtype.kind == "f":
            if not (math.isfinite(low) and math.isfinite(high)):
                self._infinite[name] = None
        elif math.isnan(low):
            self._nan[name] = None
        elif form.name == "uint8":
            before = self._scores.get(name, (low, high))
            self._scores[name] = (min(before[0], low), max(before[1], high))

    @property
    def found(self) -> dict[str, Any]:
        """The recorded values as plain data, for :meth:`merge`."""
        ranges = {name: list(pair) for name, pair in self._scores.items()}
        return {
            "largest": self._largest,
            "scores": ranges,
            "nan": list(self._nan),
            "infinite": list(self._infinite),
        }

    def merge(self, found: Mapping[str, Any]) -> None:
        """Add the values that were recorded in a part of the run."""
        for name, largest in found["largest"].items():
            self._largest[name] = max(self._largest.get(name, 0), largest)
        for name, (low, high) in found["scores"].items():
            before = self._scores.get(name, (low, high))
            self._scores[name] = (min(before[0], low), max(before[1], high))
        self._nan |= dict.fromkeys(found["nan"])
        self._infinite |= dict.fromkeys(found["infinite"])

    def notes(self) -> tuple[str, ...]:
        """A line for each image and output whose scale or scores look wrong."""
        return (*self._dark(), *self._clipped(), *self._without_meaning())

    def _without_meaning(self) -> list[str]:
        infinite = [
            f"{name}: some scores are infinite or NaN; where a sum in the network overflows, this "
            "run may have 0 where one pass over the whole image has NaN"
            for name in self._infinite
        ]
        return infinite + [
            f"{name}: some scores are NaN, so the samples written for them mean nothing; look at "
            "them with scores or float32"
            for name in self._nan
        ]

    def _dark(self) -> list[str]:
        """Notes on images with so few bits that the network saw them almost black.

        There is no note if the training pictures were just as dark.
        """
        mean = self._job.preparation.mean
        notes = []
        for name, largest in self._largest.items():
            source = self._job.sources[name]
            note = note_dark(
                largest, source.dtype, mean, "for {bits}-bit samples use --white {white}"
            )
            if note is not None:
                notes.append(f"{source.name}: {note}")
        return notes

    def _clipped(self) -> list[str]:
        return [
            f"{name}: scores from {low:.3g} to {high:.3g} were clipped to 0…1 for uint8; "
            "use probabilities, argmax or float32 for scores of classes"
            for name, (low, high) in self._scores.items()
            if low < -_CLIPPED or high > 1 + _CLIPPED
        ]
