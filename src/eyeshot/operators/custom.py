"""Operators of your own: a ``torch.library`` custom op, and what it does to positions.

Public as :func:`eyeshot.register_operator`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch

from eyeshot.axes import Interval, Window
from eyeshot.errors import BadValue, Unsupported
from eyeshot.graph import Family, Node
from eyeshot.operators.call import Described, NoRule, Site, Tensors, along, calling
from eyeshot.operators.pointwise import pointwise
from eyeshot.operators.record import Effort, Operator, Shapes, Work
from eyeshot.operators.tile import Box, Computation, Tile, cut, widened

Positions = Literal["pointwise"] | Window | Sequence[Window]
"""What an operator does to positions: one window for all spatial axes, or one for each."""


def custom_operator(
    name: str,
    positions: Positions | Callable[[Mapping[str, Any]], Positions],
    multiply_adds: int,
) -> Operator:
    """The record of a user's operator.

    Args:
        name: ``library::name``, as torch registers it.
        positions: what it does to positions, or a function of its arguments that returns this.
        multiply_adds: the multiply-adds for each output number.

    Raises:
        BadValue: torch has no such operator, or it is one of torch's own.
    """
    library, found, short = name.partition("::")
    if not found or library == "aten":
        raise BadValue(f"operator {name!r}", cure="give the name of your own one: library::name")
    if not hasattr(getattr(torch.ops, library), short):
        raise BadValue(
            f"torch has no operator {name!r}", cure="define it first, by torch.library.custom_op"
        )
    if not callable(positions):
        _windows(positions, 1 if isinstance(positions, (Window, str)) else len(positions))
    return Operator(
        name,
        Family.CUSTOM,
        partial(custom_geometry, positions=positions),
        custom_on_tile,
        effort=partial(_effort, each=multiply_adds),
        scratch=_copies,
    )


def _effort(node: Node, shapes: Shapes, each: int) -> Effort:
    return Effort(per_output=each)


def _copies(work: Work) -> int:
    """Scratch bytes: the padded copy of the tile, and outputs outside the requested box."""
    return 2 * work.read + work.gives


def custom_geometry(
    site: Site, positions: Positions | Callable[[Mapping[str, Any]], Positions]
) -> Described:
    """The rule for a user's operator: pointwise, or a window along every spatial axis."""
    declared = positions(site.arguments) if callable(positions) else positions
    sources = site.sources
    windows = [] if not sources else _windows(declared, len(sources[0].dims))
    described = pointwise(site) if not windows else _sliding(site, windows)
    for shape in site.weight_shapes.values():
        shift = len(site.shape) - len(shape)
        for dim in described.dims:
            if dim is not None and dim >= shift and shape[dim - shift] == site.shape[dim] > 1:
                raise NoRule("one of its tensors has a number for each position")
    return described


def _windows(positions: Positions, axes: int) -> list[Window]:
    """A window for each spatial axis; an empty list for a pointwise operator.

    Raises:
        BadValue: ``positions`` is something else, or a window can lie entirely in the padding.
    """
    if isinstance(positions, str):
        if positions != "pointwise":
            raise BadValue(f"positions {positions!r}", cure="use 'pointwise', or windows")
        return []
    windows = [positions] * axes if isinstance(positions, Window) else list(positions)
    for window in windows:
        if not 0 <= window.before < window.span or not 0 <= window.after < window.span:
            raise BadValue(
                f"{window}", cure="let every window hold a position: 0 <= before, after < span"
            )
    if len(windows) != axes:
        raise BadValue(f"{len(windows)} windows for {axes} spatial axes", cure="give one for each")
    return windows


def _sliding(site: Site, windows: list[Window]) -> Described:
    source, *others = site.sources
    if others:
        raise NoRule("it slides over several maps at once")
    places = zip(source.dims, windows, strict=True)
    maps = {dim: window for dim, window in places if dim is not None}
    sizes = [window.output_size(source.shape[dim]) for dim, window in maps.items()]
    if len(site.shape) != len(source.shape) or sizes != [site.shape[dim] for dim in maps]:
        raise NoRule(f"its windows give {sizes} positions, but its output has shape {site.shape}")
    return Described((along(source, maps),), source.dims)


