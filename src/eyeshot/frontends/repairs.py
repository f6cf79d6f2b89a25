"""How a call whose shapes do not fit is put right, so that the rest of the network can be seen.

Each repair gives a :class:`Repaired`: what does not fit, and the call made again as its cure would
make it. Where the cure is another weight (``in_channels=64``) the weight is replaced, so that
the rest of the graph is that of the cured network; where it lies elsewhere (a size, a view) the
values are cropped or padded with zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F

from eyeshot.findings.mismatches import Problem, Shape, missing_stride

Arguments = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Repaired:
    """A call put right: what did not fit, and what the call gives now."""

    problem: Problem
    inputs: tuple[Shape, ...]
    result: Any
    weight: Shape | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


Repair = Callable[[Callable[..., Any], Arguments], Repaired | None]


def convolution(call: Callable[..., Any], arguments: Arguments) -> Repaired | None:
    """conv1d, 2d, 3d: other channels than the weight takes, or a map smaller than the window."""
    x, weight, groups = arguments["input"], arguments["weight"], arguments.get("groups", 1)
    shape = tuple(weight.shape)
    if x.dim() != weight.dim():
        return None
    options: dict[str, Any] = {"groups": groups, "kernel": shape[2:]}
    if x.shape[1] != shape[1] * groups:
        if x.shape[1] % groups:
            options["takes"] = shape[1] * groups
            fitted = _with_channels(x, shape[1] * groups)
            result = _widened(call, {**arguments, "input": fitted}, shape[2:])
            return Repaired(Problem.GROUPS, (_shape(x),), result, shape, options)
        channels = x.shape[1] // groups
        changed = {**arguments, "weight": weight.new_zeros((shape[0], channels, *shape[2:]))}
        result = _widened(call, changed, shape[2:])
        return Repaired(Problem.CHANNELS, (_shape(x),), result, shape, options)
    result = _widened(call, arguments, shape[2:])
    return Repaired(Problem.TOO_SMALL, (_shape(x),), result, shape, options)


def transposed_convolution(call: Callable[..., Any], arguments: Arguments) -> Repaired | None:
    """conv_transpose1d, 2d, 3d built for other channels: its weight is (in, out / groups, …)."""
    x, weight, groups = arguments["input"], arguments["weight"], arguments.get("groups", 1)
    shape = tuple(weight.shape)
    if x.dim() != weight.dim() or x.shape[1] == shape[0]:
        return None
    options = {"groups": groups, "kernel": shape[2:]}
    if x.shape[1] % groups:
        changed = {**arguments, "input": _with_channels(x, shape[0])}
        return Repaired(Problem.GROUPS, (_shape(x),), call(**changed), shape, options)
    changed = {**arguments, "weight": weight.new_zeros((x.shape[1], *shape[1:]))}
    return Repaired(Problem.CHANNELS, (_shape(x),), call(**changed), shape, options)


def linear(call: Callable[..., Any], arguments: Arguments) -> Repaired | None:
    """A linear layer built for other features, or given a map that was not flattened."""
    x, weight = arguments["input"], arguments["weight"]
    told = _shape(x)
    if x.dim() > 3 or (x.dim() == 3 and x.shape[1] * x.shape[2] == weight.shape[1]):
        x = x.flatten(1)
    changed = {**arguments, "input": x, "weight": weight.new_zeros((weight.shape[0], x.shape[-1]))}
    return Repaired(Problem.FEATURES, (told,), call(**changed), tuple(weight.shape))


def joining(call: Callable[..., Any], arguments: Arguments) -> Repaired | None:
    """``cat`` of maps whose sizes differ: all are cut to the smallest."""
    parts = list(arguments["tensors"])
    if len({part.dim() for part in parts}) != 1:
        return None
    along = arguments.get("dim", 0) % parts[0].dim()
    sizes = [min(sides) for sides in zip(*(part.shape for part in parts), strict=True)]
    cropped = [_cropped(part, sizes, skip=along) for part in parts]
    shapes = tuple(_shape(part) for part in parts)
    result = call(**{**arguments, "tensors": cropped})
    return Repaired(Problem.BRANCHES, shapes, result, options={"dim": along})


def pointwise(call: Callable[..., Any], arguments: Arguments) -> Repaired | None:
    """Maps added or multiplied: positions cut to the smaller, channels filled up."""
    one, other = arguments["one"], arguments["other"]
    if not (isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)):
        return None
    shapes = (_shape(one), _shape(other))
    if one.dim() != other.dim():
        return None
    for dim, (m, n) in enumerate(zip(*shapes, strict=True)):
        if m != n and 1 not in (m, n):
            if dim < 2:
                one, other = _resized(one, dim, max(m, n)), _resized(other, dim, max(m, n))
            else:
                one, other = _cut(one, dim, min(m, n)), _cut(other, dim, min(m, n))
    rest = {name: value for name, value in arguments.items() if name not in ("one", "other")}
    return Repaired(Problem.BRANCHES, shapes, call(one, other, **rest))


def batch_normalisation(call: Callable[..., Any], arguments: Arguments) -> Repaired | None:
    """Statistics and weights for other channels; or one value per channel in training mode."""
    x, mean = arguments["input"], arguments.get("running_mean")
    stored = {name: arguments.get(name) for name in ("running_mean", "running_var")}
    learned = {name: arguments.get(name) for name in ("weight", "bias")}
    built = next((v for v in (mean, *learned.values()) if v is not None), None)
    if built is None or built.shape[0] == x.shape[1]:
        if not arguments.get("training") or mean is None:
            return None
        result = call(**{**arguments, "training": False})
        return Repaired(Problem.ONE_VALUE, (_shape(x),), result)
    result = call(**{**arguments, **_of_length({**stored, **learned}, x.shape[1])})
    return Repaired(Problem.NORM, (_shape(x),), result, tuple(built.shape))


def group_normalisation(call: Callable[..., Any], arguments: Arguments) -> Repaired | None:
    """Weights for other channels, or a number of groups that does not divide them."""
    x, groups = arguments["input"], arguments["num_groups"]
    learned = {name: arguments.get(name) for name in ("weight", "bias")}
    built = next((v for v in learned.values() if v is not None), None)
    channels = x.shape[1]
    fitting = math.gcd(groups, channels)
    changed = {**arguments, "num_groups": fitting, **_of_length(learned, channels)}
    problem = Problem.NORM if channels % groups == 0 else Problem.GROUPS
    weight = None if built is None else tuple(built.shape)
    return Repaired(problem, (_shape(x),), call(**changed), weight, {"groups": groups})


def layer_normalisation(call: Callable[..., Any], arguments: Arguments) -> Repaired | None:
    """A shape to normalise over that is not the input's."""
    x, built = arguments["input"], tuple(arguments["normalized_shape"])
    over = tuple(x.shape[-len(built) :])
    learned = {
        name: None if arguments.get(name) is None else arguments[name].new_zeros(over)
        for name in ("weight", "bias")
    }
    result = call(**{**arguments, "normalized_shape": over, **learned})
    return Repaired(Problem.NORM, (_shape(x),), result, built)


