"""``eyeshot.explain``: the sum behind one unit of a network, or of a trained run on an image.

The terms of the sum follow from one rule for each family of operators:

- pointwise operators: sums and products of maps, activations, batch norm;
- the inputs that a unit reads, computed from kernel, stride, padding and dilation;
- weighted sums, pools and reductions.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eyeshot import runs
from eyeshot.errors import BadValue, Failure, Unsupported
from eyeshot.explanation.traces import (
    Part,
    Seen,
    TraceRule,
    UnitTrace,
    as_numbers,
    described,
    hear_operator,
    number_part,
    see_operator,
)
from eyeshot.explanation.walks import trace_join, trace_move, trace_resize
from eyeshot.features import NO_GRAPH, as_input
from eyeshot.frontends.refusals import check_module, refuse_autocast, refuse_unreadable
from eyeshot.frontends.trials import as_batch
from eyeshot.graph import Family, Params
from eyeshot.reference.padding import OUTSIDE, Array
from eyeshot.runs.inputs import prepare_input
from eyeshot.untouched import one_at_a_time


def trace_batch_norm(seen: Seen, unit: Unit) -> UnitTrace:
    """A scale and a shift for each channel, from the statistics that training left."""
    arguments = seen.arguments
    mean, variance = arguments["running_mean"], arguments["running_var"]
    if arguments["training"] or mean is None or variance is None:
        raise Unsupported(
            f"layer {seen.name!r} normalizes by the statistics of its own batch",
            cure="name a layer before or after it",
        )
    channel = unit[0]
    scale = _weight(arguments["weight"], channel, 1.0) / math.sqrt(
        float(variance[channel]) + arguments["eps"]
    )
    shift = _weight(arguments["bias"], channel, 0.0) - float(mean[channel]) * scale
    value = as_numbers(arguments["input"][(0, *unit)])
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
    """A part for each input map, in the order of the arguments; and the constant operands."""
    parts, constants = [], []
    for name, value in seen.arguments.items():
        if name in seen.sources:
            place = _place(value, unit)
            channel = place[0] if place else _channel(unit)
            number = _at(seen, value, unit)
            parts.append(number_part(channel, number, None, seen.sources[name], place))
        elif isinstance(value, Tensor):
            constants.append(float(_at(seen, value, unit)))
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and name == "other":
            constants.append(float(value))
    return parts, constants


def _place(value: Tensor, unit: Unit) -> Unit:
    """Where an operand that is broadcast is read, without the batch; () at the unit itself."""
    shape = value.shape[1:]
    if len(shape) != len(unit):
        return ()
    place = tuple(0 if n == 1 else at for n, at in zip(shape, unit, strict=True))
    return place if place != unit else ()


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


def _product_with(seen: Seen, parts: list[Part], constants: list[float]) -> Found:
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
        number_part(part.channel, part.patch, weight, part.source, part.at)
        for part, weight in zip(parts, weights, strict=True)
    ]


_aten = torch.ops.aten
_ARITHMETIC: dict[Any, Callable[[Seen, list[Part], list[float]], Found | None]] = {
    _aten.add: _sum(1.0),
    _aten.sub: _sum(-1.0),
    _aten.subtract: _sum(-1.0),
    _aten.mul: _product_with,
    _aten.multiply: _product_with,
    _aten.div: _quotient,
    _aten.divide: _quotient,
    _aten.true_divide: _quotient,
}


@dataclass(frozen=True, eq=False)
class Reading:
    """What one unit reads along every spatial axis, in the order of the window's cells."""

    axes: tuple[Array, ...]

    def patches(self, maps: Tensor) -> Array:
        """The cells of ``maps`` (C, *sizes) that are read, (C, *window) in float64, zero outside.

        Only these cells are copied: a map may have millions of others.
        """
        index: tuple[Any, ...] = tuple(torch.from_numpy(one) for one in np.ix_(*self.axes))
        cells = maps[(slice(None), *index)]
        patches: Array = np.where(self.outside, 0, cells.detach().cpu().double().numpy())
        return patches

    @property
    def cells(self) -> tuple[tuple[int, ...], ...]:
        """The positions along every axis as plain numbers; -1 for no position."""
        return tuple(tuple(int(at) for at in axis) for axis in self.axes)

    @property
    def outside(self) -> Array:
        """Where the window reaches beyond the image, or meets an inserted zero."""
        missing = np.meshgrid(*[axis == OUTSIDE for axis in self.axes], indexing="ij")
        outside: Array = np.logical_or.reduce(missing)
        return outside


