"""Convolution and its transpose: windows that slide, with weights that mix channels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F

from eyeshot.axes import (
    AxisMap,
    Identity,
    Interval,
    Pad,
    Transpose,
    Window,
)
from eyeshot.graph import ConvolutionParams, Family, Node, Params
from eyeshot.operators import convolution_kernels as kernels
from eyeshot.operators import winograd
from eyeshot.operators.call import (
    Described,
    NoRule,
    Site,
    Tensors,
    along,
    mixes_positions,
    vanished,
)
from eyeshot.operators.convolution_kernels import Activation, convolver
from eyeshot.operators.pointwise import GATE
from eyeshot.operators.record import Effort, Operator, Shapes, Work, nothing
from eyeshot.operators.repaired import (
    Arguments,
    Problem,
    Repair,
    Repaired,
    at_least,
    shape_of,
    with_channels,
)
from eyeshot.operators.tile import (
    Box,
    Computation,
    Tile,
    padded,
    widened,
)
from eyeshot.operators.transposed_phases import Phases, by_phases


def sliding(source: Node, windows: list[AxisMap], params: Params, mixed: bool) -> Described:
    """Windows along the last dimensions; ``mixed``: all channels mix."""
    first = len(source.shape) - len(windows)
    local = {first + i: window for i, window in enumerate(windows)}
    channels: dict[int, int | None] = {first - 1: None} if mixed else {}
    if mixes_positions(source, channels):
        raise NoRule("it takes a spatial axis for channels")
    return Described((along(source, local),), vanished(source, channels), params=params)


def convolution_geometry(site: Site) -> Described:
    """conv1d, conv2d, conv3d, with padding in numbers, ``same`` or ``valid``."""
    source, weight = site.node("input"), site.shape_of("weight")
    kernel = weight[2:]
    axes = len(kernel)
    stride, dilation = site.numbers("stride", axes), site.numbers("dilation", axes)
    padding = site.arguments["padding"]
    if isinstance(padding, str):
        same = padding == "same"
        total = [same * d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        before, after = [t // 2 for t in total], [t - t // 2 for t in total]
    else:
        before = after = list(site.numbers("padding", axes))
    windows: list[AxisMap] = [
        Window(k, s, b, a, d)
        for k, s, b, a, d in zip(kernel, stride, before, after, dilation, strict=True)
    ]
    groups = int(site.arguments["groups"])
    params = ConvolutionParams(
        kernel=kernel,
        stride=stride,
        padding=tuple(zip(before, after, strict=True)),
        dilation=dilation,
        groups=groups,
        in_channels=weight[1] * groups,
        out_channels=weight[0],
        bias=site.arguments["bias"] is not None,
    )
    return sliding(source, windows, params, mixed=True)


def transposed_geometry(site: Site) -> Described:
    """conv_transpose1d, 2d, 3d."""
    source, weight = site.node("input"), site.shape_of("weight")
    kernel = weight[2:]
    axes = len(kernel)
    stride, padding = site.numbers("stride", axes), site.numbers("padding", axes)
    extra, dilation = site.numbers("output_padding", axes), site.numbers("dilation", axes)
    windows: list[AxisMap] = [
        Transpose(k, s, p, d, e)
        for k, s, p, d, e in zip(kernel, stride, padding, dilation, extra, strict=True)
    ]
    groups = int(site.arguments["groups"])
    params = ConvolutionParams(
        kernel=kernel,
        stride=stride,
        padding=tuple((p, p) for p in padding),
        output_padding=extra,
        dilation=dilation,
        groups=groups,
        in_channels=weight[0],
        out_channels=weight[1] * groups,
        bias=site.arguments["bias"] is not None,
    )
    return sliding(source, windows, params, mixed=True)


_TRANSPOSED: dict[int, Callable[..., torch.Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}


def weights_and_bias(
    node: Node, tensors: Tensors
) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """The kernels of a convolution, one for each input, and its bias."""
    parts = node.params.parts or 1
    bias = tensors[node.weights[parts]] if node.params.bias else None
    return [tensors[name] for name in node.weights[:parts]], bias


def convolution_on_tile(node: Node, tensors: Tensors) -> Computation:
    """conv1d, conv2d, conv3d, with what lowering has folded in.

    That is an activation, joined channels, or a value that is added to the sum.
    """
    weights, bias = weights_and_bias(node, tensors)
    convolve = convolver(node, weights, bias)
    count = weights[0].ndim - 2
    (edge, *_) = node.edges  # whose windows along other axes than the image's may reach outside
    plain = not pads(node) and not edge.beside and all(type(axis) is Window for axis in edge.axes)
    nothing = [0] * count

    def compute(inputs: list[Tile], box: Box, room: torch.Tensor | None = None) -> torch.Tensor:
        added = inputs[-1].value if node.params.adds else None
        values = [
            (tile.value, nothing) if plain else padded(tile, box, count, 0.0)
            for tile in inputs[: len(weights)]
        ]
        if values[0][0].ndim > count + 1:
            return convolve(values, room, added)
        single = [(value[None], padding) for value, padding in values]
        return convolve(single, None, None if added is None else added[None])[0]

    return compute


def transposed_on_tile(node: Node, tensors: Tensors) -> Computation:
    """conv_transpose1d, 2d, 3d: the rows that a band of inputs reaches, cut to those wanted."""
    (weight,), bias = weights_and_bias(node, tensors)
    count = weight.ndim - 2
    if by_phases(node) and kernels.has_onednn(weight):
        last = Activation(node.params.activation, node.params.scalars or ())
        return _phases_on_tile(Phases(weight, bias, node.params.stride, last))
    convolve = _TRANSPOSED[count]
    options: dict[str, Any] = {
        "stride": node.params.stride,
        "dilation": node.params.dilation,
        "groups": node.params.groups,
    }
    finish = activation(node)
    shape = (-1, *(1 for _ in range(count)))

    def compute(inputs: list[Tile], box: Box, room: torch.Tensor | None = None) -> torch.Tensor:
        tile = inputs[0]
        first = tile.value.ndim - count
        if _exactly_reached(tile, box, first):
            return finish(convolve(tile.value, weight, bias, **options))
        if tile.value.numel() == 0:
            value = tile.value.new_zeros(_reached(node, tile, box, first))
        else:
            value = convolve(tile.value, weight, None, **options)
            value = _placed(value, tile, box, first)
        return finish(value if bias is None else value.add_(bias.reshape(shape)))

    return compute


def _phases_on_tile(phases: Phases) -> Computation:
    def compute(inputs: list[Tile], box: Box, room: torch.Tensor | None = None) -> torch.Tensor:
        (tile,) = inputs
        if tile.value.ndim == 4:
            return phases(tile, box, room)
        return phases(replace(tile, value=tile.value[None]), box, None)[0]

    return compute


def _reached(node: Node, tile: Tile, box: Box, first: int) -> list[int]:
    shape = list(tile.value.shape)
    shape[first - 1] = int(node.params.out_channels)
    for dim, side in zip(tile.dims, box, strict=True):
        if dim is not None:
            shape[dim] = len(side)
    return shape


def _exactly_reached(tile: Tile, box: Box, first: int) -> bool:
    """Whether the inputs reach just the outputs wanted, as when the kernel is the stride."""
    for dim, axis, side, available in zip(tile.dims, tile.axes, box, tile.box, strict=True):
        if dim is None or dim < first or not isinstance(axis, Transpose) or not available:
            return False
        start = available.lo * axis.stride - axis.padding
        if side != Interval(start, start + (len(available) - 1) * axis.stride + axis.span):
            return False
    return True


def _placed(value: torch.Tensor, tile: Tile, box: Box, first: int) -> torch.Tensor:
    """Cut, or widen by zeros, what the inputs reach to the outputs wanted."""
    amounts: dict[int, tuple[int, int]] = {}
    for dim, axis, side, available in zip(tile.dims, tile.axes, box, tile.box, strict=True):
        if dim is None or dim < first or not isinstance(axis, Transpose):
            continue
        start = available.lo * axis.stride - axis.padding
        reached = Interval(start, start + value.shape[dim])
        common = reached.intersect(side)
        value = (
            value.narrow(dim, common.lo - start, len(common)) if common else value.narrow(dim, 0, 0)
        )
        before = len(side) if not common else common.lo - side.lo
        amounts[dim] = (before, side.hi - common.hi if common else 0)
    return widened(value, amounts)


def activation(node: Node) -> Callable[[torch.Tensor], torch.Tensor]:
    """What lowering has folded in behind the operator."""
    return Activation(node.params.activation, node.params.scalars or ())


_FEW_SLICES = 8
"""Slices of a band."""
_BLOCK = 16
"""Channels of a block in oneDNN's own layout, into which it copies what has another one."""


