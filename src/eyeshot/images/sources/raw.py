"""Samples stored uncompressed and in order: ``.npy``, and contiguous TIFF."""

from __future__ import annotations

import math
import tokenize
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadFile
from eyeshot.images.layouts import Layout, Span
from eyeshot.images.sources.selection import Selection
from eyeshot.images.sources.source import OpenFile, Source

_SHORT_RUN = 2**12
"""Bytes below which reading the whole line costs less than asking for a part of it."""


class RawSource(Source):
    """A C-ordered array at an offset of a file, read without mapping it."""

    def __init__(
        self, file: OpenFile, offset: int, dtype: np.dtype[Any], layout: Layout, name: str
    ) -> None:
        super().__init__(name, layout, dtype)
        self._file = file
        self._offset = offset
        self._stored = dtype
        needed = offset + math.prod(layout.stored) * dtype.itemsize
        if file.size < needed:
            raise BadFile(
                f"{name}: has {file.size} bytes and its header promises {needed}",
                cure="it is truncated; copy it again",
            )

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        self._file.check_unchanged()
        block = self._read_box(self._layout.box(spans))
        return self._layout.arrange(block.astype(self.dtype, copy=False))

    def _read_box(self, box: tuple[Span, ...]) -> NDArray[Any]:
        """One system call for each contiguous run of bytes."""
        stored = self._layout.stored
        strides = [math.prod(stored[axis + 1 :]) for axis in range(len(stored))]
        axis = _run_axis(stored, box, strides, self._stored.itemsize)
        wide = (*box[: axis + 1], *((0, length) for length in stored[axis + 1 :]))
        out = np.empty([hi - lo for lo, hi in wide], self._stored)
        runs = out.reshape(math.prod(out.shape[:axis]), -1)
        corner = wide[axis][0] * strides[axis]
        for run, index in zip(runs, product(*(range(*span) for span in wide[:axis])), strict=True):
            start = corner + sum(i * s for i, s in zip(index, strides, strict=False))
            place = self._offset + start * self._stored.itemsize
            self._file.read_into(place, run.data.cast("B"), "the data")
        self.decoded_chunks += len(runs)
        whole = (slice(None),) * (axis + 1)
        return out[(*whole, *(slice(lo, hi) for lo, hi in box[axis + 1 :]))]

    def identity(self) -> dict[str, Any]:
        """The file's."""
        return self._file.identity()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _run_axis(
    stored: tuple[int, ...], box: tuple[Span, ...], strides: list[int], itemsize: int
) -> int:
    """The axis whose range is read in one go, those after it whole; short runs are widened."""
    axis = len(stored) - 1
    while axis > 0:
        run = (box[axis][1] - box[axis][0]) * strides[axis]
        whole = box[axis] == (0, stored[axis])
        if not whole and (run * itemsize >= _SHORT_RUN or run * 8 < strides[axis - 1]):
            break
        axis -= 1
    return axis


def open_npy(path: Path, selection: Selection) -> Source:
    """A source over an ``.npy`` file; nothing in it is ever unpickled.

    Raises:
        BadFile: damaged, truncated, or not an array of real numbers.
        BadValue: no such level, series or position.
    """
    selection.check_flat(path)
    file = OpenFile(path)
    try:
        shape, fortran, dtype, offset = _read_header(path)
        if dtype.kind not in "biuf":
            raise BadFile(f"{path}: holds {dtype}", cure="an image holds real numbers")
        order = selection.understand(path, shape, None)
        if fortran:
            last = len(shape) - 1
            chosen = tuple((last - axis, position) for axis, position in order.chosen)
            order = Layout(shape[::-1], order.axes[::-1], order.why, chosen)
        return RawSource(file, offset, dtype, order, str(path))
    except BaseException:
        file.close()
        raise


def _read_header(path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            shape, fortran, dtype = readers[version](file)
        except (ValueError, KeyError, EOFError, SyntaxError, tokenize.TokenError) as error:
            raise BadFile(
                f"{path}: a damaged .npy header ({error})", cure="write the array again"
            ) from error
        return shape, fortran, dtype, file.tell()
