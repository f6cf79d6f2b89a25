"""Maps cut and joined: slices, ``split``, ``select``, ``slice_scatter``, ``cat`` and ``stack``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from eyeshot.axes import AxisMap, Identity, Interval, Pad, Placed, Spared, Window
from eyeshot.errors import Unsupported
from eyeshot.graph import Edge, Family, JoinParams, Node, Ref, SliceParams, Weight
from eyeshot.operators.call import (
    Described,
    NoRule,
    Site,
    Tensors,
    along,
    argument,
    calling,
    without,
)
from eyeshot.operators.record import Operator, copied, nothing
from eyeshot.operators.repaired import Arguments, Problem, Repair, Repaired, cropped, shape_of
from eyeshot.operators.tile import Box, Computation, Tile, local_shape


def slice_geometry(site: Site) -> Described:
    """``x[..., start:end:step]`` and ``narrow``: a crop, or a window of size 1 with a stride."""
    source = site.node("self")
    rank = len(source.shape)
    dim = int(site.arguments["dim"]) % rank
    n = source.shape[dim]
    step = int(site.arguments.get("step", 1))
    start = site.arguments["start"] or 0
    start = min(max(start + n if start < 0 else start, 0), n)
    length = site.shape[dim]
    used = start + (length - 1) * step + 1
    axis: AxisMap = Pad(-start, used - n) if step == 1 else Window(1, step, -start, used - n)
    params = SliceParams(dim=dim, start=start, step=step, length=length)
    return Described((along(source, {dim: axis}),), source.dims, params=params)


def split_geometry(site: Site) -> Described:
    """One part of ``chunk``, ``split`` or ``split_with_sizes``."""
    source = site.node("self")
    dim = int(site.arguments["dim"]) % len(source.shape)
    n, length = source.shape[dim], site.shape[dim]
    start = part_start(site, n)
    edge = along(source, {dim: Pad(-start, start + length - n)})
    return Described((edge,), source.dims, params=SliceParams(dim=dim, start=start, length=length))


def part_start(site: Site, n: int) -> int:
    """The first position of the ``item``-th part of a split, along the dimension that is split."""
    item = site.item or 0
    if site.operator == "split_with_sizes":
        return sum(int(one) for one in site.arguments["split_sizes"][:item])
    if site.operator == "split":
        return item * int(site.arguments["split_size"])
    return item * math.ceil(n / int(site.arguments["chunks"]))


def scatter_geometry(site: Site) -> Described:
    """``slice_scatter``: a slice of the first operand is replaced by the second operand."""
    dim = int(site.arguments["dim"]) % len(site.shape)
    step = int(site.arguments["step"])
    n, start = site.shape[dim], int(site.arguments["start"] or 0)
    start = min(max(start + n if start < 0 else start, 0), n)
    whole, part = site.arguments["self"], site.arguments["src"]
    dims = tuple(map(_place_of, zip(*(one.dims for one in site.sources), strict=True)))
    if any(_holds_features(source, dims) for source in site.sources):
        raise NoRule("it gives each position along a spatial axis a feature of its own")
    count = len(range(start, min(n, int(site.arguments["end"] or n)), step))
    maps: list[tuple[object, AxisMap]] = [
        (whole, Spared(start, step, count)),
        (part, Placed(start, step, n)),
    ]
    edges = [
        Edge(one.name, tuple(axis if d == dim else Identity() for d in dims))
        for one, axis in maps
        if isinstance(one, Node)
    ]
    params = SliceParams(dim=dim, start=start, step=step, length=count)
    return Described(tuple(edges), dims, params=params)


def _place_of(column: tuple[int | None, ...]) -> int | None:
    """The dimension of an axis in operands that have the same dimensions; None if vanished."""
    places = {dim for dim in column if dim is not None}
    if len(places) > 1:
        raise NoRule("its operands hold the same axis in different dimensions")
    return next(iter(places), None)


def _holds_features(source: Node, dims: tuple[int | None, ...]) -> bool:
    """Whether an operand has features in a dimension in which another one has positions."""
    return any(
        dim is not None and own is None and source.shape[dim] > 1
        for own, dim in zip(source.dims, dims, strict=True)
    )


def select_geometry(site: Site) -> Described:
    """``x[:, i]``: one index of a dimension, which vanishes."""
    source = site.sources[0]
    rank = len(source.shape)
    dim = int(site.arguments["dim"]) % rank
    n = source.shape[dim]
    index = site.item if site.operator == "unbind" else int(site.arguments["index"])
    index = (index or 0) % n
    crop = Pad(-index, index + 1 - n)
    axes = tuple(crop if d == dim else Identity() for d in source.dims)
    return Described((Edge(source.name, axes),), without(source, {dim}))


def crop_on_tile(node: Node, tensors: Tensors) -> Computation:
    """A slice on a tile: along spatial axes only its step is left to apply."""
    dim = node.params.dim
    if dim not in node.dims:
        return calling(node, tensors)
    step = node.params.step

    def compute(inputs: list[Tile], box: Box, room: torch.Tensor | None = None) -> torch.Tensor:
        value = inputs[0].value
        if step == 1:
            return value
        index = [slice(None)] * value.ndim
        index[dim] = slice(0, None, step)
        return value[tuple(index)]

    return compute


def select_on_tile(node: Node, tensors: Tensors) -> Computation:
    """``select`` on a tile; along a spatial axis, the tile holds only the selected position."""
    if not isinstance(argument(node, "self"), Ref):
        raise Unsupported(f"{node.name}: selects from a weight", cure="compute it in the network")
    rank_dim = int(argument(node, "dim"))

    def compute(inputs: list[Tile], box: Box, room: torch.Tensor | None = None) -> torch.Tensor:
        tile = inputs[0]
        dim = rank_dim % tile.value.ndim
        if dim in tile.dims:
            return tile.value.select(dim, 0)
        return tile.value.select(dim, int(argument(node, "index")))

    return compute


def scatter_on_tile(node: Node, tensors: Tensors) -> Computation:
    """``slice_scatter`` on a tile: the first operand is written, then the part that replaces it."""
    dim = node.params.dim
    if dim not in node.dims:
        return calling(node, tensors)
    axis = node.dims.index(dim)
    start, step, count = node.params.start, node.params.step, node.params.length
    whole, part = argument(node, "self"), argument(node, "src")
    order = {edge.source: place for place, edge in enumerate(node.edges)}

    def compute(inputs: list[Tile], box: Box, room: torch.Tensor | None = None) -> torch.Tensor:
        side = box[axis]
        first = max(0, -((start - side.lo) // step))
        last = min(count, -((start - side.hi) // step))
        inner = tuple(Interval(first, last) if a == axis else s for a, s in enumerate(box))
        below = _operand(whole, box, inputs, order, node, tensors)
        value = below.new_zeros(local_shape(node, box))
        available = inputs[order[whole.node]].box[axis] if isinstance(whole, Ref) else side
        if available:
            value.narrow(dim, available.lo - side.lo, len(available)).copy_(below)
        if first < last:
            index = [slice(None)] * value.ndim
            begin = start + first * step - side.lo
            index[dim] = slice(begin, begin + (last - first - 1) * step + 1, step)
            value[tuple(index)] = _operand(part, inner, inputs, order, node, tensors)
        return value

    return compute


def _operand(
    value: Ref | Weight,
    box: Box,
    inputs: list[Tile],
    order: dict[str, int],
    node: Node,
    tensors: Tensors,
) -> torch.Tensor:
    """The values of an operand in a box: a part of a node's tile or of a weight."""
    if isinstance(value, Ref):
        return inputs[order[value.node]].value
    weight = tensors[value.name]
    for dim, side in zip(node.dims, box, strict=True):
        if dim is not None:
            weight = weight.narrow(dim, side.lo, max(0, side.hi - side.lo))
    return weight


