"""Numbers moved between channels and positions, or among channels.

Pixel shuffle and unshuffle, ``repeat``, ``repeat_interleave`` and ``unfold``; and operators that
move or gate channels and keep positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from eyeshot.axes import AxisMap, Broadcast, Identity, Resize, Window
from eyeshot.graph import (
    Call,
    Edge,
    Family,
    Node,
    RepeatParams,
    ShuffleParams,
    UnfoldParams,
    Weight,
)
from eyeshot.operators.call import (
    Described,
    NoRule,
    Site,
    Tensors,
    along,
    argument,
    calling,
    in_place,
    mixes_positions,
)
from eyeshot.operators.pointwise import pointwise
from eyeshot.operators.record import Operator, copied, nothing
from eyeshot.operators.repaired import Arguments, Problem, Repair, Repaired, shape_of, with_channels
from eyeshot.operators.tile import Box, Computation, Tile, cut, reached


def shuffle_geometry(site: Site) -> Described:
    """Pixel shuffle (depth to space): each position becomes r x r positions."""
    source, r = site.node("self"), int(site.arguments["upscale_factor"])
    repeat = Resize("nearest", factor=float(r))
    return _last_two(source, repeat, r)


def unshuffle_geometry(site: Site) -> Described:
    """Pixel unshuffle (space to depth): each block of r x r becomes one position."""
    source, r = site.node("self"), int(site.arguments["downscale_factor"])
    return _last_two(source, Window(r, r), r)


def _last_two(source: Node, axis: AxisMap, block: int) -> Described:
    rank = len(source.shape)
    if mixes_positions(source, {rank - 3: None}):
        raise NoRule("it takes a spatial axis for channels")
    edge: Edge = along(source, {rank - 2: axis, rank - 1: axis})
    return Described((edge,), source.dims, params=ShuffleParams(block=block))


def repeat_each_geometry(site: Site) -> Described:
    """``repeat_interleave`` by an integer: each position or channel is repeated that often."""
    source = site.node("self")
    if site.arguments.get("dim") is None or not isinstance(site.arguments.get("repeats"), int):
        raise NoRule("it repeats by a tensor, or all there is")
    dim = int(site.arguments["dim"]) % len(source.shape)
    times = int(site.arguments["repeats"])
    edge = along(source, {dim: Resize("nearest", factor=float(times))})
    return Described((edge,), source.dims, params=RepeatParams(dim=dim, repeats=times))


def unfold_geometry(site: Site) -> Described:
    """``Tensor.unfold``: windows along one dimension; their cells become the last dimension."""
    source = site.node("self")
    dim = int(site.arguments["dimension"]) % len(source.shape)
    size, step = int(site.arguments["size"]), int(site.arguments["step"])
    edge = along(source, {dim: Window(size, step)})
    return Described((edge,), source.dims, params=UnfoldParams(dim=dim, window=size, step=step))


def repeat_geometry(site: Site) -> Described:
    """``repeat``: of channels, or of an axis with a single position."""
    source = site.node("self")
    shift = len(site.shape) - len(source.shape)
    dims = tuple(None if dim is None else dim + shift for dim in source.dims)
    axes: list[Broadcast | Identity] = []
    for have, dim in zip(source.extents, dims, strict=True):
        size = 1 if dim is None else site.shape[dim]
        if have != size and have != 1:
            raise NoRule("it repeats a spatial axis")
        axes.append(Identity() if have == size else Broadcast(size))
    return Described((Edge(source.name, tuple(axes)),), dims)


def repeat_on_tile(node: Node, tensors: Tensors) -> Computation:
    """``repeat`` on a tile: an axis of one position is repeated to fill the requested box."""
    times = [int(count) for count in argument(node, "repeats")]

    def compute(inputs: list[Tile], box: Box, room: torch.Tensor | None = None) -> torch.Tensor:
        counts = list(times)
        for axis, dim, side in zip(inputs[0].axes, node.dims, box, strict=True):
            if dim is not None and isinstance(axis, Broadcast):
                counts[dim] = len(side)
        return inputs[0].value.repeat(counts)

    return compute


def repeat_each_on_tile(node: Node, tensors: Tensors) -> Computation:
    """``repeat_interleave`` on a tile, cut to the requested box."""
    times, dim = int(node.params.repeats), int(node.params.dim)
    call = Call(torch.repeat_interleave, (argument(node, "self"), times, dim))
    return shuffle_on_tile(replace(node, call=call), tensors)


def shuffle_on_tile(node: Node, tensors: Tensors) -> Computation:
    """Pixel shuffle and unshuffle on a tile: whole blocks, cut to the requested box."""
    call = calling(node, tensors)

    def compute(inputs: list[Tile], box: Box, room: torch.Tensor | None = None) -> torch.Tensor:
        tile = inputs[0]
        have = tuple(reached(axis, side) for axis, side in zip(tile.axes, tile.box, strict=True))
        return cut(call(inputs, box), node.dims, have, box)

    return compute


def repaired_shuffle(call: Callable[..., Any], arguments: Arguments) -> Repaired | None:
    """Repairs a pixel shuffle of a number of channels that r² does not divide."""
    x, factor = arguments["input"], arguments["upscale_factor"]
    if x.dim() != 4:
        return None
    channels = max(factor**2, x.shape[1] // factor**2 * factor**2)
    result = call(with_channels(x, channels), factor)
    return Repaired(Problem.SHUFFLE, (shape_of(x),), result, options={"factor": factor})


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
    indices = site.arguments["indices"]
    if len(indices) == 1 and isinstance(indices[0], Node) and indices[0].shape == site.shape:
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
    Operator(
        "pixel_shuffle",
        Family.PIXEL_SHUFFLE,
        shuffle_geometry,
        shuffle_on_tile,
        other_operations=nothing,
        scratch=copied,
        repair=Repair("input upscale_factor", repaired_shuffle),
    ),
    Operator(
        "pixel_unshuffle",
        Family.PIXEL_SHUFFLE,
        unshuffle_geometry,
        shuffle_on_tile,
        other_operations=nothing,
        scratch=copied,
    ),
    Operator("repeat", Family.REPEAT, repeat_geometry, repeat_on_tile, scratch=copied),
    Operator("repeat_interleave", Family.REPEAT_EACH, repeat_each_geometry, repeat_each_on_tile),
    Operator("unfold", Family.UNFOLD, unfold_geometry, calling),
    Operator("glu", Family.CHANNELS, gating),
    Operator("flip", Family.CHANNELS, flipping),
    Operator("roll", Family.CHANNELS, rolling),
    Operator("channel_shuffle", Family.CHANNELS, shuffling_channels),
    Operator("index index_select", Family.INDEX, indexing),
    Operator("index_put", Family.INDEX, putting),
)
