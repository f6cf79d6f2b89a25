"""One rule for each kind of layer: what each input channel gives to a unit, and what they make."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from eyeshot.errors import Unsupported
from eyeshot.explanation.capture import Call
from eyeshot.explanation.reading import (
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    AvgPool,
    Conv,
    ConvTranspose,
    MaxPool,
    Reading,
    count_mean,
    read_adaptive,
    read_conv,
    read_conv_transpose,
    read_pool,
)
from eyeshot.explanation.traces import Part, UnitTrace
from eyeshot.explanation.walks import Rule
from eyeshot.reference.windows import Array


def trace(heard: Call, unit: tuple[int, ...]) -> UnitTrace:
    """The parts, the bias and the total of one unit of a layer, by the layer's kind.

    Raises:
        Unsupported: a kind that is not a sum of cells or the largest of them.
    """
    layer, x = heard.layer, _numbers(heard.input[0])
    if isinstance(layer, Conv):
        return _trace_conv(heard, layer, x, unit)
    if isinstance(layer, ConvTranspose):
        return _trace_conv_transpose(heard, layer, x, unit)
    if isinstance(layer, nn.Linear):
        return _trace_linear(heard, layer, x, unit)
    if isinstance(layer, MaxPool):
        return _trace_pool(heard, x, unit, read_pool(layer, x.shape[1:], unit[1:]), "max")
    if isinstance(layer, AvgPool):
        reading = read_pool(layer, x.shape[1:], unit[1:])
        divisor = count_mean(layer, x.shape[1:], unit[1:])
        return _trace_pool(heard, x, unit, reading, "mean", divisor)
    if isinstance(layer, AdaptiveMaxPool | AdaptiveAvgPool):
        reading = read_adaptive(x.shape[1:], heard.output.shape[2:], unit[1:])
        rule: Rule = "max" if isinstance(layer, AdaptiveMaxPool) else "mean"
        return _trace_pool(heard, x, unit, reading, rule, float(reading.outside.size))
    raise Unsupported(
        f"layer {heard.name!r} is a {type(layer).__name__}, which has no sum to show",
        cure="name a convolution, transposed convolution, pool or linear layer",
    )


def _trace_conv(heard: Call, layer: Conv, x: Array, unit: tuple[int, ...]) -> UnitTrace:
    """Every input channel of the unit's group under its own slice of the kernel."""
    kernels = _numbers(layer.weight)[unit[0]]
    group = unit[0] // (layer.out_channels // layer.groups)
    channels = range(group * len(kernels), (group + 1) * len(kernels))
    reading = read_conv(layer, x.shape[1:], unit[1:])
    parts = [_weigh(c, x[c], reading, k) for c, k in zip(channels, kernels, strict=True)]
    return _add_up(heard, unit, parts, layer.bias)


def _trace_conv_transpose(
    heard: Call, layer: ConvTranspose, x: Array, unit: tuple[int, ...]
) -> UnitTrace:
    """As a convolution, with the kernel of a channel in the weight's first axis."""
    group, column = divmod(unit[0], layer.out_channels // layer.groups)
    count = layer.in_channels // layer.groups
    reading = read_conv_transpose(layer, x.shape[1:], unit[1:])
    weight = _numbers(layer.weight)
    channels = range(group * count, (group + 1) * count)
    parts = [_weigh(c, x[c], reading, weight[c, column]) for c in channels]
    return _add_up(heard, unit, parts, layer.bias)


def _trace_linear(heard: Call, layer: nn.Linear, x: Array, unit: tuple[int, ...]) -> UnitTrace:
    """Every input number is a channel of its own, with one weight."""
    seen, row = x[unit[:-1]], _numbers(layer.weight)[unit[-1]]
    here = np.zeros((), bool)
    parts = [
        Part(c, np.asarray(value), here, np.asarray(weight), float(value * weight))
        for c, (value, weight) in enumerate(zip(seen, row, strict=True))
    ]
    return _add_up(heard, unit, parts, layer.bias)


def _trace_pool(
    heard: Call, x: Array, unit: tuple[int, ...], reading: Reading, rule: Rule, divisor: float = 1.0
) -> UnitTrace:
    """One channel alone: pooling does not mix channels."""
    patch, outside = reading.patch(x[unit[0]]), reading.outside
    seen = patch[~outside]
    if rule == "mean":
        made = float(seen.sum() / divisor)
    else:
        divisor, made = 1.0, float(seen.max(initial=-np.inf))
    part = Part(unit[0], patch, outside, None, made)
    return _describe(heard, unit, rule, divisor, [part], None)


def _weigh(channel: int, image: Array, reading: Reading, kernel: Array) -> Part:
    patch = reading.patch(image)
    return Part(channel, patch, reading.outside, kernel, float((patch * kernel).sum()))


def _add_up(
    heard: Call, unit: tuple[int, ...], parts: Sequence[Part], bias: Tensor | None
) -> UnitTrace:
    channel = unit[-1] if isinstance(heard.layer, nn.Linear) else unit[0]
    offset = None if bias is None else float(bias.detach()[channel])
    return _describe(heard, unit, "sum", 1.0, parts, offset)


def _describe(
    heard: Call,
    unit: tuple[int, ...],
    rule: Rule,
    divisor: float,
    parts: Sequence[Part],
    bias: float | None,
) -> UnitTrace:
    return UnitTrace(
        layer=heard.name,
        operator=str(heard.layer),
        unit=unit,
        shape=tuple(heard.output.shape[1:]),
        rule=rule,
        divisor=divisor,
        parts=tuple(parts),
        bias=bias,
        total=sum(part.sum for part in parts) + (bias or 0.0),
        network_value=float(heard.output[(0, *unit)]),
    )


def _numbers(tensor: Tensor) -> Array:
    return tensor.detach().cpu().double().numpy()
