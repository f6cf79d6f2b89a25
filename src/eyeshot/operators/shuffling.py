"""Pixel shuffle and unshuffle, ``repeat``, ``repeat_interleave`` and ``unfold``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from eyeshot.axes import (
    AxisMap,
    Broadcast,
    Identity,
    Resize,
    Window,
)
from eyeshot.graph import Call, Edge, Family, Node, RepeatParams, ShuffleParams, UnfoldParams
from eyeshot.operators.call import (
    Described,
    NoRule,
    Site,
    Tensors,
    along,
    argument,
    calling,
    mixes_positions,
)
from eyeshot.operators.record import Operator, nothing
from eyeshot.operators.repaired import (
    Arguments,
    Problem,
    Repair,
    Repaired,
    shape_of,
    with_channels,
)
from eyeshot.operators.scratch import copied
from eyeshot.operators.tile import (
    Box,
    Computation,
    Tile,
    cut,
    reached,
)


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
        wanted = 1 if dim is None else site.shape[dim]
        if have != wanted and have != 1:
            raise NoRule("it repeats a spatial axis")
        axes.append(Identity() if have == wanted else Broadcast(wanted))
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
        given = inputs[0]
        have = tuple(reached(axis, side) for axis, side in zip(given.axes, given.box, strict=True))
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
)
