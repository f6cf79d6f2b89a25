"""3×3 convolutions of many channels with about a third of the multiplications (Winograd).

A block of 4×2 outputs is a polynomial product along each axis. Instead of 9 products for each
output, the 6×4 inputs of a block and the 3×3 weights are transformed, multiplied position by
position (24 products for 8 outputs), and transformed back: 3 products for each output.

    rows:    Y = Aᵀ[(G g) ⊙ (Bᵀ d)], at the points 0, ±√½, ±√2, ∞
    columns: the same at the points 0, ±1, ∞

Source: Lavin and Gray, 2016, arXiv:1509.09308, for points of one's choice. These points round least
of those tried: one to two times as much as oneDNN's direct sum. The transforms are sums of whole
rows of a channels-last image; all products are one grouped 1×1 convolution. Below some 100 channels
the transforms cost as much as the products save.
"""

from __future__ import annotations

import itertools
import math
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from eyeshot.graph import ConvolutionParams, Family, Graph, Kind, Node
from eyeshot.operators.tile import Padded

METHOD = "winograd"
LEAST_CHANNELS = 128
"""Of the input and of the output; with fewer the transforms cost more than they save."""
LEAST_POSITIONS = 4096
"""Of the whole output; for fewer the transform of the weights does not pay."""
_MOST_WASTE = 1.3
"""The most computed positions for each requested one: blocks reach beyond odd sizes."""
_LARGEST = 1e30
"""Of the input: sums of several must not overflow."""
_CONTRAST = 10.0
"""How much more the inputs of a block may weigh than those of one of its outputs, which would keep
only the digits that the largest of the block leaves it."""
_LAYOUTS = 2
"""That a kernel keeps: for the first band, and for those after it."""
_BLOCKS = 256
"""Blocks that are transformed at a time, so that they stay in the cache."""

_ROWS, _COLUMNS = 4, 2  # outputs of a block
_TALL, _WIDE = _ROWS + 2, _COLUMNS + 2  # its inputs
PRODUCTS = _TALL * _WIDE
_NEAR, _FAR = math.sqrt(0.5), math.sqrt(2.0)

Matrix = NDArray[np.float64]


def _output_and_kernel(points: Sequence[float], outputs: int) -> tuple[Matrix, Matrix]:
    """Aᵀ (outputs, n) and G (n, 3) for finite points and ∞; column j of Aᵀ begins with 1."""
    finite = np.array(points)
    n = len(finite) + 1
    back, kernel = np.zeros((outputs, n)), np.zeros((n, 3))
    for j, point in enumerate(finite):
        back[:, j] = point ** np.arange(outputs)
        kernel[j] = point ** np.arange(3) / np.prod(point - np.delete(finite, j))
    back[-1, -1] = kernel[-1, -1] = 1
    return back, kernel


def _scaled(back: Matrix, kernel: Matrix, scales: Sequence[float]) -> tuple[Matrix, Matrix]:
    """The same product with each transformed value multiplied by a scale."""
    return back / np.array(scales), kernel * np.array(scales)[:, None]


# Scaled so that the second row of Aᵀ is 0, 1, -1, 1, -1, 0: two multiplications fewer.
_ROW_BACK, _ROW_KERNEL = _scaled(
    *_output_and_kernel((0, _NEAR, -_NEAR, _FAR, -_FAR), _ROWS), (1, _NEAR, _NEAR, _FAR, _FAR, 1)
)
_COLUMN_BACK, _COLUMN_KERNEL = _output_and_kernel((0, 1, -1), _COLUMNS)
_BIAS = np.linalg.pinv(_ROW_BACK).sum(1)[:, None] * np.linalg.pinv(_COLUMN_BACK).sum(1)
"""(6, 4): what is added to the products of a block so that each output grows by 1."""


def with_winograd(graph: Graph) -> Graph:
    """The graph in which the convolutions that are faster this way, and exact enough, use it."""
    nodes = {
        node.name: replace(node, params=node.params.but(method=METHOD))
        if _suits(node, graph)
        else node
        for node in graph
    }
    return replace(graph, nodes=nodes)


