"""Operators that move or gate channels and keep positions."""

from __future__ import annotations

import math

from eyeshot.axes import (
    Identity,
)
from eyeshot.graph import Edge, Family, Node, Weight
from eyeshot.operators.call import (
    Described,
    NoRule,
    Site,
    in_place,
)
from eyeshot.operators.pointwise import pointwise
from eyeshot.operators.record import Operator


def gating(site: Site) -> Described:
    """``glu``: one half of the channels gates the other."""
    return in_place(site.node("self"), [int(site.arguments["dim"])], "it halves")


def flipping(site: Site) -> Described:
    """``flip`` of channels."""
    return in_place(site.node("self"), map(int, site.arguments["dims"]), "it turns round")


def rolling(site: Site) -> Described:
    """``roll`` of channels."""
    dims = [int(dim) for dim in site.arguments["dims"]]
    source = site.node("self")
    return in_place(source, dims or range(len(source.shape)), "it rolls")


def shuffling_channels(site: Site) -> Described:
    """``channel_shuffle``: groups of channels interleaved."""
    return in_place(site.node("self"), [1], "it shuffles")


def indexing(site: Site) -> Described:
    """``index`` and ``index_select`` by constant indices: channels selected in any order."""
    source = site.node("self")
    dim, index = _picked(site, len(source.shape))
    if source.shape[dim] > 1 and dim in source.dims:
        raise NoRule("it picks positions along a spatial axis")
    more = len(site.weight_shapes[index.name]) - 1
    dims = tuple(None if d in (None, dim) else d + more * (d > dim) for d in source.dims)
    return Described((Edge(source.name, (Identity(),) * len(dims)),), dims)


def _picked(site: Site, rank: int) -> tuple[int, Weight]:
    """The dimension that is indexed, and the constant tensor of indices.

    Raises:
        NoRule: several dimensions are indexed, or the indices depend on the input.
    """
    if "dim" in site.arguments:
        found = [(int(site.arguments["dim"]) % rank, site.arguments["index"])]
    else:
        places = enumerate(site.arguments["indices"])
        found = [(dim, index) for dim, index in places if index is not None]
    if len(found) != 1:
        raise NoRule("it indexes several dimensions at once")
    dim, index = found[0]
    if not isinstance(index, Weight):
        raise NoRule("it reads at places that the values of a map decide")
    return dim, index


def putting(site: Site) -> Described:
    """``index_put``: by a mask of the same shape, or into channels given by constant indices."""
    source, values = site.arguments["self"], site.arguments["values"]
    given = site.arguments["indices"]
    if len(given) == 1 and isinstance(given[0], Node) and given[0].shape == site.shape:
        if not isinstance(values, Weight) or math.prod(site.weight_shapes[values.name]) != 1:
            raise NoRule("it writes as many values as its mask has ones")
        return pointwise(site)
    dim, _ = _picked(site, len(site.shape))
    nodes = [one for one in (source, values) if isinstance(one, Node)]
    layouts = {_from_the_end(one, len(site.shape)) for one in nodes}
    if len(layouts) > 1:
        raise NoRule("it writes values of another layout")
    (dims,) = layouts
    if dim in dims:
        raise NoRule("it picks positions along a spatial axis")
    weights = [one for one in (source, values) if isinstance(one, Weight)]
    if any(math.prod(site.weight_shapes[one.name]) != 1 for one in weights):
        raise NoRule("it writes constants for each position")
    edges = tuple(Edge(one.name, (Identity(),) * len(dims)) for one in nodes)
    return Described(edges, dims)


def _from_the_end(node: Node, rank: int) -> tuple[int | None, ...]:
    """The dimension of each axis after broadcasting to ``rank`` dimensions; None if vanished."""
    more = rank - len(node.shape)
    return tuple(None if dim is None else dim + more for dim in node.dims)


OPERATORS = (
    Operator("glu", Family.CHANNELS, gating),
    Operator("flip", Family.CHANNELS, flipping),
    Operator("roll", Family.CHANNELS, rolling),
    Operator("channel_shuffle", Family.CHANNELS, shuffling_channels),
    Operator("index index_select", Family.INDEX, indexing),
    Operator("index_put", Family.INDEX, putting),
)
