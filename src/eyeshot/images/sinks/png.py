"""PNG: rows are spooled uncompressed, and packed band by band when all of them are there.

A packed stream cannot be resumed after a kill, a spool can. It costs the disk the size of the
unpacked image for as long as the run takes, and memory nothing.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadValue
from eyeshot.files import create, mode_of
from eyeshot.images.layouts import Layout, Span
from eyeshot.images.sinks.arrangement import laid, letters
from eyeshot.images.sinks.files import Place, remove
from eyeshot.images.sinks.raw import Grid, PlacedSink
from eyeshot.images.sources.opening import open_source
from eyeshot.images.sources.png import SIGNATURE, chunk
from eyeshot.images.sources.raw import RawSource
from eyeshot.images.sources.source import OpenFile, Source

_COLOUR = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> PNG colour type
_BAND = 2**20  # bytes packed at once
_EFFORT = (1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)  # filtered rows repeat little else: as OpenCV does


def write_png(
    file: BinaryIO, bands: Iterable[NDArray[Any]], size: tuple[int, int, int], depth: int
) -> None:
    """Write bands (n, W, C) of uint8 or uint16 as a PNG of ``size`` (H, W, C)."""
    height, width, channels = size
    head = struct.pack(">IIBBBBB", width, height, depth, _COLOUR[channels], 0, 0, 0)
    file.write(SIGNATURE + chunk(b"IHDR", head))
    packer = zlib.compressobj(*_EFFORT)
    above = np.zeros(width * channels * depth // 8, np.uint8)
    for band in bands:
        big = band.astype(">u2") if depth == 16 else band
        rows = np.ascontiguousarray(big).view(np.uint8).reshape(len(band), -1)
        packed = packer.compress(_filter(rows, above, channels * depth // 8))
        if packed:
            file.write(chunk(b"IDAT", packed))
        above = rows[-1]
    file.write(chunk(b"IDAT", packer.flush()) + chunk(b"IEND", b""))


def _filter(rows: NDArray[np.uint8], above: NDArray[np.uint8], pixel: int) -> bytes:
    """Each row unchanged, minus its left neighbor, or minus the row above: the smallest of these.

    The usual rule decides: the smallest sum of absolute values as signed bytes (PNG
    specification, third edition, section 12.7).
    """
    left = rows.copy()
    left[:, pixel:] -= rows[:, :-pixel]
    up = rows - np.concatenate([above[np.newaxis], rows[:-1]])
    choices = [rows, left, up]
    # of a byte b and of 256 - b, the smaller is its size as a signed one
    costs = [np.minimum(c, np.negative(c)).sum(axis=1, dtype=np.uint64) for c in choices]
    best = np.argmin(costs, axis=0).astype(np.uint8)
    out = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
    out[:, 0] = best
    for kind, choice in enumerate(choices):
        out[best == kind, 1:] = choice[best == kind]
    return out.tobytes()


class PngSink(PlacedSink):
    """Rows spooled as (H, W, C), packed at the end."""

    def __init__(
        self, place: Place, shape: tuple[int, ...], dtype: np.dtype[Any], *, turned: bool = False
    ) -> None:
        """As any sink; ``turned``: rows become the picture's columns."""
        super().__init__(place, shape, dtype)
        self._turned = turned
        if len(shape) != 3 or shape[0] not in _COLOUR or self.dtype not in (np.uint8, np.uint16):
            raise BadValue(
                f"{place.target}: PNG holds uint8 or uint16 in 1 to 4 channels, "
                f"not {shape[0]} channels of {dtype}",
                cure="write .tif, .zarr or .npy, or choose --as uint8 or argmax",
            )
        channels, height, width = laid(shape, turned=turned)
        self._size = (height, width, channels)
        self._grid = Grid(0, self._size, self.dtype.itemsize)
        row = width * channels * self.dtype.itemsize
        self._band = max(1, _BAND // row)
        self.memory = 8 * self._band * row

    def _disk_bytes(self) -> int:
        return self._grid.end

    def _create(self) -> None:
        self._open_part(self._grid.end)

    def _reopen(self) -> None:
        self._open_part(None)

    def _store(self, row: int, block: NDArray[Any], strip: Span) -> None:
        order = (2, 1, 0) if self._turned else (1, 2, 0)
        start = (strip[0], row, 0) if self._turned else (row, strip[0], 0)
        self._grid.write(self._handle, start, block.transpose(order))
        self._add_up(block, strip)

    def _reread(self, path: Path) -> Source:
        if path != self._place.part:
            flat = "" if self._size[2] > 1 else "HW"
            return open_source(path, layout=letters(flat or "HWC", turned=self._turned))
        layout = Layout(self._size, letters("HWC", turned=self._turned), "as it was written")
        return RawSource(OpenFile(path), 0, self.dtype, layout, str(path))

    def _bands(self, spool: BinaryIO) -> Iterator[NDArray[Any]]:
        height, width, channels = self._size
        for first in range(0, height, self._band):
            rows = min(self._band, height - first)
            band = np.empty((rows, width, channels), self.dtype)
            spool.readinto(band.data.cast("B"))  # type: ignore[attr-defined]
            yield band

    def _complete(self) -> None:
        """Compress the temporary file into a PNG, and rename it to the target."""
        place = self._place
        packed = place.target.with_name(place.target.name + ".part.packed")
        remove(packed)  # of a kill in this place
        handle = create(packed, mode_of(place.target))
        with place.part.open("rb") as spool, os.fdopen(handle, "wb") as file:
            write_png(file, self._bands(spool), self._size, self.dtype.itemsize * 8)
            file.flush()
            os.fsync(file.fileno())
        packed.replace(place.target)
        place.part.unlink()