def without_winograd(graph: Graph) -> Graph:
    """The graph in which every convolution is the sum of its products."""
    nodes = {
        node.name: replace(node, params=node.params.but(method=None)) if is_winograd(node) else node
        for node in graph
    }
    return replace(graph, nodes=nodes)


def is_winograd(node: Node) -> bool:
    """Whether a node is a convolution that is computed this way."""
    return isinstance(node.params, ConvolutionParams) and node.params.method == METHOD


def uses_winograd(graph: Graph) -> bool:
    """Whether a convolution is computed this way."""
    return any(map(is_winograd, graph))


def _suits(node: Node, graph: Graph) -> bool:
    params = node.params
    if node.family is not Family.CONVOLUTION or node.kind is not Kind.LOCAL:
        return False
    if params.kernel != (3, 3) or params.groups != 1 or node.edges[0].beside:
        return False
    if not set(params.stride) == set(params.dilation) == {1} or None in node.dims:
        return False
    weights = _weights(node, graph)
    return (
        math.prod(node.extents) >= LEAST_POSITIONS
        and all(one.device.type == "cpu" and one.dtype == torch.float32 for one in weights)
        and all(min(one.shape[:2]) >= LEAST_CHANNELS for one in weights)
        and torch._C._has_mkldnn
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise_")
    )


