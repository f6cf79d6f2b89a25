"""Operators over a whole axis: reductions, softmax, and those that work along it in order.

Operators such as ``cumsum`` and ``sort`` are local along channels. Along positions no axis map
describes them, because an output depends on all positions before it, or on values.
"""

from __future__ import annotations

from dataclasses import replace

from eyeshot.graph import NO_PARAMS, Family, Kind, MeasureParams
from eyeshot.language import tr
from eyeshot.operators.call import (
    Described,
    NoRule,
    Site,
    along,
    in_place,
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


_MEASURES = {
    ("max", 0): "largest",
    ("max", 1): "place of largest",
    ("min", 0): "smallest",
    ("min", 1): "place of smallest",
    ("aminmax", 0): "smallest",
    ("aminmax", 1): "largest",
    ("argmax", 0): "place of largest",
    ("argmin", 0): "place of smallest",
    ("var_mean", 0): "variance",
    ("std_mean", 0): "deviation",
    ("var_mean", 1): "mean",
    ("std_mean", 1): "mean",
    ("any", 0): "any",
    ("all", 0): "all",
    ("count_nonzero", 0): "count",
}
"""What an operator gives, by its name and the place of the result among its results."""


def measure_geometry(site: Site) -> Described:
    """``max``, ``argmax``, ``var_mean`` …: as :func:`reduction_geometry`, and what is given."""
    described = reduction_geometry(site)
    measure = _MEASURES.get((site.operator, site.item or 0))
    return replace(described, params=MeasureParams(measure=measure)) if measure else described


def softmax_geometry(site: Site) -> Described:
    """Softmax over channels is local; over positions it is a global statistic."""
    source = site.node("self")
    over: dict[int, int | None] = {int(site.arguments["dim"]) % len(source.shape): None}
    if not mixes_positions(source, over):
        return Described((along(source, {}),), source.dims)
    edge = along(source, {}, over)
    reason = tr("softmax over all positions")
    params = MeasureParams(measure="logarithm") if "log" in site.operator else NO_PARAMS
    return Described((edge,), source.dims, Kind.GLOBAL_STATISTIC, params, reason)


def accumulating(site: Site) -> Described:
    """``cumsum`` and similar."""
    dim = int(site.arguments["dim"])
    return in_place(site.node("self"), [dim], "each position takes in all those before it, along")


def ordering(site: Site) -> Described:
    """``sort`` and similar."""
    dim = int(site.arguments["dim"])
    return in_place(site.node("self"), [dim], "it puts values in order along")


def recurrence(site: Site) -> Described:
    """``lstm`` and similar, where every output depends on every position in order.

    This holds for both directions together, and for the states after the last position. In one
    direction an output reads only the positions before it, for which there is no axis map.
    """
    arguments, source = site.arguments, site.node("input")
    if "batch_first" not in arguments:
        raise NoRule("it takes packed sequences")
    batch, order = (0, 1) if arguments["batch_first"] else (1, 0)
    states = site.item not in (None, 0)
    if not states and not arguments["bidirectional"] and source.shape[order] > 1:
        raise NoRule(_ONE_WAY)
    features = {2: site.shape[-1]} if mixes_positions(source, {2: None}) else {}
    edge = along(source, {}, {order: 1 if states else source.shape[order], **features})
    places = {batch: 1, 2: 2} if states else {batch: batch, order: order, 2: 2}
    dims = tuple(None if dim is None else places.get(dim) for dim in source.dims)
    reason = tr("a recurrent layer reads every position in order")
    return Described((edge,), dims, Kind.NONLOCAL, reason=reason)


_ONE_WAY = "a recurrent layer carries a state from each position to the next"
_FFT = "fft_fft fft_ifft fft_rfft fft_irfft fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2 fft_fftn"


OPERATORS = (
    Operator("mean", Family.MEAN, reduction_geometry),
    Operator("sum", Family.SUM, reduction_geometry),
    Operator("amax", Family.LARGEST, reduction_geometry),
    Operator("amin", Family.SMALLEST, reduction_geometry),
    Operator(
        """
        max min prod argmax argmin var_mean std_mean median aminmax any all count_nonzero
        """,
        Family.STATISTIC,
        measure_geometry,
    ),
    Operator("logsumexp", Family.LOG_SUM, reduction_geometry),
    Operator("var", Family.VARIANCE, reduction_geometry),
    Operator("std", Family.DEVIATION, reduction_geometry),
    Operator("norm linalg_vector_norm", Family.MAGNITUDE, reduction_geometry),
    Operator("softmax _softmax log_softmax _log_softmax", Family.SOFTMAX, softmax_geometry),
    Operator("cumsum cumprod logcumsumexp cummax cummin", Family.SCAN, accumulating),
    Operator("sort argsort topk", Family.SORT, ordering),
    Operator("lstm gru rnn_tanh rnn_relu", Family.RECURRENCE, recurrence),
    Operator(
        "im2col",
        no_rule="it lays the windows of rows and columns out in one line",
    ),
    Operator(
        "col2im",
        no_rule="it takes windows that lie in one line",
    ),
    Operator(
        "grid_sampler grid_sampler_2d grid_sampler_3d",
        no_rule="it reads at places that the values of a map decide",
    ),
    Operator(_FFT, no_rule="every frequency depends on every position"),
)
