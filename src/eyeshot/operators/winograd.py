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
from collections.abc import Callable, Iterator, Mapping, Sequence
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
_MOST_DILATION = 24
"""With more, an image has too few rows and columns for blocks of those that lie so far apart."""
_MOST_WASTE = 1.3
"""The most computed positions for each requested one, with few channels: blocks reach beyond odd
sizes."""
_TRANSFORMS = 90
"""The products that a position's transforms cost as much time as, for each channel."""
_SURELY = 0.8
"""The share of the computed gain that is relied on."""
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


def with_winograd(graph: Graph, compiles: bool | None = None) -> Graph:
    """The graph in which the convolutions that are faster this way, and exact enough, use it.

    Args:
        graph: a lowered graph.
        compiles: whether the processes that will compute compile the transforms; None for this one.
    """
    compiles = is_compiled() if compiles is None else compiles
    nodes = {
        node.name: replace(node, params=node.params.but(method=METHOD))
        if _suits(node, graph, compiles)
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


def is_winograd(node: Node) -> bool:
    """Whether a node is a convolution that is computed this way."""
    return isinstance(node.params, ConvolutionParams) and node.params.method == METHOD


def rows_together(node: Node) -> int:
    """The rows of a node's outputs that fill blocks: a dilated kernel's lie far apart."""
    if not is_winograd(node) or node.params.dilation[0] == 1:
        return 1
    return _ROWS * int(node.params.dilation[0])


def rounding(graph: Graph, compiles: bool | None = None) -> str:
    """What else decides how sums are rounded; ``compiles`` as for :func:`with_winograd`."""
    compiles = is_compiled() if compiles is None else compiles
    return ", compiled transforms" if uses_winograd(graph) and compiles else ""


def uses_winograd(graph: Graph) -> bool:
    """Whether a convolution is computed this way."""
    return any(map(is_winograd, graph))


def _suits(node: Node, graph: Graph, compiles: bool) -> bool:
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
    least = min(LEAST_CHANNELS, LEAST_CHANNELS_COMPILED) if compiles else LEAST_CHANNELS
    return (
        math.prod(node.extents) >= LEAST_POSITIONS
        and all(one.device.type == "cpu" and one.dtype == torch.float32 for one in weights)
        and min(sum(one.shape[1] for one in weights), node.params.out_channels) >= least
        and torch._C._has_mkldnn
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    )


COMPILER = 90 << 20
"""Bytes that llvmlite and what it compiles were measured to take, with a tenth to spare."""


def added_bytes(graph: Graph, compiles: bool | None = None) -> int:
    """The bytes of the transformed weights, in all their layouts, and of the blocks of a call.

    Each thread may have blocks of its own. A compiler that is still to be loaded stays in memory;
    ``compiles`` tells whether that of other processes will be, None is for this one.
    """
    nodes = [node for node in graph if is_winograd(node)]
    if compiles is None:
        compiles = is_compiled() and not compiled.cache_info().currsize
    loads = bool(nodes) and compiles
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
    return sum(_sizes(_most_blocks(channels, outputs), channels, outputs))


def _most_blocks(channels: int, outputs: int) -> int:
    """Blocks that are transformed at a time, so that they stay in the cache."""
    return max(_LEAST_BLOCKS, _CACHE // (4 * PRODUCTS * (channels + outputs)))


def _sizes(blocks: int, channels: int, outputs: int) -> tuple[int, ...]:
    """Numbers of blocks, of their products, and of what is between the steps of a transform."""
    return (
        PRODUCTS * blocks * channels,
        PRODUCTS * blocks * outputs,
        max((_TALL + 2) * _WIDE * blocks * channels, 32 * blocks * outputs),
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
    outputs, volume = weights[0].shape[0], weights[0].ndim == 5
    depth = weights[0].shape[2]
    own = [plane for weight in weights for plane in _planes(weight)]
    convolve = _over_planes(own, bias, relu, kernel)
    format_ = torch.channels_last_3d if volume else torch.channels_last

    def compute(values: Sequence[Padded], room: torch.Tensor | None) -> torch.Tensor:
        (value, padding), *_ = values
        apart = (depth - 1, 2, 2) if volume else (2 * dilation, 2 * dilation)
        sides = zip(value.shape[2:], padding, apart, strict=True)
        shape = (1, outputs, *(n + 2 * p - lost for n, p, lost in sides))
        if value.shape[0] != 1 or any(one.dtype != torch.float32 for one, _ in values):
            return direct(values, room)
        # Rows and columns may lie apart.
        if room is None or 1 not in (room.stride(1), outputs):
            room = torch.empty(shape, memory_format=format_)
        split = _slices(values, room, depth) if volume else _phases(values, room, dilation)
        return room if convolve(split) else direct(values, room)

    return compute


@dataclass(frozen=True)
class _Plane:
    """An image of a call.

    Attributes:
        images: the pixels (H, W, C) of each value.
        before: how many rows and columns of zeros are to be put before them.
        made: (H, W, O), where its outputs go.
    """

    images: Sequence[torch.Tensor]
    before: tuple[int, int]
    made: torch.Tensor

    @property
    def blocks(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        return -(-self.made.shape[0] // _ROWS), -(-self.made.shape[1] // _COLUMNS)


def _phases(values: Sequence[Padded], result: torch.Tensor, dilation: int) -> list[_Plane]:
    """A dilated kernel: the outputs of each phase, of rows and columns that far apart, together."""
    padding = values[0][1]
    images = [_pixels(value) for value, _ in values]
    made, planes = _pixels(result), []
    for phase in itertools.product(range(dilation), range(dilation)):
        begin = [place - side for place, side in zip(phase, padding, strict=True)]
        above, beside = (max(0, -(first // dilation)) for first in begin)
        top, left = begin[0] + above * dilation, begin[1] + beside * dilation
        parts = [one[top::dilation, left::dilation] for one in images]
        room = made[phase[0] :: dilation, phase[1] :: dilation]
        if room.shape[0] and room.shape[1]:
            planes.append(_Plane(parts, (above, beside), room))
    return planes


def _slices(values: Sequence[Padded], result: torch.Tensor, depth: int) -> list[_Plane]:
    """Over three axes: each output slice is the sum of convolutions of the slices it covers."""
    padding = values[0][1]
    stacks = [value.permute(0, 2, 3, 4, 1)[0] for value, _ in values]
    if padding[0]:
        stacks = [F.pad(one, (*(0, 0) * 3, padding[0], padding[0])) for one in stacks]
    made = result.permute(0, 2, 3, 4, 1)[0]
    return [
        _Plane(
            [stack[place + tap] for stack in stacks for tap in range(depth)],
            (padding[1], padding[2]),
            made[place],
        )
        for place in range(made.shape[0])
    ]


Piece = tuple[int, Interval, Interval]
"""The number of a plane, and rows and columns of its blocks."""


def _over_planes(
    weights: Sequence[torch.Tensor], bias: torch.Tensor | None, relu: bool, kernel: _Kernel
) -> Callable[[Sequence[_Plane]], bool]:
    """Computes planes, whose blocks are multiplied together; False if one does not suit."""
    outputs, channels = weights[0].shape[0], [weight.shape[1] for weight in weights]
    shift = None if bias is None else _shift(bias)
    rooms, scales = _shared_rooms(), [_scale(weight) for weight in weights]

    def compute(planes: Sequence[_Plane]) -> bool:
        if not _fits(planes, sum(channels), outputs):
            return False
        if not all(_is_tame(plane, scales) for plane in planes):
            return False
        most, total = _most_blocks(sum(channels), outputs), _count(planes)
        apart = is_compiled() and total >= _LEAST_SHARED * torch.get_num_threads()
        if apart:
            most = min(most, -(-total // torch.get_num_threads()))
        batches = list(_batches(planes, most))
        size = max(sum(len(rows) * len(columns) for _, rows, columns in one) for one in batches)
        make = _CompiledBlocks if is_compiled() else _Blocks

        def work(batches: Iterator[list[Piece]]) -> None:
            with rooms.borrowed() as memory:
                blocks = make(memory, size, channels, outputs)
                for batch in batches:
                    blocks.compute(planes, batch, kernel, shift, relu)

        if apart:
            compiled().share(work, batches)
        else:
            work(iter(batches))
        return True

    return compute


def _count(planes: Sequence[_Plane]) -> int:
    """Blocks of all planes."""
    return sum(math.prod(plane.blocks) for plane in planes)


def _batches(planes: Sequence[_Plane], most: int) -> Iterator[list[Piece]]:
    """The pieces of all planes, in as few batches of at most so many blocks as possible."""
    pieces: list[Piece] = []
    for number, plane in enumerate(planes):
        down, across = plane.blocks
        wide = _even(across, most)
        high = _even(down, max(1, most // wide))
        cut = itertools.product(_pieces(down, high), _pieces(across, wide))
        pieces += [(number, rows, columns) for rows, columns in cut]
    sizes = [len(rows) * len(columns) for _, rows, columns in pieces]
    # A batch that has no room for the largest piece is as full as it needs to be.
    most = min(most, _even(sum(sizes), most) + max(sizes) - 1)
    first, filled = 0, 0
    for i, size in enumerate(sizes):
        if filled + size > most:
            yield pieces[first:i]
            first, filled = i, 0
        filled += size
    yield pieces[first:]


def _even(count: int, most: int) -> int:
    """The size of equal pieces of at most ``most``, as few as possible; the last may be smaller."""
    return -(-count // -(-count // most))


def _pieces(count: int, piece: int) -> list[Interval]:
    """Pieces of a size; the last may be smaller."""
    return [Interval(start, min(start + piece, count)) for start in range(0, count, piece)]


def _fits(planes: Sequence[_Plane], channels: int, outputs: int) -> bool:
    """Whether blocks reach so little beyond the planes that they are faster than the direct sum."""
    requested = sum(plane.made.shape[0] * plane.made.shape[1] for plane in planes)
    products = channels * outputs
    gain = 9 * products / (3 * products + _TRANSFORMS * (channels + outputs))
    computed = _count(planes) * _ROWS * _COLUMNS
    return 0 < computed <= max(_MOST_WASTE, _SURELY * gain) * requested


def _is_tame(plane: _Plane, scales: Sequence[torch.Tensor]) -> bool:
    """Whether the numbers are finite, and the inputs of each block weigh about the same.

    An input pixel weighs as much as its channels can give to an output, added up.
    """
    (above, beside), (down, across) = plane.before, plane.blocks
    height, width, _ = plane.made.shape
    total = torch.zeros(_ROWS * down + 2, _COLUMNS * across + 2)
    fine = True
    for pixels, scale in zip(plane.images, scales, strict=True):
        part = total[above:, beside:][: pixels.shape[0], : pixels.shape[1]]
        pixels = pixels[: part.shape[0], : part.shape[1]]
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

    def forget(self) -> None:
        """Free them; they are transformed again when they are needed."""
        self._packed.forget()

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


def forget(node: Node, tensors: Mapping[str, torch.Tensor]) -> None:
    """Free what a node's transformed weights take, until it is computed again."""
    if is_winograd(node):
        own = [tensors[name] for name in node.weights[: node.params.parts or 1]]
        kernel = _KERNELS.get(_key(own))
        if kernel is not None:
            kernel.forget()


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
    """Blocks of parts of planes: transformed, multiplied, and transformed back, in one memory.

    Blocks are (…, 6, 4, channels), those of one piece after those of another.
    """

    def __init__(self, memory: _Memory, size: int, channels: Sequence[int], outputs: int) -> None:
        """``size``: the most blocks; ``channels``: of each value."""
        self._size, self._outputs = size, outputs
        self._ends = list(itertools.accumulate(channels, initial=0))
        blocks, _, temporary = _sizes(size, sum(channels), outputs)
        whole, self._temporary = memory.split((blocks, temporary))
        self._blocks = whole.view(size, _TALL, _WIDE, -1)

    def compute(
        self,
        planes: Sequence[_Plane],
        pieces: Sequence[Piece],
        kernel: _Kernel,
        shift: torch.Tensor | None,
        relu: bool,
    ) -> None:
        """Write the outputs of some pieces, all of whose blocks are multiplied together."""
        shapes = [(len(rows), len(columns)) for _, rows, columns in pieces]
        begin = list(itertools.accumulate(map(math.prod, shapes), initial=0))
        for (number, rows, columns), shape, first in zip(pieces, shapes, begin, strict=False):
            (above, beside), images = planes[number].before, planes[number].images
            corner = (_ROWS * rows.lo - above, _COLUMNS * columns.lo - beside)
            own = _of_piece(self._blocks, first, shape)
            for pixels, lo, hi in zip(images, self._ends, self._ends[1:], strict=False):
                self.transform(pixels, corner, own[..., lo:hi])
        products = self._multiply(kernel, shift)
        for (number, rows, columns), shape, first in zip(pieces, shapes, begin, strict=False):
            room = planes[number].made[_ROWS * rows.lo : _ROWS * rows.hi]
            room = room[:, _COLUMNS * columns.lo : _COLUMNS * columns.hi]
            self.scatter(_of_piece(products, first, shape), room, relu)

    def transform(self, pixels: torch.Tensor, corner: tuple[int, int], out: torch.Tensor) -> None:
        """Bᵀ d B of blocks (high, wide, 6, 4, C), the first of which begins at a corner of pixels.

        What lies outside of them is zero.
        """
        high, wide, *_, channels = out.shape
        sides = zip(corner, (_ROWS * high + 2, _COLUMNS * wide + 2), pixels.shape, strict=False)
        around = [n for lo, n, end in sides for n in _reach(lo, n, end)]
        (top, above, low, below), (left, beside, right, behind) = around[:4], around[4:]
        rows = F.pad(pixels[top:low, left:right], (0, 0, beside, behind, above, below))
        lines, rest = _cut_off(self._temporary, (_TALL, high, rows.shape[1], channels))
        pair, _ = _cut_off(rest, (2, high, rows.shape[1], channels))
        last = _ROWS * (high - 1) + 1
        _six([rows[i : i + last : _ROWS] for i in range(_TALL)], lines, pair)
        across = _COLUMNS * (wide - 1) + 1
        read = [lines[:, :, j : j + across : _COLUMNS] for j in range(_WIDE)]
        _four(read, out.permute(3, 2, 0, 1, 4))

    def _multiply(self, kernel: _Kernel, shift: torch.Tensor | None) -> torch.Tensor:
        """The products with a kernel, and the bias.

        A smaller batch is multiplied with what an earlier one has left, so that oneDNN meets one
        size.
        """
        convolve: Any = torch.ops.mkldnn._convolution_pointwise
        blocks = self._blocks.view(1, 1, self._size, -1).permute(0, 3, 1, 2)
        settings: tuple[Any, ...] = ([0, 0], [1, 1], [1, 1], PRODUCTS, "none", [], "")
        made = convolve(blocks, kernel.laid_out(self._size), shift, *settings)
        products: torch.Tensor = made.permute(0, 2, 3, 1).view(self._size, _TALL, _WIDE, -1)
        return products

    def scatter(self, products: torch.Tensor, room: torch.Tensor, relu: bool) -> None:
        """Write Aᵀ M A of blocks (high, wide, 6, 4, O) to pixels (H, W, O), cut to these."""
        high, wide, *_, outputs = products.shape
        lines, rest = _cut_off(self._temporary, (_ROWS, _WIDE, high, wide, outputs))
        pair, rest = _cut_off(rest, (2, _WIDE, high, wide, outputs))
        _four_back(products.permute(2, 3, 0, 1, 4), lines, pair)
        full, _ = _cut_off(rest, (_ROWS * high, _COLUMNS * wide, outputs))
        split = full.view(high, _ROWS, wide, _COLUMNS, outputs)
        _two_back(lines.transpose(0, 1), split.permute(3, 1, 0, 2, 4))
        if relu:
            full.relu_()
        room.copy_(full[: room.shape[0], : room.shape[1]])


class _CompiledBlocks(_Blocks):
    """The same numbers from transforms that :mod:`winograd_compiled` has compiled."""

    def transform(self, pixels: torch.Tensor, corner: tuple[int, int], out: torch.Tensor) -> None:
        """Bᵀ d B of blocks (high, wide, 6, 4, C), the first of which begins at a corner of pixels.

        What lies outside of them is zero.
        """
        compiled().transform(_with_channels_last(pixels), corner, out, self._temporary)

    def scatter(self, products: torch.Tensor, room: torch.Tensor, relu: bool) -> None:
        """Write Aᵀ M A of blocks (high, wide, 6, 4, O) to pixels (H, W, O), cut to these."""
        compiled().scatter(products, room, (0, 0), relu, self._temporary)


def _of_piece(blocks: torch.Tensor, first: int, shape: tuple[int, int]) -> torch.Tensor:
    """(high, wide, 6, 4, …) of blocks (n, 6, 4, …)."""
    return blocks[first : first + math.prod(shape)].view(*shape, *blocks.shape[1:])


def _reach(lo: int, count: int, end: int) -> tuple[int, int, int, int]:
    """Of ``count`` places from ``lo`` on: the first inside 0 … end, how many are before it, the end
    of those inside, and how many are behind."""
    first, last = min(max(0, lo), end), min(max(0, lo + count), end)
    first = min(first, last)
    before = min(count, max(0, -lo))
    return first, before, last, count - before - (last - first)


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
