"""What tiles give, put together in three ways, and how far that is from the whole pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eyeshot.geometry.tiles import Cover
from eyeshot.graph import Graph
from eyeshot.interpreter import value

TOLERANCE = 1e-5
"""Of the largest absolute value of the whole pass: what two orders of summing may differ by."""

Box = tuple[slice, ...]
FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Difference:
    """How far an answer is from that of the whole pass.

    Attributes:
        wrong: the share of output positions that differ by more than rounding.
        largest: the largest absolute difference.
        mean: the mean absolute difference, over all positions and channels.
        scale: the largest absolute value of the whole pass.
        classes: the share of positions whose largest channel is another; None for one channel.
        unexpected: positions that differ although geometry says that they are equal.
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
    """Answers of all tiles put together, (C, …) each: positions follow the channels."""

    cropped: FloatArray
    averaged: FloatArray
    gaussian: FloatArray


def tiles_of(covers: Sequence[Cover]) -> Iterator[tuple[int, ...]]:
    """The number of each tile along every axis, in order."""
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
        part: the network at the size of a tile.
        image: (C, …), what the network reads.
        starts: of the tiles along each axis.
        covers: where their answers go.
        shape: (C, …) of the whole answer.
        progress: called with how many tiles are done.
    """
    tile = part.nodes[part.inputs[0]].extents
    found = Assembled(*(np.zeros(shape, dtype=np.float64) for _ in range(3)))
    counts, weights = np.zeros(shape[1:]), np.zeros(shape[1:])
    for done, numbers in enumerate(tiles_of(covers), 1):
        first = [starts[axis][k] for axis, k in enumerate(numbers)]
        window = tuple(slice(lo, lo + n) for lo, n in zip(first, tile, strict=True))
        answer = answer_of(part, image[(slice(None), *window)])
        places = [cover.places[k] for cover, k in zip(covers, numbers, strict=True)]
        kept = [cover.kept[k] for cover, k in zip(covers, numbers, strict=True)]
        there, inner = _box(places), _box(kept)
        answer = answer[(slice(None), *(slice(0, hi - lo) for lo, hi in places))]
        cut = tuple(
            slice(lo - start, max(lo, hi) - start)
            for (lo, hi), (start, _) in zip(kept, places, strict=True)
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


def answer_of(graph: Graph, image: torch.Tensor) -> FloatArray:
    """The first output of one pass over (C, …), as (C, …) with the positions last."""
    node = graph.nodes[graph.outputs[0]]
    with torch.inference_mode():
        found = value(graph, [image[None]], node.name).float().cpu().numpy()
    return positions_last(found, node.dims)


def positions_last(found: FloatArray, dims: Sequence[int | None]) -> FloatArray:
    """An output with its batch of one, as (C, …): all that is no position comes first."""
    places = [dim for dim in dims if dim is not None]
    moved = np.moveaxis(found, places, range(found.ndim - len(places), found.ndim))
    return moved.reshape(-1, *moved.shape[moved.ndim - len(places) :])


def difference(
    answer: FloatArray, whole: FloatArray, expected: Sequence[NDArray[np.bool_]]
) -> Difference:
    """Hold an answer against the whole pass.

    Args:
        answer: (C, …).
        whole: the same of the whole pass.
        expected: for each axis, which places geometry says are right.
    """
    scale = float(np.abs(whole).max(initial=0.0))
    apart = np.abs(answer - whole)
    wrong = ~(apart.max(axis=0) <= TOLERANCE * scale)
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
    """A bell over a tile, with an eighth of its side as deviation and 1e-3 as least weight."""
    bell = np.ones(())
    for n in sizes:
        places = np.arange(n) - (n - 1) / 2
        bell = bell[..., None] * np.exp(-((places / (0.125 * n)) ** 2) / 2)
    least: FloatArray = np.maximum(bell, 1e-3)
    return least