def read_window(params: Params, sizes: Sequence[int], at: Sequence[int]) -> Reading:
    """The cells under the kernel of a convolution or pool at output position ``at``.

    Args:
        params: kernel, stride, padding (before, after) and dilation of each axis.
        sizes: of the input's map.
        at: the output position.
    """
    axes = []
    for axis, n in enumerate(sizes):
        cells = params.dilation[axis] * np.arange(params.kernel[axis])
        met = params.stride[axis] * at[axis] - params.padding[axis][0] + cells
        axes.append(np.where((met >= 0) & (met < n), met, OUTSIDE))
    return Reading(tuple(axes))


def read_transposed(params: Params, sizes: Sequence[int], at: Sequence[int]) -> Reading:
    """The input cells whose dropped kernels reach output position ``at``.

    Input i drops its kernel's cell j on the output s·i + d·j − p; so cell j of the kernel brings
    input (at + p − d·j) / s, where that is a whole number and inside the image.
    """
    axes = []
    for axis, n in enumerate(sizes):
        cells = params.dilation[axis] * np.arange(params.kernel[axis])
        reached = at[axis] + params.padding[axis][0] - cells
        source = reached // params.stride[axis]
        exists = (reached % params.stride[axis] == 0) & (source >= 0) & (source < n)
        axes.append(np.where(exists, source, OUTSIDE))
    return Reading(tuple(axes))


def read_adaptive(sizes: Sequence[int], outputs: Sequence[int], at: Sequence[int]) -> Reading:
    """The cells of an adaptive pool from n to m: ⌊i·n/m⌋ up to, not including, ⌈(i + 1)·n/m⌉."""
    return Reading(
        tuple(
            np.arange(i * n // m, -(-(i + 1) * n // m))
            for n, m, i in zip(sizes, outputs, at, strict=True)
        )
    )


def count_mean(params: Params, sizes: Sequence[int], at: Sequence[int]) -> float:
    """What an average pool divides by at ``at``: cells of the window, as the operator counts."""
    counts = []
    for axis, n in enumerate(sizes):
        before, after = params.padding[axis]
        start = params.stride[axis] * at[axis] - before
        inside = params.count_include_pad
        end = min(start + params.kernel[axis], n + (after if inside else 0))
        counts.append(end - max(start, -before if inside else 0))
    return float(math.prod(counts))


Unit = tuple[int, ...]


def trace(seen: Seen, unit: Unit) -> UnitTrace:
    """The parts, the bias and the total of one unit, by the operator's family.

    Raises:
        Unsupported: an operator that is no sum, no extreme, no copy and no function of single
            numbers, or one that mixes the pictures of a batch.
    """
    item: int = getattr(seen.call.target, "item", 0) if seen.call is not None else 0
    if item:
        return _refused(seen, unit)  # such as the indices of a max pool
    return _RULES.get(seen.node.family, _refused)(seen, unit)


def _channels(seen: Seen, unit: Unit) -> UnitTrace:
    """Channels that are moved, or half of them gated by the other half (GLU)."""
    if getattr(seen.call and seen.call.target, "overloadpacket", None) is not _aten.glu:
        return trace_move(seen, unit)
    tensor = seen.arguments["self"]
    dim = int(seen.arguments.get("dim", -1)) % tensor.ndim
    gate = tuple(at + seen.output.shape[dim] * (axis + 1 == dim) for axis, at in enumerate(unit))
    parts = [
        number_part(place[0], as_numbers(tensor[(0, *place)]), None, seen.sources["self"], place)
        for place in (unit, gate)
    ]
    opened = float(torch.sigmoid(torch.tensor(parts[1].sum, dtype=torch.float64)))
    return described(seen, unit, "value", parts, total=parts[0].sum * opened)


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
    if seen.output.is_complex() or any(one.is_complex() for one in seen.values.values()):
        raise Unsupported(
            f"layer {seen.name!r} reads or gives complex numbers",
            cure="name a layer of real numbers",
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
    before = unit[:-1]
    parts = [
        number_part(c, v, w, at=(*before, c))
        for c, (v, w) in enumerate(zip(values, row, strict=True))
    ]
    return described(seen, unit, "sum", parts, bias=_bias(seen, unit[-1]))


_FACTORS = (("mat1", "mat2"), ("batch1", "batch2"), ("self", "other"), ("self", "mat2"))


def _product(seen: Seen, unit: Unit) -> UnitTrace:
    """A row of the first matrix by a column of the second, whichever of them holds weights."""
    arguments = seen.arguments
    pair = next((one for one in _FACTORS if all(name in arguments for name in one)), None)
    if pair is None:
        return _refused(seen, unit)
    first, second = (as_numbers(arguments[name]) for name in pair)
    place = (0, *unit)
    place = (*place, 0) if second.ndim == 1 else place
    place = (*place[:-1], 0, place[-1]) if first.ndim == 1 else place
    first = first[None] if first.ndim == 1 else first
    second = second[:, None] if second.ndim == 1 else second
    row = _matrix(first, place[:-2])[place[-2]]
    column = float(arguments.get("alpha", 1)) * _matrix(second, place[:-2])[:, place[-1]]
    seen_name = pair[0] if pair[0] in seen.sources else pair[1]
    if seen_name == pair[1]:  # weights by what the network sees
        row, column = column, row
    stack, source = arguments[seen_name], seen.sources.get(seen_name, "")
    parts = []
    for c, (value, weight) in enumerate(zip(row, column, strict=True)):
        ends = (place[-2], c) if seen_name == pair[0] else (c, place[-1])
        lead = place[:-2][len(place) - max(stack.ndim, 2) :]
        whole = (*(0 if n == 1 else i for n, i in zip(stack.shape, lead, strict=False)), *ends)
        at = whole[1:] if stack.ndim > 1 and len(stack) == seen.batch else ()
        parts.append(number_part(c, value, weight, source if len(seen.sources) > 1 else "", at))
    bias = None
    if pair[0] != "self":
        offset = torch.broadcast_to(arguments["self"], seen.output.shape)[(0, *unit)]
        bias = float(arguments.get("beta", 1)) * float(offset)
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
        keeps_axis = seen.arguments.get("keepdim", False)
        left = iter(unit)
        cells: list[tuple[int, ...]] = []  # of each dimension after the batch
        for dim in range(1, x.ndim):
            at = next(left) if keeps_axis or dim not in over else 0
            cells.append(tuple(range(x.shape[dim])) if dim in over else (at,))
        channels, spots = cells[0], tuple(cells[1:])
        single = not over - {1}  # no patch, but a number of each channel
        patches = [as_numbers(x[0, c])[np.ix_(*spots)] for c in channels]
        divisor = float(sum(patch.size for patch in patches)) if rule == "mean" else 1.0
        make: Callable[[Array], float] = {"max": np.max, "min": np.min}.get(rule, np.sum)
        parts = [
            Part(
                c,
                patch.reshape(()) if single else patch,
                np.zeros(() if single else patch.shape, bool),
                None,
                float(make(patch)) / divisor,
                at=(c, *(one for (one,) in spots)) if single else (),
                cells=() if single else spots,
            )
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
            *(Family.SELECT, Family.SCATTER, Family.INDEX),
        ),
        trace_move,
    ),
    Family.CHANNELS: _channels,
}


