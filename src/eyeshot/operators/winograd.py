"""3×3 convolutions of many channels with about a third of the multiplications (Winograd).

A block of 4×2 outputs is a polynomial product along each axis. Instead of 9 products for each
output, the 6×4 inputs of a block and the 3×3 weights are transformed, multiplied position by
position (24 products for 8 outputs), and transformed back: 3 products for each output.

    rows:    Y = Aᵀ[(G g) ⊙ (Bᵀ d)], at the points 0, ±√½, ±√2, ∞
    columns: the same at the points 0, ±1, ∞

Source: Lavin and Gray, 2016, arXiv:1509.09308, for points of one's choice. These points round least
of those tried: one to two times as much as oneDNN's direct sum. The transforms are sums of whole
rows of a channels-last image; all products are one grouped 1×1 convolution. Below some 100 channels
these sums cost as much as the products save; with compiled transforms, below some 30.

In three axes each output slice is a sum of such convolutions, of the slices that the kernel covers.
Outputs of a dilated kernel that lie as far apart as its cells are such a convolution of the rows
and columns that lie so far apart.
"""

from __future__ import annotations

import functools
import itertools
import math
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from eyeshot.axes import Interval
from eyeshot.graph import ConvolutionParams, Family, Graph, Kind, Node
from eyeshot.operators.packed import LAYOUTS, PackedWeight
from eyeshot.operators.tile import Padded
from eyeshot.operators.winograd_compiled import Compiled, is_compiled

METHOD = "winograd"
LEAST_CHANNELS = 128
"""Of the input and of the output; with fewer the transforms cost more than they save."""
LEAST_CHANNELS_COMPILED = 32
"""The same with compiled transforms."""
LEAST_POSITIONS = 4096
"""Of the whole output; for fewer the transform of the weights does not pay."""
_MOST_DILATION = 2
"""With more, a band has too few rows for blocks of rows that lie so far apart."""
_MOST_WASTE = 1.3
"""The most computed positions for each requested one: blocks reach beyond odd sizes."""
_LARGEST = 1e30
"""Of the input: sums of several must not overflow."""
_CONTRAST = 10.0
"""How much more the inputs of a block may weigh than those of one of its outputs, which would keep
only the digits that the largest of the block leaves it."""
_CACHE = 6 << 20
"""Bytes of blocks that are transformed at a time, before and after the products."""
_LEAST_BLOCKS = 128
"""That are multiplied at a time, so that it pays to read the weights."""
_LEAST_SHARED = 64
"""For each thread, so that each computes blocks of its own; with less, they share each step."""

_ROWS, _COLUMNS = 4, 2  # outputs of a block
_TALL, _WIDE = _ROWS + 2, _COLUMNS + 2  # its inputs
PRODUCTS = _TALL * _WIDE
_NEAR, _FAR = math.sqrt(0.5), math.sqrt(2.0)

_NONE = torch.empty(0)

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
    chosen = [node for node in nodes.values() if is_winograd(node)]
    # Tensors of this graph alone: with them live and end the transformed weights.
    own = {name: graph.tensors[name].detach() for node in chosen for name in node.weights}
    made = replace(graph, nodes=nodes, tensors={**graph.tensors, **own})
    for node in chosen:
        _keep(_weights(node, made))
    return made


def load_transforms(graph: Graph) -> None:
    """Compile what a graph will call, so that a plan of the memory counts it."""
    if is_compiled() and uses_winograd(graph):
        compiled()


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


def rounding(graph: Graph) -> str:
    """What else decides how a graph's sums are rounded, and which are computed this way."""
    return ", compiled transforms" if uses_winograd(graph) and is_compiled() else ""


def uses_winograd(graph: Graph) -> bool:
    """Whether a convolution is computed this way."""
    return any(map(is_winograd, graph))


