"""Audit a tiling: compare tiles with one whole pass, by geometry and by measurement."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from eyeshot.engine.fitting import misfit
from eyeshot.engine.job import refuse_whole
from eyeshot.engine.networks import Network, Traced, trace
from eyeshot.engine.running import run
from eyeshot.errors import BadValue, EyeshotError, Unsupported
from eyeshot.geometry.tiles import AxisTiles, Comparison, Cover, cover
from eyeshot.graph import Graph
from eyeshot.images import open_source
from eyeshot.images.whole import to_unit
from eyeshot.runs import Run
from eyeshot.tiling.breaks import (
    breaks_of,
    by,
    costs_of,
    geometry_of,
    margins_of,
    remedy_of,
    settings_of,
)
from eyeshot.tiling.verdict import (
    Audit,
    FloatArray,
    Joint,
    answer_of,
    assemble,
    difference,
    positions_last,
)

Say = Callable[[str], None]
_MOST_POSITIONS = 2**26
"""The most positions of an image to audit: it is held whole, with three answers of its size."""


def audit(
    net: Network,
    image: Any = None,
    *,
    tile: int | Sequence[int],
    overlap: int | Sequence[int],
    size: Sequence[int] | None = None,
    seed: int = 0,
    progress: Say | None = None,
) -> Audit:
    """Whether tiles of a size and an overlap give the answer of one whole pass.

    Tiles lie as MONAI, SAHI and most scripts lay them: from the first pixel on, ``tile - overlap``
    apart, the last one moved back into the image. They are put together in three ways: cut in the
    middle of each overlap, averaged, and averaged with a Gaussian weight.

    Args:
        net: a network in eval mode, a trained run, or a traced network; it does not change.
        image: a path, an array or a tensor (C, H, W), as :func:`eyeshot.run` takes it; None for
            noise.
        tile: the side of a tile in pixels, for all axes or for each.
        overlap: the pixels that a tile shares with the next one, likewise.
        size: (C, H, W) of the noise, or of the central part of the image to audit. By default
            the whole image, or noise of three tiles along each axis.
        seed: the seed of the noise.
        progress: called with a line of text for each step.

    Returns:
        Plain data that prints itself.

    Raises:
        BadValue: the overlap is not smaller than the tile, the network does not take the size, or
            the image is too large to be held whole.
        BadFile: the image cannot be read.
        Unsupported: the network cannot be traced, takes several images, or its output is not a
            map.
    """
    say = progress or (lambda line: None)
    traced = net if isinstance(net, Traced) else trace(net)
    traced.around(traced.module, "audit")  # tiles are computed by the module alone
    axes = traced.space or 2
    sides, shared = _checked(tile, overlap, axes)
    picture, name = _picture(traced, image, size, sides, shared, seed)
    whole = _graph(traced, tuple(picture.shape), name)
    tiles = [
        AxisTiles.lay(n, t, o) for n, t, o in zip(picture.shape[1:], sides, shared, strict=True)
    ]
    part = _graph(traced, (picture.shape[0], *(one.tile for one in tiles)))
    say(f"the whole pass over {name}")
    answer, by_engine = _whole_pass(traced, whole, picture)
    both = Comparison(whole, part)
    covers, differing = _covers(both, tiles), both.differs
    count = math.prod(len(one.starts) for one in tiles)
    assembled = assemble(
        part,
        picture,
        [one.starts for one in tiles],
        covers,
        answer.shape,
        lambda done: say(f"tile {done} of {count}"),
    )
    joints = _joints(covers, assembled, answer, _dtype(whole))
    geometry = geometry_of(whole)
    remedy = None
    if geometry is not None and not differing:
        remedy = remedy_of(whole, sides, geometry, lambda *at: _graph(traced, (len(picture), *at)))
    margins = None if differing else margins_of(both, tiles)
    found = [] if differing else breaks_of(both, tiles)
    return Audit(
        network=_name(net),
        image=name,
        size=tuple(picture.shape),
        tile=tuple(one.tile for one in tiles),
        overlap=tuple(shared),
        starts=tuple(one.starts for one in tiles),
        output=whole.outputs[0],
        margins=margins,
        grid=None if geometry is None else geometry.alignment,
        field=None if geometry is None else geometry.receptive_field,
        joints=joints,
        breaks=tuple(found),
        work=count * math.prod(one.tile for one in tiles) / math.prod(picture.shape[1:]),
        remedy=remedy,
        costs=() if remedy is None else costs_of(remedy),
        settings=settings_of(remedy, geometry),
        notes=_notes(whole, tiles, sides, by_engine, differing),
    )


def _checked(
    tile: int | Sequence[int], overlap: int | Sequence[int], axes: int
) -> tuple[list[int], list[int]]:
    """Sides and overlaps along each axis."""
    sides = [tile] * axes if isinstance(tile, int) else list(tile)
    shared = [overlap] * axes if isinstance(overlap, int) else list(overlap)
    for name, given in (("tile", sides), ("overlap", shared)):
        if len(given) != axes:
            raise BadValue(
                f"{name} {by(given)} for a network of {axes} spatial axes",
                cure="give one number, or one for each axis",
            )
    for side, both in zip(sides, shared, strict=True):
        if side < 1 or not 0 <= both < side:
            raise BadValue(
                f"overlap {both} of a tile of {side}",
                cure="give a tile of 1 or more and an overlap from 0 to one less",
            )
    return sides, shared


def _picture(
    traced: Traced,
    image: Any,
    size: Sequence[int] | None,
    sides: Sequence[int],
    shared: Sequence[int],
    seed: int,
) -> tuple[torch.Tensor, str]:
    """The network's input (C, …), and its name for messages."""
    if image is None:
        shape = tuple(size) if size is not None else _three_tiles(traced, sides, shared)
        if min(shape) < 1 or len(shape) != len(sides) + 1:
            raise BadValue(f"size {by(shape)}", cure="give channels and axes, such as 3x1024x1024")
        _hold(math.prod(shape[1:]), by(shape))
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(shape, generator=generator), f"noise of {by(shape)}"
    return _read(traced, image, size)


