"""Rules for operators that move dimensions about: reshape, permute, squeeze, expand, stack."""

from __future__ import annotations

import math
from collections.abc import Iterator

from eyeshot.axes import AxisMap, Broadcast, Everything, Identity, Pad, Resize, Window
from eyeshot.frontends.sites import Described, NoRule, Rule, Site
from eyeshot.graph import Edge, Kind, Node

_FLATTENED = "flattens positions into features"


def reshaping(site: Site) -> Described:
    """``view``, ``reshape``, ``flatten``, ``unflatten``.

    Dimensions fall into groups with equal products. A spatial axis alone in its group stays; one
    split into blocks is space to depth (the blocks' inside becomes channels); one merged with
    faster dimensions behind it is depth to space; anything else flattens positions.
    """
    source = site.sources[0]
    dims: list[int | None] = list(source.dims)
    maps: list[AxisMap] = [Identity()] * len(dims)
    flattened = False
    for old, new in _groups(source.shape, site.shape):
        axes = [a for a, dim in enumerate(source.dims) if dim in old]
        for axis in axes:
            place = _moved(source, axis, old, new, site.shape) if _alone(source, axes) else None
            if place is None:
                flattened = True
                maps[axis], dims[axis] = Everything(1), None
            else:
                maps[axis], dims[axis] = place
    edge = Edge(source.name, tuple(maps))
    kind, reason = (Kind.NEITHER, _FLATTENED) if flattened else (Kind.LOCAL, "")
    return Described((edge,), tuple(dims), kind, reason=reason)


def _alone(source: Node, axes: list[int]) -> bool:
    """Whether at most one axis of the group has more than one position."""
    return sum(source.extents[axis] > 1 for axis in axes) <= 1


def _moved(
    source: Node, axis: int, old: list[int], new: list[int], shape: tuple[int, ...]
) -> tuple[AxisMap, int | None] | None:
    """Where one axis goes in its group, and by which map; None if it cannot be told apart."""
    dim = source.dims[axis]
    extent = source.extents[axis]
    if extent == 1:
        singles = [place for place in new if shape[place] == 1]
        return Identity(), (singles[0] if singles and len(old) == 1 else None)
    wide_old = [place for place in old if source.shape[place] > 1]
    wide_new = [place for place in new if shape[place] > 1]
    if wide_old != [dim]:
        # Merged: positions stay in order only when the axis is the slowest of its group.
        if wide_old[0] != dim or len(wide_new) != 1:
            return None
        return Resize("nearest", factor=shape[wide_new[0]] / extent), wide_new[0]
    if len(wide_new) == 1:
        return Identity(), wide_new[0]
    block = math.prod(shape[place] for place in wide_new[1:])
    return Window(block, block), wide_new[0]


def _groups(old: tuple[int, ...], new: tuple[int, ...]) -> Iterator[tuple[list[int], list[int]]]:
    """Split both shapes into the smallest runs of dimensions with equal products."""
    i = j = 0
    while i < len(old) or j < len(new):
        left: list[int] = []
        right: list[int] = []
        a = b = 1
        while True:
            if a <= b and i < len(old) and (a != b or not left):
                left.append(i)
                a *= old[i]
                i += 1
            elif j < len(new) and (a != b or not right):
                right.append(j)
                b *= new[j]
                j += 1
            else:
                break
            if a == b and left and right:
                break
        yield left, right


def permuting(site: Site) -> Described:
    """``permute``, ``transpose``, ``movedim`` by their effect on dimensions."""
    source = site.sources[0]
    rank = len(source.shape)
    order = _order(site, rank)
    dims = tuple(None if dim is None else order.index(dim) for dim in source.dims)
    edge = Edge(source.name, (Identity(),) * len(dims))
    return Described((edge,), dims, attributes={"order": tuple(order)})


def _order(site: Site, rank: int) -> list[int]:
    if site.operator == "permute":
        return [int(dim) % rank for dim in site.arguments["dims"]]
    order = list(range(rank))
    if site.operator in ("movedim", "moveaxis"):
        return _moved_order(site, rank)
    if site.operator in ("transpose", "swapaxes", "swapdims"):
        names = [name for name in site.arguments if name != "self"]
        one, other = (int(site.arguments[name]) % rank for name in names)
    elif site.operator in ("mT", "mH", "adjoint"):
        one, other = rank - 2, rank - 1
    elif rank == 2:  # t()
        one, other = 0, 1
    else:
        raise NoRule("an order of dimensions that is not known")
    order[one], order[other] = order[other], order[one]
    return order