def prelu(call: Callable[..., Any], arguments: Arguments) -> Repaired | None:
    """A slope for each of another number of channels."""
    x, weight = arguments["input"], arguments["weight"]
    result = call(x, weight.new_zeros(x.shape[1]))
    return Repaired(Problem.NORM, (_shape(x),), result, tuple(weight.shape))


def viewing(call: Callable[..., Any], arguments: Arguments) -> Repaired | None:
    """``view`` and ``reshape`` to a shape of another number of elements."""
    x, asked = arguments["input"], tuple(arguments["shape"])
    if x.dim() == 0 or any(not isinstance(n, int) for n in asked):
        return None
    known = math.prod(n for n in asked if n != -1)
    unknown = max(1, x.numel() // known) if -1 in asked else 1
    flat = _resized(x.flatten(), 0, known * unknown)
    result = flat.reshape([unknown if n == -1 else n for n in asked])
    return Repaired(Problem.VIEW, (_shape(x),), result, options={"shape": asked})


def shuffling(call: Callable[..., Any], arguments: Arguments) -> Repaired | None:
    """A pixel shuffle of channels that r² does not divide."""
    x, factor = arguments["input"], arguments["upscale_factor"]
    if x.dim() != 4:
        return None
    channels = max(factor**2, x.shape[1] // factor**2 * factor**2)
    result = call(_with_channels(x, channels), factor)
    return Repaired(Problem.SHUFFLE, (_shape(x),), result, options={"factor": factor})


def pooling(call: Callable[..., Any], arguments: Arguments) -> Repaired | None:
    """A window larger than the map."""
    x, kernel = arguments["input"], arguments["kernel_size"]
    axes = x.dim() - 2
    kernels = (kernel,) * axes if isinstance(kernel, int) else tuple(kernel)
    result = call(**{**arguments, "input": _at_least(x, kernels)})
    return Repaired(Problem.TOO_SMALL, (_shape(x),), result, options={"kernel": kernels})


def _widened(call: Callable[..., Any], arguments: Arguments, kernel: tuple[int, ...]) -> Any:
    """The convolution; on an input padded with zeros to its window where it is smaller."""
    dilation = arguments.get("dilation", 1)
    steps = (dilation,) * len(kernel) if isinstance(dilation, int) else tuple(dilation)
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, steps * len(kernel), strict=False))
    padding = arguments.get("padding", 0)
    around = (padding,) * len(kernel) if isinstance(padding, int) else padding
    given = (0,) * len(kernel) if isinstance(around, str) else tuple(around) * len(kernel)
    wanted = tuple(max(1, span - 2 * p) for span, p in zip(spans, given, strict=False))
    if isinstance(around, str) and around == "same":
        wanted = (1,) * len(kernel)
    return call(**{**arguments, "input": _at_least(arguments["input"], wanted)})