def _three_tiles(traced: Traced, sides: Sequence[int], shared: Sequence[int]) -> tuple[int, ...]:
    lengths = [t + 2 * (t - o) for t, o in zip(sides, shared, strict=True)]
    return (traced.sizes.channels, *lengths)


def _read(traced: Traced, image: Any, size: Sequence[int] | None) -> tuple[torch.Tensor, str]:
    with open_source(image, space=traced.space) as source:
        spans = [(0, n) for n in source.shape[1:]]
        if size is not None:
            if len(size) != len(source.shape) or size[0] != source.shape[0]:
                raise BadValue(
                    f"size {by(size)} of {source.name}, which is {by(source.shape)}",
                    cure="give its channels and as many axes",
                )
            if any(not 0 < m <= n for m, n in zip(size[1:], source.shape[1:], strict=True)):
                raise BadValue(
                    f"size {by(size)}: {source.name} is {by(source.shape)}",
                    cure="give a part of it",
                )
            starts = [(n - m) // 2 for n, m in zip(source.shape[1:], size[1:], strict=True)]
            spans = [(lo, lo + m) for lo, m in zip(starts, size[1:], strict=True)]
        _hold(math.prod(hi - lo for lo, hi in spans), source.name)
        samples = to_unit(source.read(*spans))
        name = f"{source.name} of {by(samples.shape)}"
    if traced.mean:
        if len(traced.mean) not in (1, len(samples)):
            raise BadValue(
                f"{name}: {len(samples)} channels, and {len(traced.mean)} means",
                cure="give an image of the channels that the network takes",
            )
        shape = (-1, *(1,) * (samples.ndim - 1))
        samples = (samples - np.reshape(traced.mean, shape)) / np.reshape(traced.std, shape)
    return torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32)), name


def _hold(positions: int, name: str) -> None:
    if positions > _MOST_POSITIONS:
        raise BadValue(
            f"{name}: {positions:,} positions are too many to be held whole",
            cure="give a part by size (--size CxHxW): three tiles along each axis are enough",
        )


