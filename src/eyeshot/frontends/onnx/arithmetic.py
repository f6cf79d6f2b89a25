"""Arithmetic: pointwise operators, convolutions and matrix products, and quantized numbers.

Each output of a pointwise operator depends on the same position of the inputs. Quantized arithmetic
computes on the numbers of the integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from eyeshot.frontends.onnx.reading import INTEGERS_WIDENED
from eyeshot.frontends.onnx.site import (
    Compute,
    OnnxOp,
    Refusal,
    Result,
    Shape,
    Site,
    Value,
    axis_of,
)

_TYPES = {
    **{1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32},
    **{7: torch.int64, 9: torch.bool, 10: torch.float16, 11: torch.float64, 16: torch.bfloat16},
}


def one(function: Callable[[Tensor], Tensor]) -> Compute:
    """A function of one tensor."""
    return lambda site: function(site.tensor(0))


def operand(site: Site, place: int, other: Tensor) -> Any:
    """An operand: a Python number if it is a single known number, else a tensor."""
    value = site.value(place)
    if not value.is_known or value.is_weight:
        return value.tensor
    known = value.known
    if known.size != 1 or known.ndim > other.ndim or not _same_kind(known, other):
        return value.tensor
    return known.reshape(-1)[0].item()


def _same_kind(known: Any, other: Tensor) -> bool:
    kind = str(other.dtype).removeprefix("torch.")
    return bool(known.dtype.name == kind and known.dtype.kind != "b")


def two(function: Callable[[Any, Any], Tensor]) -> Compute:
    """A function of two operands; either may be a number."""

    def compute(site: Site) -> Tensor:
        if site.value(0).is_known and not site.value(0).is_weight:
            other = site.tensor(1)
            return function(operand(site, 0, other), other)
        first = site.tensor(0)
        return function(first, operand(site, 1, first))

    return compute


def both(function: Callable[[Tensor, Tensor], Tensor]) -> Compute:
    """A function of two tensors."""
    return lambda site: function(site.tensor(0), site.tensor(1))


def many(function: Callable[[Tensor, Tensor], Tensor]) -> Compute:
    """A function of two tensors, applied in turn to any number of tensors."""

    def compute(site: Site) -> Tensor:
        return reduce(function, (site.tensor(place) for place in range(len(site.values))))

    return compute


def divided(x: Any, y: Any) -> Tensor:
    """``Div``; for integers, rounded towards zero."""
    tensor = x if isinstance(x, Tensor) else y
    if tensor.is_floating_point():
        return torch.as_tensor(x / y)
    return torch.div(x, y, rounding_mode="trunc")


def _mean(site: Site) -> Tensor:
    total = many(torch.add)(site)
    assert isinstance(total, Tensor)
    return total / len(site.values)


def _clip(site: Site) -> Tensor:
    x = site.tensor(0)
    bounds: list[Any] = []
    for place, name in ((1, "min"), (2, "max")):
        if name in site.op.attributes:
            bounds.append(site.attribute(name, 0.0))
        elif not site.has(place):
            bounds.append(None)
        elif site.value(place).is_known:
            bounds.append(site.number(place, 0.0))
        else:
            bounds.append(site.tensor(place))
    low, high = bounds
    if low is None and high is None:
        return x
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        x = x if low is None else torch.maximum(x, torch.as_tensor(low, dtype=x.dtype))
        return x if high is None else torch.minimum(x, torch.as_tensor(high, dtype=x.dtype))
    if None not in (low, high) and low > high:
        low = high
    return torch.clamp(x, low, high)


def _leaky(site: Site) -> Tensor:
    return F.leaky_relu(site.tensor(0), site.attribute("alpha", 0.01))


def _elu(site: Site) -> Tensor:
    return F.elu(site.tensor(0), site.attribute("alpha", 1.0))


def _celu(site: Site) -> Tensor:
    return F.celu(site.tensor(0), site.attribute("alpha", 1.0))


def _selu(site: Site) -> Tensor:
    x = site.tensor(0)
    alpha = site.attribute("alpha", 1.67326319217681884765625)
    gamma = site.attribute("gamma", 1.05070102214813232421875)
    return gamma * (x.clamp(min=0) + alpha * (torch.exp(x.clamp(max=0)) - 1))


def _thresholded(site: Site) -> Tensor:
    return F.threshold(site.tensor(0), site.attribute("alpha", 1.0), 0.0)


def _hard_sigmoid(site: Site) -> Tensor:
    slope, shift = site.attribute("alpha", 0.2), site.attribute("beta", 0.5)
    return (site.tensor(0) * slope + shift).clamp(0.0, 1.0)


def _shrink(site: Site) -> Tensor:
    x = site.tensor(0)
    limit, bias = site.attribute("lambd", 0.5), site.attribute("bias", 0.0)
    zero = torch.zeros_like(x)
    return torch.where(x < -limit, x + bias, torch.where(x > limit, x - bias, zero))


def _gelu(site: Site) -> Tensor:
    return F.gelu(site.tensor(0), approximate=site.attribute("approximate", "none"))


def _swish(site: Site) -> Tensor:
    x, alpha = site.tensor(0), site.attribute("alpha", 1.0)
    return F.silu(x) if alpha == 1.0 else x * torch.sigmoid(x * alpha)


def _prelu(site: Site) -> Tensor:
    x, slope = site.tensor(0), site.tensor(1)
    channels = x.shape[1] if x.ndim > 1 else 1
    by_channel = slope.ndim == x.ndim - 1 and slope.shape[0] == channels
    if slope.numel() == 1 or (by_channel and slope.numel() == channels and x.is_floating_point()):
        return F.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, x * slope, x)


def _cast(site: Site) -> Tensor:
    kind = int(site.attribute("to", 1))
    if kind not in _TYPES:
        raise Refusal(f"casts to ONNX's type {kind}", "export the network in float32 or float16")
    return site.tensor(0).to(_TYPES[kind])


def _cast_like(site: Site) -> Tensor:
    return site.tensor(0).to(site.tensor(1).dtype)


def _mod(site: Site) -> Tensor:
    x, y = site.tensor(0), site.tensor(1)
    return torch.fmod(x, y) if site.attribute("fmod", 0) else torch.remainder(x, y)


def _power(site: Site) -> Tensor:
    x = site.tensor(0)
    result: Tensor = torch.pow(x, operand(site, 1, x) if _is_plain(site) else site.tensor(1))
    return result.to(x.dtype)


def _is_plain(site: Site) -> bool:
    return site.value(1).is_known and not site.value(1).is_weight


def _infinite(site: Site) -> Tensor:
    x = site.tensor(0)
    above, below = site.attribute("detect_positive", 1), site.attribute("detect_negative", 1)
    if above and below:
        return torch.isinf(x)
    if not above and not below:
        return torch.zeros_like(x, dtype=torch.bool)
    return x == (float("inf") if above else float("-inf"))


def _where(site: Site) -> Tensor:
    x, y = site.tensor(1), site.tensor(2)
    return torch.where(site.tensor(0), x, y)


def _dropout(site: Site) -> Result:
    if site.has(2) and bool(np.any(site.known(2))):
        raise Refusal("drops at random: it is in training mode", "export the network in eval mode")
    x = site.tensor(0)
    return (x, torch.ones_like(x, dtype=torch.bool)) if any(site.op.outputs[1:]) else x


def _bit_shift(site: Site) -> Tensor:
    x, y = site.tensor(0), site.tensor(1)
    left = site.attribute("direction", "LEFT") == "LEFT"
    return torch.bitwise_left_shift(x, y) if left else torch.bitwise_right_shift(x, y)


POINTWISE: dict[str, Compute] = {
    "Abs": one(torch.abs),
    "Acos": one(torch.acos),
    "Acosh": one(torch.acosh),
    "Add": two(lambda x, y: x + y),
    "And": both(torch.logical_and),
    "Asin": one(torch.asin),
    "Asinh": one(torch.asinh),
    "Atan": one(torch.atan),
    "Atanh": one(torch.atanh),
    "BitShift": _bit_shift,
    "BitwiseAnd": both(torch.bitwise_and),
    "BitwiseNot": one(torch.bitwise_not),
    "BitwiseOr": both(torch.bitwise_or),
    "BitwiseXor": both(torch.bitwise_xor),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Ceil": one(torch.ceil),
    "Celu": _celu,
    "Clip": _clip,
    "Cos": one(torch.cos),
    "Cosh": one(torch.cosh),
    "Div": two(divided),
    "Dropout": _dropout,
    "Elu": _elu,
    "Equal": two(lambda x, y: x == y),
    "Erf": one(torch.erf),
    "Exp": one(torch.exp),
    "Floor": one(torch.floor),
    "Gelu": _gelu,
    "Greater": two(lambda x, y: x > y),
    "GreaterOrEqual": two(lambda x, y: x >= y),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": one(F.hardswish),
    "Identity": one(lambda x: x),
    "IsInf": _infinite,
    "IsNaN": one(torch.isnan),
    "LeakyRelu": _leaky,
    "Less": two(lambda x, y: x < y),
    "LessOrEqual": two(lambda x, y: x <= y),
    "Log": one(torch.log),
    "Max": many(torch.maximum),
    "Mean": _mean,
    "Min": many(torch.minimum),
    "Mish": one(F.mish),
    "Mod": _mod,
    "Mul": two(lambda x, y: x * y),
    "Neg": one(torch.neg),
    "Not": one(torch.logical_not),
    "Or": both(torch.logical_or),
    "PRelu": _prelu,
    "Pow": _power,
    "Reciprocal": one(torch.reciprocal),
    "Relu": one(F.relu),
    "Round": one(torch.round),
    "Selu": _selu,
    "Shrink": _shrink,
    "Sigmoid": one(torch.sigmoid),
    "Sign": one(torch.sign),
    "Sin": one(torch.sin),
    "Sinh": one(torch.sinh),
    "Softplus": one(lambda x: F.softplus(x, threshold=1e9)),
    "Softsign": one(lambda x: x / (x.abs() + 1)),
    "Sqrt": one(torch.sqrt),
    "Sub": two(lambda x, y: x - y),
    "Sum": many(torch.add),
    "Swish": _swish,
    "Tan": one(torch.tan),
    "Tanh": one(torch.tanh),
    "ThresholdedRelu": _thresholded,
    "Where": _where,
    "Xor": both(torch.logical_xor),
}


_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
Pads = list[tuple[int, int]]


def same_padding(
    n: int, kernel: int, stride: int, dilation: int, *, upper: bool
) -> tuple[int, int]:
    """The padding (before, after) of an axis that gives ⌈n / stride⌉ outputs."""
    outputs = -(-n // stride)
    total = max(0, (outputs - 1) * stride + (kernel - 1) * dilation + 1 - n)
    less, more = total // 2, total - total // 2
    return (less, more) if upper else (more, less)


def paddings(
    site: Site,
    shape: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> Pads:
    """The padding (before, after) of each spatial axis, by ``auto_pad`` or ``pads``.

    In a file of an exporter that writes ``same`` as the pads of one size, pads of 0 that are what
    ``same`` gave at that size are computed again for this one.

    Raises:
        Refusal: the pads may be those of ``same`` or explicit ones, which differ at this size.
    """
    axes, auto = len(kernel), site.attribute("auto_pad", "NOTSET")

    def same(shape: Sequence[int], upper: bool) -> Pads:
        each = zip(shape, kernel, stride, dilation, strict=True)
        return [same_padding(n, k, s, d, upper=upper) for n, k, s, d in each]

    if auto in ("SAME_UPPER", "SAME_LOWER"):
        return same(shape, auto == "SAME_UPPER")
    if auto == "VALID":
        return [(0, 0)] * axes
    flat = site.numbers("pads", (0,) * (2 * axes))
    pads = list(zip(flat[:axes], flat[axes:], strict=True))
    before = site.original[0] if site.original else None
    written = "pads" in site.op.attributes and site.op.sized_pads
    if not (written and site.op.kind != "ConvTranspose" and before):
        return pads
    again = same(shape, True)
    if pads != same(before[2:], True) or pads == again:
        return pads
    if any(flat):
        raise Refusal(
            f"its pads {list(flat)} are those of same at the size that the file was exported for, "
            "but may be explicit, and the two differ at this size",
            "export the file with open dimensions, or give a size that differs from its own by a "
            "multiple of all strides",
        )
    return again  # explicit pads of 0 are left out of the file


def padded(x: Tensor, pads: Pads, value: float = 0.0) -> Tensor:
    """The last axes padded, or cropped if an amount is negative."""
    if all(one == (0, 0) for one in pads):
        return x
    return F.pad(x, [n for pair in reversed(pads) for n in pair], value=value)


def _axes_of(weight: Tensor) -> int:
    axes = weight.ndim - 2
    if axes not in _CONV:
        raise Refusal(f"slides over {axes} axes", "use 1, 2 or 3")
    return axes


def conv(site: Site) -> Tensor:
    """``Conv``."""
    x, weight, bias = site.tensor(0), site.tensor(1), site.maybe(2)
    axes = _axes_of(weight)
    stride = site.numbers("strides", (1,) * axes)
    dilation = site.numbers("dilations", (1,) * axes)
    pads = paddings(site, x.shape[2:], tuple(weight.shape[2:]), stride, dilation)
    if any(before != after for before, after in pads):
        x, pads = padded(x, pads), [(0, 0)] * axes
    padding = [before for before, _ in pads]
    groups = site.attribute("group", 1)
    return _CONV[axes](x, weight, bias, stride, padding, dilation, groups)


def conv_transpose(site: Site) -> Tensor:
    """``ConvTranspose``; padding that differs by side is done by cropping, or by adding zeros."""
    x, weight, bias = site.tensor(0), site.tensor(1), site.maybe(2)
    axes = _axes_of(weight)
    stride = site.numbers("strides", (1,) * axes)
    dilation = site.numbers("dilations", (1,) * axes)
    more = site.numbers("output_padding", (0,) * axes)
    groups = site.attribute("group", 1)
    spread = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    pads = _transposed_pads(site, tuple(x.shape[2:]), stride, spread, more)
    # torch cuts both ends by the same, and adds less than a stride at the far one.
    added = [o + before - after for o, (before, after) in zip(more, pads, strict=True)]
    function = _TRANSPOSED[axes]
    if all(
        before >= 0 and 0 <= a < max(s, d)
        for a, s, d, (before, _) in zip(added, stride, dilation, pads, strict=True)
    ):
        padding = [before for before, _ in pads]
        return function(x, weight, bias, stride, padding, added, groups, dilation)
    whole = function(x, weight, None, stride, 0, 0, groups, dilation)
    cut = [(-before, o - after) for o, (before, after) in zip(more, pads, strict=True)]
    result = padded(whole, cut)
    return result if bias is None else result + bias.reshape(-1, *(1,) * axes)


def _transposed_pads(
    site: Site, shape: Shape, stride: Sequence[int], spread: Sequence[int], more: Sequence[int]
) -> Pads:
    """The crop (before, after) of each axis; by ``output_shape`` if the node has it."""
    auto, axes = site.attribute("auto_pad", "NOTSET"), len(stride)
    asked: Sequence[int] = site.numbers("output_shape", ())[-axes:]
    if site.original is not None and site.original[0] is not None:
        shape = site.original[0][2:]  # the size was written for these
    if not asked and auto in ("SAME_UPPER", "SAME_LOWER"):
        asked = [n * s for n, s in zip(shape, stride, strict=True)]
    if not asked:
        return paddings(site, shape, spread, (1,) * axes, (1,) * axes)
    pads: Pads = []
    for n, s, k, o, size in zip(shape, stride, spread, more, asked, strict=True):
        total = s * (n - 1) + o + k - size
        if total < 0:
            raise Refusal(
                f"is to give {size} of {n} positions, more than its kernel reaches, on which ONNX "
                "and onnxruntime disagree",
                "write its pads and output_padding",
            )
        # As onnxruntime has it: the odd one goes to the end, but for SAME_LOWER and NOTSET.
        less, greater = total // 2, total - total // 2
        pads.append((less, greater) if auto == "SAME_UPPER" else (greater, less))
    return pads


def gemm(site: Site) -> Tensor:
    """``Gemm``."""
    a, b, c = site.tensor(0), site.tensor(1), site.maybe(2)
    alpha, beta = site.attribute("alpha", 1.0), site.attribute("beta", 1.0)
    a = a.t() if site.attribute("transA", 0) else a
    flipped = bool(site.attribute("transB", 0))
    if alpha == beta == 1.0 and c is not None and c.ndim == 1 and a.is_floating_point():
        return F.linear(a, b if flipped else b.t(), c.expand(b.shape[0 if flipped else 1]))
    product = torch.matmul(a, b.t() if flipped else b)
    product = product if alpha == 1.0 else product * alpha
    if c is None or beta == 0.0:
        return product
    return product + (c if beta == 1.0 else c * beta)


def matmul(site: Site) -> Tensor:
    """``MatMul``; with a matrix stored in the file, it is a linear layer."""
    a, b = site.tensor(0), site.tensor(1)
    if site.value(1).is_weight and b.ndim == 2 and a.ndim >= 2 and a.is_floating_point():
        return F.linear(a, b.t())
    return torch.matmul(a, b)


def einsum(site: Site) -> Tensor:
    """``Einsum``."""
    equation = site.attribute("equation", "").replace(" ", "")
    return torch.einsum(equation, *(site.tensor(place) for place in range(len(site.values))))


_RANGES = {torch.uint8: (0, 255), torch.int8: (-128, 127), torch.int16: (-32768, 32767)}

_OUTPUTS = {2: torch.uint8, 3: torch.int8, 5: torch.int16}
"""By ONNX's numbers, the types that a node without a zero point may quantize to."""


