"""Rules for operators that mix positions or features: means, norms, products, attention."""

from __future__ import annotations

from eyeshot.axes import Everything, Identity
from eyeshot.frontends.sites import (
    Described,
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
    edge = along(source, {}, dict.fromkeys(gone, 1))
    dims = source.dims if keep else _without(source, gone)
    if not mixes_positions(source, dict.fromkeys(gone)):
        return Described((edge,), dims)
    return Described((edge,), dims, Kind.REDUCIBLE, reason=f"{site.operator} over all positions")


def _without(source: Node, gone: set[int]) -> tuple[int | None, ...]:
    return tuple(
        None if dim is None or dim in gone else dim - sum(one < dim for one in gone)
        for dim in source.dims
    )


def batch_normalisation(site: Site) -> Described:
    """A scale and a shift per channel in eval mode; in training mode it mixes the batch."""
    source = site.node("input")
    if not site.arguments["training"]:
        return Described((along(source, {}),), source.dims)
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
    edge = along(source, {}, over)
    kind = Kind.REDUCIBLE if mixes_positions(source, over) else Kind.LOCAL
    return Described((edge,), source.dims, kind, attributes, reason if kind != Kind.LOCAL else "")


def layer_normalisation(site: Site) -> Described:
    """Over the last dimensions; local where they are channels alone (channels last)."""
    source = site.node("input")
    last = len(site.arguments["normalized_shape"])
    rank = len(source.shape)
    over: dict[int, int | None] = dict.fromkeys(range(rank - last, rank))
    edge = along(source, {}, over)
    if not mixes_positions(source, over):
        return Described((edge,), source.dims)
    return Described((edge,), source.dims, Kind.REDUCIBLE, reason="normalises over all positions")


def softmax(site: Site) -> Described:
    """Over channels it is pointwise; over positions it needs their sum first."""
    source = site.node("self")
    over: dict[int, int | None] = {int(site.arguments["dim"]) % len(source.shape): None}
    edge = along(source, {}, over)
    if not mixes_positions(source, over):
        return Described((edge,), source.dims)
    return Described((edge,), source.dims, Kind.REDUCIBLE, reason="softmax over all positions")


def linear(site: Site) -> Described:
    """A linear layer on the last dimension."""
    source, weight = site.node("input"), site.shape_of("weight")
    last = len(source.shape) - 1
    attributes = {
        "in_features": weight[1],
        "out_features": weight[0],
        "bias": site.arguments["bias"] is not None,
    }
    over: dict[int, int | None] = {last: weight[0]}
    edge = along(source, {}, over)
    if not mixes_positions(source, over):
        return Described((edge,), source.dims, attributes=attributes)
    reason = "a linear layer along a spatial axis weighs every position"
    return Described((edge,), source.dims, Kind.NEITHER, attributes, reason)


def product(site: Site) -> Described:
    """``matmul`` and its kin, on features; between positions it is attention by another name."""
    if any(extent > 1 for source in site.sources for extent in source.extents):
        return _whole(site, "multiplies positions with one another")
    edges = tuple(Edge(s.name, (Identity(),) * len(s.dims)) for s in site.sources)
    return Described(edges, (None,) * len(site.sources[0].dims))


def attention(site: Site) -> Described:
    """Scaled dot-product attention: every query looks at every key."""
    return _whole(site, "attention: every position looks at every other")


def _whole(site: Site, reason: str) -> Described:
    """Everything depends on everything, and positions can no longer be told apart."""
    sources = site.sources
    edges = tuple(Edge(s.name, (Everything(1),) * len(s.dims)) for s in sources)
    return Described(edges, (None,) * len(sources[0].dims), Kind.NEITHER, reason=reason)


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
    "softmax": softmax,
    "log_softmax": softmax,
    "_softmax": softmax,
    "_log_softmax": softmax,
    "linear": linear,
    **dict.fromkeys(("matmul", "mm", "bmm", "addmm", "baddbmm"), product),
    "scaled_dot_product_attention": attention,
    **dict.fromkeys(("dropout", "feature_dropout", "alpha_dropout"), dropout),
}