def _graph(traced: Traced, shape: tuple[int, ...], name: str = "a tile") -> Graph:
    """The graph at a size; refuses a network with several inputs or an output without a map."""
    try:
        graph = traced.graph(shape)
    except EyeshotError as error:
        raise misfit(traced, name, shape, error) from None
    if len(graph.inputs) != 1:
        raise Unsupported(
            f"the network takes {len(graph.inputs)} images", cure="audit a network of one image"
        )
    node = graph.nodes[graph.outputs[0]] if graph.outputs else None
    if node is None or not node.dims or None in node.dims:
        refuse_whole(graph)
        raise Unsupported(
            "the network answers with no map, so that tiles have no place",
            cure="make a classifier dense first (eyeshot.dense)",
        )
    return graph


def _whole_pass(traced: Traced, whole: Graph, picture: torch.Tensor) -> tuple[FloatArray, str]:
    """The answer of one pass, (C, …), and why the engine could not compute it ("" if it did)."""
    like = next((t for t in whole.tensors.values() if t.is_floating_point()), picture)
    node = whole.nodes[whole.outputs[0]]
    try:
        found = run(traced.module, picture)
    except Unsupported as error:
        return answer_of(whole, picture.to(like.device)), error.fact
    first = found[0] if isinstance(found, list) else found
    return positions_last(np.asarray(first, dtype=np.float32)[None], node.dims), ""


def _covers(both: Comparison, tiles: Sequence[AxisTiles]) -> list[Cover]:
    """The tiles put together along each axis."""
    outputs = both.whole.nodes[both.whole.outputs[0]].extents
    return [
        cover(one, [both.output(axis, start) for start in one.starts], outputs[axis])
        for axis, one in enumerate(tiles)
    ]


def _joints(
    covers: Sequence[Cover], assembled: Any, answer: FloatArray, dtype: torch.dtype
) -> tuple[Joint, ...]:
    found = []
    ways = (
        ("cropped", assembled.cropped, [one.cropped for one in covers]),
        ("averaged", assembled.averaged, [one.blended for one in covers]),
        ("gaussian", assembled.gaussian, [one.blended for one in covers]),
    )
    for way, given, right in ways:
        measured = difference(given, answer, right, dtype)
        count, all_of = math.prod(int(one.sum()) for one in right), math.prod(map(len, right))
        share = (all_of - count) / all_of
        found.append(Joint(way, not share, share, measured))
    return tuple(found)


def _dtype(graph: Graph) -> torch.dtype:
    """The type that the network computes with: the coarsest of its input and its weights."""
    kinds = {getattr(torch, graph.nodes[name].dtype) for name in graph.inputs}
    kinds |= {one.dtype for one in graph.tensors.values()}
    return max(
        (kind for kind in kinds if kind.is_floating_point),
        key=lambda kind: torch.finfo(kind).eps,
        default=torch.float32,
    )


def _notes(
    whole: Graph,
    tiles: Sequence[AxisTiles],
    sides: Sequence[int],
    by_engine: str,
    differing: str,
) -> tuple[str, ...]:
    notes = []
    if len(whole.outputs) > 1:
        notes.append(f"of {len(whole.outputs)} outputs the first is audited: {whole.outputs[0]}")
    if all(len(one.starts) == 1 for one in tiles):
        notes.append("one tile holds the whole image: there are no seams to be judged")
    if any(one.tile < side for one, side in zip(tiles, sides, strict=True)):
        notes.append("the image is smaller than a tile; MONAI would pad it with zeros, and differ")
    if by_engine:
        notes.append(f"the whole pass is net(image), held in memory: {by_engine}")
    if differing:
        notes.append(f"at the size of a tile the network computes otherwise from {differing} on")
    return tuple(notes)


def _name(net: Network) -> str:
    if isinstance(net, Run):
        return Path(net.path).name if net.path else "run"
    module = net.module if isinstance(net, Traced) else net
    return type(module).__name__ if isinstance(module, nn.Module) else str(module)