def concatenation_geometry(site: Site) -> Described:
    """``cat``: along channels, positions stay; along a spatial axis, each input is shifted."""
    parts = site.arguments["tensors"]
    sources = site.sources
    if not sources:
        raise NoRule("no part depends on the input")
    dim = int(site.arguments["dim"]) % len(site.shape)
    dims = sources[0].dims
    if any(source.dims != dims for source in sources):
        raise NoRule("its parts hold an axis in different dimensions")
    lengths = [
        part.shape[dim] if isinstance(part, Node) else site.weight_shapes[part.name][dim]
        for part in parts
    ]
    edges, before = [], 0
    for part, length in zip(parts, lengths, strict=True):
        after = site.shape[dim] - before - length
        if isinstance(part, Node):
            edges.append(along(part, {dim: Pad(before, after)}))
        before += length
    return Described(tuple(edges), dims, params=JoinParams(dim=dim))


def stack_geometry(site: Site) -> Described:
    """``stack``: the parts along a new dimension, which holds no positions."""
    sources = site.sources
    place = int(site.arguments["dim"]) % len(site.shape)
    if any(source.dims != sources[0].dims for source in sources):
        raise NoRule("its parts hold an axis in different dimensions")
    dims = tuple(None if d is None else d + (d >= place) for d in sources[0].dims)
    edges = tuple(Edge(source.name, (Identity(),) * len(dims)) for source in sources)
    return Described(edges, dims)


