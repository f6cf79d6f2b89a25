"""Reductions (means, sums, extremes and other statistics) and softmax."""

from __future__ import annotations

from eyeshot.graph import Family, Kind
from eyeshot.language import tr
from eyeshot.operators.call import (
    Described,
    Site,
    along,
    mixes_positions,
    without,
)
from eyeshot.operators.record import Operator


def reduction_geometry(site: Site) -> Described:
    """``mean``, ``sum``, ``amax`` … over some or all dimensions."""
    source = site.node("self")
    rank = len(source.shape)
    named = site.arguments.get("dim")
    listed = range(rank) if named in (None, []) else [named] if isinstance(named, int) else named
    gone = {int(dim) % rank for dim in listed}
    keep = bool(site.arguments.get("keepdim", False))
    dims = source.dims if keep else without(source, gone)
    if not mixes_positions(source, dict.fromkeys(gone)):
        return Described((along(source, {}),), dims)
    edge = along(source, {}, dict.fromkeys(gone, 1))
    reason = tr("{operator} over all positions", operator=site.operator)
    return Described((edge,), dims, Kind.GLOBAL_STATISTIC, reason=reason)


def softmax_geometry(site: Site) -> Described:
    """Softmax over channels is local; over positions it is a global statistic."""
    source = site.node("self")
    over: dict[int, int | None] = {int(site.arguments["dim"]) % len(source.shape): None}
    if not mixes_positions(source, over):
        return Described((along(source, {}),), source.dims)
    edge = along(source, {}, over)
    reason = tr("softmax over all positions")
    return Described((edge,), source.dims, Kind.GLOBAL_STATISTIC, reason=reason)


OPERATORS = (
    Operator("mean", Family.MEAN, reduction_geometry),
    Operator("sum", Family.SUM, reduction_geometry),
    Operator("amax", Family.LARGEST, reduction_geometry),
    Operator("amin", Family.SMALLEST, reduction_geometry),
    Operator(
        """
        max min prod argmax argmin var_mean std_mean median
        """,
        Family.STATISTIC,
        reduction_geometry,
    ),
    Operator("logsumexp", Family.LOG_SUM, reduction_geometry),
    Operator("var", Family.VARIANCE, reduction_geometry),
    Operator("std", Family.DEVIATION, reduction_geometry),
    Operator("norm linalg_vector_norm", Family.MAGNITUDE, reduction_geometry),
    Operator("softmax _softmax log_softmax _log_softmax", Family.SOFTMAX, softmax_geometry),
)