def custom_on_tile(node: Node, tensors: Tensors) -> Computation:
    """The operator called on the tile, and the result cut to the requested box.

    Inside the image, the tile starts early enough that the operator's own border handling does not
    affect the requested outputs. Inputs that are missing there are zeros, and every output that
    reads them is cut off. First, the operator is checked on noise.

    Raises:
        Unsupported: on noise, computing by tiles gives other numbers than one pass.
    """
    call = calling(node, tensors)
    tried: list[bool] = []

    def on_tile(inputs: list[Tile], box: Box) -> torch.Tensor:
        source = inputs[0]
        amounts: dict[int, tuple[int, int]] = {}
        have: list[Interval] = []
        for dim, axis, side, available, n in zip(
            source.dims, source.axes, box, source.box, source.extents, strict=True
        ):
            if dim is None or not isinstance(axis, Window):
                have.append(side)
                continue
            first = side.lo - -(-axis.before // axis.stride)
            first = 0 if axis.input_range(side, n).lo <= 0 else first
            begin = first * axis.stride
            amounts[dim] = (available.lo - begin, 0)
            have.append(Interval(first, first + axis.output_size(available.hi - begin)))
        if not amounts:
            return call(inputs, box)
        tile = replace(source, value=widened(source.value, amounts))
        return cut(call([tile], box), node.dims, tuple(have), box)

    def compute(inputs: list[Tile], box: Box, room: torch.Tensor | None = None) -> torch.Tensor:
        if not tried:
            _try(node, inputs, on_tile)
            tried.append(True)
        return on_tile(inputs, box)

    return compute


def _try(
    node: Node, inputs: list[Tile], on_tile: Callable[[list[Tile], Box], torch.Tensor]
) -> None:
    """Compute noise in one pass and by tiles, because the registered windows may be wrong."""
    noise = [_noise(tile) for tile in inputs]
    box = _outputs(noise)
    whole = on_tile(noise, box)
    for piece in range(_PIECES):
        sides = (
            Interval(len(side) * piece // _PIECES, len(side) * (piece + 1) // _PIECES)
            if len(side) >= _PIECES
            else side
            for side in box
        )
        part = tuple(sides)
        found = on_tile([_part(tile, part) for tile in noise], part)
        expected = cut(whole, node.dims, box, part)
        if found.shape != expected.shape or not _agree(found, expected, whole):
            raise Unsupported(
                f"{node.name} ({node.operator}) gives other numbers by parts than as a whole",
                cure="register the windows that it reads with eyeshot.register_operator",
            )


_PIECES = 3


def _noise(tile: Tile) -> Tile:
    """A Tile that is a whole small map of noise, of the same type and rank."""
    shape, extents = list(tile.value.shape), []
    for dim, axis, n in zip(tile.dims, tile.axes, tile.extents, strict=True):
        side = n
        if dim is not None and n > 1:
            side = 4 * (axis.span + axis.stride) if isinstance(axis, Window) else 4 * _PIECES
            shape[dim] = side
        extents.append(side)
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(shape, generator=generator).to(tile.value)
    box = tuple(Interval(0, n) for n in extents)
    return Tile(value, box, tuple(extents), tile.dims, tile.axes)


def _outputs(noise: list[Tile]) -> Box:
    """All output positions for whole maps of noise, along each axis."""
    sides = zip(*(_output_sizes(tile) for tile in noise), strict=True)
    return tuple(Interval(0, max(column)) for column in sides)


def _output_sizes(tile: Tile) -> list[int]:
    pairs = zip(tile.axes, tile.extents, strict=True)
    return [1 if n == 1 else axis.output_size(n) for axis, n in pairs]


def _part(tile: Tile, box: Box) -> Tile:
    """The part of a map that the outputs in ``box`` read."""
    sides = zip(tile.axes, box, tile.extents, strict=True)
    reads = tuple(axis.input_range_inside(side, n) for axis, side, n in sides)
    value = cut(tile.value, tile.dims, tile.box, reads)
    return replace(tile, value=value, box=reads)


def _agree(found: torch.Tensor, expected: torch.Tensor, whole: torch.Tensor) -> bool:
    if not whole.is_floating_point():
        return bool((found == expected).all())
    slack = float(torch.finfo(whole.dtype).eps ** 0.5) * float(whole.abs().max())
    return bool(((found - expected).abs() <= slack).all())
