"""A user's picture in the form that a trained network takes, for every task.

The field and the accepted sizes of a run's network are also found here, once for all runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eyeshot import nets
from eyeshot.data.pixels import reduce
from eyeshot.errors import BadFile, BadValue
from eyeshot.frontends.net_geometry import InputSizes, NetGeometry
from eyeshot.frontends.trials import accepted_axes, channels_to_try
from eyeshot.images import Source, Span, open_source
from eyeshot.images.layouts import Index
from eyeshot.images.sources.converted import OpaqueSource
from eyeshot.images.whole import SCALE_FIRST, check_scale, note_dark, to_unit
from eyeshot.language import mark, tr
from eyeshot.runs import Run
from eyeshot.runs.config import RunConfig

_CACHED = 8
_own: WeakKeyDictionary[nn.Module, NetGeometry] = WeakKeyDictionary()


def geometry_of(run: Run) -> NetGeometry:
    """The geometry of a run's network."""
    if run.config.own is None:
        return geometry_of_named(run.config)
    if run.net not in _own:
        _own[run.net] = NetGeometry(run.net, run.config.channels)
    return _own[run.net]


def geometry_of_named(config: RunConfig) -> NetGeometry:
    """That of a network of :mod:`eyeshot.nets` that ``config`` names; it has no weights."""
    return geometry_of_model(config.model, config.channels, config.outputs, config.model_arguments)


def geometry_of_model(
    model: str, channels: int, outputs: int, arguments: Mapping[str, int | str]
) -> NetGeometry:
    """The same of a network that answers at every pixel, by its name in :mod:`eyeshot.nets`."""
    return _cached_geometry(model, channels, outputs, tuple(sorted(arguments.items())))


@lru_cache(_CACHED)
def _cached_geometry(
    model: str, channels: int, outputs: int, arguments: tuple[tuple[str, int | str], ...]
) -> NetGeometry:
    with torch.device("meta"):
        net = nets.build(model, in_channels=channels, classes=outputs, **dict(arguments))
    return NetGeometry(net, channels)


SEEN_SIDE = 512
"""Height and width of the part of a large picture that is looked at: the maps of all layers of a
U-Net take some kilobytes a pixel. Of a volume and a signal, as many voxels and samples are."""
_PICTURE = 2  # axes of space
_MOST_PIXELS = 2**22
"""Of a picture that goes through a network in one pass."""


@dataclass(frozen=True, eq=False)
class Input:
    """A picture ready for a network.

    Attributes:
        values: float32 (1, C, H, W), normalized; (1, C, D, H, W) of a volume, (1, C, L) of a
            signal.
        picture: the same to look at, uint8 (H, W, C); (D, H, W, C) or (L, C).
        notes: what was done to it, a phrase each.
    """

    values: Tensor
    picture: NDArray[np.uint8]
    notes: tuple[str, ...]


def prepare_input(
    run: Run,
    picture: str | Path | NDArray[Any],
    *,
    side: int | None = None,
    series: int | None = None,
    index: Index | None = None,
) -> Input:
    """A person's picture as the network of ``run`` takes it.

    A classifier gets it as it was trained, by :meth:`Run.prepare`. A network that answers with a
    mask or a picture gets its own pixels, as :func:`eyeshot.run` gives them to it: of any size, and
    never stretched. A network of volumes or of signals gets one of these.

    Args:
        run: a trained run.
        picture: a file, or an array (H, W), (H, W, C) or (C, H, W).
        side: of a network that takes any size, the most rows and columns to be looked at: of a
            larger picture its middle, cut where the network's grid begins again. Of a volume and a
            signal, the sides of as many voxels and samples.
        series: which image of a file that holds several, or which frame; None for the first.
        index: positions along the other axes of a stack, such as ``"Z=3"``.

    Raises:
        BadFile: not a picture, or one of other channels than the network's.
        BadValue: a picture that the network cannot take.
    """
    if run.config.task == "generate":
        raise BadValue(
            f"{run.path}: its network takes latents, and no picture",
            cure="call eyeshot.see or eyeshot.explain in Python with what run.net takes",
        )
    if run.config.task == "classify":
        pixels, notes = run.prepare(picture, series=series, index=index)
        shown = np.moveaxis(reduce(pixels[0].numpy()), 0, -1)
        return Input(run.normalize(pixels), shown, tuple(notes))
    space = len(run.config.size)
    with open_source(picture, space=space, series=series, index=index) as stored_source:
        source = _without_alpha(stored_source, (run.config.channels,))
        _check_channels(source, run)
        most = None if side is None else round(side ** (_PICTURE / space))
        spans = _spans(run, source.shape[1:], most)
        if np.prod([hi - lo for lo, hi in spans]) > _MOST_PIXELS:
            raise BadValue(
                f"{source.name}: {_by(source.shape[1:])} pixels, too many for one view",
                cure="crop the part of interest",
            )
        stored = source.read(*spans)
        check_scale(stored, source.name, run.config.in_unit)
        samples = to_unit(stored)
        notes = [*_notes_of(source), *_cuts(source.shape[1:], spans)]
        if stored.dtype.kind in "ui":
            dark = note_dark(int(stored.max()), stored.dtype, run.config.mean, SCALE_FIRST)
            notes += [] if dark is None else [dark]
    config = run.config
    levels = (-1, *(1 for _ in spans))
    mean, std = (torch.tensor(values).view(levels) for values in (config.mean, config.std))
    shown = np.rint(np.moveaxis(samples, 0, -1).clip(0, 1) * 255).astype(np.uint8)
    return Input(((torch.from_numpy(samples) - mean) / std)[None], shown, tuple(notes))


