"""Rules for operators that move or gate channels, and leave positions where they are."""

from __future__ import annotations

from collections.abc import Iterable

from eyeshot.axes import Broadcast, Identity
from eyeshot.frontends.sites import Described, NoRule, Rule, Site
from eyeshot.graph import Edge, Node


def in_place(source: Node, touched: Iterable[int], doing: str) -> Described:
    """Positions stay, if no spatial axis of more than one position is touched.

    Raises:
        NoRule: one is; ``doing`` says what would happen to it.
    """
    rank = len(source.shape)
    dims = {dim % rank for dim in touched}
    if any(dim in dims and source.shape[dim] > 1 for dim in source.dims if dim is not None):
        raise NoRule(f"{doing} a spatial axis")
    return Described((Edge(source.name, (Identity(),) * len(source.dims)),), source.dims)


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


def repeating(site: Site) -> Described:
    """``repeat``: channels side by side; positions only where there was one."""
    source = site.node("self")
    shift = len(site.shape) - len(source.shape)
    dims = tuple(None if dim is None else dim + shift for dim in source.dims)
    axes: list[Broadcast | Identity] = []
    for have, dim in zip(source.extents, dims, strict=True):
        wanted = 1 if dim is None else site.shape[dim]
        if have != wanted and have != 1:
            raise NoRule("it repeats a spatial axis")
        axes.append(Identity() if have == wanted else Broadcast(wanted))
    return Described((Edge(source.name, tuple(axes)),), dims)


RULES: dict[str, Rule] = {
    "glu": gating,
    "flip": flipping,
    "roll": rolling,
    "channel_shuffle": shuffling_channels,
    "repeat": repeating,
}