def added_bytes(graph: Graph) -> int:
    """The bytes of the transformed weights, in all their layouts, and of the blocks of a call."""
    nodes = [node for node in graph if is_winograd(node)]
    blocks = max((_room_for(node, graph) for node in nodes), default=0)
    weights = sum(w.numel() // 9 * PRODUCTS for node in nodes for w in _weights(node, graph))
    return 4 * (blocks + _LAYOUTS * weights)


def _weights(node: Node, graph: Graph) -> list[torch.Tensor]:
    return [graph.tensors[name] for name in node.weights[: node.params.parts or 1]]


def _room_for(node: Node, graph: Graph) -> int:
    """Numbers in the memory of one call, for ``_BLOCKS`` blocks in any arrangement."""
    channels = max(one.shape[1] for one in _weights(node, graph))
    return sum(_sizes(_BLOCKS, 1, channels, node.params.out_channels))


def _sizes(high: int, wide: int, channels: int, outputs: int) -> tuple[int, ...]:
    """Numbers in each array of :class:`_Room`."""
    blocks, line = high * wide, high * (_COLUMNS * wide + 2)
    return (
        PRODUCTS * blocks * channels,
        PRODUCTS * blocks * outputs,
        max((_TALL + 2) * line * channels, 32 * blocks * outputs),
    )


Convolver = Callable[[Sequence[Padded], torch.Tensor | None], torch.Tensor]


def winograd_convolver(
    weights: Sequence[torch.Tensor], bias: torch.Tensor | None, relu: bool, direct: Convolver
) -> Convolver:
    """The sum of one 3×3 convolution for each value, then the bias and the activation.

    ``direct`` computes what does not suit: maps with NaN, infinity or sharp edges between large and
    small numbers, which a transform would spread to the rest of a block, and sizes that blocks do
    not fit.
    """
    kernels = [_Kernel(weight) for weight in weights]
    outputs, channels = weights[0].shape[0], max(w.shape[1] for w in weights)
    shift = None if bias is None else _shift(bias)
    rooms, scales = _shared_rooms(), [_scale(weight) for weight in weights]

    def compute(values: Sequence[Padded], room: torch.Tensor | None) -> torch.Tensor:
        (value, padding), *_ = values
        height, width = (n + 2 * p - 2 for n, p in zip(value.shape[2:], padding, strict=True))
        if (
            value.shape[0] != 1
            or not _fits(height, width)
            or not _is_tame(values, scales, height, width)
        ):
            return direct(values, room)
        fits = room is not None and room.is_contiguous(memory_format=torch.channels_last)
        result = room if room is not None and fits else _empty(outputs, height, width)
        down, across = -(-height // _ROWS), -(-width // _COLUMNS)
        lines = [_lines(one, pads, _ROWS * down - height) for one, pads in values]
        borders = [pads[1] for _, pads in values]
        wide = _even(across, _BLOCKS)
        high = _even(down, max(1, _BLOCKS // wide))
        made = result.permute(0, 2, 3, 1)[0]
        with rooms.borrowed() as memory:
            block = _Block(memory, high, wide, channels, outputs)
            for top, left in itertools.product(_starts(down, high), _starts(across, wide)):
                for i, (kernel, rows) in enumerate(zip(kernels, lines, strict=True)):
                    part = rows[_ROWS * top : _ROWS * (top + high) + 2]
                    block.transform(part, _COLUMNS * left - borders[i])
                    block.multiply(kernel, shift if i == 0 else None, fresh=i == 0)
                below, right = _ROWS * (top + high), _COLUMNS * (left + wide)
                block.give(made[_ROWS * top : below, _COLUMNS * left : right], relu)
        return result

    return compute


def _even(count: int, most: int) -> int:
    """The size of equal pieces of at most ``most``, as few as possible; the last may overlap."""
    return -(-count // -(-count // most))


def _starts(count: int, piece: int) -> list[int]:
    """Where pieces begin; the last ends where all do, so that all have the same size."""
    return [min(start, count - piece) for start in range(0, count, piece)]


def _fits(height: int, width: int) -> bool:
    if height < 1 or width < 1:
        return False
    blocks = -(-height // _ROWS) * -(-width // _COLUMNS)
    return blocks * _ROWS * _COLUMNS <= _MOST_WASTE * height * width


def _is_tame(
    values: Sequence[Padded], scales: Sequence[torch.Tensor], height: int, width: int
) -> bool:
    """Whether the numbers are finite, and the inputs of each block weigh about the same.

    An input pixel weighs as much as its channels can give to an output, added up.
    """
    weights: list[torch.Tensor] = []
    for (value, (above, beside)), scale in zip(values, scales, strict=True):
        pixels = value.permute(0, 2, 3, 1)[0].abs() @ scale
        weights.append(F.pad(pixels, (beside, beside, above, above)))
    total = torch.stack(weights).sum(0)
    largest = float(total.max())
    if not largest <= _LARGEST:  # NaN, too
        return False
    down, across = -(-height // _ROWS), -(-width // _COLUMNS)
    below, right = _ROWS * down - height, _COLUMNS * across - width
    total = F.pad(total, (0, right, 0, below))[None]
    own = F.max_pool2d(total, 3, stride=1)[0, :height, :width]
    block = F.max_pool2d(total, (_TALL, _WIDE), (_ROWS, _COLUMNS))[0]
    block = block.repeat_interleave(_ROWS, 0).repeat_interleave(_COLUMNS, 1)[:height, :width]
    return bool((block <= _CONTRAST * own).all())


def _scale(weight: torch.Tensor) -> torch.Tensor:
    """(C,): the most that a 1 in each channel can give to an output."""
    return weight.detach().abs().sum((2, 3)).amax(0)


def _lines(value: torch.Tensor, padding: Sequence[int], below: int) -> torch.Tensor:
    """(H, W, C) of a value (1, C, H, W), with rows of zeros at both ends."""
    rows = value.permute(0, 2, 3, 1)[0]
    above = padding[0]
    if above or below:
        return F.pad(rows, (0, 0, 0, 0, above, above + below))
    return rows.contiguous()


def _empty(channels: int, height: int, width: int) -> torch.Tensor:
    return torch.empty((1, channels, height, width), memory_format=torch.channels_last)


def _shift(bias: torch.Tensor) -> torch.Tensor:
    return torch.outer(torch.from_numpy(_BIAS.reshape(-1)), bias.detach().double()).float().view(-1)


class _Kernel:
    """The transformed weight, in the layout that oneDNN takes for a number of blocks."""

    def __init__(self, weight: torch.Tensor) -> None:
        self._weight = weight.detach()
        self._transformed: torch.Tensor | None = None
        self._layouts: dict[int, torch.Tensor] = {}

    def laid_out(self, blocks: int) -> torch.Tensor:
        """For an image of 1 × ``blocks`` pixels."""
        if blocks not in self._layouts:
            if len(self._layouts) >= _LAYOUTS:
                self._layouts.clear()
            whole = transformed_weight(self._weight)
            channels = whole.shape[1] * PRODUCTS
            reorder: Any = torch.ops.mkldnn._reorder_convolution_weight
            self._layouts[blocks] = reorder(
                whole, [0, 0], [1, 1], [1, 1], PRODUCTS, [1, channels, 1, blocks]
            )
        return self._layouts[blocks]


def transformed_weight(weight: torch.Tensor) -> torch.Tensor:
    """(24·O, C, 1, 1) of a weight (O, C, 3, 3): G g Gᵀ, in float64 before it is rounded."""
    outputs, channels = weight.shape[:2]
    both = np.einsum("ai,bj->abij", _ROW_KERNEL, _COLUMN_KERNEL).reshape(PRODUCTS, 9)
    made = torch.empty((PRODUCTS, outputs, channels))
    for first in range(0, outputs, 64):  # so that the float64 copy is small
        part = weight[first : first + 64].double().reshape(-1, 9).t()
        count = min(64, outputs - first)
        made[:, first : first + count] = (torch.from_numpy(both) @ part).view(-1, count, channels)
    return made.view(PRODUCTS * outputs, channels, 1, 1)


class _Block:
    """Blocks of a part of an image: transformed, multiplied, and transformed back, in one memory.

    Values are (…, rows of blocks, columns of blocks, channels).
    """

    def __init__(self, memory: _Memory, high: int, wide: int, channels: int, outputs: int) -> None:
        self._high, self._wide, self._outputs = high, wide, outputs
        self._into, self._from, self._temporary = memory.split(
            _sizes(high, wide, channels, outputs)
        )
        size = PRODUCTS * outputs * high * wide
        self._products = self._from[:size].view(high, wide, _TALL, _WIDE, outputs)
        self._blocks = self._into

    def transform(self, rows: torch.Tensor, left: int) -> None:
        """Bᵀ d B of rows (4·high + 2, W, C), from column ``left``, which may lie outside."""
        high, wide, channels = self._high, self._wide, rows.shape[2]
        span = _COLUMNS * wide + 2
        lines, rest = _taken(self._temporary, (_TALL, high, span, channels))
        pair, rest = _taken(rest, (2, high, span, channels))
        lo, hi = max(0, left), max(0, min(rows.shape[1], left + span))
        inside = slice(lo - left, hi - left)
        for empty in (lines[:, :, : inside.start], lines[:, :, inside.stop :]):
            empty.zero_()
        last = _ROWS * (high - 1) + 1
        read = [rows[i : i + last : _ROWS, lo:hi] for i in range(_TALL)]
        _six(read, lines[:, :, inside], pair[:, :, inside])
        size = PRODUCTS * channels * high * wide
        self._blocks = self._into[:size].view(high, wide, _TALL, _WIDE, channels)
        across = _COLUMNS * (wide - 1) + 1
        _four(
            [lines[:, :, j : j + across : _COLUMNS] for j in range(_WIDE)],
            self._blocks.permute(3, 2, 0, 1, 4),
        )

    def multiply(self, kernel: _Kernel, shift: torch.Tensor | None, *, fresh: bool) -> None:
        """Add the products with a kernel, and the bias; ``fresh``: forget those before."""
        count = self._high * self._wide
        if fresh:
            self._products.zero_()
        add: Any = torch.ops.mkldnn._convolution_pointwise_.binary
        given, made = (
            one.view(1, 1, count, -1).permute(0, 3, 1, 2) for one in (self._blocks, self._products)
        )
        settings = ([0, 0], [1, 1], [1, 1], PRODUCTS)
        weight = kernel.laid_out(count)
        add(made, given, weight, shift, *settings, "add", 1.0, None, [], "")

    def give(self, room: torch.Tensor, relu: bool) -> None:
        """Write Aᵀ M A to (rows, columns, channels), which may be smaller than the blocks."""
        high, wide, outputs = self._high, self._wide, self._outputs
        lines, rest = _taken(self._temporary, (_ROWS, _WIDE, high, wide, outputs))
        pair, rest = _taken(rest, (2, _WIDE, high, wide, outputs))
        _four_back(self._products.permute(2, 3, 0, 1, 4), lines, pair)
        whole = room.shape[0] == _ROWS * high and room.shape[1] == _COLUMNS * wide
        if whole:
            made = room
        else:
            made, _ = _taken(rest, (_ROWS * high, _COLUMNS * wide, outputs))
        split = made.view(high, _ROWS, wide, _COLUMNS, outputs)
        _two_back(lines.transpose(0, 1), split.permute(3, 1, 0, 2, 4))
        if relu:
            made.relu_()
        if not whole:
            room.copy_(made[: room.shape[0], : room.shape[1]])


def _taken(memory: torch.Tensor, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """An array in the beginning of a memory, and the rest of it."""
    size = math.prod(shape)
    return memory[:size].view(shape), memory[size:]


def _six(read: Sequence[torch.Tensor], out: torch.Tensor, pair: torch.Tensor) -> None:
    """Bᵀ along the rows: 6 sums of 6 rows."""
    one, other = pair
    for near, far, first in ((_NEAR, _FAR, 1), (_FAR, _NEAR, 3)):
        torch.sub(read[4], read[2], alpha=far**2, out=one)
        torch.sub(read[3], read[1], alpha=far**2, out=other)
        torch.add(one, other, alpha=near, out=out[first])
        torch.sub(one, other, alpha=near, out=out[first + 1])
    middle = _NEAR**2 + _FAR**2
    torch.add(read[4], read[0], out=out[0]).sub_(read[2], alpha=middle)
    torch.add(read[5], read[1], out=out[5]).sub_(read[3], alpha=middle)


def _four(read: Sequence[torch.Tensor], out: torch.Tensor) -> None:
    """Bᵀ along the columns: 4 sums of 4 columns."""
    torch.sub(read[2], read[0], out=out[0])
    torch.add(read[1], read[2], out=out[1])
    torch.sub(read[2], read[1], out=out[2])
    torch.sub(read[3], read[1], out=out[3])


def _four_back(read: torch.Tensor, out: torch.Tensor, pair: torch.Tensor) -> None:
    """Aᵀ along the rows: 4 rows from 6 products, which are overwritten."""
    zero, near, near_too, far, far_too, infinite = read.unbind(0)
    odd_near, odd_far = pair
    torch.sub(near, near_too, out=odd_near)
    torch.sub(far, far_too, out=odd_far)
    near.add_(near_too)
    far.add_(far_too)
    torch.add(zero, near, alpha=1 / _NEAR, out=out[0]).add_(far, alpha=1 / _FAR)
    torch.add(odd_near, odd_far, out=out[1])
    torch.add(near, far, alpha=_FAR / _NEAR, out=out[2]).mul_(_NEAR)
    torch.add(infinite, odd_near, alpha=_NEAR**2, out=out[3]).add_(odd_far, alpha=_FAR**2)


def _two_back(read: torch.Tensor, out: torch.Tensor) -> None:
    """Aᵀ along the columns: 2 columns from 4 products."""
    torch.add(read[0], read[1], out=out[0]).add_(read[2])
    torch.sub(read[1], read[2], out=out[1]).add_(read[3])


class _Memory:
    """A block of float32 that grows as needed."""

    def __init__(self) -> None:
        self._whole = torch.empty(0)

    def split(self, sizes: Sequence[int]) -> Sequence[torch.Tensor]:
        """Arrays of so many numbers, one after another."""
        if self._whole.numel() < sum(sizes):
            self._whole = torch.empty(0)  # so that both do not exist at the same time
            self._whole = torch.empty(sum(sizes))
        return torch.split(self._whole[: sum(sizes)], list(sizes))


class _Rooms:
    """Memory that all convolutions share; each call borrows one, so threads do not meet."""

    def __init__(self) -> None:
        self._free: list[_Memory] = []

    def borrowed(self) -> _Borrowed:
        """A context that lends a memory."""
        return _Borrowed(self._free)


class _Borrowed:
    def __init__(self, free: list[_Memory]) -> None:
        self._free = free

    def __enter__(self) -> _Memory:
        try:
            self._memory = self._free.pop()
        except IndexError:
            self._memory = _Memory()
        return self._memory

    def __exit__(self, *exception: object) -> None:
        self._free.append(self._memory)


_LOCK = threading.Lock()
_ROOMS: weakref.WeakSet[_Rooms] = weakref.WeakSet()


def _shared_rooms() -> _Rooms:
    """The rooms of all convolutions that exist now; freed with the last of them."""
    with _LOCK:
        for one in _ROOMS:
            return one
        made = _Rooms()
        _ROOMS.add(made)
        return made
