"""Audit a tiling by another tool: does it give the answer of one pass over the whole image?

Tiles are compared with one whole pass, by geometry and by measurement.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from eyeshot.graph import Graph, reaching
from eyeshot.images import open_source
from eyeshot.images.whole import check_scale, to_unit
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

__all__ = ["Audit", "audit"]


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
    output: str | int | None = None,
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
        output: the name or the index of the output to audit. By default every output that is a
            map: the result is that of the worst, with the others in ``others``.
        seed: the seed of the noise.
        progress: called with a line of text for each step.

    Returns:
        Plain data that prints itself.

    Raises:
        BadValue: the overlap is not smaller than the tile, the network does not take the size,
            there is no such output, or the image is too large to be held whole.
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
    chosen = _chosen(whole, part, output)
    say(f"the whole pass over {name}")
    answers, by_engine = _whole_pass(traced, whole, picture)
    asked = _Asked(traced, picture, name, tiles, tuple(sides), tuple(shared), _name(net))
    found = []
    for place in chosen:
        graphs = _of_one(whole, place), _of_one(part, place)
        notes = _notes(whole, chosen, tiles, sides, by_engine)
        found.append(_judged(asked, *graphs, place, answers[place], notes, say))
    worst = max(found, key=_badness)  # the first, where several are as bad
    others = tuple(one for one in found if one is not worst)
    return replace(worst, others=others)


@dataclass(frozen=True)
class _Asked:
    """What is audited, the same for every output."""

    traced: Traced
    picture: torch.Tensor
    image: str
    tiles: Sequence[AxisTiles]
    sides: tuple[int, ...]
    overlap: tuple[int, ...]
    network: str


def _chosen(whole: Graph, part: Graph, output: str | int | None) -> list[int]:
    """The indices of the outputs to audit, all of them maps."""
    maps = [
        place
        for place in range(min(len(whole.outputs), len(part.outputs)))
        if _is_map(whole, place) and _is_map(part, place)
    ]
    if output is None and maps:
        return maps
    names = ", ".join(whole.outputs)
    if output is not None:
        by_name = {name: place for place, name in enumerate(whole.outputs)}
        place = by_name.get(str(output), -1) if isinstance(output, str) else output
        if not 0 <= place < len(whole.outputs):
            raise BadValue(f"output {output!r}: there is none", cure=f"give one of: {names}")
        if place in maps:
            return [place]
        what = f"output {whole.outputs[place]} is no map, so that tiles have no place"
    else:
        refuse_whole(whole)
        what = "the network answers with no map, so that tiles have no place"
    raise Unsupported(what, cure="make a classifier dense first (eyeshot.dense)")


def _is_map(graph: Graph, place: int) -> bool:
    dims = graph.nodes[graph.outputs[place]].dims
    return bool(dims) and None not in dims


def _of_one(graph: Graph, place: int) -> Graph:
    """The part of a graph that one output needs."""
    return reaching(graph, (graph.outputs[place],))


def _badness(one: Audit) -> tuple[bool, float, float]:
    return not one.exact, one.joints[0].wrong, one.joints[0].measured.wrong


def _judged(
    asked: _Asked,
    whole: Graph,
    part: Graph,
    place: int,
    answer: FloatArray,
    notes: Sequence[str],
    say: Say,
) -> Audit:
    """The audit of one output: both graphs have it alone, and ``answer`` is its whole pass."""
    tiles, picture = asked.tiles, asked.picture
    both = Comparison(whole, part)
    covers, differing = _covers(both, tiles), both.differs
    count = math.prod(len(one.starts) for one in tiles)
    assembled = assemble(
        part,
        picture,
        [one.starts for one in tiles],
        covers,
        answer.shape,
        lambda done: say(f"{whole.outputs[0]}: tile {done} of {count}"),
    )
    geometry = geometry_of(whole)
    remedy = None
    if geometry is not None and not differing:

        def at_size(*at: int) -> Graph:
            return _of_one(_graph(asked.traced, (len(picture), *at)), place)

        remedy = remedy_of(whole, asked.sides, geometry, at_size)
    if differing:
        notes = (
            *notes,
            f"at the size of a tile the network computes otherwise from {differing} on",
        )
    return Audit(
        network=asked.network,
        image=asked.image,
        size=tuple(picture.shape),
        tile=tuple(one.tile for one in tiles),
        overlap=asked.overlap,
        starts=tuple(one.starts for one in tiles),
        output=whole.outputs[0],
        margins=None if differing else margins_of(both, tiles),
        grid=None if geometry is None else geometry.alignment,
        field=None if geometry is None else geometry.receptive_field,
        joints=_joints(covers, assembled, answer, _dtype(whole)),
        breaks=() if differing else tuple(breaks_of(both, tiles)),
        work=count * math.prod(one.tile for one in tiles) / math.prod(picture.shape[1:]),
        remedy=remedy,
        costs=() if remedy is None else costs_of(remedy),
        settings=settings_of(remedy, geometry),
        notes=tuple(notes),
    )


def _checked(
    tile: int | Sequence[int], overlap: int | Sequence[int], axes: int
) -> tuple[list[int], list[int]]:
    """Sides and overlaps along each axis."""
    sides = [tile] * axes if isinstance(tile, int) else list(tile)
    shared = [overlap] * axes if isinstance(overlap, int) else list(overlap)
    for name, sizes in (("tile", sides), ("overlap", shared)):
        if len(sizes) != axes:
            raise BadValue(
                f"{name} {by(sizes)} for a network of {axes} spatial axes",
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
        stored = source.read(*spans)
        check_scale(stored, source.name, traced.unit)
        samples = to_unit(stored)
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
    """The graph at a size; refuses a network with several inputs."""
    try:
        graph = traced.graph(shape)
    except EyeshotError as error:
        raise misfit(traced, name, shape, error) from None
    if len(graph.inputs) != 1:
        raise Unsupported(
            f"the network takes {len(graph.inputs)} images", cure="audit a network of one image"
        )
    return graph


def _whole_pass(
    traced: Traced, whole: Graph, picture: torch.Tensor
) -> tuple[list[FloatArray], str]:
    """The answers of one pass, each (C, …), and why the engine could not compute them (or "")."""
    like = next((t for t in whole.tensors.values() if t.is_floating_point()), picture)
    try:
        found = run(traced.module, picture)
    except Unsupported as error:
        images = picture.to(like.device)
        each = [answer_of(whole, images, place) for place in range(len(whole.outputs))]
        return each, error.fact
    several = found if isinstance(found, list) else [found]
    several = [one for place, one in enumerate(several) if place not in whole.constants]
    dims = [whole.nodes[name].dims for name in whole.outputs]
    return [
        positions_last(np.asarray(one, dtype=np.float32)[None], places)
        for one, places in zip(several, dims, strict=True)
    ], ""


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
    for way, joined, right in ways:
        measured = difference(joined, answer, right, dtype)
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
    chosen: Sequence[int],
    tiles: Sequence[AxisTiles],
    sides: Sequence[int],
    by_engine: str,
) -> tuple[str, ...]:
    notes = []
    for place, name in enumerate(whole.outputs):
        if place not in chosen:
            why = "not audited" if _is_map(whole, place) else "no map: tiles have no place in it"
            notes.append(f"output {name} is {why}")
    if all(len(one.starts) == 1 for one in tiles):
        notes.append("one tile holds the whole image: there are no seams to be judged")
    if any(one.tile < side for one, side in zip(tiles, sides, strict=True)):
        notes.append("the image is smaller than a tile; MONAI would pad it with zeros, and differ")
    if by_engine:
        notes.append(f"the whole pass is net(image), held in memory: {by_engine}")
    return tuple(notes)


def _name(net: Network) -> str:
    if isinstance(net, Run):
        return Path(net.path).name if net.path else "run"
    module = net.module if isinstance(net, Traced) else net
    return type(module).__name__ if isinstance(module, nn.Module) else str(module)
