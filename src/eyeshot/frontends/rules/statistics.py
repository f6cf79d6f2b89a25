"""Rules for operators that may mix all positions in one statistic: means, norms, softmax."""

from __future__ import annotations

from eyeshot.axes import Everything
from eyeshot.frontends.sites import (
    Described,
    NoRule,
    Rule,
    Site,
    along,
    mixes_positions,
    pointwise,
)
from eyeshot.graph import Edge, Kind, Node


def reducing(site: Site) -> Described:
    """``mean``, ``sum``, ``amax`` … over some dimensions or all."""
    source = site.node("self")
    rank = len(source.shape)
    named = site.arguments.get("dim")
    listed = range(rank) if named in (None, []) else [named] if isinstance(named, int) else named
    gone = {int(dim) % rank for dim in listed}
    keep = bool(site.arguments.get("keepdim", False))
    dims = source.dims if keep else _without(source, gone)
    if not mixes_positions(source, dict.fromkeys(gone)):
        return Described((along(source, {}),), dims)
    edge = along(source, {}, dict.fromkeys(gone, 1))
    return Described((edge,), dims, Kind.REDUCIBLE, reason=f"{site.operator} over all positions")


def _without(source: Node, gone: set[int]) -> tuple[int | None, ...]:
    return tuple(
        None if dim is None or dim in gone else dim - sum(one < dim for one in gone)
        for dim in source.dims
    )


def batch_normalisation(site: Site) -> Described:
    """A scale and a shift per channel in eval mode; in training mode it mixes the batch."""
    source = site.node("input")
    if mixes_positions(source, {1: None}):
        raise NoRule("it takes a spatial axis for channels")
    if not site.arguments["training"]:
        return Described((along(source, {}),), source.dims)
    if site.arguments["running_mean"] is None:  # no mode would change that
        return _over_positions(
            source, {}, "batch norm that tracks no statistics normalises over all positions"
        )
    edge = Edge(source.name, (Everything(),) * len(source.dims))
    reason = "batch norm in training mode uses this batch's statistics; call net.eval()"
    return Described((edge,), source.dims, Kind.NEITHER, {"training": True}, reason)


def instance_normalisation(site: Site) -> Described:
    """Each channel by its own mean and variance over all positions."""
    source = site.node("input")
    if not site.arguments["use_input_stats"]:
        return Described((along(source, {}),), source.dims)
    return _over_positions(source, {}, "normalises each channel over all positions")


def group_normalisation(site: Site) -> Described:
    """Groups of channels by their mean and variance over all positions."""
    groups = int(site.arguments["num_groups"])
    return _over_positions(
        site.node("input"), {"groups": groups}, "normalises groups of channels over all positions"
    )


def _over_positions(source: Node, attributes: dict[str, object], reason: str) -> Described:
    """Dimension 1 holds channels; all after it are positions."""
    over: dict[int, int | None] = dict.fromkeys(range(1, len(source.shape)))
    if not mixes_positions(source, over):
        return Described((along(source, {}),), source.dims, attributes=attributes)
    return Described((along(source, {}, over),), source.dims, Kind.REDUCIBLE, attributes, reason)


def layer_normalisation(site: Site) -> Described:
    """Over the last dimensions; local where they are channels alone (channels last)."""
    source = site.node("input")
    last = len(site.arguments["normalized_shape"])
    rank = len(source.shape)
    over: dict[int, int | None] = dict.fromkeys(range(rank - last, rank))
    if not mixes_positions(source, over):
        return Described((along(source, {}),), source.dims)
    edge = along(source, {}, over)
    return Described((edge,), source.dims, Kind.REDUCIBLE, reason="normalises over all positions")


def softmax(site: Site) -> Described:
    """Over channels it is pointwise; over positions it needs their sum first."""
    source = site.node("self")
    over: dict[int, int | None] = {int(site.arguments["dim"]) % len(source.shape): None}
    if not mixes_positions(source, over):
        return Described((along(source, {}),), source.dims)
    edge = along(source, {}, over)
    return Described((edge,), source.dims, Kind.REDUCIBLE, reason="softmax over all positions")


def dropout(site: Site) -> Described:
    """Nothing in eval mode; random in training mode."""
    told = pointwise(site)
    if not site.arguments.get("train", site.arguments.get("training", False)):
        return told
    reason = "dropout in training mode is random; call net.eval()"
    return Described(told.edges, told.dims, Kind.NEITHER, {"training": True}, reason)


RULES: dict[str, Rule] = {
    **dict.fromkeys(("mean", "sum", "amax", "amin", "max", "min", "prod"), reducing),
    **dict.fromkeys(("var", "std", "argmax", "argmin", "logsumexp", "norm"), reducing),
    **dict.fromkeys(("linalg_vector_norm", "var_mean", "std_mean", "median"), reducing),
    "batch_norm": batch_normalisation,
    "instance_norm": instance_normalisation,
    "group_norm": group_normalisation,
    "layer_norm": layer_normalisation,
    "rms_norm": layer_normalisation,
    "softmax": softmax,
    "log_softmax": softmax,
    "_softmax": softmax,
    "_log_softmax": softmax,
    **dict.fromkeys(("dropout", "feature_dropout", "alpha_dropout"), dropout),
}