def convolution_scratch(work: Work) -> int:
    """Padding at the border is a copy, and so is a layout that the kernel does not take."""
    weights, _ = weights_and_bias(work.node, work.tensors)
    gate = 4 * work.gives if work.node.params.activation == GATE else 0
    return gate + _sum_scratch(work, weights)


def _sum_scratch(work: Work, weights: list[torch.Tensor]) -> int:
    sources = work.sources[: len(weights)]
    lies_well = bool(sources) and weights[0].ndim == 4 and all(map(_channels_last, sources))
    reads = work.reads[: len(weights)]
    phases = winograd.is_winograd(work.node) and work.node.params.dilation[0] > 1
    twice = pads(work.node) and (not lies_well or phases)
    copies = sum(reads) * (2 if twice else 1)
    if weights[0].ndim == 5:
        copies += copies // _FEW_SLICES  # a slice of padding weighs more than a row of it
    if kernels.has_onednn(weights[0]):
        stacked = work.gives if weights[0].shape[1] == 1 else 0  # OpenCV filters each channel
        return copies + stacked
    if kernels.takes_columns(weights[0]):
        columns = max(work.gives // w.shape[0] * w[0].numel() for w in weights)
        return copies + 2 * min(columns, kernels.COLUMNS)
    if weights[0][0, 0].numel() == 1:
        return sum(reads)
    inputs = zip(reads, weights, strict=True)
    blocks = max(_in_blocks(read, weight.shape[1]) for read, weight in inputs)
    return copies + blocks + _in_blocks(work.gives, weights[0].shape[0])


def _channels_last(source: Node) -> bool:
    """Whether a node's rows surely lie as oneDNN takes them, so that padding is the only copy."""
    return not source.edges or source.slides or source.is_convolution


def pads(node: Node) -> bool:
    """Whether its windows reach outside their input."""
    sides = [axis for edge in node.edges for axis in edge.axes if isinstance(axis, Window)]
    return any(axis.before or axis.after for axis in sides)


def with_padding(pad: Node, node: Node) -> Node | None:
    """A convolution that reads what a node pads with zeros, and pads by itself.

    None where the padding is of another kind, or along other axes than the windows.
    """
    ((read,), (edge,)) = pad.edges, node.edges
    if pad.params.mode != "zero" or pad.params.value or read.beside or edge.beside:
        return None
    axes: list[AxisMap] = []
    for outer, window in zip(read.axes, edge.axes, strict=True):
        if outer == Identity():
            axes.append(window)
            continue
        if not (isinstance(outer, Pad) and isinstance(window, Window)):
            return None
        if min(outer.before, outer.after, window.before, window.after) < 0:
            return None
        before, after = outer.before + window.before, outer.after + window.after
        axes.append(replace(window, before=before, after=after))
    padding = tuple((one.before, one.after) for one in axes if isinstance(one, Window))
    edges = (replace(read, axes=tuple(axes)),)
    return replace(node, edges=edges, params=node.params.but(padding=padding))


def _in_blocks(nbytes: int, channels: int) -> int:
    return nbytes * (-(-channels // _BLOCK) * _BLOCK) // channels if channels > 8 else nbytes * 8


def transposed_scratch(work: Work) -> int:
    """What the inputs reach is cut or widened by a copy; but for oneDNN's, columns are laid out."""
    weight = work.tensors[work.node.weights[0]]
    if weight.ndim == 4 and kernels.has_onednn(weight):
        return work.read + work.gives
    columns = work.read // weight.shape[0] * weight[0].numel()
    return 2 * work.read + work.gives + max(columns, work.gives)


def writes_in_place(work: Work) -> bool:
    """Whether a call writes where its rows are kept, so that they stand nowhere else."""
    return kernels.has_onednn(work.tensors[work.node.weights[0]])


def convolution_effort(node: Node, shapes: Shapes) -> Effort:
    """Kernel x input channels / groups for each output."""
    params = node.params
    if not params.kernel:
        return Effort()
    each = math.prod(params.kernel) * params.in_channels // params.groups
    return Effort(per_output=2 * each if params.activation == GATE else each)


def transposed_effort(node: Node, shapes: Shapes) -> Effort:
    """Kernel x output channels / groups for each input."""
    params = node.params
    if not params.kernel:
        return Effort()
    if by_phases(node):
        cells = math.prod(params.kernel) * params.in_channels
        return Effort(per_output=Fraction(cells, math.prod(params.stride)))
    return Effort(per_input=math.prod(params.kernel) * params.out_channels // params.groups)


def repaired_convolution(call: Callable[..., Any], arguments: Arguments) -> Repaired | None:
    """conv1d, 2d, 3d: other channels than the weight takes, or a map smaller than the window."""
    x, weight, groups = arguments["input"], arguments["weight"], arguments.get("groups", 1)
    shape = tuple(weight.shape)
    if x.dim() != weight.dim():
        return None
    options: dict[str, Any] = {"groups": groups, "kernel": shape[2:]}
    if x.shape[1] != shape[1] * groups:
        if x.shape[1] % groups:
            options["takes"] = shape[1] * groups
            fitted = with_channels(x, shape[1] * groups)
            result = _widened(call, {**arguments, "input": fitted}, shape[2:])
            return Repaired(Problem.GROUPS, (shape_of(x),), result, shape, options)
        channels = x.shape[1] // groups
        changed = {**arguments, "weight": weight.new_zeros((shape[0], channels, *shape[2:]))}
        result = _widened(call, changed, shape[2:])
        return Repaired(Problem.CHANNELS, (shape_of(x),), result, shape, options)
    result = _widened(call, arguments, shape[2:])
    return Repaired(Problem.TOO_SMALL, (shape_of(x),), result, shape, options)


def repaired_transposed(call: Callable[..., Any], arguments: Arguments) -> Repaired | None:
    """conv_transpose1d, 2d, 3d built for other channels: its weight is (in, out / groups, …)."""
    x, weight, groups = arguments["input"], arguments["weight"], arguments.get("groups", 1)
    shape = tuple(weight.shape)
    if x.dim() != weight.dim() or x.shape[1] == shape[0]:
        return None
    options = {"groups": groups, "kernel": shape[2:]}
    if x.shape[1] % groups:
        changed = {**arguments, "input": with_channels(x, shape[0])}
        return Repaired(Problem.GROUPS, (shape_of(x),), call(**changed), shape, options)
    changed = {**arguments, "weight": weight.new_zeros((x.shape[1], *shape[1:]))}
    return Repaired(Problem.CHANNELS, (shape_of(x),), call(**changed), shape, options)


def _widened(call: Callable[..., Any], arguments: Arguments, kernel: tuple[int, ...]) -> Any:
    """The convolution; on an input padded with zeros to its window where it is smaller."""
    dilation = arguments.get("dilation", 1)
    steps = (dilation,) * len(kernel) if isinstance(dilation, int) else tuple(dilation)
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, steps * len(kernel), strict=False))
    padding = arguments.get("padding", 0)
    around = (padding,) * len(kernel) if isinstance(padding, int) else padding
    around_each = (0,) * len(kernel) if isinstance(around, str) else tuple(around) * len(kernel)
    least = tuple(max(1, span - 2 * p) for span, p in zip(spans, around_each, strict=False))
    if isinstance(around, str) and around == "same":
        least = (1,) * len(kernel)
    return call(**{**arguments, "input": at_least(arguments["input"], least)})


OPERATORS = (
    Operator(
        "conv1d conv2d conv3d",
        Family.CONVOLUTION,
        convolution_geometry,
        convolution_on_tile,
        slides=True,
        effort=convolution_effort,
        other_operations=nothing,
        scratch=convolution_scratch,
        in_place=writes_in_place,
        repair=Repair("input weight bias stride padding dilation groups", repaired_convolution),
    ),
    Operator(
        "conv_transpose1d conv_transpose2d conv_transpose3d",
        Family.TRANSPOSED_CONVOLUTION,
        transposed_geometry,
        transposed_on_tile,
        slides=True,
        effort=transposed_effort,
        other_operations=nothing,
        scratch=transposed_scratch,
        repair=Repair(
            "input weight bias stride padding output_padding groups dilation", repaired_transposed
        ),
    ),
)