TOLERANCE = 1e-5
_AXES = {1: ("position",), 2: ("row", "column"), 3: ("slice", "row", "column")}


@one_at_a_time
def explain_unit(
    net: nn.Module, x: Tensor, *, layer: str, unit: Sequence[int], call: int = 0
) -> UnitTrace:
    """Trace one output of ``layer`` for the input ``x`` of ``net``.

    The network runs in eval mode without gradients, and does not change.

    Args:
        net: any module that takes one tensor.
        x: the network's input, with a batch axis; the first item of the batch is traced.
        layer: a name that ``inspect`` prints; a module's path means its output.
        unit: (channel, row, column) in that layer's output, counted from 0; (channel, position)
            for a signal.
        call: the index of the call, if the network uses the layer several times.

    Raises:
        UnknownName: there is no such layer.
        BadValue: the unit is outside the map, the layer is not used, or ``torch.autocast`` is on.
        Unsupported: the operator has no such sum, or the network is scripted.
        Failure: the sum does not equal the network's own value.
    """
    refuse_autocast()
    refuse_unreadable(net)
    seen, reason = see_operator(net, x, layer, call)
    if seen is None:
        warnings.warn(f"{NO_GRAPH}: {reason}", stacklevel=3)
        seen = hear_operator(net, x, layer, call)
    return explain_seen(seen, unit)


def explain_seen(seen: Seen, unit: Sequence[int]) -> UnitTrace:
    """Trace one output of an operator from its recorded inputs and output.

    Raises:
        BadValue: the unit is outside the map.
        Unsupported: the operator has no such sum.
        Failure: the sum does not equal the network's own value.
    """
    with torch.no_grad():
        check_batch(seen)
        shape = tuple(seen.output.shape[1:])
        traced = trace(seen, check_unit(seen.name, shape, unit))
    real = seen.output.is_floating_point()
    check_total(traced, torch.finfo(seen.output.dtype).eps if real else 0.0)
    return traced


