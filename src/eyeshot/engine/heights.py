"""One network traced at two heights: whether it computes the same rows in the same way at both.

The rows of a camera arrive before their number is known. The network is therefore traced at one
height, and must compute the same at the real one. It may differ only after the last row: a U-Net
that takes any size pads the image there to a multiple of its grid and crops its scores by as much,
and does neither where the height is such a multiple.

The largest samples read and the scores clipped are recorded here too: they are signs of a wrong
scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eyeshot.axes import AxisMap, Identity, Pad
from eyeshot.engine.job import Job
from eyeshot.errors import Unsupported
from eyeshot.graph import Family, Graph, Node, Ref, check
from eyeshot.images.whole import unit_of
from eyeshot.operators import has_own_form

_MOST_BEHIND = 1024
"""Rows that may be added or cut off behind the last. What grows with the height is no border."""
_PARTS = (Family.CROP, Family.SELECT)
_SIZED = (Family.RESHAPE, Family.SQUEEZE, Family.EXPAND, Family.REPEAT, Family.RESIZE)
"""Operators that are told the sizes they give, as their shape and edges tell them."""


def as_at(graph: Graph, like: Graph) -> Graph:
    """The graph of one height, in the names and nodes of that of another.

    What ``like`` pads or crops behind the last row, and ``graph`` leaves out, is put in, doing
    nothing.

    Args:
        graph: the network at one height, as it was traced.
        like: the network at another, where it pads and crops at least as much.

    Raises:
        Unsupported: they do not slide along the rows in the same way; the first layer that differs
            is named.
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
        wanted in names.of.get(name, ())
        for name, wanted in zip(graph.outputs, like.outputs, strict=False)
    )
    if left or not same_outputs:
        raise _differs(left[0] if left else like.nodes[like.outputs[0]])
    for name, tensor in like.tensors.items():
        if not _same_numbers(tensor, graph.tensors.get(name)):
            raise Unsupported(
                f"{name}, which the network makes for itself, is another at another height",
                cure="use eyeshot.run, which knows the height",
            )
    found = replace(graph, nodes=nodes, inputs=like.inputs, outputs=like.outputs, batch=like.batch)
    check(found)
    return found


@dataclass
class _Names:
    """What each node of one graph is called in the other: itself, and what was put in behind it."""

    of: dict[str, list[str]] = field(default_factory=dict)

    def passed_over(self, left: list[Node], node: Node) -> None:
        """A slice of all there is does nothing, and stands for no node of the other graph."""
        while left and left[0].family is Family.ALIAS is not node.family:
            one = left.pop(0)
            self.of[one.name] = self.of[one.edges[0].source]

    def followed(self, node: Node) -> None:
        """An idle node stands behind its source, and may be read in its place."""
        for known in self.of.values():
            if node.edges[0].source in known and node.name not in known:
                known.append(node.name)


