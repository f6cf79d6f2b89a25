"""The result of an audit of tiles, as plain data that prints itself on one screen.

:func:`assemble` runs the tiles and puts their answers together in three ways; :func:`difference`
measures the difference from the whole pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eyeshot.geometry.tiles import Cover
from eyeshot.graph import Graph
from eyeshot.interpreter import value
from eyeshot.language import AXES, counted
from eyeshot.tiling.breaks import Break, Cost, Remedy, Sides, by

TOLERANCE = 1e-5
"""The largest rounding error between two orders of summation, relative to the largest value."""
_ROUNDINGS = 4
"""In half precision, as many of its rounding errors."""

Box = tuple[slice, ...]
FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference between an answer and that of the whole pass.

    Attributes:
        wrong: the share of output positions that differ by more than rounding.
        largest: the largest absolute difference.
        mean: the mean absolute difference, over all positions and channels.
        scale: the largest absolute value of the whole pass.
        classes: the share of positions whose largest channel differs; None for one channel.
        unexpected: the number of positions that differ although geometry says they are equal.
    """

    wrong: float
    largest: float
    mean: float
    scale: float
    classes: float | None
    unexpected: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, eq=False)
class Assembled:
    """The answers of all tiles put together in three ways, each (C, H, W) or (C, …)."""

    cropped: FloatArray
    averaged: FloatArray
    gaussian: FloatArray


def tiles_of(covers: Sequence[Cover]) -> Iterator[tuple[int, ...]]:
    """The index of each tile along every axis, in order."""
    return product(*(range(len(one.places)) for one in covers))


def assemble(
    part: Graph,
    image: torch.Tensor,
    starts: Sequence[Sequence[int]],
    covers: Sequence[Cover],
    shape: tuple[int, ...],
    progress: Callable[[int], None],
) -> Assembled:
    """Run the network over each tile and put the answers together.

    Args:
        part: the network's graph at the size of a tile.
        image: the network's input, (C, …).
        starts: the starts of the tiles along each axis.
        covers: along each axis, where the tiles' answers go.
        shape: (C, …) of the whole answer.
        progress: called with the number of finished tiles.
    """
    tile = part.nodes[part.inputs[0]].extents
    found = Assembled(*(np.zeros(shape, dtype=np.float64) for _ in range(3)))
    counts, weights = np.zeros(shape[1:]), np.zeros(shape[1:])
    for done, numbers in enumerate(tiles_of(covers), 1):
        first = [starts[axis][k] for axis, k in enumerate(numbers)]
        window = tuple(slice(lo, lo + n) for lo, n in zip(first, tile, strict=True))
        answer = answer_of(part, image[(slice(None), *window)])
        places = [cover.places[k] for cover, k in zip(covers, numbers, strict=True)]
        cores = [cover.cores[k] for cover, k in zip(covers, numbers, strict=True)]
        there, inner = _box(places), _box(cores)
        answer = answer[(slice(None), *(slice(0, hi - lo) for lo, hi in places))]
        cut = tuple(
            slice(lo - start, max(lo, hi) - start)
            for (lo, hi), (start, _) in zip(cores, places, strict=True)
        )
        found.cropped[(slice(None), *inner)] = answer[(slice(None), *cut)]
        bell = _gaussian(answer.shape[1:])
        found.averaged[(slice(None), *there)] += answer
        found.gaussian[(slice(None), *there)] += answer * bell
        counts[there] += 1
        weights[there] += bell
        progress(done)
    found.averaged[:] /= np.maximum(counts, 1)
    found.gaussian[:] /= np.where(weights > 0, weights, 1)
    return found


def answer_of(graph: Graph, image: torch.Tensor, place: int = 0) -> FloatArray:
    """One output of one pass over (C, …), as (C, …) with the positions last."""
    node = graph.nodes[graph.outputs[place]]
    with torch.inference_mode():
        x = image[None].to(getattr(torch, graph.nodes[graph.inputs[0]].dtype))
        found = value(graph, [x], node.name).float().cpu().numpy()
    return positions_last(found, node.dims)