def _moved_order(site: Site, rank: int) -> list[int]:
    """``movedim``: the dimensions named go to their places, the others keep their order."""

    def dims(name: str) -> list[int]:
        value = site.arguments[name]
        return [int(dim) % rank for dim in ([value] if isinstance(value, int) else value)]

    moved = dict(zip(dims("destination"), dims("source"), strict=True))
    rest = iter([dim for dim in range(rank) if dim not in moved.values()])
    return [moved[place] if place in moved else next(rest) for place in range(rank)]


def unsqueezing(site: Site) -> Described:
    """A new dimension of one."""
    source = site.sources[0]
    place = int(site.arguments["dim"]) % len(site.shape)
    dims = tuple(None if d is None else d + (d >= place) for d in source.dims)
    return Described((Edge(source.name, (Identity(),) * len(dims)),), dims)


def squeezing(site: Site) -> Described:
    """Dimensions of one taken away; an axis of one position vanishes with its dimension."""
    source = site.sources[0]
    rank = len(source.shape)
    named = site.arguments.get("dim")
    listed = range(rank) if named is None else [named] if isinstance(named, int) else named
    gone = {int(dim) % rank for dim in listed if source.shape[int(dim) % rank] == 1}
    return Described((Edge(source.name, (Identity(),) * len(source.dims)),), _without(source, gone))


def _without(source: Node, gone: set[int]) -> tuple[int | None, ...]:
    """The dimensions of each axis after some have been taken away."""
    return tuple(
        None if dim is None or dim in gone else dim - sum(one < dim for one in gone)
        for dim in source.dims
    )


def expanding(site: Site) -> Described:
    """``expand`` and ``expand_as``: dimensions of one repeated.

    An axis of one position, such as that of a global mean, lies in the result of ``expand_as``
    where it lies in the other tensor.
    """
    source, other = site.node("self"), site.arguments.get("other")
    shift = len(site.shape) - len(source.shape)
    shape = (1,) * shift + source.shape
    dims = tuple(None if dim is None else dim + shift for dim in source.dims)
    if isinstance(other, Node):
        dims = tuple(
            there if there is not None and n == 1 == shape[there] else dim
            for dim, there, n in zip(dims, other.dims, source.extents, strict=True)
        )
    axes: list[AxisMap] = []
    for have, dim in zip(source.extents, dims, strict=True):
        wanted = 1 if dim is None else site.shape[dim]
        axes.append(Identity() if have == wanted else Broadcast(wanted))
    return Described((Edge(source.name, tuple(axes)),), dims)


def selecting(site: Site) -> Described:
    """``x[:, i]``: one place of a dimension, which vanishes."""
    source = site.sources[0]
    rank = len(source.shape)
    dim = int(site.arguments["dim"]) % rank
    n = source.shape[dim]
    index = site.item if site.operator == "unbind" else int(site.arguments["index"])
    index = (index or 0) % n
    crop = Pad(-index, index + 1 - n)
    axes = tuple(crop if d == dim else Identity() for d in source.dims)
    return Described((Edge(source.name, axes),), _without(source, {dim}))


def stacking(site: Site) -> Described:
    """``stack``: a new dimension that counts the parts."""
    sources = site.sources
    place = int(site.arguments["dim"]) % len(site.shape)
    if any(source.dims != sources[0].dims for source in sources):
        raise NoRule("its parts hold an axis in different dimensions")
    dims = tuple(None if d is None else d + (d >= place) for d in sources[0].dims)
    edges = tuple(Edge(source.name, (Identity(),) * len(dims)) for source in sources)
    return Described(edges, dims)


RULES: dict[str, Rule] = {
    **dict.fromkeys(("view", "reshape", "flatten", "unflatten", "_unsafe_view"), reshaping),
    **dict.fromkeys(("permute", "transpose", "swapaxes", "swapdims", "t"), permuting),
    **dict.fromkeys(("mT", "mH", "adjoint"), permuting),
    **dict.fromkeys(("movedim", "moveaxis"), permuting),
    "unsqueeze": unsqueezing,
    "squeeze": squeezing,
    "expand": expanding,
    "expand_as": expanding,
    "select": selecting,
    "unbind": selecting,
    "stack": stacking,
}
