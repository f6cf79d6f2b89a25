"""The order of an output's dimensions, compared with the order of the engine's blocks.

An engine gives blocks (C, rows, columns, …): all features of a position, then the positions along
each axis of the image. An output may have another order: channels last, no channels, rows and
columns swapped, channels in two dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.images.layouts import SPACE, Layout, Span
from eyeshot.images.sources.source import Source

Start = tuple[int, ...]
"""Where a block begins along each dimension of an array."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """The dimensions of a stored array.

    Attributes:
        sizes: the size of each dimension.
        axes: for each dimension, its axis in a block, 0 for rows, 1 for columns; None for a
            dimension of features. An axis that is not listed has one position.
    """

    sizes: tuple[int, ...]
    axes: tuple[int | None, ...]

    @property
    def features(self) -> tuple[int, ...]:
        """The sizes of the dimensions that are no axis; their product is a block's channels."""
        pairs = zip(self.sizes, self.axes, strict=True)
        return tuple(size for size, axis in pairs if axis is None)

    @property
    def space(self) -> tuple[int, ...]:
        """The axes, in stored order."""
        return tuple(axis for axis in self.axes if axis is not None)

    def names(self, space: str) -> tuple[str, ...]:
        """A name for each dimension: letters of ``space`` for axes, ``c`` for features."""
        names: list[str] = []
        count = len(self.features)
        for axis in self.axes:
            number = "" if count < 2 else str(sum(name[0] == "c" for name in names) + 1)
            names.append(f"c{number}" if axis is None else space[axis])
        return tuple(names)

    def canonical(self, axes: int) -> bool:
        """Whether blocks with this number of axes are stored unchanged, channels first."""
        return self.axes == (None, *range(axes))

    def sized(self, sizes: tuple[int, ...]) -> Arrangement:
        """The same dimensions for a block of ``sizes`` (C, rows, columns, …)."""
        features = self.features
        if math.prod(features) != sizes[0]:  # of a form that keeps one number for all of them
            features = (1,) * len(features)
        left = iter(features)
        return Arrangement(
            tuple(next(left) if axis is None else sizes[axis + 1] for axis in self.axes), self.axes
        )

    def arranged(self, block: NDArray[Any]) -> NDArray[Any]:
        """A block (C, rows, columns, …) in the array's order: a view."""
        sized = self.sized(block.shape)
        places = [place for place, axis in enumerate(self.axes) if axis is None]
        places += [self.axes.index(axis) for axis in sorted(self.space)]
        straight = block.reshape([sized.sizes[place] for place in places])
        return straight.transpose(np.argsort(places))

    def straight(self, block: NDArray[Any]) -> NDArray[Any]:
        """The inverse, from the array's order: dimensions of features first, then axes."""
        places = [place for place, axis in enumerate(self.axes) if axis is None]
        places += [self.axes.index(axis) for axis in sorted(self.space)]
        return block.transpose(places)

    def start(self, row: int, column: int) -> Start:
        """Where a block begins that begins at a row and a column."""
        begins = {0: row, 1: column}
        return tuple(0 if axis is None else begins.get(axis, 0) for axis in self.axes)


def laid_canonically(shape: tuple[int, ...], *, squeeze: bool = False) -> Arrangement:
    """Channels first; optionally without a dimension for a single channel."""
    axes: tuple[int | None, ...] = (None, *range(len(shape) - 1))
    drop = 1 if squeeze and shape[0] == 1 else 0
    return Arrangement(shape[drop:], axes[drop:])


def laid(shape: tuple[int, ...], *, turned: bool) -> tuple[int, ...]:
    """(C, H, W) of a picture, optionally with rows and columns swapped."""
    return (shape[0], shape[2], shape[1]) if turned else shape


def letters(layout: str, *, turned: bool) -> str:
    """The letters of its axes, from the letters of an unchanged picture."""
    return layout.translate(str.maketrans("HW", "WH")) if turned else layout


class ArrangedSource(Source):
    """An array of any arrangement, read as blocks (C, rows, columns, …)."""

    def __init__(
        self,
        name: str,
        array: Any,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        arrangement: Arrangement,
    ) -> None:
        super().__init__(
            name, Layout(shape, "C" + SPACE[len(shape) - 1], "as it was written"), dtype
        )
        self._array, self._arrangement = array, arrangement

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        axes = self._arrangement.axes
        where = tuple(slice(None) if axis is None else slice(*spans[axis]) for axis in axes)
        block: NDArray[Any] = np.asarray(self._array[where])
        sizes = [1 if axis not in axes else hi - lo for axis, (lo, hi) in enumerate(spans)]
        return self._arrangement.straight(block).reshape(-1, *sizes)

    def identity(self) -> dict[str, Any]:
        """The file; it is read once, by the run that made it."""
        return {"file": self.name}