def check_unit(layer: str, shape: tuple[int, ...], unit: Sequence[int]) -> tuple[int, ...]:
    """``unit`` as whole numbers inside a map of this shape, (C, …).

    Raises:
        BadValue: it is outside, or has another number of axes.
    """
    if len(unit) != len(shape):
        axes = ("channel", *_AXES[len(shape) - 1]) if 1 < len(shape) < 5 else ("feature",)
        raise BadValue(
            f"unit {','.join(map(str, unit))} has {len(unit)} of the {len(shape)} numbers that the "
            f"map of layer {layer!r} has, of shape {shape}",
            cure=f"give {','.join(axes)}" if len(axes) == len(shape) else "give one for each axis",
        )
    if not all(0 <= u < n for u, n in zip(unit, shape, strict=True)):
        raise BadValue(
            f"unit {','.join(map(str, unit))} is outside the map of layer {layer!r}, which "
            f"has shape {shape}",
            cure=f"use at most {','.join(str(n - 1) for n in shape)}, counted from 0",
        )
    return tuple(int(u) for u in unit)


def check_total(found: UnitTrace, rounding: float) -> None:
    """Refuse an explanation that does not equal the network's own value.

    Rounding errors grow with the parts of the sum, so the tolerance depends on the largest part; a
    network in half precision rounds more coarsely than 1e-5.
    """
    largest = max([1.0, abs(found.network_value), *[abs(part.sum) for part in found.parts]])
    allowed = max(TOLERANCE, 4 * rounding) * largest
    if not np.isclose(found.total, found.network_value, rtol=0, atol=allowed, equal_nan=True):
        raise Failure(
            f"layer {found.layer!r}, unit {found.unit}: the sum comes to {found.total:.9g} and the "
            f"network has {found.network_value:.9g}",
            cure="please report this network",
        )


@one_at_a_time
def explain(
    net: nn.Module | runs.Run | str | Path,
    image: Tensor | NDArray[Any] | str | Path,
    *,
    layer: str,
    unit: Sequence[int],
    call: int = 0,
) -> UnitTrace:
    """Explain one number inside a network: patch, kernel, partial sums, bias, total.

    Args:
        net: a network, a trained run, or the path of a run's folder.
        image: for a run, a picture: a file, or an array (H, W) or (H, W, C), prepared as in
            training; of any size if the network's output is a mask or a picture. For a network
            (or a run): the network's input, a float tensor (C, H, W), (C, L) or (C, D, H, W), or a
            batch of these; the first item is traced.
        layer: a name that ``inspect`` and ``see`` print: ``conv#2`` for a second call, ``conv2d``
            for a function. Weighted sums, pools, means, batch norms, resizes, activations, sums and
            products of maps, and operators that only move numbers can be explained.
        unit: (channel, row, column) in that layer's output, counted from 0.
        call: the index of the call, if the network uses the layer several times.

    Returns:
        Plain data: ``to_dict()`` for JSON; ``rich.print()`` draws it.

    Raises:
        UnknownName: there is no such layer.
        BadValue: the unit is outside the map, or the input does not fit.
        BadFile: the file is not a run folder, or not a picture.
        Unsupported: the operator has no such sum, for example attention.
        Failure: the sum does not equal the network's own value.
    """
    _, network, batch = network_and_input(net, image)
    return explain_unit(network, batch, layer=layer, unit=unit, call=call)


def network_and_input(
    net: nn.Module | runs.Run | str | Path, image: Tensor | NDArray[Any] | str | Path
) -> tuple[runs.Run | None, nn.Module, Tensor]:
    """The run, if there is one, its network, and the image as the network's input (N, C, …).

    Args:
        net: as for :func:`explain`.
        image: as for :func:`explain`.

    Raises:
        BadValue: the input does not fit.
        BadFile: the file is not a run folder, or not a picture.
    """
    run = runs.load(net) if isinstance(net, str | Path) else net
    if not isinstance(run, runs.Run):
        check_module(run)
        batch = as_batch(run, _checked(image))
        return None, run, _placed(run, batch)
    batch = (
        as_batch(run.net, _checked(image)) if isinstance(image, Tensor) else prepare(run, image)[0]
    )
    return run, run.net, _placed(run.net, batch)


def _placed(net: nn.Module, batch: Tensor) -> Tensor:
    """The batch on the network's device, in the type of its weights."""
    return batch.to(next((one for one in net.parameters() if one.is_floating_point()), batch))


def prepare(run: runs.Run, image: NDArray[Any] | str | Path) -> tuple[Tensor, list[str]]:
    """A picture as the run's network input, float32 (1, C, H, W), and the steps of its preparation.

    Raises:
        BadFile: not a picture.
        BadValue: a picture that cannot be prepared.
    """
    ready = prepare_input(run, image)
    return ready.values, list(ready.notes)


def _checked(image: Any) -> Tensor:
    """A float tensor.

    Raises:
        BadValue: a file's name, or whole numbers.
    """
    x = as_input(image)
    if not x.is_floating_point():
        raise BadValue(
            f"an input of {x.dtype}", cure="give floating point, normalized as in training"
        )
    return x
