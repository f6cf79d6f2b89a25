"""The interface of an output for the engine: a shape, bands in order, an order of dimensions."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadValue
from eyeshot.images.layouts import SPACE, Layout, Span
from eyeshot.images.pixel_grid import PixelGrid
from eyeshot.images.sources.arrays import let_go
from eyeshot.images.sources.source import Source

Start = tuple[int, ...]
"""The first position of a block along each dimension of an array."""


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
        """The sizes of the dimensions of features; their product is a block's channels."""
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
        if math.prod(features) != sizes[0]:  # an output form with one number for all features
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
        """The start of a block whose first position is at ``row`` and ``column``."""
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
        """The file's name is enough, because only the run that wrote it reads it."""
        return {"file": self.name}


@dataclass(frozen=True, slots=True)
class Storage:
    """How samples are stored, for formats with a choice.

    Attributes:
        labels: the samples are class numbers or a mask, so levels of a pyramid must not average
            them.
        shard: the side in positions of a Zarr shard, a file of several chunks; None for a file for
            each chunk.
        grid: the size and position of the pixels; None if unknown.
        span: the least and the largest sample that are possible, which a viewer shows as black and
            white; None if unknown.
    """

    labels: bool = False
    shard: int | None = None
    grid: PixelGrid | None = None
    span: tuple[int, int] | None = None


STORED_PLAINLY = Storage()


class SinkMemory(NamedTuple):
    """Bytes that a sink uses.

    Attributes:
        waiting: during the whole run.
        packing: in addition, while rows are written.
        behind: whether rows may be written while others are computed (:attr:`Sink.behind`).
    """

    waiting: int
    packing: int = 0
    behind: bool = False


class Sink(ABC):
    """An image that is written by bands, from the first row to the last.

    It may be written in column strips, each from its first row to its last, in sequence or
    alternating. As a context manager it aborts unless :meth:`finish` was called inside.

    Attributes:
        name: its name in messages.
        shape: of the written samples: (C, H, W); (C, L) for a signal, (C, D, H, W) for a volume.
            Rows are the first spatial axis, columns the second.
        dtype: the type of the samples.
        chunk_rows, chunk_columns: bands and strips of a multiple of these are most efficient.
        behind: rows may be written from another thread, one call at a time, while others are
            computed.
        memory: the most bytes that the sink itself uses.
        notes: plain data stored with an unfinished output, available when it is resumed.
    """

    behind = False

    def __init__(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.name = name
        self.shape = shape
        self.dtype = dtype.newbyteorder("=")
        self.chunk_rows = 1
        self.chunk_columns = 1
        self.memory = 0
        self.notes: list[Any] = []
        self._written: dict[Span, int] = {}
        self._finished = False

    def memory_in_strips(self, columns: int) -> SinkMemory:
        """The memory that the sink uses if ``columns`` columns are written together."""
        return SinkMemory(self.memory)

    @property
    def _columns(self) -> int:
        return self.shape[2] if len(self.shape) > 2 else 1

    def write(self, row: int, block: NDArray[Any], column: int = 0) -> None:
        """Write the rows from ``row`` on, of the columns from ``column`` on.

        Args:
            row: the first row of ``block``; the one after the last row written to its strip.
            block: (C, n, w) (or (C, n), (C, n, w, …)), of the sink's own dtype.
            column: the first column of ``block``.

        Raises:
            BadValue: another dtype or shape, rows out of order, or outside the image.
            Failure: the disk is full; the written rows remain.
        """
        strip = self._check(row, block, column)
        self._store(row, block, strip)
        self._written[strip] = row + block.shape[1]

    def _check(self, row: int, block: NDArray[Any], column: int) -> Span:
        width = block.shape[2] if block.ndim > 2 else 1
        strip = (column, column + width)
        fits = block.ndim == len(self.shape) and block.shape[3:] == self.shape[3:]
        if not fits or block.shape[0] != self.shape[0] or block.dtype != self.dtype:
            raise BadValue(
                f"{self.name}: a block of {block.shape} {block.dtype} for {self.shape} {self.dtype}"
            )
        if row + block.shape[1] > self.shape[1] or not 0 <= column < strip[1] <= self._columns:
            raise BadValue(f"{self.name}: a block at {row}, {column} leaves the image")
        expected = self._written.get(strip, 0)
        if row != expected:
            raise BadValue(
                f"{self.name}: row {row} of columns {column}:{strip[1]} after {expected} rows",
                cure="write the rows of a strip in order",
            )
        return strip

    @abstractmethod
    def _store(self, row: int, block: NDArray[Any], strip: Span) -> None:
        """Store a block that has been checked."""

    def durable_rows(self, strip: Span | None = None) -> int:
        """The rows of a strip (None: of the full width) that need not be written again."""
        return self._written.get(strip or (0, self._columns), 0)

    def finish(self) -> Any:
        """Complete the output.

        Returns:
            The path, or the array.

        Raises:
            BadValue: rows are missing.
        """
        self.complete()
        result = self._seal()
        self._finished = True
        return result

    def complete(self) -> None:
        """Rename the output to its target, and keep the files for resuming until :meth:`finish`.

        If there are several outputs, all are completed before the first is finished: a run that is
        interrupted before that can still be resumed. A run that is interrupted later cannot: a
        finished output "exists already"; but then all outputs are complete.

        Raises:
            BadValue: rows are missing.
        """
        area = sum((right - left) * rows for (left, right), rows in self._written.items())
        if area != self.shape[1] * self._columns:
            raise BadValue(
                f"{self.name}: finished with {area} of {self.shape[1] * self._columns} positions",
                cure="write every row of every strip",
            )

    @abstractmethod
    def _seal(self) -> Any:
        """Complete the output; return the path or the array."""

    def abort(self) -> None:  # noqa: B027  (an array has nothing to close)
        """Stop. The finished rows stay, so that the run can be resumed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._finished:
            self.abort()


class ArraySink(Sink):
    """An array in memory, or a memory map: the caller's, or a new one."""

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        array: NDArray[Any] | None = None,
        arrangement: Arrangement | None = None,
    ) -> None:
        super().__init__("the array", shape, dtype)
        self._arrangement = arrangement or laid_canonically(shape)
        sizes = self._arrangement.sizes
        self._array = np.empty(sizes, self.dtype) if array is None else array
        self.memory = self._array.nbytes if array is None else 0
        if self._array.shape != sizes or self._array.dtype != self.dtype:
            raise BadValue(
                f"an output array of {self._array.shape} {self._array.dtype} "
                f"for {sizes} {self.dtype}",
                cure="pass an array that fits, or no array",
            )

    def _store(self, row: int, block: NDArray[Any], strip: Span) -> None:
        laid = self._arrangement.arranged(block)
        start = self._arrangement.start(row, strip[0])
        where = tuple(slice(lo, lo + n) for lo, n in zip(start, laid.shape, strict=True))
        self._array[where] = laid
        let_go(self._array)

    def _seal(self) -> NDArray[Any]:
        if isinstance(self._array, np.memmap):
            self._array.flush()
        return self._array
