"""Tiled BigTIFF, uncompressed: every tile has a known offset, so a run can be resumed.

The structure is written here and not by tifffile, which would first write the zeros of an empty
image to the disk. (TIFF 6.0, and its BigTIFF extension: 8-byte counts and offsets.)
"""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadValue
from eyeshot.images.layouts import Span
from eyeshot.images.pixel_grid import PixelGrid
from eyeshot.images.sinks.file_sink import Place
from eyeshot.images.sinks.png import PlacedSink, read_start, write_all, write_bytes
from eyeshot.images.sinks.sink import laid, letters
from eyeshot.images.sources.source import Selection, Source
from eyeshot.images.sources.tiff_segments import open_tiff

TILE = 256
_ASCII, _SHORT, _LONG, _RATIONAL, _DOUBLE, _LONG8 = 2, 3, 4, 5, 12, 16
_FORMAT = {_ASCII: "B", _SHORT: "H", _LONG: "I", _RATIONAL: "I", _DOUBLE: "d", _LONG8: "Q"}
Tag = tuple[int, int, list[Any]]
"""Code, type and values of a tag; a rational is two values."""
_SAMPLE_FORMAT = {"u": 1, "i": 2, "f": 3}
_PAGE = 4096  # tiles begin at a multiple of it


class TiffSink(PlacedSink):
    """(H, W), (H, W, 3 or 4) color, or one plane per channel.

    3 or 4 channels of 8 or 16 bits are stored interleaved, as color; others are stored as planes.
    """

    def __init__(
        self,
        place: Place,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        *,
        turned: bool = False,
        grid: PixelGrid | None = None,
    ) -> None:
        """Make a sink; with ``turned``, rows become the picture's columns."""
        super().__init__(place, shape, dtype)
        self._turned = turned
        self._grid = None if turned else grid
        if len(shape) != 3 or dtype.kind not in _SAMPLE_FORMAT:
            raise BadValue(
                f"{place.target}: TIFF holds images of numbers, not {shape} {dtype}",
                cure="write .npy or .zarr",
            )
        channels, self._height, self._width = laid(shape, turned=turned)
        self._together = channels if channels in (3, 4) and dtype.kind == "u" else 1
        self._planes = channels // self._together
        self._down = -(-self._height // TILE)
        self._across = -(-self._width // TILE)
        self._tile_bytes = TILE * TILE * self._together * dtype.itemsize
        self._head = self._structure()
        self.chunk_rows = self.chunk_columns = TILE
        self.memory = self._across * self._tile_bytes  # a row of tiles, in the order of the file

    def _tiles(self) -> int:
        return self._planes * self._down * self._across

    def _structure(self) -> bytes:
        """Header, directory and the tables of tiles, up to the first tile."""
        channels = self.shape[0]
        color = self._together > 1
        extra = channels - (3 if color else 1)
        tags: list[Tag] = [
            (256, _LONG, [self._width]),
            (257, _LONG, [self._height]),
            (258, _SHORT, [self.dtype.itemsize * 8] * channels),
            (259, _SHORT, [1]),  # no compression
            (262, _SHORT, [2 if color else 1]),  # RGB, or black is zero
            (277, _SHORT, [channels]),
            (284, _SHORT, [1 if self._planes == 1 else 2]),
            (322, _SHORT, [TILE]),
            (323, _SHORT, [TILE]),
            (324, _LONG8, [0] * self._tiles()),  # filled in below
            (325, _LONG, [self._tile_bytes] * self._tiles()),
            *([(338, _SHORT, [2 if color else 0] * extra)] if extra else []),
            (339, _SHORT, [_SAMPLE_FORMAT[self.dtype.kind]] * channels),
        ]
        tags = sorted([*tags, *(_tags_of(self._grid) if self._grid is not None else [])])
        size = len(_pack(tags))
        self._first = -(-size // _PAGE) * _PAGE
        offsets = [self._first + tile * self._tile_bytes for tile in range(self._tiles())]
        return _pack([(t, k, offsets if t == 324 else values) for t, k, values in tags])

    def _disk_bytes(self) -> int:
        return self._first + self._tiles() * self._tile_bytes

    def _create(self) -> None:
        self._open_part(self._disk_bytes(), self._head)

    def _reopen(self) -> None:
        self._open_part(None)

    def _frame(self) -> bytes:
        return read_start(self._place.part, len(self._head))

    def _reread(self, path: Path) -> Source:
        channels = self.shape[0]
        layout = "HWC" if self._together > 1 else "CHW" if channels > 1 else "HW"
        return open_tiff(path, Selection(layout=letters(layout, turned=self._turned)))

    def _store(self, row: int, block: NDArray[Any], strip: Span) -> None:
        self._add_up(block, strip)
        if self._turned:
            row, strip, block = strip[0], (row, row + block.shape[1]), block.swapaxes(1, 2)
        if self._together > 1:
            planes = np.moveaxis(block, 0, -1)[np.newaxis]
        else:
            planes = block[..., np.newaxis]
        for plane, rows in enumerate(planes):
            done = 0
            while done < len(rows):
                down, inside = divmod(row + done, TILE)
                part = rows[done : done + TILE - inside]
                self._store_in_tiles(
                    (plane * self._down + down) * self._across, inside, part, strip
                )
                done += len(part)

    def _store_in_tiles(self, first: int, inside: int, rows: NDArray[Any], strip: Span) -> None:
        """Write rows within one row of tiles, whose leftmost tile is number ``first``."""
        left, right = strip
        whole = left % TILE == 0 and (right % TILE == 0 or right == self._width)
        if not whole:
            self._store_pieces(first, inside, rows, strip)
            return
        across = -(-(right - left) // TILE)
        tiles = _cut(rows, across)
        place = self._place_of(first + left // TILE, inside)
        if len(rows) == TILE:
            write_all(self._handle, tiles, place)
            return
        data, part = tiles.reshape(-1).view(np.uint8).data, tiles.nbytes // across
        for number in range(across):
            piece = data[number * part : (number + 1) * part]
            write_bytes(self._handle, piece, place + number * self._tile_bytes)

    def _store_pieces(self, first: int, inside: int, rows: NDArray[Any], strip: Span) -> None:
        """Write columns that begin or end inside a tile, row by row."""
        left, right = strip
        pixel = self._together * self.dtype.itemsize
        for tile in range(left // TILE, -(-right // TILE)):
            lo, hi = max(left, tile * TILE), min(right, (tile + 1) * TILE)
            for number, row in enumerate(rows[:, lo - left : hi - left]):
                place = self._place_of(first + tile, inside + number)
                samples = np.ascontiguousarray(row)
                write_all(self._handle, samples, place + (lo - tile * TILE) * pixel)

    def _place_of(self, tile: int, row: int) -> int:
        return self._first + tile * self._tile_bytes + row * self._tile_bytes // TILE


def _cut(rows: NDArray[Any], across: int) -> NDArray[Any]:
    """Rows (n, w, samples) as tiles (across, n, TILE, samples), the last one padded with zeros."""
    count, width, samples = rows.shape
    tiles = np.empty((across, count, TILE, samples), rows.dtype)
    full, rest = divmod(width, TILE)
    whole = rows[:, : full * TILE].reshape(count, full, TILE, samples)
    tiles[:full] = whole.transpose(1, 0, 2, 3)
    if rest:
        tiles[full, :, :rest] = rows[:, full * TILE :]
        tiles[full, :, rest:] = 0
    return tiles


def _tags_of(grid: PixelGrid) -> list[Tag]:
    """The tags of the pixel size, in pixels per centimeter, and of the position on the earth."""
    tags: list[Tag] = []
    lengths = grid.lengths()
    if lengths is not None and all(1e-4 < size < 1e9 for size in lengths):
        down, across = (_rational(1e4 / size) for size in lengths)
        tags = [(282, _RATIONAL, across), (283, _RATIONAL, down), (296, _SHORT, [3])]
    if grid.geo is None:
        return tags
    a, b, c, d, e, f = grid.geo.corner
    if b == 0 == d and a > 0 > e:
        tags += [(33550, _DOUBLE, [a, -e, 0.0]), (33922, _DOUBLE, [0.0, 0.0, 0.0, c, f, 0.0])]
    else:
        matrix = [a, b, 0.0, c, d, e, 0.0, f, *[0.0] * 4, 0.0, 0.0, 0.0, 1.0]
        tags.append((34264, _DOUBLE, matrix))
    for code, value in grid.geo.keys.items():
        kind = {34735: _SHORT, 34736: _DOUBLE, 34737: _ASCII}[code]
        if kind == _ASCII:
            value = [*str(value).encode("ascii", "replace"), 0]
        tags.append((code, kind, list(value) if isinstance(value, tuple | list) else [value]))
    return tags


def _rational(value: float) -> list[int]:
    """A number as a fraction of two 32-bit integers."""
    most = 2**31 - 1
    near = Fraction(value).limit_denominator(max(1, int(min(most, most / max(1.0, value)))))
    return [near.numerator, near.denominator] if near else [1, most]


def _pack(tags: list[Tag]) -> bytes:
    """A little-endian BigTIFF header and its only directory, followed by its longer values."""
    after = 16 + 8 + 20 * len(tags) + 8
    directory, rest = struct.pack("<Q", len(tags)), b""
    for tag, kind, values in tags:
        data = struct.pack(f"<{len(values)}{_FORMAT[kind]}", *values)
        if len(data) > 8:
            rest += b"\0" * (-len(rest) % 8)
            field = struct.pack("<Q", after + len(rest))
            rest += data
        else:
            field = data.ljust(8, b"\0")
        count = len(values) // 2 if kind == _RATIONAL else len(values)
        directory += struct.pack("<HHQ", tag, kind, count) + field
    return b"II" + struct.pack("<HHHQ", 43, 8, 0, 16) + directory + struct.pack("<Q", 0) + rest
