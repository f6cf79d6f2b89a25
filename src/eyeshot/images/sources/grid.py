"""Images stored in chunks: each chunk is decoded once while windows are read in order."""

from __future__ import annotations

import math
from abc import abstractmethod
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadFile
from eyeshot.images.layouts import Layout, Span
from eyeshot.images.sources.source import Source

Index = tuple[int, ...]
"""The number of a chunk along every stored axis."""


class GridSource(Source):
    """A regular grid of chunks over the stored axes."""

    def __init__(
        self, name: str, layout: Layout, dtype: np.dtype[Any], chunk: tuple[int, ...]
    ) -> None:
        super().__init__(name, layout, dtype)
        self._chunk = tuple(
            min(side, length) for side, length in zip(chunk, layout.stored, strict=True)
        )
        if min(self._chunk) < 1:
            raise BadFile(f"{name}: claims chunks of {chunk}", cure="the file is damaged")
        self._row_axis = layout.space[0]
        self._held: dict[Index, NDArray[Any]] = {}
        self.native_rows = self._chunk[self._row_axis]
        size = math.prod(self._chunk) * self.dtype.itemsize
        single = {self._row_axis, *(axis for axis, _ in layout.chosen)}
        across = math.prod(
            -(-length // side)
            for axis, (length, side) in enumerate(zip(layout.stored, self._chunk, strict=True))
            if axis not in single
        )
        # A row of chunks is kept, one is being decoded, and its compressed form is not larger.
        self.memory = size * (across + 2)

    @abstractmethod
    def _decode(self, index: Index) -> NDArray[Any]:
        """The samples of one chunk with the stored axes, cropped at the image's end."""

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        box = self._layout.box(spans)
        self._forget(box)
        out = np.empty([hi - lo for lo, hi in box], self.dtype)
        ranges = (
            range(lo // side, -(-hi // side))
            for (lo, hi), side in zip(box, self._chunk, strict=True)
        )
        for index in product(*ranges):
            block = self._held.get(index)
            if block is None:
                block = self._decode(index)
                self.decoded_chunks += 1
                if self._is_needed_again(index, box):
                    self._held[index] = block
            elif not self._is_needed_again(index, box):
                del self._held[index]
            self._place(block, index, box, out)
        return self._layout.arrange(out)

    def _extent(self, index: Index, axis: int) -> Span:
        """The range of a chunk along an axis."""
        lo = index[axis] * self._chunk[axis]
        return lo, min(lo + self._chunk[axis], self._layout.stored[axis])

    def _is_needed_again(self, index: Index, box: tuple[Span, ...]) -> bool:
        """Whether a later window may read part of this chunk."""
        for axis in self._layout.space:
            kept = self.keep_rows if axis == self._row_axis else 0
            if self._extent(index, axis)[1] > box[axis][1] - kept:
                return True
        return False

    def _forget(self, box: tuple[Span, ...]) -> None:
        """Release the chunks before the current rows, or all after a jump back."""
        lo, hi = box[self._row_axis]
        for index in list(self._held):
            begin, end = self._extent(index, self._row_axis)
            if end <= lo or begin >= hi:
                del self._held[index]

    def _place(
        self, block: NDArray[Any], index: Index, box: tuple[Span, ...], out: NDArray[Any]
    ) -> None:
        """Copy the intersection of a chunk and the window."""
        source, target = [], []
        for axis, (lo, hi) in enumerate(box):
            begin, end = self._extent(index, axis)
            first, last = max(lo, begin), min(hi, end)
            source.append(slice(first - begin, last - begin))
            target.append(slice(first - lo, last - lo))
        out[tuple(target)] = block[tuple(source)]
