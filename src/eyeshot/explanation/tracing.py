"""A rule for each family of operators: each input's contribution to a unit, and their total."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from eyeshot.errors import Unsupported
from eyeshot.explanation.capture import Seen
from eyeshot.explanation.moves import trace_join, trace_move, trace_resize
from eyeshot.explanation.numbers import trace_batch_norm, trace_numbers
from eyeshot.explanation.reading import (
    Reading,
    count_mean,
    read_adaptive,
    read_transposed,
    read_window,
)
from eyeshot.explanation.traces import (
    Part,
    TraceRule,
    UnitTrace,
    as_numbers,
    described,
    number_part,
)
from eyeshot.graph import Family
from eyeshot.reference.windows import Array

Unit = tuple[int, ...]


def trace(seen: Seen, unit: Unit) -> UnitTrace:
    """The parts, the bias and the total of one unit, by the operator's family.

    Raises:
        Unsupported: an operator that is no sum, no extreme, no copy and no function of single
            numbers, or one that mixes the pictures of a batch.
    """
    item: int = getattr(seen.call.target, "item", 0) if seen.call is not None else 0
    if item:
        return _refused(seen, unit)  # the places of a pool's largest numbers, or the like
    return _RULES.get(seen.node.family, _refused)(seen, unit)


def _refused(seen: Seen, unit: Unit) -> UnitTrace:
    raise Unsupported(
        f"layer {seen.name!r} is {seen.node.operator}, which has no sum to show",
        cure="name a weighted sum, a pool, a mean, a batch norm, a resize, or an operator on "
        "single numbers",
    )


def check_batch(seen: Seen) -> None:
    """Refuse an operator whose output has not one entry for each picture."""
    if seen.output.ndim < 2 or len(seen.output) != seen.batch:
        raise Unsupported(
            f"layer {seen.name!r} gives {tuple(seen.output.shape)} for a batch of {seen.batch}",
            cure="name a layer that keeps one entry for each picture",
        )
    if seen.output.is_complex():
        raise Unsupported(
            f"layer {seen.name!r} gives complex numbers", cure="name a layer of real numbers"
        )


def _map(seen: Seen, name: str) -> Tensor:
    """The map (C, *sizes) that a window slides over."""
    x: Tensor = seen.arguments[name]
    kernel = seen.node.params.kernel or seen.node.params.output_size
    if not kernel or x.ndim != len(kernel) + 2 or len(x) != seen.batch:
        raise Unsupported(
            f"layer {seen.name!r} takes {tuple(x.shape)} and gives {tuple(seen.output.shape)} for "
            f"a batch of {seen.batch}",
            cure="name a layer that keeps one entry for each picture",
        )
    return x[0]


def _convolution(seen: Seen, unit: Unit) -> UnitTrace:
    """Every input channel of the unit's group under its own slice of the kernel."""
    x, options = _map(seen, "input"), seen.node.params
    kernels = as_numbers(seen.arguments["weight"][unit[0]])
    group = unit[0] // (options.out_channels // options.groups)
    channels = range(group * len(kernels), (group + 1) * len(kernels))
    reading = read_window(options, x.shape[1:], unit[1:])
    patches = reading.patches(x[channels.start : channels.stop])
    parts = [_weigh(*one, reading) for one in zip(channels, patches, kernels, strict=True)]
    return described(seen, unit, "sum", parts, bias=_bias(seen, unit[0]))


