"""What every output is to the engine: a shape, and bands written in order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadValue
from eyeshot.images.layouts import Span
from eyeshot.images.mapped import let_go
from eyeshot.images.sinks.arrangement import Arrangement, laid_canonically


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
        memory: the most bytes that the sink itself uses.
        notes: plain data stored with an unfinished output, available when it is resumed.
    """

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

    def memory_in_strips(self, columns: int) -> int:
        """The same if this number of columns is written together."""
        return self.memory

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
        """Put away a block that has been checked."""

    def durable_rows(self, strip: Span | None = None) -> int:
        """How many rows of a column strip (of the whole width) need not be written again."""
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

    def abort(self) -> None:  # noqa: B027  (an array has nothing to let go of)
        """Stop here. What was finished stays, to be used or to be resumed."""

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