def _renamed(twin: Node, node: Node, names: _Names) -> Node | None:
    """The twin under the node's own name, reading what the node reads; None if it is another."""
    alike = (
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
    if not alike:
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
    """Whether two calls that differ do so in sizes of the rows alone, and so as the edges tell."""
    if not has_own_form(node) or twin.dims != node.dims or _beside(twin) != _beside(node):
        return False
    if node.family is Family.PAD:
        return _padded_beside(twin) == _padded_beside(node)
    if node.family in _PARTS:  # of an axis of space; of channels the edges tell nothing
        return any(axis != Identity() for axis in node.edges[0].axes)
    return node.is_adaptive or node.family in _SIZED


def _beside(node: Node) -> list[int]:
    """The shape without its rows."""
    return [n for dim, n in enumerate(node.shape) if dim != node.dims[0]]


def _padded_beside(node: Node) -> Mapping[str, Any]:
    """What a padding does, but for how many rows it adds."""
    told = node.params.to_dict()
    amounts = list(told["padding"])
    if node.dims[0] is not None:
        rows = 2 * (len(node.shape) - 1 - node.dims[0])
        amounts[rows : rows + 2] = []
    while amounts[-2:] == [0, 0]:  # dimensions that might as well not be named
        del amounts[-2:]
    return {**told, "padding": amounts}


def _same_axes(mine: Sequence[AxisMap], its: Sequence[AxisMap]) -> bool:
    """The same along every axis, but for how much is added or cut off behind the last row."""
    if len(mine) != len(its) or mine[1:] != its[1:]:
        return False
    if not mine or mine[0] == its[0]:
        return True
    here, there = _as_ending(mine[0]), _as_ending(its[0])
    if here is None or there is None or here.before != there.before:
        return False
    # More rows may be cut off nowhere: some that were given already would be among them.
    return min(here.after, 0) <= there.after


def _as_ending(axis: AxisMap) -> Pad | None:
    pad = axis.as_pad()
    return pad if pad is not None and abs(pad.after) <= _MOST_BEHIND else None


def _only_ends(graph: Graph, node: Node) -> bool:
    """Whether a node does nothing but add or cut off rows behind the last one."""
    if node.family not in (Family.PAD, Family.CROP) or len(node.edges) != 1:
        return False
    edge, source = node.edges[0], graph.nodes[node.edges[0].source]
    rows = _as_ending(edge.axes[0]) if edge.axes else None
    idle = all(axis in (Identity(), Pad(0, 0)) for axis in edge.axes[1:])
    kept = source.dims == node.dims and _beside(source) == _beside(node)
    return rows is not None and rows.before == 0 and idle and kept


def _idle(node: Node, source: Node) -> Node:
    """The node where there is nothing to add or cut off."""
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
"""How far outside of 0 … 1 scores may lie before clipping is reported: resizing and sharpening
overshoot by less."""
_USUAL_BITS = (8, 10, 12, 14)
"""Of cameras whose samples are stored in 16 bits."""


class Extremes:
    """What a run has read and given, in two numbers for each image and output."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._largest: dict[str, int] = {}
        self._scores: dict[str, tuple[float, float]] = {}

    def read(self, name: str, samples: NDArray[Any]) -> None:
        """Some samples of an input, where their scale is in question."""
        if samples.dtype == np.uint16 and self._job.preparation.scale(samples.dtype) == 65535:
            self._largest[name] = max(self._largest.get(name, 0), int(samples.max()))

    def give(self, name: str, scores: torch.Tensor) -> None:
        """Some scores of an output, where its form clips them."""
        if self._job.forms[name].name == "uint8" and scores.numel():
            low, high = (float(one) for one in scores.aminmax())
            before = self._scores.get(name, (low, high))
            self._scores[name] = (min(before[0], low), max(before[1], high))

    @property
    def found(self) -> dict[str, Any]:
        """Plain data, for :meth:`merge`."""
        return {"largest": self._largest, "scores": {n: list(p) for n, p in self._scores.items()}}

    def merge(self, found: Mapping[str, Any]) -> None:
        """Take in what a part of the run has read and given."""
        for name, largest in found["largest"].items():
            self._largest[name] = max(self._largest.get(name, 0), largest)
        for name, (low, high) in found["scores"].items():
            before = self._scores.get(name, (low, high))
            self._scores[name] = (min(before[0], low), max(before[1], high))

    def notes(self) -> tuple[str, ...]:
        """A line for each image and output whose scale looks wrong."""
        return (*self._dark(), *self._clipped())

    def _dark(self) -> list[str]:
        """Samples of so few bits that the network saw almost black.

        A run whose training pictures were as dark has learned from them as they are.
        """
        white = int(unit_of(np.dtype(np.uint16)))
        means = self._job.preparation.mean
        notes = []
        for name, largest in self._largest.items():
            bits = next((bits for bits in _USUAL_BITS if 2 ** (bits - 2) <= largest < 2**bits), 0)
            if bits and (not means or largest / white < min(means)):
                notes.append(
                    f"{self._job.sources[name].name}: the largest sample is {largest}, and {white} "
                    f"counts as 1: the network saw at most {largest / white:.1%} of white; for "
                    f"{bits}-bit samples use --white {2**bits - 1}"
                )
        return notes

    def _clipped(self) -> list[str]:
        return [
            f"{name}: scores from {low:.3g} to {high:.3g} were clipped to 0…1 for uint8; "
            "use probabilities, argmax or float32 for scores of classes"
            for name, (low, high) in self._scores.items()
            if low < -_CLIPPED or high > 1 + _CLIPPED
        ]
