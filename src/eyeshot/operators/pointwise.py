"""Pointwise operators: each output reads the same position of its inputs. Also identities."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from eyeshot.axes import (
    AxisMap,
    Broadcast,
    Identity,
)
from eyeshot.graph import Edge, Family, Kind, Node, TrainingParams
from eyeshot.operators.call import (
    Described,
    NoRule,
    Site,
    argument,
)
from eyeshot.operators.record import Operator, nothing
from eyeshot.operators.repaired import (
    Arguments,
    Problem,
    Repair,
    Repaired,
    cut_to,
    resized,
    shape_of,
)


def pointwise(site: Site) -> Described:
    """Output i depends on input i of every operand, with torch's broadcasting."""
    sources = site.sources
    if not sources:
        raise NoRule("no operand depends on the input")
    dims = _common_dims(site, sources)
    if any(_by_features(site, source, dims) for source in sources):
        raise NoRule("it gives each position along a spatial axis a feature of its own")
    edges = tuple(Edge(s.name, _broadcast(site, s, dims)) for s in sources)
    return Described(edges, dims)


def prelu_geometry(site: Site) -> Described:
    """A slope for each number of dimension 1, which must not be positions, or one for all."""
    described = pointwise(site)
    if 1 in described.dims and math.prod(site.shape_of("weight")) > 1:
        raise NoRule("it gives each position along a spatial axis a slope of its own")
    return described


def _common_dims(site: Site, sources: list[Node]) -> tuple[int | None, ...]:
    """For each axis, its dimension in the output; the operands must agree."""
    dims: list[int | None] = []
    for axis in range(len(sources[0].dims)):
        places = {
            dim + len(site.shape) - len(source.shape): source.shape[dim]
            for source in sources
            if (dim := source.dims[axis]) is not None
        }
        if len(places) > 1:
            places = {dim: extent for dim, extent in places.items() if extent > 1}
        if len(places) > 1:
            raise NoRule("its operands hold the same axis in different dimensions")
        dims.append(None if _is_of_features(site, sources, places) else next(iter(places), None))
    named = [dim for dim in dims if dim is not None]
    if len(set(named)) != len(named):
        raise NoRule("its operands hold different axes in the same dimension")
    return tuple(dims)


def _is_of_features(site: Site, sources: list[Node], places: Mapping[int, int]) -> bool:
    """Whether an axis of one position is broadcast against features, so that it vanishes."""
    return any(
        extent == 1 and site.shape[dim] > 1 and _numbers_at(site, source, dim) > 1
        for dim, extent in places.items()
        for source in sources
        if dim - len(site.shape) + len(source.shape) not in source.dims
    )


def _by_features(site: Site, source: Node, dims: tuple[int | None, ...]) -> bool:
    """Whether an operand has features in a dimension in which the output has positions."""
    shift = len(site.shape) - len(source.shape)
    return any(
        dim is not None and dim - shift != own and _numbers_at(site, source, dim) > 1
        for own, dim in zip(source.dims, dims, strict=True)
    )


def _numbers_at(site: Site, source: Node, dim: int) -> int:
    """The size of an operand along a dimension of the output, after broadcasting; 1 if none."""
    own = dim - len(site.shape) + len(source.shape)
    return source.shape[own] if own >= 0 else 1


def _broadcast(site: Site, source: Node, dims: tuple[int | None, ...]) -> tuple[AxisMap, ...]:
    axes: list[AxisMap] = []
    for have, dim in zip(source.extents, dims, strict=True):
        size = 1 if dim is None else site.shape[dim]
        axes.append(Identity() if have == size else Broadcast(size))
    return tuple(axes)


def dropout(site: Site) -> Described:
    """Dropout: pointwise in eval mode, where it changes nothing; refused in training mode."""
    described = pointwise(site)
    if not site.arguments.get("train", site.arguments.get("training", False)):
        return described
    reason = f"{site.operator} in training mode is random; call net.eval()"
    return Described(described.edges, described.dims, Kind.NONLOCAL, TrainingParams(), reason)