def _suits(node: Node, graph: Graph) -> bool:
    params = node.params
    if node.family is not Family.CONVOLUTION or node.kind is not Kind.LOCAL:
        return False
    if params.kernel[-2:] != (3, 3) or params.groups != 1 or node.edges[0].beside:
        return False
    if len(params.kernel) > 3 or set(params.stride) != {1} or None in node.dims:
        return False
    most = _MOST_DILATION if len(params.kernel) == 2 else 1
    if len(set(params.dilation)) > 1 or params.dilation[0] > most:
        return False
    weights = _weights(node, graph)
    least = min(LEAST_CHANNELS, LEAST_CHANNELS_COMPILED) if is_compiled() else LEAST_CHANNELS
    return (
        math.prod(node.extents) >= LEAST_POSITIONS
        and all(one.device.type == "cpu" and one.dtype == torch.float32 for one in weights)
        and min(sum(one.shape[1] for one in weights), node.params.out_channels) >= least
        and torch._C._has_mkldnn
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    )


COMPILER = 90 << 20
"""Bytes that llvmlite and what it compiles were measured to take, with a tenth to spare."""


def added_bytes(graph: Graph) -> int:
    """The bytes of the transformed weights, in all their layouts, and of the blocks of a call.

    Each thread may have blocks of its own. A compiler that is still to be loaded stays in memory.
    """
    nodes = [node for node in graph if is_winograd(node)]
    loads = bool(nodes) and is_compiled() and not compiled.cache_info().currsize
    blocks = max((_room_for(node, graph) for node in nodes), default=0)
    weights = sum(w.numel() // 9 * PRODUCTS for node in nodes for w in _weights(node, graph))
    called = 4 * (blocks * torch.get_num_threads() + LAYOUTS * weights)
    return called + (COMPILER if loads else 0)


def _weights(node: Node, graph: Graph) -> list[torch.Tensor]:
    return [graph.tensors[name] for name in node.weights[: node.params.parts or 1]]


def _planes(weight: torch.Tensor) -> list[torch.Tensor]:
    """(O, C, 3, 3) for each slice of a kernel over three axes; the weight itself over two."""
    return list(weight.unbind(2)) if weight.ndim == 5 else [weight]


def _room_for(node: Node, graph: Graph) -> int:
    """Numbers in the memory of one call, for its blocks in any arrangement."""
    planes = [plane for one in _weights(node, graph) for plane in _planes(one)]
    channels, outputs = sum(one.shape[1] for one in planes), node.params.out_channels
    return sum(_sizes(_most_blocks(channels, outputs), 1, channels, outputs))


def _most_blocks(channels: int, outputs: int) -> int:
    """Blocks that are transformed at a time, so that they stay in the cache."""
    return max(_LEAST_BLOCKS, _CACHE // (4 * PRODUCTS * (channels + outputs)))


def _sizes(high: int, wide: int, channels: int, outputs: int) -> tuple[int, ...]:
    """Numbers of blocks, of their products, and of what is between the steps of a transform."""
    blocks, line = high * wide, high * (_COLUMNS * wide + 2)
    return (
        PRODUCTS * blocks * channels,
        PRODUCTS * blocks * outputs,
        max((_TALL + 2) * line * channels, 32 * blocks * outputs),
    )


Convolver = Callable[[Sequence[Padded], torch.Tensor | None], torch.Tensor]


def winograd_convolver(
    weights: Sequence[torch.Tensor],
    bias: torch.Tensor | None,
    relu: bool,
    direct: Convolver,
    dilation: int = 1,
) -> Convolver:
    """The sum of one convolution for each value, then the bias and the activation.

    ``direct`` computes what does not suit: maps with NaN, infinity or sharp edges between large and
    small numbers, which a transform would spread to the rest of a block, and sizes that blocks do
    not fit.
    """
    kernel = _KERNELS.get(_key(weights)) or _Kernel(weights)
    if weights[0].ndim == 5:
        return _or_direct(_by_slices(weights, bias, relu, kernel), direct)
    if dilation > 1:
        return _or_direct(_by_phases(weights, bias, relu, kernel, dilation), direct)
    return _by_blocks(weights, bias, relu, direct, kernel)


class _Unsuitable(Exception):
    """A part that the transforms do not suit."""


def _unsuitable(values: Sequence[Padded], room: torch.Tensor | None) -> torch.Tensor:
    raise _Unsuitable


def _or_direct(compute: Convolver, direct: Convolver) -> Convolver:
    """What is computed in parts; the direct sum, if a part does not suit."""

    def either(values: Sequence[Padded], room: torch.Tensor | None) -> torch.Tensor:
        if values[0][0].shape[0] != 1:
            return direct(values, room)
        try:
            return compute(values, room)
        except _Unsuitable:
            return direct(values, room)

    return either


def _by_phases(
    weights: Sequence[torch.Tensor],
    bias: torch.Tensor | None,
    relu: bool,
    kernel: _Kernel,
    dilation: int,
) -> Convolver:
    """A dilated kernel: the outputs of each phase, of rows and columns that far apart, together."""
    outputs = weights[0].shape[0]
    convolve = _by_blocks(weights, bias, relu, _unsuitable, kernel)

    def compute(values: Sequence[Padded], room: torch.Tensor | None) -> torch.Tensor:
        images = [
            F.pad(value, (beside, beside, above, above)) if above or beside else value
            for value, (above, beside) in values
        ]
        height, width = (n - 2 * dilation for n in images[0].shape[2:])
        result = _in_room(room, (1, outputs, height, width), torch.channels_last)
        for top, left in itertools.product(range(min(dilation, height)), range(dilation)):
            parts = [(one[:, :, top::dilation, left::dilation], [0, 0]) for one in images]
            convolve(parts, result[:, :, top::dilation, left::dilation])
        return result

    return compute


def _by_slices(
    weights: Sequence[torch.Tensor],
    bias: torch.Tensor | None,
    relu: bool,
    kernel: _Kernel,
) -> Convolver:
    """Over three axes: each output slice is the sum of convolutions of the slices it covers."""
    depth, outputs = weights[0].shape[2], weights[0].shape[0]
    planes = [plane for weight in weights for plane in _planes(weight)]
    convolve = _by_blocks(planes, bias, relu, _unsuitable, kernel)

    def compute(values: Sequence[Padded], room: torch.Tensor | None) -> torch.Tensor:
        stacks = [
            F.pad(value, (0, 0, 0, 0, front, front)) if front else value
            for value, (front, *_) in values
        ]
        beside = [padding[1:] for _, padding in values]
        count = stacks[0].shape[2] - depth + 1
        height, width = (n + 2 * p - 2 for n, p in zip(stacks[0].shape[3:], beside[0], strict=True))
        result = _in_room(room, (1, outputs, count, height, width), torch.channels_last_3d)
        for place in range(count):
            covered = [
                (stack[:, :, place + tap], pads)
                for stack, pads in zip(stacks, beside, strict=True)
                for tap in range(depth)
            ]
            convolve(covered, result[:, :, place])
        return result

    return compute


def _in_room(
    room: torch.Tensor | None, shape: tuple[int, ...], format_: torch.memory_format
) -> torch.Tensor:
    """The memory given, if it lies as the format says; else new memory."""
    if room is not None and room.is_contiguous(memory_format=format_):
        return room
    return torch.empty(shape, memory_format=format_)


def _by_blocks(
    weights: Sequence[torch.Tensor],
    bias: torch.Tensor | None,
    relu: bool,
    direct: Convolver,
    kernel: _Kernel,
) -> Convolver:
    """Over two axes."""
    outputs, channels = weights[0].shape[0], [weight.shape[1] for weight in weights]
    shift = None if bias is None else _shift(bias)
    rooms, scales = _shared_rooms(), [_scale(weight) for weight in weights]

    def compute(values: Sequence[Padded], room: torch.Tensor | None) -> torch.Tensor:
        (value, padding), *_ = values
        height, width = (n + 2 * p - 2 for n, p in zip(value.shape[2:], padding, strict=True))
        if (
            value.shape[0] != 1
            or any(one.dtype != torch.float32 for one, _ in values)
            or not _fits(height, width)
            or not _is_tame(values, scales, height, width)
        ):
            return direct(values, room)
        # Rows and columns may lie apart.
        fits = room is not None and 1 in (room.stride(1), room.shape[1])
        result = room if room is not None and fits else _empty(outputs, height, width)
        down, across = -(-height // _ROWS), -(-width // _COLUMNS)
        most, total = _most_blocks(sum(channels), outputs), down * across
        apart = is_compiled() and total >= _LEAST_SHARED * torch.get_num_threads()
        if apart:
            most = min(most, -(-total // torch.get_num_threads()))
        wide = _even(across, most)
        high = _even(down, max(1, most // wide))
        made = result.permute(0, 2, 3, 1)[0]
        make = _CompiledBlocks if is_compiled() else _Blocks

        def work(pieces: Iterator[tuple[Interval, Interval]]) -> None:
            with rooms.borrowed() as memory:
                blocks = make(memory, high, wide, channels, outputs)
                images = [blocks.image(one, pads, _ROWS * down - height) for one, pads in values]
                for rows, columns in pieces:
                    top, left = rows.hi - high, columns.hi - wide
                    for i, image in enumerate(images):
                        blocks.transform(i, image, _ROWS * top, _COLUMNS * left)
                    blocks.multiply(kernel, shift)
                    blocks.scatter(made, rows, columns, relu)

        pieces = list(itertools.product(_pieces(down, high), _pieces(across, wide)))
        if apart:
            compiled().share(work, pieces)
        else:
            work(iter(pieces))
        return result

    return compute


def _even(count: int, most: int) -> int:
    """The size of equal pieces of at most ``most``, as few as possible; the last has less."""
    return -(-count // -(-count // most))


def _pieces(count: int, piece: int) -> list[Interval]:
    """Pieces of a size; the last has the end of that size of which the rest is done before."""
    return [Interval(start, min(start + piece, count)) for start in range(0, count, piece)]


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
    down, across = -(-height // _ROWS), -(-width // _COLUMNS)
    total = torch.zeros(_ROWS * down + 2, _COLUMNS * across + 2)
    fine = True
    for (value, (above, beside)), scale in zip(values, scales, strict=True):
        pixels = _pixels(value)
        part = total[above:, beside:][: pixels.shape[0], : pixels.shape[1]]
        if is_compiled():
            fine &= compiled().weigh(_with_channels_last(pixels), scale, part)
        else:
            part += pixels.abs() @ scale
    if is_compiled():
        return fine and compiled().is_even(total, height, width)
    if not float(total.max()) <= _LARGEST:  # NaN, too
        return False
    weights = total.numpy()
    own = _filtered(cv2.dilate, weights, (3, 3))[:height, :width]
    block = _filtered(cv2.dilate, weights, (_TALL, _WIDE))[:height:_ROWS, :width:_COLUMNS]
    least = _filtered(cv2.erode, own, (_ROWS, _COLUMNS))[::_ROWS, ::_COLUMNS]
    return bool((block <= _CONTRAST * least).all())


def _filtered(
    extreme: Callable[..., Any], image: NDArray[np.float32], size: tuple[int, int]
) -> NDArray[np.float32]:
    """The extreme of the window that begins at each pixel, cut to the image."""
    found: NDArray[np.float32] = extreme(image, np.ones(size, np.uint8), anchor=(0, 0))
    return found


def _with_channels_last(pixels: torch.Tensor) -> torch.Tensor:
    return pixels if pixels.stride(2) == 1 else pixels.contiguous()


def _scale(weight: torch.Tensor) -> torch.Tensor:
    """(C,): the most that a 1 in each channel can give to an output."""
    return weight.detach().abs().sum((2, 3)).amax(0)


def _empty(channels: int, height: int, width: int) -> torch.Tensor:
    return torch.empty((1, channels, height, width), memory_format=torch.channels_last)


def _shift(bias: torch.Tensor) -> torch.Tensor:
    return torch.outer(torch.from_numpy(_BIAS.reshape(-1)), bias.detach().double()).float().view(-1)


class _Kernel:
    """The transformed weights, in the layout that oneDNN takes for a number of blocks."""

    def __init__(self, weights: Sequence[torch.Tensor]) -> None:
        own = [plane for weight in weights for plane in _planes(weight.detach())]
        self._channels = sum(weight.shape[1] for weight in own)
        shape = (PRODUCTS * own[0].shape[0], self._channels, 1, 1)
        options = ([1, 1], [1, 1], PRODUCTS)
        self._packed = PackedWeight(lambda: transformed_weights(own), shape, options)

    def laid_out(self, blocks: int) -> torch.Tensor:
        """For an image of 1 × ``blocks`` pixels."""
        return self._packed.laid_out((1, PRODUCTS * self._channels, 1, blocks), [0, 0])


Key = tuple[int, ...]
_KERNELS: dict[Key, _Kernel] = {}
"""Of the graphs that exist now, so that the passes of a run transform each weight once."""


def _key(weights: Sequence[torch.Tensor]) -> Key:
    return tuple(map(id, weights))


def _keep(weights: Sequence[torch.Tensor]) -> None:
    """Keep the kernel of weights as long as these tensors exist."""
    key = _key(weights)
    _KERNELS[key] = _Kernel(weights)
    for weight in weights:
        weakref.finalize(weight, _KERNELS.pop, key, None)


def transformed_weights(weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """(24·O, ΣC, 1, 1) of weights (O, C, 3, 3): G g Gᵀ, in float64 before it is rounded."""
    outputs, channels = weights[0].shape[0], sum(weight.shape[1] for weight in weights)
    both = torch.from_numpy(np.einsum("ai,bj->abij", _ROW_KERNEL, _COLUMN_KERNEL))
    made = torch.empty((PRODUCTS, outputs, channels))
    for first in range(0, outputs, 64):  # so that the float64 copy is small
        part = torch.cat([weight[first : first + 64] for weight in weights], 1).double()
        product = both.view(PRODUCTS, 9) @ part.reshape(-1, 9).t()
        made[:, first : first + 64] = product.view(PRODUCTS, -1, channels)
    return made.view(PRODUCTS * outputs, channels, 1, 1)


class _Blocks:
    """Blocks of a part of an image: transformed, multiplied, and transformed back, in one memory.

    Values are (…, rows of blocks, columns of blocks, channels).
    """

    def __init__(
        self, memory: _Memory, high: int, wide: int, channels: Sequence[int], outputs: int
    ) -> None:
        """``channels``: of each value."""
        self._high, self._wide, self._outputs = high, wide, outputs
        blocks, _, temporary = _sizes(high, wide, sum(channels), outputs)
        whole, self._temporary = memory.split((blocks, temporary))
        self._blocks = whole.view(high, wide, _TALL, _WIDE, -1)
        self._parts = torch.split(self._blocks, list(channels), dim=-1)
        self._products = _NONE

    def image(self, value: torch.Tensor, padding: Sequence[int], below: int) -> _Image:
        """A value (1, C, H, W), with rows of zeros at both ends."""
        rows, above = _pixels(value), padding[0]
        if above or below:
            rows = F.pad(rows, (0, 0, 0, 0, above, above + below))
        return _Image(rows.contiguous(), 0, padding[1])

    def transform(self, i: int, image: _Image, top: int, left: int) -> None:
        """Bᵀ d B of the blocks of value i whose outputs begin at ``top`` and ``left``."""
        high, wide, channels = self._high, self._wide, image.pixels.shape[2]
        rows, left = image.pixels[top : top + _ROWS * high + 2], left - image.beside
        span = _COLUMNS * wide + 2
        lines, rest = _cut_off(self._temporary, (_TALL, high, span, channels))
        pair, rest = _cut_off(rest, (2, high, span, channels))
        lo, hi = max(0, left), max(0, min(rows.shape[1], left + span))
        inside = slice(lo - left, hi - left)
        for empty in (lines[:, :, : inside.start], lines[:, :, inside.stop :]):
            empty.zero_()
        last = _ROWS * (high - 1) + 1
        read = [rows[i : i + last : _ROWS, lo:hi] for i in range(_TALL)]
        _six(read, lines[:, :, inside], pair[:, :, inside])
        across = _COLUMNS * (wide - 1) + 1
        _four(
            [lines[:, :, j : j + across : _COLUMNS] for j in range(_WIDE)],
            self._parts[i].permute(3, 2, 0, 1, 4),
        )

    def multiply(self, kernel: _Kernel, shift: torch.Tensor | None) -> None:
        """The products with a kernel, and the bias."""
        convolve: Any = torch.ops.mkldnn._convolution_pointwise
        high, wide = self._high, self._wide
        blocks = self._blocks.view(1, 1, high * wide, -1).permute(0, 3, 1, 2)
        settings: tuple[Any, ...] = ([0, 0], [1, 1], [1, 1], PRODUCTS, "none", [], "")
        made = convolve(blocks, kernel.laid_out(high * wide), shift, *settings)
        self._products = made.permute(0, 2, 3, 1).view(high, wide, _TALL, _WIDE, -1)

    def _product_array(self) -> torch.Tensor:
        """The products, whose memory the next ones can use."""
        products, self._products = self._products, _NONE
        return products

    def scatter(self, made: torch.Tensor, rows: Interval, columns: Interval, relu: bool) -> None:
        """Write Aᵀ M A to the outputs of some rows and columns of blocks, the last of the piece."""
        high, wide, outputs = self._high, self._wide, self._outputs
        lines, rest = _cut_off(self._temporary, (_ROWS, _WIDE, high, wide, outputs))
        pair, rest = _cut_off(rest, (2, _WIDE, high, wide, outputs))
        _four_back(self._product_array().permute(2, 3, 0, 1, 4), lines, pair)
        room = _outputs(made, rows, columns)
        whole = room.shape[0] == _ROWS * high and room.shape[1] == _COLUMNS * wide
        full = room if whole else _cut_off(rest, (_ROWS * high, _COLUMNS * wide, outputs))[0]
        split = full.view(high, _ROWS, wide, _COLUMNS, outputs)
        _two_back(lines.transpose(0, 1), split.permute(3, 1, 0, 2, 4))
        if relu:
            full.relu_()
        if not whole:
            top, left = _ROWS * (high - len(rows)), _COLUMNS * (wide - len(columns))
            room.copy_(full[top:, left:][: room.shape[0], : room.shape[1]])


class _CompiledBlocks(_Blocks):
    """The same numbers from transforms that :mod:`winograd_compiled` has compiled."""

    def image(self, value: torch.Tensor, padding: Sequence[int], below: int) -> _Image:
        """A value (1, C, H, W); what lies outside of it reads as zeros."""
        return _Image(_with_channels_last(_pixels(value)), *padding)

    def transform(self, i: int, image: _Image, top: int, left: int) -> None:
        """Bᵀ d B of the blocks of value i whose outputs begin at ``top`` and ``left``."""
        corner = (top - image.above, left - image.beside)
        compiled().transform(image.pixels, corner, self._parts[i], self._temporary)

    def scatter(self, made: torch.Tensor, rows: Interval, columns: Interval, relu: bool) -> None:
        """Write Aᵀ M A to the outputs of some rows and columns of blocks, the last of the piece."""
        corner = (_ROWS * (len(rows) - self._high), _COLUMNS * (len(columns) - self._wide))
        room, products = _outputs(made, rows, columns), self._product_array()
        compiled().scatter(products, room, corner, relu, self._temporary)


def _outputs(made: torch.Tensor, rows: Interval, columns: Interval) -> torch.Tensor:
    """The outputs (rows, columns, channels) of blocks, cut to those that there are."""
    return made[_ROWS * rows.lo : _ROWS * rows.hi, _COLUMNS * columns.lo : _COLUMNS * columns.hi]


@dataclass(frozen=True)
class _Image:
    """Pixels (H, W, C), and how many rows and columns of zeros are still to be put before them."""

    pixels: torch.Tensor
    above: int
    beside: int


def _pixels(value: torch.Tensor) -> torch.Tensor:
    """(H, W, C) of a value (1, C, H, W)."""
    return value.permute(0, 2, 3, 1)[0]


@functools.cache
def compiled() -> Compiled:
    """The machine code of the transforms, compiled at the first call."""
    return Compiled(_NEAR, _FAR, _LARGEST, _CONTRAST)


def _cut_off(memory: torch.Tensor, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
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
            with torch.inference_mode(False):  # so that a later call can write to it in any mode
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
