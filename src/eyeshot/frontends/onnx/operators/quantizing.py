"""Quantized arithmetic, computed on the numbers that the integers stand for."""

from __future__ import annotations

import torch
from torch import Tensor

from eyeshot.frontends.onnx.operators.products import conv
from eyeshot.frontends.onnx.site import Compute, OnnxOp, Refusal, Site, Value, axis_of

_RANGES = {torch.uint8: (0, 255), torch.int8: (-128, 127), torch.int16: (-32768, 32767)}


def _along(x: Tensor, one: Tensor, axis: int) -> Tensor:
    """A scale for each index of an axis, reshaped to broadcast against ``x``."""
    if one.numel() == 1:
        return one.reshape(())
    if one.ndim != 1:
        raise Refusal("has a scale for each block", "quantize by tensor or by axis")
    return one.reshape(-1, *(1,) * (x.ndim - axis - 1))


def _settings(site: Site, x: Tensor) -> tuple[Tensor, Tensor | None]:
    axis = axis_of(site.attribute("axis", 1), x.ndim) if site.tensor(1).numel() > 1 else 0
    zero = site.maybe(2)
    return _along(x, site.tensor(1), axis), None if zero is None else _along(x, zero, axis)


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
    return _rounded(x / scale, zero, kind)


def _rounded(x: Tensor, zero: Tensor | None, kind: torch.dtype) -> Tensor:
    if kind not in _RANGES:
        raise Refusal(f"quantizes to {kind}", "quantize to int8 or uint8")
    whole = torch.round(x)
    whole = whole if zero is None else whole + zero.to(whole.dtype)
    return whole.clamp(*_RANGES[kind]).to(kind)


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
    kind = site.tensor(1).dtype
    scale = (site.tensor(1) * site.tensor(4) / site.tensor(6)).to(torch.float32).reshape(())
    zero = site.tensor(7).reshape(())
    del kind
    return _rounded(product.to(torch.float32) * scale, zero, zero.dtype)


COMPUTE: dict[str, Compute] = {
    "ConvInteger": conv_integer,
    "DequantizeLinear": dequantize,
    "MatMulInteger": matmul_integer,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    "QuantizeLinear": quantize,
}