def _along(x: Tensor, one: Tensor, axis: int, block: int = 0) -> Tensor:
    """A scale for each index of an axis, or for each block along it, to broadcast against ``x``."""
    if one.numel() == 1 and not block:
        return one.reshape(())
    if block:
        n = int(x.shape[axis])
        shape = (*x.shape[:axis], -(-n // block), *x.shape[axis + 1 :])
        if one.shape != shape:
            raise Refusal(f"has scales of {tuple(one.shape)} for blocks of {block}, not {shape}")
        return one.repeat_interleave(block, axis).narrow(axis, 0, n)
    if one.ndim != 1:
        raise Refusal("has a scale for each block, without a block_size", "write its block_size")
    return one.reshape(-1, *(1,) * (x.ndim - axis - 1))


def _settings(site: Site, x: Tensor) -> tuple[Tensor, Tensor | None]:
    block = int(site.attribute("block_size", 0))
    by_axis = block or site.tensor(1).numel() > 1
    axis = axis_of(site.attribute("axis", 1), x.ndim) if by_axis else 0
    zero = site.maybe(2)
    scale = _along(x, site.tensor(1), axis, block)
    return scale, None if zero is None else _along(x, zero, axis, block)


def dequantize(site: Site) -> Tensor:
    """``DequantizeLinear``."""
    x = site.tensor(0)
    scale, zero = _settings(site, x)
    values = x.to(scale.dtype)
    return (values if zero is None else values - zero.to(scale.dtype)) * scale


def quantize(site: Site) -> Tensor:
    """``QuantizeLinear``: rounded to even, and clamped to the range of the integers."""
    x = site.tensor(0)
    scale, zero = _settings(site, x)
    kind = torch.uint8 if zero is None else zero.dtype
    asked = int(site.attribute("output_dtype", 0))
    if asked in INTEGERS_WIDENED:
        return _rounded(x / scale, zero, torch.int32, INTEGERS_WIDENED[asked])
    if asked and zero is None:
        if asked not in _OUTPUTS:
            raise Refusal(f"quantizes to ONNX's type {asked}", "quantize to int8 or uint8")
        kind = _OUTPUTS[asked]
    return _rounded(x / scale, zero, kind)


def quantize_by_image(site: Site) -> tuple[Tensor, ...]:
    """``DynamicQuantizeLinear``: its scale is that of the image's smallest and largest number."""
    x = site.tensor(0)
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = torch.round(-low / scale).clamp(0, 255)
    return _rounded(x / scale, zero, torch.uint8), scale, zero.to(torch.uint8)


def _rounded(
    x: Tensor, zero: Tensor | None, kind: torch.dtype, limits: tuple[int, int] | None = None
) -> Tensor:
    if limits is None:
        if kind not in _RANGES:
            raise Refusal(f"quantizes to {kind}", "quantize to int8 or uint8")
        limits = _RANGES[kind]
    whole = torch.round(x)
    whole = whole if zero is None else whole + zero.to(whole.dtype)
    return whole.clamp(*limits).to(kind)


def _centered(site: Site, place: int, zero: int) -> Tensor:
    """Integers minus their zero point, in a type that holds every sum of products exactly."""
    x, offset = site.tensor(place).to(torch.float64), site.maybe(zero)
    if offset is None:
        return x
    if offset.numel() > 1 and place > 0:
        offset = offset.reshape(-1, *(1,) * (x.ndim - 1))
    return x - offset.to(torch.float64)


def conv_integer(site: Site) -> Tensor:
    """``ConvInteger``."""
    x, weight = _centered(site, 0, 2), _centered(site, 1, 3)
    return _convolved(site, x, weight, None).to(torch.int32)


def _convolved(site: Site, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    op = OnnxOp(site.op.name, "Conv", site.version, (), (), site.op.attributes)
    values = [Value(lambda: x), Value(lambda: weight)]
    values += [] if bias is None else [Value(lambda: bias)]
    return conv(Site(op, tuple(values)))


def qlinear_conv(site: Site) -> Tensor:
    """``QLinearConv``."""
    x, weight = _centered(site, 0, 2), _centered(site, 3, 5)
    bias = site.maybe(8)
    result = _convolved(site, x, weight, None if bias is None else bias.to(torch.float64))
    scale = site.tensor(1) * _along(result, site.tensor(4), 1) / site.tensor(6)
    zero = site.tensor(7)
    return _rounded(result.to(torch.float32) * scale, zero, zero.dtype)


def matmul_integer(site: Site) -> Tensor:
    """``MatMulInteger``."""
    if any(site.has(place) and site.tensor(place).numel() > 1 for place in (2, 3)):
        raise Refusal("has a zero point for each row or column", "quantize by tensor")
    return torch.matmul(_centered(site, 0, 2), _centered(site, 1, 3)).to(torch.int32)


def qlinear_matmul(site: Site) -> Tensor:
    """``QLinearMatMul``."""
    if any(site.tensor(place).numel() > 1 for place in (1, 2, 4, 5, 6, 7)):
        raise Refusal("has a scale for each row or column", "quantize by tensor")
    product = torch.matmul(_centered(site, 0, 2), _centered(site, 3, 5))
    scale = (site.tensor(1) * site.tensor(4) / site.tensor(6)).to(torch.float32).reshape(())
    zero = site.tensor(7).reshape(())
    return _rounded(product.to(torch.float32) * scale, zero, zero.dtype)


PRODUCTS: dict[str, Compute] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Einsum": einsum,
    "Gemm": gemm,
    "MatMul": matmul,
}

QUANTIZED: dict[str, Compute] = {
    "ConvInteger": conv_integer,
    "DequantizeLinear": dequantize,
    "DynamicQuantizeLinear": quantize_by_image,
    "MatMulInteger": matmul_integer,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    "QuantizeLinear": quantize,
}
