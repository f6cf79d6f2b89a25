"""A transposed convolution whose kernel exceeds its stride, as ordinary convolutions.

Outputs whose positions leave the same remainder by the stride (a phase) are a convolution of the
inputs with every stride-th cell of the kernel, turned around. So a stride of 2 along two axes makes
four small convolutions. Each output is computed once, from all that it needs: no product is made
for outputs that a band does not need. Bias and activation are computed in the same call.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from eyeshot.axes import Interval, Transpose
from eyeshot.graph import ConvolutionParams, Family, Graph, Kind, Node
from eyeshot.operators import convolution_kernels as kernels
from eyeshot.operators.convolution_kernels import Activation, AddingConvolver
from eyeshot.operators.tile import Box, Tile

METHOD = "phases"
_LAST = torch.channels_last


def with_phases(graph: Graph) -> Graph:
    """The graph in which the transposed convolutions that suit are computed by phases."""
    nodes = {
        node.name: replace(node, params=node.params.but(method=METHOD))
        if _suits(node, graph.tensors)
        else node
        for node in graph
    }
    return replace(graph, nodes=nodes)


def by_phases(node: Node) -> bool:
    """Whether a node is a transposed convolution that is computed by phases."""
    return isinstance(node.params, ConvolutionParams) and node.params.method == METHOD


def _suits(node: Node, tensors: Mapping[str, torch.Tensor]) -> bool:
    params = node.params
    if node.family is not Family.TRANSPOSED_CONVOLUTION or node.kind is not Kind.LOCAL:
        return False
    if not isinstance(params, ConvolutionParams) or None in node.dims or node.edges[0].beside:
        return False
    pairs = list(zip(params.kernel, params.stride, strict=True))
    larger = all(k >= s for k, s in pairs) and any(k > s > 1 for k, s in pairs)
    plain = params.groups == 1 and set(params.dilation) == {1} and len(pairs) == 2
    return plain and larger and kernels.has_onednn(tensors[node.weights[0]])


@dataclass(frozen=True)
class _Phase:
    """Outputs of one remainder along each axis.

    Attributes:
        first: the remainder of output + padding.
        taps: cells of the kernel along each axis.
        convolve: their convolution with the inputs, with bias and activation.
    """

    first: tuple[int, ...]
    taps: tuple[int, ...]
    convolve: AddingConvolver


class Phases:
    """A transposed convolution over two axes.

    Args:
        weight: (C, O, kh, kw).
        bias: (O,), or None.
        stride: along each axis; no larger than the kernel.
        activation: of the sum.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        stride: tuple[int, ...],
        activation: Activation,
    ) -> None:
        self._outputs, self._stride, self._phases = weight.shape[1], stride, list[_Phase]()
        for first in itertools.product(*map(range, stride)):
            (r, p), (q, s) = zip(first, stride, strict=True)
            cells = weight.detach()[:, :, r::p, q::s].flip(2, 3).transpose(0, 1).contiguous()
            convolve = kernels.plain_convolver(cells, bias, activation)
            self._phases.append(_Phase(first, tuple(cells.shape[2:]), convolve))

    def __call__(self, tile: Tile, box: Box, room: torch.Tensor | None) -> torch.Tensor:
        """The outputs ``box`` (N, O, h, w), in ``room`` if its channels are last."""
        value = tile.value
        shape = (len(value), self._outputs, *(len(side) for side in box))
        fits = room is not None and room.is_contiguous(memory_format=_LAST)
        result = room if room is not None and fits else torch.empty(shape, memory_format=_LAST)
        for phase in self._phases:
            part, padding, window, places = value, [], [], []
            for axis in range(2):
                cut = self._cut(phase, axis, tile, box[axis])
                if cut is None:
                    break
                part = part.narrow(2 + axis, cut.inputs.lo, len(cut.inputs))
                padding.append(cut.padding)
                window.append(slice(cut.first, cut.first + cut.count))
                places.append(slice(cut.place, None, self._stride[axis]))
            else:
                made = phase.convolve([(part, padding)], None, None)
                result[:, :, places[0], places[1]] = made[:, :, window[0], window[1]]
        return result

    def _cut(self, phase: _Phase, axis: int, tile: Tile, side: Interval) -> _Cut | None:
        """Where a phase reads and writes along an axis; None if it has no output there."""
        stride, taps, window = self._stride[axis], phase.taps[axis], tile.axes[axis]
        assert isinstance(window, Transpose)  # the axis map of every such layer
        padding = window.padding
        place = (phase.first[axis] - padding - side.lo) % stride
        count = -(-(len(side) - place) // stride)
        if count <= 0:
            return None
        last = (side.lo + place + padding) // stride  # the last input of the first output
        needs, available = Interval(last - taps + 1, last + count), tile.box[axis]
        reads = needs.intersect(available)
        if not reads:  # padding alone: as many zeros as a window has
            return _Cut(Interval(0, 0), taps + count, 0, count, place)
        before, after = reads.lo - needs.lo, needs.hi - reads.hi
        most = max(before, after)
        return _Cut(reads.shifted(-available.lo), most, most - before, count, place)


@dataclass(frozen=True)
class _Cut:
    """One axis of one phase.

    Attributes:
        inputs: the positions that it reads, within the tile.
        padding: zeros on both sides.
        first: the first output that is wanted.
        count: outputs that are wanted.
        place: of the first one in the result.
    """

    inputs: Interval
    padding: int
    first: int
    count: int
    place: int