def positions_last(found: FloatArray, dims: Sequence[int | None]) -> FloatArray:
    """An output with a batch of 1 as (C, …): dimensions without positions come first."""
    places = [dim for dim in dims if dim is not None]
    moved = np.moveaxis(found, places, range(found.ndim - len(places), found.ndim))
    return moved.reshape(-1, *moved.shape[moved.ndim - len(places) :])


def difference(
    answer: FloatArray,
    whole: FloatArray,
    expected: Sequence[NDArray[np.bool_]],
    dtype: torch.dtype = torch.float32,
) -> Difference:
    """Compare an answer with that of the whole pass.

    Args:
        answer: the answer from tiles, (C, …).
        whole: the answer of the whole pass, (C, …).
        expected: for each axis, a mask of the positions that geometry says are right.
        dtype: of the numbers that the network computes with.
    """
    scale = float(np.abs(whole).max(initial=0.0, where=np.isfinite(whole)))
    same = (answer == whole) | (np.isnan(answer) & np.isnan(whole))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0, np.abs(answer - whole))
    allowed = max(TOLERANCE, _ROUNDINGS * torch.finfo(dtype).eps)
    wrong = ~(apart.max(axis=0) <= allowed * scale)
    right: NDArray[np.bool_] = np.ones((), dtype=bool)
    for places in expected:
        right = right[..., None] & places
    classes = None
    if len(whole) > 1:
        classes = float((answer.argmax(axis=0) != whole.argmax(axis=0)).mean())
    return Difference(
        wrong=float(wrong.mean()),
        largest=float(apart.max(initial=0.0)),
        mean=float(apart.mean()),
        scale=scale,
        classes=classes,
        unexpected=int((wrong & right).sum()),
    )


def _box(ranges: Sequence[tuple[int, int]]) -> Box:
    return tuple(slice(lo, max(lo, hi)) for lo, hi in ranges)


def _gaussian(sizes: tuple[int, ...]) -> FloatArray:
    """A Gaussian weight over a tile: sigma is 1/8 of the side, the smallest weight is 1e-3."""
    bell = np.ones(())
    for n in sizes:
        places = np.arange(n) - (n - 1) / 2
        bell = bell[..., None] * np.exp(-((places / (0.125 * n)) ** 2) / 2)
    least: FloatArray = np.maximum(bell, 1e-3)
    return least


_MOST_BREAKS = 8
_WAYS = {
    "cropped": "cut in the middle",
    "averaged": "averaged",
    "gaussian": "Gaussian weights",
}


