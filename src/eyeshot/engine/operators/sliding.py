"""Convolution and pooling on a rectangle: padding at the true border and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F

from eyeshot.axes import Identity, Interval, Transpose
from eyeshot.axes import Window as WindowMap
from eyeshot.engine.operators.kernels import convolver
from eyeshot.engine.operators.windows import Box, Operator, Rectangle, borders, padded, widened
from eyeshot.graph import Family, Node

Tensors = Mapping[str, torch.Tensor]

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
_TRANSPOSED: dict[int, Callable[..., torch.Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}


def weights_and_bias(
    node: Node, tensors: Tensors
) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """The kernels of a convolution, one for each input, and its bias."""
    parts = int(node.attributes.get("parts", 1))
    bias = tensors[node.weights[parts]] if node.attributes["bias"] else None
    return [tensors[name] for name in node.weights[:parts]], bias


def convolution(node: Node, tensors: Tensors) -> Operator:
    """conv1d, conv2d, conv3d, with what lowering has folded in: an activation, joined channels."""
    weights, bias = weights_and_bias(node, tensors)
    convolve = convolver(node, weights, bias)
    count = weights[0].ndim - 2

    def compute(
        inputs: list[Rectangle], box: Box, room: torch.Tensor | None = None
    ) -> torch.Tensor:
        return convolve([padded(given, box, count, 0.0) for given in inputs], room)

    return compute


def transposed_convolution(node: Node, tensors: Tensors) -> Operator:
    """conv_transpose1d, 2d, 3d: the rows that a band of inputs reaches, cut to those wanted."""
    (weight,), bias = weights_and_bias(node, tensors)
    count = weight.ndim - 2
    convolve = _TRANSPOSED[count]
    options: dict[str, Any] = {
        "stride": node.attributes["stride"],
        "dilation": node.attributes["dilation"],
        "groups": node.attributes["groups"],
    }
    finish = activation(node)
    shape = (-1, *(1 for _ in range(count)))

    def compute(
        inputs: list[Rectangle], box: Box, room: torch.Tensor | None = None
    ) -> torch.Tensor:
        given = inputs[0]
        first = given.value.ndim - count
        if _exactly_reached(given, box, first):
            return finish(convolve(given.value, weight, bias, **options))
        if given.value.numel() == 0:
            value = given.value.new_zeros(_reached(node, given, box, first))
        else:
            value = convolve(given.value, weight, None, **options)
            value = _placed(value, given, box, first)
        return finish(value if bias is None else value.add_(bias.reshape(shape)))

    return compute


def _reached(node: Node, given: Rectangle, box: Box, first: int) -> list[int]:
    shape = list(given.value.shape)
    shape[first - 1] = int(node.attributes["out_channels"])
    for dim, side in zip(given.dims, box, strict=True):
        if dim is not None:
            shape[dim] = len(side)
    return shape


def _exactly_reached(given: Rectangle, box: Box, first: int) -> bool:
    """Whether the inputs reach just the outputs wanted, as when the kernel is the stride."""
    for dim, axis, side, held in zip(given.dims, given.axes, box, given.box, strict=True):
        if dim is None or dim < first or not isinstance(axis, Transpose) or not held:
            return False
        start = held.lo * axis.stride - axis.padding
        if side != Interval(start, start + (len(held) - 1) * axis.stride + axis.span):
            return False
    return True


def _placed(value: torch.Tensor, given: Rectangle, box: Box, first: int) -> torch.Tensor:
    """Cut, or widen by zeros, what the inputs reach to the outputs wanted."""
    amounts: dict[int, tuple[int, int]] = {}
    for dim, axis, side, held in zip(given.dims, given.axes, box, given.box, strict=True):
        if dim is None or dim < first or not isinstance(axis, Transpose):
            continue
        start = held.lo * axis.stride - axis.padding
        reached = Interval(start, start + value.shape[dim])
        kept = reached.intersect(side)
        value = value.narrow(dim, kept.lo - start, len(kept)) if kept else value.narrow(dim, 0, 0)
        before = len(side) if not kept else kept.lo - side.lo
        amounts[dim] = (before, side.hi - kept.hi if kept else 0)
    return widened(value, amounts)


def activation(node: Node) -> Callable[[torch.Tensor], torch.Tensor]:
    """What lowering has folded in behind the operator."""
    if node.attributes.get("activation") == "relu":
        return torch.relu_
    return lambda value: value


def max_pooling(node: Node, tensors: Tensors) -> Operator:
    """Max pooling; nothing in the padding can win."""
    kernel, stride = node.attributes["kernel"], node.attributes["stride"]
    dilation = node.attributes["dilation"]
    count = len(kernel)
    pool = _MAX_POOLS[count]

    def compute(
        inputs: list[Rectangle], box: Box, room: torch.Tensor | None = None
    ) -> torch.Tensor:
        value, padding = padded(inputs[0], box, count, -math.inf)
        return pool(value, kernel, stride, padding, dilation)

    return compute


def average_pooling(node: Node, tensors: Tensors) -> Operator:
    """Average pooling; at the border each window is divided by what torch counts there."""
    kernel, stride = node.attributes["kernel"], node.attributes["stride"]
    count = len(kernel)
    pool = _AVERAGE_POOLS[count]
    call = node.call
    arguments = () if call is None else call.args
    include = bool(arguments[5]) if len(arguments) > 5 else True
    override = arguments[6] if len(arguments) > 6 else None
    area = math.prod(kernel)

    def compute(
        inputs: list[Rectangle], box: Box, room: torch.Tensor | None = None
    ) -> torch.Tensor:
        given = inputs[0]
        value, _ = padded(given, box, count, 0.0, native=False)
        mean = pool(value, kernel, stride)
        if override:
            return mean.mul_(area / int(override))
        first = given.value.ndim - count
        for dim, axis, side, n in zip(given.dims, given.axes, box, given.extents, strict=True):
            if dim is None or dim < first or not isinstance(axis, WindowMap):
                continue
            counted = _counted(axis, side, n, include)
            if any(c != axis.kernel for c in counted):
                shape = [1] * mean.ndim
                shape[dim] = len(counted)
                scale = axis.kernel / torch.tensor(counted, dtype=mean.dtype, device=mean.device)
                mean = mean * scale.reshape(shape)
        return mean

    return compute


def _counted(axis: WindowMap, wanted: Interval, n: int, include: bool) -> list[int]:
    """By how many places torch divides each window: all, or those inside the picture alone."""
    if borders(axis, wanted, n) == (0, 0):
        return [axis.kernel] * len(wanted)
    counts = []
    for output in range(wanted.lo, wanted.hi):
        start = output * axis.stride - axis.before
        stop = min(start + axis.kernel, n + axis.after)
        counts.append(stop - start if include else min(stop, n) - max(start, 0))
    return counts


def adaptive_pooling(node: Node, tensors: Tensors) -> Operator:
    """Adaptive pooling: each output from its own window, one axis after another."""
    largest = node.family is Family.ADAPTIVE_MAX_POOL

    def compute(
        inputs: list[Rectangle], box: Box, room: torch.Tensor | None = None
    ) -> torch.Tensor:
        given = inputs[0]
        value = given.value
        for dim, axis, side, n, held in zip(
            given.dims, given.axes, box, given.extents, given.box, strict=True
        ):
            if dim is not None and not isinstance(axis, Identity):
                windows = [axis.reads(Interval(i, i + 1), n) for i in range(side.lo, side.hi)]
                value = pooled(value, dim, [one.shifted(-held.lo) for one in windows], largest)
        return value

    return compute


def pooled(
    value: torch.Tensor, dim: int, windows: Iterable[Interval], largest: bool
) -> torch.Tensor:
    """The mean, or the largest, of each window along a dimension."""
    parts = [value.narrow(dim, window.lo, len(window)) for window in windows]
    return torch.cat(
        [part.amax(dim, True) if largest else part.mean(dim, True) for part in parts], dim
    )