def _check_channels(source: Source, run: Run) -> None:
    channels, expected = source.shape[0], run.config.channels
    if channels != expected:
        if source.pages:
            raise BadFile(
                f"{source.name}: its {channels} pages (axis {source.pages}) are no channels, and "
                f"the network takes {expected}",
                cure=f"choose one by --index, {source.pages}=0 to {source.pages}={channels - 1}",
            )
        raise BadFile(
            f"{source.name}: has {channels} channels, and the network takes {expected} "
            "(1 is gray, 3 color)",
            cure="save it with the channels of the training pictures",
        )


def prepare_plain(
    net: nn.Module,
    picture: str | Path | NDArray[Any],
    *,
    series: int | None = None,
    index: Index | None = None,
) -> Input:
    """A picture for a network of one's own: its samples in 0 … 1, in as many channels as it takes.

    Args:
        net: the network.
        picture: a file, or an array; of a network over signals or volumes one of these.
        series: which image of a file that holds several.
        index: positions along the other axes of a stack.

    Raises:
        BadFile: not a picture, or a stack of pages of which the network takes another number.
        BadValue: more than can be seen at once.
    """
    takes = channels_to_try(net)
    with open_source(
        picture, space=accepted_axes(net), series=series, index=index
    ) as stored_source:
        source = _without_alpha(stored_source, takes)
        if np.prod(source.shape[1:]) > _MOST_PIXELS:
            raise BadValue(
                f"{source.name}: {_by(source.shape[1:])} is too large for one view",
                cure="crop the part of interest",
            )
        samples = to_unit(source.read(*((0, n) for n in source.shape[1:])))
        _check_pages(source, takes)
        floats = np.issubdtype(np.dtype(source.dtype), np.floating)
        text = mark("{type} samples, scaled to 0 … 1 and nothing else")
        text = mark("{type} samples, taken as they are") if floats else text
        notes = [*_notes_of(source), tr(text, type=source.dtype)]
    samples, changes = in_channels(samples, takes)
    x = torch.from_numpy(np.ascontiguousarray(samples))[None]
    like = next((p for p in net.parameters() if p.is_floating_point()), x)
    shown = np.rint(np.moveaxis(samples, 0, -1).clip(0, 1) * 255).astype(np.uint8)
    return Input(x.to(like), shown, (*notes, *changes))


def _without_alpha(source: Source, takes: tuple[int, ...]) -> Source:
    """A picture without its alpha channel, if the network takes none; it must be opaque."""
    if not source.alpha or not takes or source.shape[0] in takes:
        return source
    return OpaqueSource(source)


def _notes_of(source: Source) -> tuple[str, ...]:
    return (*source.notes, source.left_out) if isinstance(source, OpaqueSource) else source.notes


def _check_pages(source: Source, takes: tuple[int, ...]) -> None:
    """Refuse a stack of pages of which the network takes another number.

    Raises:
        BadFile: there are several; the message says how to choose one.
    """
    pages, count = source.pages, source.shape[0]
    if pages and takes and count not in takes:
        raise BadFile(
            f"{source.name}: its {count} pages (axis {pages}) are no channels, and the network "
            f"takes {' or '.join(map(str, takes))}",
            cure=f"choose one by --index, {pages}=0 to {pages}={count - 1}",
        )


def in_channels(
    samples: NDArray[Any], takes: tuple[int, ...]
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Gray made of color, or repeated, where only that makes the channels fit."""
    have = len(samples)
    if not takes or have in takes:
        return samples, ()
    if have == 1 and takes[0] == 3:
        return np.repeat(samples, 3, axis=0), (tr("gray repeated in three channels"),)
    if have == 3 and takes[0] == 1:
        gray = np.tensordot(np.array([0.299, 0.587, 0.114]), samples, 1)[None]
        return gray.astype(samples.dtype), (tr("made gray"),)
    return samples, ()


def _spans(run: Run, size: tuple[int, ...], side: int | None) -> tuple[Span, ...]:
    """Which part of each axis the network is to see: the middle, if not all of it."""
    geometry = geometry_of(run)
    sides = tuple(n if side is None else min(n, side) for n in size)
    if not geometry.sizes.takes(*sides):
        sides = tuple(_below(geometry.sizes, n, axis) for axis, n in enumerate(sides))
    if sides == size:
        return tuple((0, n) for n in size)
    step = geometry.output.alignment
    starts = ((n - m) // 2 // step * step for n, m in zip(size, sides, strict=True))
    return tuple((start, start + m) for start, m in zip(starts, sides, strict=True))


def _below(sizes: InputSizes, n: int, axis: int) -> int:
    """The largest side up to ``n`` that the network takes."""
    below, above = sizes.nearest(n, axis)
    if below is None:
        limit = f"takes none below {above}" if above else "takes no side near it"
        raise BadValue(
            f"a side of {n} pixels, and the network {limit}", cure="give a larger picture"
        )
    return below


_AXES = {
    1: ("samples", ("positions",)),
    2: ("pixels", ("rows", "columns")),
    3: ("voxels", ("slices", "rows", "columns")),
}


def _cuts(size: tuple[int, ...], spans: tuple[Span, ...]) -> list[str]:
    if all(span == (0, length) for span, length in zip(spans, size, strict=True)):
        return []
    unit, axes = _AXES[len(spans)]
    parts = [f"{axis} {lo}:{hi}" for axis, (lo, hi) in zip(axes, spans, strict=True)]
    listed = " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
    return [f"of {_by(size)} {unit}, {listed} are looked at; places are counted from there"]


def _by(size: tuple[int, ...]) -> str:
    return "×".join(map(str, size))
