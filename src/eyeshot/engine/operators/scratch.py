"""What a call of an operator takes beside what it reads and gives: copies, columns, indices.

Each figure is the most that was seen of torch's and oneDNN's own kernels on rectangles of every
kind, at a border (where padding is a copy) as well as inside; ``tests/engine/test_scratch.py``
holds them against the kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from eyeshot.axes import Resize, Window
from eyeshot.engine.operators import kernels, resizing, shaping, sliding
from eyeshot.engine.operators.sliding import Tensors
from eyeshot.graph import Kind, Node

_BLOCK = 16
"""Channels of a block in oneDNN's own layout, into which it copies what has another one."""


@dataclass(frozen=True, slots=True)
class Work:
    """One call of an operator, as far as its memory goes.

    Attributes:
        node: what is computed.
        tensors: the network's weights.
        reads: bytes read of each input.
        gives: bytes given.
        itemsize: of one number.
        sources: the nodes of its inputs.
    """

    node: Node
    tensors: Tensors
    reads: Sequence[int]
    gives: int
    itemsize: int
    sources: Sequence[Node] = ()

    @property
    def read(self) -> int:
        """Bytes read of all inputs."""
        return sum(self.reads)

    @property
    def numbers(self) -> int:
        """Numbers given."""
        return self.gives // self.itemsize


def borrows(node: Node) -> bool:
    """Whether a node gives a view of what it reads, as torch itself says of its operators."""
    schema = getattr(node.call.target, "_schema", None) if node.call is not None else None
    if schema is None or not schema.returns:
        return False
    alias = schema.returns[0].alias_info
    return alias is not None and not alias.is_write


def convolution(work: Work) -> int:
    """Padding at the border is a copy, and so is a layout that the kernel does not take."""
    weights, _ = sliding.weights_and_bias(work.node, work.tensors)
    lies_well = bool(work.sources) and all(map(_channels_last, work.sources))
    copies = work.read * (2 if _pads(work.node) and not lies_well else 1)
    if kernels.has_onednn(weights[0]):
        stacked = work.gives if weights[0].shape[1] == 1 else 0  # OpenCV filters each channel
        return copies + stacked
    if kernels.takes_columns(weights[0]):
        columns = max(work.gives // w.shape[0] * w[0].numel() for w in weights)
        return copies + 2 * min(columns, kernels.COLUMNS)
    if weights[0][0, 0].numel() == 1:
        return work.read
    inputs = zip(work.reads, weights, strict=True)
    blocks = max(_in_blocks(read, weight.shape[1]) for read, weight in inputs)
    return copies + blocks + _in_blocks(work.gives, weights[0].shape[0])


def _channels_last(source: Node) -> bool:
    """Whether a node's rows surely lie as oneDNN takes them, so that padding is the only copy."""
    return not source.edges or source.slides or source.is_convolution


def _pads(node: Node) -> bool:
    sides = [axis for edge in node.edges for axis in edge.axes if isinstance(axis, Window)]
    return any(axis.before or axis.after for axis in sides)


def _in_blocks(nbytes: int, channels: int) -> int:
    return nbytes * (-(-channels // _BLOCK) * _BLOCK) // channels if channels > 8 else nbytes * 8


def transposed(work: Work) -> int:
    """What the inputs reach is cut or widened by a copy; but for oneDNN's, columns are laid out."""
    weight = work.tensors[work.node.weights[0]]
    if kernels.has_onednn(weight):
        return work.read + work.gives
    columns = work.read // weight.shape[0] * weight[0].numel()
    return 2 * work.read + work.gives + max(columns, work.gives)


def max_pooling(work: Work) -> int:
    """torch notes the place of every maximum, in 8 bytes."""
    return work.numbers * 8 + (work.read if _pads(work.node) else 0)


def average_pooling(work: Work) -> int:
    """Padded by a copy; means at a border are scaled in another."""
    return work.read + work.gives


def resized(work: Work) -> int:
    """A tap of the last axis beside the sum, and the axes before; or what torch's kernel adds."""
    axes = [axis for axis in work.node.edges[0].axes if isinstance(axis, Resize)]
    if not axes:
        return 0
    last = axes[-1]
    factor = last.factor or 1
    before = int(work.gives / max(1, factor)) + work.read
    reached = int(work.read * math.prod(axis.factor or 1 for axis in axes))
    return max(work.gives + before, reached - work.gives + work.read)


def called(work: Work) -> int:
    """torch's pointwise operators take nothing; others may copy what they read."""
    target = work.node.call.target if work.node.call is not None else None
    if torch.Tag.pointwise in getattr(target, "tags", ()) or borrows(work.node):
        return 0
    return work.read


def copied(work: Work) -> int:
    """One copy on the way, of the size of what is given."""
    return work.gives


_OF: Mapping[Callable[..., object], Callable[[Work], int]] = {
    sliding.convolution: convolution,
    sliding.transposed_convolution: transposed,
    sliding.max_pooling: max_pooling,
    sliding.average_pooling: average_pooling,
    sliding.adaptive_pooling: copied,
    resizing.resizing: resized,
    shaping.padding: copied,
    shaping.concatenation: copied,
    shaping.reshaping: copied,
    shaping.repeating: copied,
    shaping.shuffling: copied,
}
"""By the function that makes an operator; any other one is called as it is."""


def scratch(work: Work, make: Callable[..., object]) -> int:
    """Bytes that a call takes beside what it reads and gives; ``make`` makes its operator."""
    if work.node.kind is Kind.REDUCIBLE:
        return 2 * work.read  # running sums are taken in float64
    return _OF.get(make, called)(work)


def writes_in_place(work: Work, make: Callable[..., object]) -> bool:
    """Whether a call writes where its rows are kept, so that they stand nowhere else."""
    return make is sliding.convolution and kernels.has_onednn(work.tensors[work.node.weights[0]])
