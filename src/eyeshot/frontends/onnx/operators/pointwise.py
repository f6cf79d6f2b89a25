"""Pointwise operators: each output number depends on the same position of the inputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from eyeshot.frontends.onnx.site import Compute, Refusal, Result, Site

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


COMPUTE: dict[str, Compute] = {
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
