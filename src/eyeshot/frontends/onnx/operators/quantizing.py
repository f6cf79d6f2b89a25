"""Quantized arithmetic, computed on the numbers that the integers stand for."""

from __future__ import annotations

import torch
from torch import Tensor

from eyeshot.frontends.onnx.operators.products import conv
from eyeshot.frontends.onnx.reading import INTEGERS_WIDENED
from eyeshot.frontends.onnx.site import Compute, OnnxOp, Refusal, Site, Value, axis_of

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


COMPUTE: dict[str, Compute] = {
    "ConvInteger": conv_integer,
    "DequantizeLinear": dequantize,
    "DynamicQuantizeLinear": quantize_by_image,
    "MatMulInteger": matmul_integer,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    "QuantizeLinear": quantize,
}