@dataclass(frozen=True, slots=True)
class Joint:
    """Tiles put together in one way.

    Attributes:
        way: ``cropped``, ``averaged`` or ``gaussian``.
        exact: whether, by geometry, the answer is that of the whole pass.
        wrong: the share of positions that may be wrong by geometry.
        measured: the difference from the whole pass.
    """

    way: str
    exact: bool
    wrong: float
    measured: Difference

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "way": self.way,
            "exact": self.exact,
            "predicted_wrong": self.wrong,
            "measured": self.measured.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class Audit:
    """Whether tiles give the answer of one whole pass; if not, the reason and settings that do.

    Attributes:
        network: the network's name.
        image: the name of the image.
        size: (C, H, W) of the image.
        tile: the sides of a tile.
        overlap: the pixels shared with the next tile along each axis.
        starts: the starts of the tiles along each axis.
        output: the name of the audited output.
        margins: the width of an inner tile's wrong margin, (before, after) along each axis; None
            if all of a tile is wrong.
        grid: tiles must start at multiples of this many pixels; None if no grid helps.
        field: the largest receptive field along each axis; None if it is unbounded.
        joints: the results of the three ways of putting tiles together.
        breaks: the layers that make tiles wrong, in execution order.
        work: how often each pixel of this image is computed.
        remedy: exact tiles; None if there are none.
        costs: the costs of exact tiles of other sizes on a large image.
        settings: the remedy as settings of other tools, by their names.
        notes: further lines for the reader.
        others: the audits of the network's other outputs, none of which is worse.
    """

    network: str
    image: str
    size: tuple[int, ...]
    tile: tuple[int, ...]
    overlap: tuple[int, ...]
    starts: tuple[tuple[int, ...], ...]
    output: str
    margins: Sides | None
    grid: int | None
    field: tuple[int, ...] | None
    joints: tuple[Joint, ...]
    breaks: tuple[Break, ...]
    work: float
    remedy: Remedy | None
    costs: tuple[Cost, ...]
    settings: Mapping[str, str]
    notes: tuple[str, ...]
    others: tuple[Audit, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether these tiles, cut in the middle of each overlap, are exact, also as measured.

        Of several outputs this one is the worst, so all are exact if it is.
        """
        joint = self.joints[0]
        return joint.exact and not joint.measured.wrong

    def joint(self, way: str) -> Joint:
        """The result for ``cropped``, ``averaged`` or ``gaussian``."""
        return next(one for one in self.joints if one.way == way)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "network": self.network,
            "image": self.image,
            "size": list(self.size),
            "tile": list(self.tile),
            "overlap": list(self.overlap),
            "starts": [list(one) for one in self.starts],
            "output": self.output,
            "exact": self.exact,
            "margins": None if self.margins is None else [list(one) for one in self.margins],
            "grid": self.grid,
            "receptive_field": None if self.field is None else list(self.field),
            "joints": [one.to_dict() for one in self.joints],
            "breaks": [one.to_dict() for one in self.breaks],
            "work": self.work,
            "remedy": None if self.remedy is None else self.remedy.to_dict(),
            "costs": [one.to_dict() for one in self.costs],
            "settings": dict(self.settings),
            "notes": list(self.notes),
            "others": [one.to_dict() for one in self.others],
        }

    def __str__(self) -> str:
        """One screen."""
        return "\n".join(self.lines())

    def lines(self) -> Iterator[str]:
        """The lines that ``print`` shows."""
        count = math.prod(len(one) for one in self.starts)
        yield (
            f"{self.network} on {self.image}: {counted(count, 'tile')} of {by(self.tile)}, "
            f"overlap {by(self.overlap)}"
        )
        yield self._verdict()
        yield ""
        yield from self._ways()
        yield ""
        yield from self._why()
        yield ""
        yield from self._cure()
        yield from self._of_others()
        yield from (f"note: {note}" for note in self.notes)

    def _of_others(self) -> Iterator[str]:
        """A line for each other output."""
        if self.others:
            yield f"all this is of output {self.output}, the worst; the others (--map NAME):"
        for one in self.others:
            joint = one.joints[0]
            best = "no overlap is" if one.remedy is None else f"overlap {by(one.remedy.overlap)} is"
            yield (
                f"  {one.output}: cut in the middle {'exact' if one.exact else 'NOT EXACT'}, wrong "
                f"{joint.measured.wrong:.2%}, at most {joint.wrong:.2%}; {best} exact"
            )

    def _verdict(self) -> str:
        ways = [_WAYS[one.way] for one in self.joints if one.exact]
        if len(ways) == len(self.joints):
            return "EXACT: the answer of the whole pass, cropped or blended"
        if ways:
            return f"EXACT if {' or '.join(ways)}, and not otherwise"
        return "NOT EXACT: not the answer of the whole pass, cropped or blended"

    def _ways(self) -> Iterator[str]:
        yield "put together       exact  wrong pixels  at most  largest error   mean error  class"
        for one in self.joints:
            found = one.measured
            classes = "" if found.classes is None else f"{found.classes:.2%}"
            yield (
                f"{_WAYS[one.way]:<18} {'yes' if one.exact else 'NO':>5} "
                f"{found.wrong:>13.2%} {one.wrong:>8.2%} {found.largest:>14.3g} "
                f"{found.mean:>12.3g}  {classes:>5}"
            )
        scale = self.joints[0].measured.scale
        yield f"the whole pass has values up to {scale:.3g}; class: pixels that change theirs"
        odd = sum(one.measured.unexpected for one in self.joints)
        if odd:
            yield f"{counted(odd, 'position')} differ where they should be equal: please report"

    def _why(self) -> Iterator[str]:
        axes = AXES.get(len(self.tile), ("rows", "columns"))
        if self.margins is None:
            yield "wrong margin of a tile: all of it"
        else:
            margins = [
                f"{axis} {lo} before, {hi} after"
                for axis, (lo, hi) in zip(axes, self.margins, strict=True)
            ]
            yield f"wrong margin of an inner tile, in pixels: {'; '.join(margins)}"
        if self.field is not None and self.grid is not None:
            off = [_off_grid(one, self.grid) for one in self.starts]
            yield (
                f"an output sees up to {by(self.field)} pixels; the network repeats itself every "
                f"{counted(self.grid, 'pixel')}"
                + ("" if not any(off) else f", and {counted(sum(off), 'start')} lie off that grid")
            )
        yield from _listed(self.breaks)

    def _cure(self) -> Iterator[str]:
        best = self.remedy
        if best is None:
            yield "no overlap makes tiles of this network exact; one pass over the whole image does"
            return
        yield (
            f"least that is exact, cropped: tiles of {by(best.tile)}, overlap {by(best.overlap)}, "
            f"starts on multiples of {best.grid}, {best.halo} cut off each inner side"
        )
        yield f"work: {self.work:.2f}x here as asked; on a large image, with the least overlap:"
        yield "  " + "   ".join(
            f"{one.tile}: {one.overlap}, {one.work:.2f}x" if one.work else f"{one.tile}: none"
            for one in self.costs
        )
        yield "  eyeshot run computes each pixel once, at 1.00x"
        for tool, setting in self.settings.items():
            first, *rest = setting.splitlines()
            yield f"{tool}: {first}" if not rest else f"{tool}:"
            yield from (f"    {line}" for line in (setting.splitlines() if rest else ()))


def _off_grid(starts: Sequence[int], grid: int) -> int:
    return sum(start % grid != 0 for start in starts)


def _listed(breaks: Sequence[Break]) -> Iterator[str]:
    """Lines for the worst layers, and one with the number of the others."""
    worst = sorted(breaks, key=_weight, reverse=True)[:_MOST_BREAKS]
    shown = [one for one in breaks if one in worst]
    if shown:
        yield "what breaks it:"
    for one in shown:
        yield f"  {one.layer} ({one.operator}): {sentence(one)}"
    if len(breaks) > len(shown):
        yield f"  and {counted(len(breaks) - len(shown), 'layer')} more, a few pixels each (--json)"


def _weight(one: Break) -> tuple[bool, int]:
    return not one.sides, sum(map(sum, one.sides))


def sentence(one: Break) -> str:
    """Why a layer makes tiles wrong, as text."""
    if one.cause == "statistic":
        return "takes its statistic from the tile in place of the image; no overlap helps"
    if one.cause == "size":
        return "depends on the size that it is given; no overlap helps"
    if one.cause == "grid":
        return f"a tile starts between two of its steps; start on multiples of {one.step}"
    if one.cause == "unknown":
        return "no rule says what it does to positions"
    if not one.sides:
        return "the wrong margin fills the whole tile"
    growth = " or ".join(sorted({f"{lo} before, {hi} after" for lo, hi in one.sides}))
    if one.cause == "padding":
        return f"pads where the image goes on; the wrong margin grows by {growth}"
    return f"mixes wrong values with right ones; the margin grows by {growth}"