def repaired_binary(call: Callable[..., Any], arguments: Arguments) -> Repaired | None:
    """Repairs maps of different sizes: positions are cropped to the smaller, channels padded."""
    one, other = arguments["one"], arguments["other"]
    if not (isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)):
        return None
    shapes = (shape_of(one), shape_of(other))
    if one.dim() != other.dim():
        return None
    for dim, (m, n) in enumerate(zip(*shapes, strict=True)):
        if m != n and 1 not in (m, n):
            if dim < 2:
                one, other = resized(one, dim, max(m, n)), resized(other, dim, max(m, n))
            else:
                one, other = cut_to(one, dim, min(m, n)), cut_to(other, dim, min(m, n))
    rest = {name: value for name, value in arguments.items() if name not in ("one", "other")}
    return Repaired(Problem.BRANCHES, shapes, call(one, other, **rest))


def repaired_prelu(call: Callable[..., Any], arguments: Arguments) -> Repaired | None:
    """Repairs PReLU slopes for another number of channels."""
    x, weight = arguments["input"], arguments["weight"]
    result = call(x, weight.new_zeros(x.shape[1]))
    return Repaired(Problem.NORM, (shape_of(x),), result, tuple(weight.shape))


_ONE_VALUE = """
    abs acos acosh asin asinh atan atanh bitwise_not ceil celu clamp clamp_max clamp_min
    cos cosh elu erf erfc exp exp2 expm1 floor gelu hardshrink
    hardsigmoid hardswish hardtanh isfinite isinf isnan leaky_relu log log10 log1p
    log2 log_sigmoid logical_not logit mish nan_to_num neg positive reciprocal
    relu6 round rsqrt selu sgn sign sin sinh softplus softshrink sqrt square tan threshold trunc
"""
_SEVERAL_VALUES = """
    addcdiv addcmul atan2 bitwise_and bitwise_or bitwise_xor divide eq floor_divide fmax
    fmin fmod ge gt heaviside hypot le lerp logical_and logical_or logical_xor lt masked_fill
    max.other min.other minimum ne pow remainder where xlogy __and__ __or__
"""
_REPAIRED = "add sub mul div rsub true_divide subtract multiply maximum"
_MADE_ANEW = "clone lift_fresh_copy to type_as _to_copy"
_FILLED = "full_like ones_like zeros_like fill zero"


GATE = "gate"
"""tanh(a)·sigmoid(b), where a and b are the first and the second half of the channels."""


def gate_halves(node: Node, nodes: Mapping[str, Node]) -> tuple[Node, Node] | None:
    """The nodes whose values are a and b where a node is tanh(a)·sigmoid(b)."""
    if node.operator != "mul" or node.call is None or len(set(node.call.refs)) != 2:
        return None
    factors = {nodes[edge.source].operator: nodes[edge.source] for edge in node.edges}
    if set(factors) != {"tanh", "sigmoid"}:
        return None
    return factors["tanh"], factors["sigmoid"]


def activation(node: Node) -> tuple[str, tuple[float, ...]] | None:
    """The name and numbers of an activation that a convolution can compute with its sum.

    None for any other node, and for those that oneDNN computes by approximations of its own.
    """
    if node.family is Family.RELU:
        return "relu", ()
    if node.operator == "relu6":
        return "hardtanh", (0.0, 6.0)
    names = {"hardtanh": ("min_val", "max_val"), "leaky_relu": ("negative_slope",)}
    if node.operator not in names or node.family is not Family.POINTWISE:
        return None
    scalars = tuple(float(argument(node, name)) for name in names[node.operator])
    return node.operator, scalars


def fills(node: Node) -> bool:
    """Whether a node takes the size of a map and none of its values: ``ones_like``."""
    if node.call is None or node.family is not Family.POINTWISE:
        return False
    return node.operator in _FILLED.split() and len(node.call.refs) == 1


