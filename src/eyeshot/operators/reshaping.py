"""Operators that rearrange dimensions: reshape, permute, squeeze, expand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from eyeshot.axes import (
    AxisMap,
    Broadcast,
    Global,
    Identity,
    Resize,
    Window,
)
from eyeshot.graph import Edge, Family, Kind, Node, PermuteParams
from eyeshot.language import mark, tr
from eyeshot.operators.call import (
    Described,
    NoRule,
    Rule,
    Site,
    Tensors,
    without,
)
from eyeshot.operators.record import Operator, copied, nothing
from eyeshot.operators.repaired import (
    Arguments,
    Problem,
    Repair,
    Repaired,
    resized,
    shape_of,
)
from eyeshot.operators.tile import (
    Box,
    Computation,
    Tile,
    cut,
    local_shape,
    reached,
)

_FLATTENED = mark("flattens positions into features")


def reshape_geometry(site: Site) -> Described:
    """``view``, ``reshape``, ``flatten``, ``unflatten``.

    The dimensions before and after are split into groups with equal products. A spatial axis that
    is alone in its group stays. One that is split into blocks is space to depth: positions inside a
    block become channels. One that is merged with dimensions after it is depth to space. Anything
    else flattens positions into features.
    """
    source = site.sources[0]
    dims: list[int | None] = list(source.dims)
    maps: list[AxisMap] = [Identity()] * len(dims)
    flattened = False
    for old, new in groups(source.shape, site.shape):
        axes = [a for a, dim in enumerate(source.dims) if dim in old]
        for axis in axes:
            place = _moved(source, axis, old, new, site.shape) if _alone(source, axes) else None
            if place is None:
                flattened = True
                maps[axis], dims[axis] = Global(1), None
            else:
                maps[axis], dims[axis] = place
    edge = Edge(source.name, tuple(maps))
    kind, reason = (Kind.NONLOCAL, tr(_FLATTENED)) if flattened else (Kind.LOCAL, "")
    return Described((edge,), tuple(dims), kind, reason=reason)


def _alone(source: Node, axes: list[int]) -> bool:
    """Whether at most one axis of the group has more than one position."""
    return sum(source.extents[axis] > 1 for axis in axes) <= 1


def _moved(
    source: Node, axis: int, old: list[int], new: list[int], shape: tuple[int, ...]
) -> tuple[AxisMap, int | None] | None:
    """An axis's map and its new dimension; None if it is merged so that positions mix."""
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


def groups(old: tuple[int, ...], new: tuple[int, ...]) -> Iterator[tuple[list[int], list[int]]]:
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


def permute_geometry(site: Site) -> Described:
    """``permute``, ``transpose``, ``movedim`` and similar: each axis gets a new dimension."""
    source = site.sources[0]
    rank = len(source.shape)
    order = _order(site, rank)
    dims = tuple(None if dim is None else order.index(dim) for dim in source.dims)
    edge = Edge(source.name, (Identity(),) * len(dims))
    return Described((edge,), dims, params=PermuteParams(order=tuple(order)))


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
    """The order for ``movedim``: named dimensions go to their places, others keep their order."""

    def dims(name: str) -> list[int]:
        value = site.arguments[name]
        return [int(dim) % rank for dim in ([value] if isinstance(value, int) else value)]

    moved = dict(zip(dims("destination"), dims("source"), strict=True))
    rest = iter([dim for dim in range(rank) if dim not in moved.values()])
    return [moved[place] if place in moved else next(rest) for place in range(rank)]


def unsqueeze_geometry(site: Site) -> Described:
    """``unsqueeze``: a new dimension of size 1."""
    source = site.sources[0]
    place = int(site.arguments["dim"]) % len(site.shape)
    dims = tuple(None if d is None else d + (d >= place) for d in source.dims)
    return Described((Edge(source.name, (Identity(),) * len(dims)),), dims)


def squeeze_geometry(site: Site) -> Described:
    """``squeeze``: dimensions of size 1 are removed; an axis of one position vanishes."""
    source = site.sources[0]
    rank = len(source.shape)
    named = site.arguments.get("dim")
    listed = range(rank) if named is None else [named] if isinstance(named, int) else named
    gone = {int(dim) % rank for dim in listed if source.shape[int(dim) % rank] == 1}
    return Described((Edge(source.name, (Identity(),) * len(source.dims)),), without(source, gone))


def expand_geometry(site: Site) -> Described:
    """``expand`` and ``expand_as``: dimensions of size 1 are repeated.

    In ``expand_as``, an axis of one position, such as a global mean's, gets the dimension that it
    has in the other tensor.
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
        size = 1 if dim is None else site.shape[dim]
        axes.append(Identity() if have == size else Broadcast(size))
    return Described((Edge(source.name, tuple(axes)),), dims)


def reshape_on_tile(node: Node, tensors: Tensors) -> Computation:
    """``view`` and similar on a tile, with the tile's sizes in the target shape."""
    expands = node.family is Family.EXPAND

    def compute(inputs: list[Tile], box: Box, room: torch.Tensor | None = None) -> torch.Tensor:
        tile = inputs[0]
        if expands:
            return tile.value.expand(local_shape(node, box))
        have = tuple(reached(axis, side) for axis, side in zip(tile.axes, tile.box, strict=True))
        return cut(tile.value.reshape(local_shape(node, have)), node.dims, have, box)

    return compute


def repaired_view(call: Callable[..., Any], arguments: Arguments) -> Repaired | None:
    """Repairs ``view`` and ``reshape`` to a shape with another number of elements."""
    x, asked = arguments["input"], tuple(arguments["shape"])
    if x.dim() == 0 or any(not isinstance(n, int) for n in asked):
        return None
    known = math.prod(n for n in asked if n != -1)
    unknown = max(1, x.numel() // known) if -1 in asked else 1
    flat = resized(x.flatten(), 0, known * unknown)
    result = flat.reshape([unknown if n == -1 else n for n in asked])
    return Repaired(Problem.VIEW, (shape_of(x),), result, options={"shape": asked})


def _view(names: str, family: Family, geometry: Rule, **more: Any) -> Operator:
    return Operator(names, family, geometry, is_view=True, other_operations=nothing, **more)


_RESHAPES: dict[str, Any] = {"compute": reshape_on_tile, "scratch": copied}

OPERATORS = (
    _view(
        "view reshape",
        Family.RESHAPE,
        reshape_geometry,
        repair=Repair("input *shape", repaired_view),
        **_RESHAPES,
    ),
    _view("flatten unflatten _unsafe_view", Family.RESHAPE, reshape_geometry, **_RESHAPES),
    _view("squeeze", Family.SQUEEZE, squeeze_geometry, **_RESHAPES),
    _view("unsqueeze", Family.UNSQUEEZE, unsqueeze_geometry),
    _view("expand expand_as", Family.EXPAND, expand_geometry, **_RESHAPES),
    _view(
        "permute transpose swapaxes swapdims t mT mH adjoint movedim moveaxis",
        Family.PERMUTE,
        permute_geometry,
    ),
)
