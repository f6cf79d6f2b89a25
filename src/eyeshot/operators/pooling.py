"""Max and average pooling, with windows of a fixed size or, if adaptive, for a given output."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F

from eyeshot.axes import (
    Adaptive,
    AxisMap,
    Global,
    Identity,
    Interval,
    Window,
)
from eyeshot.graph import AdaptivePoolParams, Family, Kind, Node, PoolParams
from eyeshot.language import tr
from eyeshot.operators.call import (
    Described,
    Site,
    Tensors,
    along,
    argument,
)
from eyeshot.operators.convolution import pads, sliding
from eyeshot.operators.record import Operator, Work, copied
from eyeshot.operators.repaired import (
    Arguments,
    Problem,
    Repair,
    Repaired,
    at_least,
    shape_of,
)
from eyeshot.operators.tile import (
    Box,
    Computation,
    Tile,
    borders,
    padded,
)


def pooling_geometry(site: Site) -> Described:
    """Max and average pooling over 1, 2 or 3 axes."""
    source = site.node("self")
    axes = int(site.operator.partition("pool")[2][0])
    kernel = site.numbers("kernel_size", axes)
    stride, padding = site.numbers("stride", axes, kernel), site.numbers("padding", axes)
    dilation = site.numbers("dilation", axes) if "dilation" in site.arguments else (1,) * axes
    ceil_mode = bool(site.arguments["ceil_mode"])
    windows: list[AxisMap] = [
        Window(k, s, p, p, d, ceil_mode)
        for k, s, p, d in zip(kernel, stride, padding, dilation, strict=True)
    ]
    counts = site.arguments.get("count_include_pad")
    params = PoolParams(
        kernel=kernel,
        stride=stride,
        padding=tuple((p, p) for p in padding),
        dilation=dilation,
        ceil_mode=ceil_mode,
        count_include_pad=None if counts is None else bool(counts),
    )
    return sliding(source, windows, params, mixed=False)


def adaptive_geometry(site: Site) -> Described:
    """A global statistic for an output of 1, a window if sizes divide, else adaptive windows."""
    source = site.node("self")
    axes = int(site.operator.partition("pool")[2][0])
    sizes = site.numbers("output_size", axes)
    first = len(source.shape) - axes
    maps: dict[int, AxisMap] = {}
    many = any(n > 1 for n in source.shape[first:])
    for i, outputs in enumerate(sizes):
        n = source.shape[first + i]
        if outputs == 1 and (n > 1 or (many and set(sizes) == {1})):
            maps[first + i] = Global(1)
        elif n % outputs == 0:
            maps[first + i] = Window(n // outputs, n // outputs)
        else:
            maps[first + i] = Adaptive(outputs)
    edge = along(source, maps)
    whole = any(isinstance(axis, Global) for axis in edge.axes)
    kind, reason = (
        (Kind.GLOBAL_STATISTIC, tr("pools over all positions")) if whole else (Kind.LOCAL, "")
    )
    return Described((edge,), source.dims, kind, AdaptivePoolParams(output_size=sizes), reason)


_MAX_POOLS: dict[int, Callable[..., torch.Tensor]] = {
    1: F.max_pool1d,
    2: F.max_pool2d,
    3: F.max_pool3d,
}


_AVERAGE_POOLS: dict[int, Callable[..., torch.Tensor]] = {
    1: F.avg_pool1d,
    2: F.avg_pool2d,
    3: F.avg_pool3d,
}


def max_pooling_on_tile(node: Node, tensors: Tensors) -> Computation:
    """Max pooling on a tile; the padding is minus infinity, so it is never the largest."""
    kernel, stride = node.params.kernel, node.params.stride
    dilation = node.params.dilation
    count = len(kernel)
    pool = _MAX_POOLS[count]

    def compute(inputs: list[Tile], box: Box, room: torch.Tensor | None = None) -> torch.Tensor:
        value, padding = padded(inputs[0], box, count, -math.inf)
        if value.ndim == 4 and count == 3:  # channels of a picture: torch wants them contiguous
            value = value.contiguous()
        return pool(value, kernel, stride, padding, dilation)

    return compute


def average_pooling_on_tile(node: Node, tensors: Tensors) -> Computation:
    """Average pooling on a tile; at the border, each window has the divisor that torch uses."""
    kernel, stride = node.params.kernel, node.params.stride
    count = len(kernel)
    pool = _AVERAGE_POOLS[count]
    include = bool(node.params.count_include_pad)
    override = argument(node, "divisor_override")
    area = math.prod(kernel)

    def compute(inputs: list[Tile], box: Box, room: torch.Tensor | None = None) -> torch.Tensor:
        tile = inputs[0]
        value, _ = padded(tile, box, count, 0.0, native=False)
        mean = pool(value, kernel, stride)
        if override:
            return mean.mul_(area / int(override))
        first = tile.value.ndim - count
        for dim, axis, side, n in zip(tile.dims, tile.axes, box, tile.extents, strict=True):
            if dim is None or dim < first or not isinstance(axis, Window):
                continue
            counted = _counted(axis, side, n, include)
            if any(c != axis.kernel for c in counted):
                shape = [1] * mean.ndim
                shape[dim] = len(counted)
                scale = axis.kernel / torch.tensor(counted, dtype=mean.dtype, device=mean.device)
                mean = mean * scale.reshape(shape)
        return mean

    return compute


def _counted(axis: Window, outputs: Interval, n: int, include: bool) -> list[int]:
    """The divisor of each window as in torch: all cells, or only those inside the image."""
    if borders(axis, outputs, n) == (0, 0):
        return [axis.kernel] * len(outputs)
    counts = []
    for output in range(outputs.lo, outputs.hi):
        start = output * axis.stride - axis.before
        stop = min(start + axis.kernel, n + axis.after)
        counts.append(stop - start if include else min(stop, n) - max(start, 0))
    return counts


def adaptive_pooling_on_tile(node: Node, tensors: Tensors) -> Computation:
    """Adaptive pooling on a tile: each output from its own window, one axis after another."""
    largest = node.family is Family.ADAPTIVE_MAX_POOL

    def compute(inputs: list[Tile], box: Box, room: torch.Tensor | None = None) -> torch.Tensor:
        tile = inputs[0]
        value = tile.value
        for dim, axis, side, n, available in zip(
            tile.dims, tile.axes, box, tile.extents, tile.box, strict=True
        ):
            if dim is not None and not isinstance(axis, Identity):
                windows = [
                    axis.input_range_inside(Interval(i, i + 1), n) for i in range(side.lo, side.hi)
                ]
                value = pooled(value, dim, [one.shifted(-available.lo) for one in windows], largest)
        return value

    return compute


def pooled(
    value: torch.Tensor, dim: int, windows: Iterable[Interval], largest: bool
) -> torch.Tensor:
    """The mean or the maximum of each window along a dimension."""
    parts = [value.narrow(dim, window.lo, len(window)) for window in windows]
    return torch.cat(
        [part.amax(dim, True) if largest else part.mean(dim, True) for part in parts], dim
    )


def max_pooling_scratch(work: Work) -> int:
    """Scratch bytes: torch stores the index of every maximum, 8 bytes each."""
    return work.numbers * 8 + (work.read if pads(work.node) else 0)


def average_pooling_scratch(work: Work) -> int:
    """Scratch bytes: a padded copy of the input, and a copy of the output for the border."""
    return work.read + work.gives


def window_operations(node: Node, read: int, gives: int) -> int:
    """Operations: one for each cell of each window."""
    places: int = math.prod(node.params.kernel)
    return gives * places


def repaired_pooling(call: Callable[..., Any], arguments: Arguments) -> Repaired | None:
    """Repairs a window larger than the map: zeros are added to the map."""
    x, kernel = arguments["input"], arguments["kernel_size"]
    axes = x.dim() - 2
    kernels = (kernel,) * axes if isinstance(kernel, int) else tuple(kernel)
    result = call(**{**arguments, "input": at_least(x, kernels)})
    return Repaired(Problem.TOO_SMALL, (shape_of(x),), result, options={"kernel": kernels})


_REPAIR = Repair("input kernel_size stride padding", repaired_pooling)

OPERATORS = (
    Operator(
        """
        max_pool1d max_pool2d max_pool3d
        max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
        """,
        Family.MAX_POOL,
        pooling_geometry,
        max_pooling_on_tile,
        slides=True,
        other_operations=window_operations,
        scratch=max_pooling_scratch,
        repair=_REPAIR,
    ),
    Operator(
        "avg_pool1d avg_pool2d avg_pool3d",
        Family.AVERAGE_POOL,
        pooling_geometry,
        average_pooling_on_tile,
        slides=True,
        other_operations=window_operations,
        scratch=average_pooling_scratch,
        repair=_REPAIR,
    ),
    Operator(
        "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d",
        Family.ADAPTIVE_MAX_POOL,
        adaptive_geometry,
        adaptive_pooling_on_tile,
        slides=True,
        scratch=copied,
    ),
    Operator(
        "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d",
        Family.ADAPTIVE_AVERAGE_POOL,
        adaptive_geometry,
        adaptive_pooling_on_tile,
        slides=True,
        scratch=copied,
    ),
)