_FINITE = """
    abs add celu clamp clamp_max clamp_min clone contiguous elu erf gelu hardsigmoid hardswish
    hardtanh leaky_relu log_sigmoid maximum minimum mish mul multiply neg relu relu6 rsub selu
    sigmoid sign silu softplus square sub subtract tanh threshold to type_as _to_copy
"""
_FINITE_FAMILIES = frozenset(
    (
        *(Family.CONVOLUTION, Family.TRANSPOSED_CONVOLUTION, Family.LINEAR, Family.PRODUCT),
        *(Family.MAX_POOL, Family.AVERAGE_POOL, Family.ADAPTIVE_MAX_POOL),
        *(Family.ADAPTIVE_AVERAGE_POOL, Family.RESIZE, Family.PAD, Family.CROP, Family.SELECT),
        *(Family.CONCATENATE, Family.STACK, Family.RESHAPE, Family.PERMUTE, Family.SQUEEZE),
        *(Family.UNSQUEEZE, Family.EXPAND, Family.REPEAT, Family.REPEAT_EACH, Family.INDEX),
        *(Family.PIXEL_SHUFFLE, Family.UNFOLD, Family.CHANNELS, Family.ALIAS, Family.DROPOUT),
        *(Family.RELU, Family.PRELU, Family.MEAN, Family.SUM, Family.LARGEST, Family.SMALLEST),
        *(Family.SOFTMAX, Family.MOMENTS, Family.BATCH_NORM, Family.INSTANCE_NORM),
        *(Family.GROUP_NORM, Family.LAYER_NORM, Family.RMS_NORM, Family.RECURRENCE),
    )
)


def stays_finite(node: Node) -> bool:
    """Whether finite inputs surely give finite numbers, as long as no sum overflows."""
    if node.call is None:
        return not node.edges
    numbers = [one for one in node.call.leaves if isinstance(one, float)]
    if not all(map(math.isfinite, numbers)) or node.call.argument("eps", 1.0) == 0:
        return False
    if node.operator in ("div", "true_divide"):
        divisor = node.call.argument("other")
        return isinstance(divisor, int | float) and divisor != 0
    return node.family in _FINITE_FAMILIES or node.operator in _FINITE.split()


def loses_nan(activation: str) -> bool:
    """Whether oneDNN makes zero of NaN in an activation with a convolution's sum (3.12)."""
    return activation in ("relu", "hardtanh")


def adds(node: Node) -> bool:
    """Whether a node is the plain sum of the values of two other nodes, perhaps broadcast."""
    if node.operator != "add" or node.call is None:
        return False
    return len(set(node.call.refs)) == len(node.edges) == 2 and node.call.argument("alpha", 1) == 1


def rounds(node: Node) -> bool:
    """Whether a node rounds to whole numbers, so that the last bit of a sum may decide a step."""
    return node.operator == "round"


OPERATORS = (
    Operator(f"{_ONE_VALUE} {_SEVERAL_VALUES}", Family.POINTWISE, pointwise),
    Operator("relu", Family.RELU, pointwise, layer=nn.ReLU),
    Operator("sigmoid", Family.POINTWISE, pointwise, layer=nn.Sigmoid),
    Operator("tanh", Family.POINTWISE, pointwise, layer=nn.Tanh),
    Operator("silu", Family.POINTWISE, pointwise, layer=nn.SiLU),
    Operator(
        _REPAIRED,
        Family.POINTWISE,
        pointwise,
        repair=Repair("one other", repaired_binary, also="iadd isub imul idiv radd rmul"),
    ),
    Operator("prelu", Family.PRELU, prelu_geometry, repair=Repair("input weight", repaired_prelu)),
    Operator(_MADE_ANEW, Family.POINTWISE, pointwise, other_operations=nothing),
    Operator(_FILLED, Family.POINTWISE, pointwise, other_operations=nothing),
    Operator(
        "alias contiguous detach",
        Family.ALIAS,
        pointwise,
        is_view=True,
        other_operations=nothing,
    ),
    Operator("rrelu", Family.POINTWISE, dropout),
    Operator(
        "dropout feature_dropout alpha_dropout",
        Family.DROPOUT,
        dropout,
        is_view=True,
        other_operations=nothing,
    ),
)