def concatenation_on_tile(node: Node, tensors: Tensors) -> Computation:
    """Along channels, all parts; along a spatial axis, those that overlap the requested box."""
    dim = int(node.params.dim)
    if dim not in node.dims:
        return calling(node, tensors)
    if node.weights:
        raise Unsupported(
            f"{node.name}: joins a constant along a spatial axis", cure="pad in place of cat"
        )

    def compute(inputs: list[Tile], box: Box, room: torch.Tensor | None = None) -> torch.Tensor:
        parts = [tile.value for tile in inputs if tile.value.shape[dim]]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim)

    return compute


def repaired_concatenation(call: Callable[..., Any], arguments: Arguments) -> Repaired | None:
    """``cat`` of maps whose sizes differ: all are cropped to the smallest."""
    parts = list(arguments["tensors"])
    if len({part.dim() for part in parts}) != 1:
        return None
    dim = arguments.get("dim", 0) % parts[0].dim()
    sizes = [min(sides) for sides in zip(*(part.shape for part in parts), strict=True)]
    fitted = [cropped(part, sizes, skip=dim) for part in parts]
    shapes = tuple(shape_of(part) for part in parts)
    result = call(**{**arguments, "tensors": fitted})
    return Repaired(Problem.BRANCHES, shapes, result, options={"dim": dim})


OPERATORS = (
    Operator(
        "slice narrow",
        Family.CROP,
        slice_geometry,
        crop_on_tile,
        is_view=True,
        other_operations=nothing,
    ),
    Operator(
        "chunk split split_with_sizes",
        Family.CROP,
        split_geometry,
        crop_on_tile,
        is_view=True,
        other_operations=nothing,
    ),
    Operator(
        "select unbind",
        Family.SELECT,
        select_geometry,
        select_on_tile,
        is_view=True,
        other_operations=nothing,
    ),
    Operator("slice_scatter", Family.SCATTER, scatter_geometry, scatter_on_tile),
    Operator(
        "cat concat concatenate",
        Family.CONCATENATE,
        concatenation_geometry,
        concatenation_on_tile,
        other_operations=nothing,
        scratch=copied,
        repair=Repair("tensors dim", repaired_concatenation),
    ),
    Operator("stack", Family.STACK, stack_geometry, other_operations=nothing),
)