def _at_least(x: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
    """The map, with zeros behind its end up to these sizes."""
    missing = [max(0, want - have) for want, have in zip(sizes, x.shape[2:], strict=True)]
    if not any(missing):
        return x
    return F.pad(x, [n for extra in reversed(missing) for n in (0, extra)])


def _of_length(tensors: Arguments, length: int) -> Arguments:
    return {
        name: None if value is None else value.new_zeros(length) for name, value in tensors.items()
    }


def _with_channels(x: torch.Tensor, channels: int) -> torch.Tensor:
    return _resized(x, 1, channels)


def _cropped(x: torch.Tensor, sizes: list[int], skip: int) -> torch.Tensor:
    for dim, size in enumerate(sizes):
        if dim != skip:
            x = _cut(x, dim, size)
    return x


def _cut(x: torch.Tensor, dim: int, size: int) -> torch.Tensor:
    """One dimension cut to ``size``: every second of twice as many, where a stride is missing."""
    step = missing_stride(x.shape[dim], size)
    if step > 1:
        return x[(slice(None),) * dim + (slice(None, None, step),)]
    return x.narrow(dim, 0, size) if x.shape[dim] > size else x


def _resized(x: torch.Tensor, dim: int, size: int) -> torch.Tensor:
    """One dimension cut, or filled with zeros, to ``size``; one that is 1 is left to broadcast."""
    if x.shape[dim] > size:
        return x.narrow(dim, 0, size)
    if x.shape[dim] < size and x.shape[dim] != 1:
        return F.pad(x, [0, 0] * (x.dim() - 1 - dim) + [0, size - x.shape[dim]])
    return x


def _shape(x: torch.Tensor) -> Shape:
    return tuple(int(n) for n in x.shape)


_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups")
_BATCH_NORM = ("input", "running_mean", "running_var", "weight", "bias", "training")
_BINARY = "add sub mul div iadd isub imul idiv radd rsub rmul true_divide subtract multiply maximum"

# What a call's positional arguments are called, and how it is put right.
REPAIRS: dict[str, tuple[tuple[str, ...], Repair]] = {
    **{f"conv{n}d": (_CONV, convolution) for n in (1, 2, 3)},
    **{
        f"conv_transpose{n}d": ((*_TRANSPOSED, "dilation"), transposed_convolution)
        for n in (1, 2, 3)
    },
    **{
        f"{kind}_pool{n}d": (("input", "kernel_size", "stride", "padding"), pooling)
        for kind in ("max", "avg")
        for n in (1, 2, 3)
    },
    **dict.fromkeys(_BINARY.split(), (("one", "other"), pointwise)),
    **dict.fromkeys(("cat", "concat", "concatenate"), (("tensors", "dim"), joining)),
    "linear": (("input", "weight", "bias"), linear),
    "batch_norm": ((*_BATCH_NORM, "momentum", "eps"), batch_normalisation),
    "group_norm": (("input", "num_groups", "weight", "bias", "eps"), group_normalisation),
    "layer_norm": (("input", "normalized_shape", "weight", "bias", "eps"), layer_normalisation),
    "prelu": (("input", "weight"), prelu),
    "pixel_shuffle": (("input", "upscale_factor"), shuffling),
    "view": (("input", "shape"), viewing),
    "reshape": (("input", "shape"), viewing),
}
