"""Batch, instance, group and layer normalization.

In eval mode, batch norm is a scale and a shift. The others need statistics over positions or
channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from eyeshot.axes import (
    Global,
)
from eyeshot.graph import NO_PARAMS, Edge, Family, GroupParams, Kind, Node, Params, TrainingParams
from eyeshot.language import tr
from eyeshot.operators.call import (
    Described,
    NoRule,
    Site,
    along,
    mixes_positions,
)
from eyeshot.operators.record import Operator
from eyeshot.operators.repaired import (
    Arguments,
    Problem,
    Repair,
    Repaired,
    of_length,
    shape_of,
)


def batch_normalization(site: Site) -> Described:
    """In eval mode a scale and a shift for each channel; in training mode it mixes the batch."""
    source = site.node("input")
    _refuse_positions(source, 1)
    if not site.arguments["training"]:
        return Described((along(source, {}),), source.dims)
    _refuse_positions(source, 0)
    if site.arguments["running_mean"] is None:  # no mode would change that
        return _over_positions(
            source, NO_PARAMS, "batch norm that tracks no statistics normalizes over all positions"
        )
    edge = Edge(source.name, (Global(),) * len(source.dims))
    reason = "batch norm in training mode uses this batch's statistics; call net.eval()"
    return Described((edge,), source.dims, Kind.NONLOCAL, TrainingParams(), reason)


def instance_normalization(site: Site) -> Described:
    """Each channel is normalized by its own mean and variance over all positions."""
    source = site.node("input")
    _refuse_positions(source, 1)
    if not site.arguments["use_input_stats"]:
        return Described((along(source, {}),), source.dims)
    return _over_positions(source, NO_PARAMS, "normalizes each channel over all positions")


def group_normalization(site: Site) -> Described:
    """Each group of channels is normalized by its mean and variance over all positions."""
    groups = int(site.arguments["num_groups"])
    source = site.node("input")
    _refuse_positions(source, 1)
    return _over_positions(
        source,
        GroupParams(groups=groups),
        "normalizes groups of channels over all positions",
    )


def _refuse_positions(source: Node, dim: int) -> None:
    """Leave a norm to a call on whole maps if positions lie where torch expects something else.

    Dimension 1 holds channels, and dimension 0 the batch; a map without a batch is read wrongly.
    """
    if mixes_positions(source, {dim: None}):
        raise NoRule(f"it takes a spatial axis for {'the batch' if dim == 0 else 'channels'}")


def _over_positions(source: Node, params: Params, reason: str) -> Described:
    """A normalization over all positions: dimension 1 is channels, those after it positions."""
    over: dict[int, int | None] = dict.fromkeys(range(1, len(source.shape)))
    if not mixes_positions(source, over):
        return Described((along(source, {}),), source.dims, params=params)
    return Described((along(source, {}, over),), source.dims, Kind.GLOBAL_STATISTIC, params, reason)


def layer_normalization(site: Site) -> Described:
    """Normalizes over the last dimensions; local if these are channels only (channels last)."""
    source = site.node("input")
    last = len(site.arguments["normalized_shape"])
    rank = len(source.shape)
    over: dict[int, int | None] = dict.fromkeys(range(rank - last, rank))
    if not mixes_positions(source, over):
        return Described((along(source, {}),), source.dims)
    edge = along(source, {}, over)
    reason = tr("normalizes over all positions")
    return Described((edge,), source.dims, Kind.GLOBAL_STATISTIC, reason=reason)


def repaired_batch_norm(call: Callable[..., Any], arguments: Arguments) -> Repaired | None:
    """Repairs weights for another number of channels, or one value per channel in training mode."""
    x, mean = arguments["input"], arguments.get("running_mean")
    stored = {name: arguments.get(name) for name in ("running_mean", "running_var")}
    learned = {name: arguments.get(name) for name in ("weight", "bias")}
    built = next((v for v in (mean, *learned.values()) if v is not None), None)
    if built is None or built.shape[0] == x.shape[1]:
        if not arguments.get("training") or mean is None:
            return None
        result = call(**{**arguments, "training": False})
        return Repaired(Problem.ONE_VALUE, (shape_of(x),), result)
    result = call(**{**arguments, **of_length({**stored, **learned}, x.shape[1])})
    return Repaired(Problem.NORM, (shape_of(x),), result, tuple(built.shape))


def repaired_group_norm(call: Callable[..., Any], arguments: Arguments) -> Repaired | None:
    """Repairs weights for another number of channels, or groups that do not divide it."""
    x, groups = arguments["input"], arguments["num_groups"]
    learned = {name: arguments.get(name) for name in ("weight", "bias")}
    built = next((v for v in learned.values() if v is not None), None)
    channels = x.shape[1]
    fitting = math.gcd(groups, channels)
    changed = {**arguments, "num_groups": fitting, **of_length(learned, channels)}
    problem = Problem.NORM if channels % groups == 0 else Problem.GROUPS
    weight = None if built is None else tuple(built.shape)
    return Repaired(problem, (shape_of(x),), call(**changed), weight, {"groups": groups})


def repaired_layer_norm(call: Callable[..., Any], arguments: Arguments) -> Repaired | None:
    """Repairs a ``normalized_shape`` that does not match the input's last dimensions."""
    x, built = arguments["input"], tuple(arguments["normalized_shape"])
    over = tuple(x.shape[-len(built) :])
    learned = {
        name: None if arguments.get(name) is None else arguments[name].new_zeros(over)
        for name in ("weight", "bias")
    }
    result = call(**{**arguments, "normalized_shape": over, **learned})
    return Repaired(Problem.NORM, (shape_of(x),), result, built)


def scale_and_shift(node: Node, read: int, gives: int) -> int:
    """Operations: two for each output number."""
    return 2 * gives


OPERATORS = (
    Operator(
        "batch_norm",
        Family.BATCH_NORM,
        batch_normalization,
        other_operations=scale_and_shift,
        repair=Repair(
            "input running_mean running_var weight bias training momentum eps",
            repaired_batch_norm,
        ),
    ),
    Operator("instance_norm", Family.INSTANCE_NORM, instance_normalization),
    Operator(
        "group_norm",
        Family.GROUP_NORM,
        group_normalization,
        repair=Repair("input num_groups weight bias eps", repaired_group_norm),
    ),
    Operator(
        "layer_norm",
        Family.LAYER_NORM,
        layer_normalization,
        repair=Repair("input normalized_shape weight bias eps", repaired_layer_norm),
    ),
    Operator("rms_norm", Family.RMS_NORM, layer_normalization),
)