def _transposed(seen: Seen, unit: Unit) -> UnitTrace:
    """As a convolution, with the kernel of a channel in the weight's first axis."""
    x, options = _map(seen, "input"), seen.node.params
    group, column = divmod(unit[0], options.out_channels // options.groups)
    count = options.in_channels // options.groups
    reading = read_transposed(options, x.shape[1:], unit[1:])
    kernels = as_numbers(seen.arguments["weight"][:, column])
    channels = range(group * count, (group + 1) * count)
    patches = reading.patches(x[channels.start : channels.stop])
    weights = kernels[channels.start : channels.stop]
    parts = [_weigh(*one, reading) for one in zip(channels, patches, weights, strict=True)]
    return described(seen, unit, "sum", parts, bias=_bias(seen, unit[0]))


def _weigh(channel: int, patch: Array, kernel: Array, reading: Reading) -> Part:
    made = float((patch * kernel).sum())
    return Part(channel, patch, reading.outside, kernel, made, cells=reading.cells)


def _bias(seen: Seen, channel: int) -> float | None:
    bias = seen.arguments.get("bias")
    return None if bias is None else float(bias[channel].detach())


def _linear(seen: Seen, unit: Unit) -> UnitTrace:
    """Every input number is a separate channel, with a single weight."""
    x, row = seen.arguments["input"], as_numbers(seen.arguments["weight"][unit[-1]])
    values = as_numbers(x[(0, *unit[:-1])])
    parts = [number_part(c, v, w) for c, (v, w) in enumerate(zip(values, row, strict=True))]
    return described(seen, unit, "sum", parts, bias=_bias(seen, unit[-1]))


_FACTORS = (("mat1", "mat2"), ("batch1", "batch2"), ("self", "other"), ("self", "mat2"))


def _product(seen: Seen, unit: Unit) -> UnitTrace:
    """A row of the first matrix by a column of the second, whichever of them holds weights."""
    given = seen.arguments
    pair = next((one for one in _FACTORS if all(name in given for name in one)), None)
    if pair is None:
        return _refused(seen, unit)
    first, second = (as_numbers(given[name]) for name in pair)
    place = (0, *unit)
    place = (*place, 0) if second.ndim == 1 else place
    place = (*place[:-1], 0, place[-1]) if first.ndim == 1 else place
    first = first[None] if first.ndim == 1 else first
    second = second[:, None] if second.ndim == 1 else second
    row = _matrix(first, place[:-2])[place[-2]]
    column = float(given.get("alpha", 1)) * _matrix(second, place[:-2])[:, place[-1]]
    if pair[0] not in seen.sources:  # weights by what the network sees
        row, column = column, row
    parts = [number_part(c, v, w) for c, (v, w) in enumerate(zip(row, column, strict=True))]
    bias = None
    if pair[0] != "self":
        offset = torch.broadcast_to(given["self"], seen.output.shape)[(0, *unit)]
        bias = float(given.get("beta", 1)) * float(offset)
    return described(seen, unit, "sum", parts, bias=bias)


def _matrix(stack: Array, place: Sequence[int]) -> Array:
    """One matrix of a stack, which is broadcast to the places of the output."""
    lead = stack.shape[:-2]
    chosen = place[len(place) - len(lead) :]
    at = tuple(0 if n == 1 else i for n, i in zip(lead, chosen, strict=True))
    matrix: Array = stack[at]
    return matrix


def _max_pool(seen: Seen, unit: Unit) -> UnitTrace:
    x = _map(seen, "self")
    reading = read_window(seen.node.params, x.shape[1:], unit[1:])
    return _pooled(seen, unit, x, reading, "max")


def _average_pool(seen: Seen, unit: Unit) -> UnitTrace:
    x = _map(seen, "self")
    options = seen.node.params
    reading = read_window(options, x.shape[1:], unit[1:])
    fixed = seen.arguments.get("divisor_override")
    divisor = float(fixed) if fixed else count_mean(options, x.shape[1:], unit[1:])
    return _pooled(seen, unit, x, reading, "mean", divisor)


def _adaptive(rule: TraceRule) -> Callable[[Seen, Unit], UnitTrace]:
    def traced(seen: Seen, unit: Unit) -> UnitTrace:
        x = _map(seen, "self")
        reading = read_adaptive(x.shape[1:], seen.output.shape[2:], unit[1:])
        return _pooled(seen, unit, x, reading, rule, float(reading.outside.size))

    return traced


def _pooled(
    seen: Seen, unit: Unit, x: Tensor, reading: Reading, rule: TraceRule, divisor: float = 1.0
) -> UnitTrace:
    """Only one channel: pooling does not mix channels."""
    patch, outside = reading.patches(x[unit[0] : unit[0] + 1])[0], reading.outside
    cells = patch[~outside]
    made = cells.sum() / divisor if rule == "mean" else cells.max(initial=-np.inf)
    part = Part(unit[0], patch, outside, None, float(made), cells=reading.cells)
    return described(seen, unit, rule, [part], divisor=divisor if rule == "mean" else 1.0)


def _reduced(rule: TraceRule) -> Callable[[Seen, Unit], UnitTrace]:
    """A mean, a sum or an extreme over whole dimensions: a part for each channel that is in it."""

    def traced(seen: Seen, unit: Unit) -> UnitTrace:
        x: Tensor = seen.arguments["self"]
        dims = seen.arguments.get("dim")
        listed = [dims] if isinstance(dims, int) else dims or range(x.ndim)
        over = {dim % x.ndim for dim in listed}
        if 0 in over:
            raise Unsupported(
                f"layer {seen.name!r} takes the {rule} over the pictures of a batch",
                cure="name a layer that keeps one entry for each picture",
            )
        kept = seen.arguments.get("keepdim", False)
        left = iter(unit)
        place: list[int | slice] = [0]
        for dim in range(1, x.ndim):
            at = next(left) if kept or dim not in over else 0
            place.append(slice(None) if dim in over else at)
        channels = range(x.shape[1]) if 1 in over else [int(place[1])]  # type: ignore[arg-type]
        patches = [as_numbers(x[(0, c, *place[2:])]) for c in channels]
        divisor = float(sum(patch.size for patch in patches)) if rule == "mean" else 1.0
        make: Callable[[Array], float] = {"max": np.max, "min": np.min}.get(rule, np.sum)
        parts = [
            Part(c, patch, np.zeros(patch.shape, bool), None, float(make(patch)) / divisor)
            for c, patch in zip(channels, patches, strict=True)
        ]
        return described(seen, unit, rule, parts, divisor=divisor)

    return traced


_RULES: Mapping[Family, Callable[[Seen, Unit], UnitTrace]] = {
    Family.CONVOLUTION: _convolution,
    Family.TRANSPOSED_CONVOLUTION: _transposed,
    Family.LINEAR: _linear,
    Family.PRODUCT: _product,
    Family.MAX_POOL: _max_pool,
    Family.AVERAGE_POOL: _average_pool,
    Family.ADAPTIVE_MAX_POOL: _adaptive("max"),
    Family.ADAPTIVE_AVERAGE_POOL: _adaptive("mean"),
    Family.MEAN: _reduced("mean"),
    Family.SUM: _reduced("sum"),
    Family.LARGEST: _reduced("max"),
    Family.SMALLEST: _reduced("min"),
    Family.BATCH_NORM: trace_batch_norm,
    Family.RESIZE: trace_resize,
    Family.CONCATENATE: trace_join,
    **dict.fromkeys((Family.POINTWISE, Family.RELU, Family.PRELU), trace_numbers),
    **dict.fromkeys(
        (
            *(Family.DROPOUT, Family.ALIAS, Family.STACK, Family.RESHAPE),
            *(Family.PERMUTE, Family.SQUEEZE, Family.UNSQUEEZE, Family.EXPAND, Family.REPEAT),
            *(Family.REPEAT_EACH, Family.PIXEL_SHUFFLE, Family.UNFOLD, Family.CROP, Family.PAD),
            *(Family.SELECT, Family.SCATTER, Family.CHANNELS, Family.INDEX),
        ),
        trace_move,
    ),
}
