"""Operators that work on single numbers: sums and products of maps, activations, batch norm."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from eyeshot.errors import Unsupported
from eyeshot.explanation.capture import Seen
from eyeshot.explanation.traces import Part, UnitTrace, as_numbers, described, number_part
from eyeshot.graph import Family

Unit = tuple[int, ...]


def trace_batch_norm(seen: Seen, unit: Unit) -> UnitTrace:
    """A scale and a shift for each channel, from the statistics that training left."""
    given = seen.arguments
    mean, variance = given["running_mean"], given["running_var"]
    if given["training"] or mean is None or variance is None:
        raise Unsupported(
            f"layer {seen.name!r} normalises by the statistics of its own batch",
            cure="name a layer before or after it",
        )
    channel = unit[0]
    scale = _weight(given["weight"], channel, 1.0) / math.sqrt(
        float(variance[channel]) + given["eps"]
    )
    shift = _weight(given["bias"], channel, 0.0) - float(mean[channel]) * scale
    value = as_numbers(given["input"][(0, *unit)])
    return described(seen, unit, "sum", [number_part(channel, value, scale)], bias=shift)


def _weight(weight: Tensor | None, channel: int, default: float) -> float:
    return default if weight is None else float(weight[channel].detach())


def trace_numbers(seen: Seen, unit: Unit) -> UnitTrace:
    """The operator on the numbers at this unit: a weighted sum, a product, or its value."""
    parts, constants = _operands(seen, unit)
    target = seen.call.target if seen.call is not None else None
    make = _ARITHMETIC.get(getattr(target, "overloadpacket", None))
    found = make(seen, parts, constants) if make is not None else None
    if found is not None:
        rule, parts, bias = found
        return described(seen, unit, rule, parts, bias=bias)
    return described(seen, unit, "value", parts, total=_value(seen, unit))


def _operands(seen: Seen, unit: Unit) -> tuple[list[Part], list[float]]:
    """A part for each map that comes in, in the order of arguments; and the constants."""
    parts, constants = [], []
    for name, value in seen.arguments.items():
        if name in seen.sources:
            parts.append(
                number_part(_channel(unit), _at(seen, value, unit), None, seen.sources[name])
            )
        elif isinstance(value, Tensor):
            constants.append(float(_at(seen, value, unit)))
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and name == "other":
            constants.append(float(value))
    return parts, constants


def _channel(unit: Unit) -> int:
    return unit[0] if unit else 0


def _at(seen: Seen, value: Tensor, unit: Unit) -> float:
    """The number of an operand, broadcast to the output, that meets the unit."""
    if seen.node.family is Family.PRELU and value.ndim == 1:
        chosen = value[unit[0] if len(value) > 1 else 0]
    else:
        chosen = torch.broadcast_to(value, seen.output.shape)[(0, *unit)]
    return float(as_numbers(chosen))


def _value(seen: Seen, unit: Unit) -> float:
    """The operator itself, in float64, on one number of each operand."""

    def one(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        wide = torch.float64 if value.is_floating_point() else value.dtype
        # Two dimensions, since a PReLU has its channels in the second.
        shape = (1,) if seen.node.family is Family.PRELU and value.ndim == 1 else (1, 1)
        return torch.full(shape, _at(seen, value, unit), dtype=wide)

    assert seen.call is not None
    made: Tensor = seen.call.substituted(one)()
    return float(made.reshape(-1)[0])


Found = tuple[Any, list[Part], float | None]


def _sum(sign: float) -> Callable[[Seen, list[Part], list[float]], Found | None]:
    def found(seen: Seen, parts: list[Part], constants: list[float]) -> Found | None:
        second = sign * float(seen.arguments.get("alpha", 1))
        first = "self" in seen.sources
        weights = [1.0, second] if len(parts) == 2 else [1.0 if first else second]
        bias = sum(constants) * (second if first else 1.0) if constants else None
        return "sum", _weighted(parts, weights), bias

    return found


def _product(seen: Seen, parts: list[Part], constants: list[float]) -> Found:
    if constants:
        return "sum", _weighted(parts, [math.prod(constants)]), None
    return "product", parts, None


def _quotient(seen: Seen, parts: list[Part], constants: list[float]) -> Found | None:
    if len(parts) != 1 or "self" not in seen.sources or seen.arguments.get("rounding_mode"):
        return None
    if constants == [0.0] or len(constants) != 1:
        return None
    return "sum", _weighted(parts, [1.0 / constants[0]]), None


def _weighted(parts: Sequence[Part], weights: Sequence[float]) -> list[Part]:
    return [
        number_part(part.channel, part.patch, weight, part.source)
        for part, weight in zip(parts, weights, strict=True)
    ]


_aten = torch.ops.aten
_ARITHMETIC: dict[Any, Callable[[Seen, list[Part], list[float]], Found | None]] = {
    _aten.add: _sum(1.0),
    _aten.sub: _sum(-1.0),
    _aten.subtract: _sum(-1.0),
    _aten.mul: _product,
    _aten.multiply: _product,
    _aten.div: _quotient,
    _aten.divide: _quotient,
    _aten.true_divide: _quotient,
}
