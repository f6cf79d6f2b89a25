"""PNG by rows, in memory that does not grow with its height.

None of our libraries decodes a PNG band by band, but OpenCV can undo PNG's row filters. So the
compressed stream is decompressed here, a slab of filtered rows at a time; the slab is wrapped as a
small PNG whose first row is the last known row, and OpenCV decodes that. Rows of any type are
treated as rows of pixels with the same number of bytes, because filters work on bytes (PNG
specification, third edition, section 9).
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadFile
from eyeshot.images.layouts import Span
from eyeshot.images.limits import WHOLE_LIMIT, damage_named
from eyeshot.images.sources.source import OpenFile, Selection, Source

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # color type -> samples a pixel
_SLAB = 2**20  # bytes of filtered rows undone at once
_PIECE = 2**16  # bytes of packed data read at once
_SHORT_CHUNK = 2**20  # the most bytes of a chunk that is read and checked before it is used
_WIDEST = 10**6  # pixels of a row that libpng decodes
_FILTERS = 5
_COPIES = 9  # of a slab or a row, alive at once while it is unfiltered
_ADAM7 = (  # of each pass over an interlaced picture: first row and column, and steps of both
    *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)),
    (1, 0, 2, 1),
)

# bytes a pixel -> bit depth, color type, and how OpenCV orders its channels
_DRESS = {
    1: (8, 0, None),
    2: (16, 0, None),
    3: (8, 2, [2, 1, 0]),
    4: (8, 6, [2, 1, 0, 3]),
    6: (16, 2, [2, 1, 0]),
    8: (16, 6, [2, 1, 0, 3]),
}


@dataclass(frozen=True)
class Header:
    """The data of a PNG before its pixels."""

    width: int
    height: int
    depth: int
    color: int
    interlaced: bool
    upright: bool
    palette: NDArray[np.uint8] | None
    start: int  # offset of the first IDAT chunk

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, without the byte that names its filter."""
        return (self.width * _SAMPLES[self.color] * self.depth + 7) // 8

    @property
    def pixel_bytes(self) -> int:
        """Bytes of one pixel, at least one: how far back a filter looks."""
        return max(1, _SAMPLES[self.color] * self.depth // 8)

    @property
    def channels(self) -> int:
        """Channels of the image; for a palette, those of its colors."""
        return _SAMPLES[self.color] if self.palette is None else self.palette.shape[1]


def read_header(file: OpenFile) -> Header:
    """Everything before the pixels.

    Raises:
        BadFile: a chunk is cut short or its checksum does not match.
    """
    palette = transparency = fields = None
    upright, offset = True, len(SIGNATURE)
    while True:
        kind, pieces, following = _open_chunk(file, offset)
        # Of the chunks before the pixels only these are kept; the others are checked and dropped.
        data = b"".join(pieces) if kind in (b"IHDR", b"PLTE", b"tRNS") else b""
        if kind == b"IHDR":
            fields = struct.unpack(">IIBBBBB", data)
        elif kind == b"PLTE":
            palette = np.frombuffer(data, np.uint8).reshape(-1, 3)
        elif kind == b"tRNS":
            transparency = np.frombuffer(data, np.uint8)
        elif kind in _TELLING and any(_may_turn(kind, piece) for piece in pieces):
            upright = False  # it may be rotated or animated: the whole-picture reader handles this
        elif kind == b"IDAT":
            break
        elif kind == b"IEND":
            raise BadFile(f"{file.path}: a PNG without pixels", cure="export the picture again")
        for _ in pieces:
            pass
        offset = following
    if fields is None or fields[3] not in _SAMPLES or 0 in fields[:2]:
        raise BadFile(f"{file.path}: a PNG with a wrong header", cure="export the picture again")
    upright = upright and not _turned_after(file, offset)
    width, height, depth, color, _, _, interlace = fields
    colors = _colors(palette, transparency) if color == 3 else None
    return Header(width, height, depth, color, interlace != 0, upright, colors, offset)


_TELLING = (b"eXIf", b"acTL", b"tEXt", b"zTXt", b"iTXt")
"""Chunks that may contain an orientation, or mark a file with several frames."""


def _may_turn(kind: bytes, data: bytes) -> bool:
    """Whether a chunk may contain an orientation (EXIF, a raw profile, XMP), or marks a file with
    several frames.
    """
    if kind in (b"eXIf", b"acTL"):
        return True
    profile = kind in (b"tEXt", b"zTXt", b"iTXt") and data.startswith(b"Raw profile type ")
    return profile or (kind == b"iTXt" and b"tiff:Orientation" in data)


def _turned_after(file: OpenFile, offset: int) -> bool:
    """Whether a chunk after the pixels may contain an orientation; damage is detected later."""
    while offset + 8 <= file.size:
        length, kind = struct.unpack(">I4s", file.read_bytes(offset, 8, "a chunk's header"))
        if kind == b"IEND" or offset + 8 + length > file.size:
            return False
        if kind not in (b"IDAT", b"fdAT"):
            data = file.read_bytes(offset + 8, length, "a chunk")
            if _may_turn(kind, bytes(data)):
                return True
        offset += 12 + length
    return False


def _colors(palette: Any, transparency: Any) -> NDArray[np.uint8]:
    """The palette as 256 colors, RGB or RGBA; indices beyond its end are black."""
    if palette is None:
        raise ValueError("a palette picture without a palette")
    wide = np.zeros((256, 3 if transparency is None else 4), np.uint8)
    wide[: len(palette), :3] = palette
    if transparency is not None:
        wide[:, 3] = 255
        wide[: len(transparency), 3] = transparency
    return wide


def _open_chunk(file: OpenFile, offset: int) -> tuple[bytes, Iterator[bytes], int]:
    """A chunk's kind, its data in pieces, and the offset of the chunk after it."""
    length, kind = struct.unpack(">I4s", file.read_bytes(offset, 8, "a chunk's header"))
    return kind, _pieces(file, kind, offset, length), offset + 12 + length


def _pieces(file: OpenFile, kind: bytes, offset: int, length: int) -> Iterator[bytes]:
    """The data of a chunk, after a check of its checksum; a long chunk is checked at its end.

    A writer may put all pixels into one chunk, so a long chunk is never kept in memory.

    Raises:
        BadFile: the chunk is truncated or does not match its checksum.
    """
    what = f"chunk {kind.decode('latin-1')!r} at byte {offset}"
    if length > file.size:
        file.read_bytes(offset + 8, length, what)  # raises the error
    step = length if length <= _SHORT_CHUNK else _PIECE
    check = zlib.crc32(kind)
    for first in range(0, length, max(1, step)):
        count = min(step, length - first)
        data = bytes(file.read_bytes(offset + 8 + first, count, what))
        check = zlib.crc32(data, check)
        if first + count == length:
            _compare(file, offset + 8 + length, check, what)
        yield data
    if not length:
        _compare(file, offset + 8, check, what)


def _compare(file: OpenFile, offset: int, check: int, what: str) -> None:
    if check != int.from_bytes(file.read_bytes(offset, 4, what), "big"):
        raise BadFile(
            f"{file.path}: {what} does not match its checksum", cure="copy the file again"
        )


def _packed(file: OpenFile, offset: int) -> Iterator[bytes]:
    """The data of the IDAT chunks, in pieces."""
    while offset < file.size:
        kind, pieces, offset = _open_chunk(file, offset)
        if kind != b"IDAT":
            return
        for data in pieces:
            for first in range(0, len(data), _PIECE):
                yield data[first : first + _PIECE]


class _Stream:
    """The filtered rows of a PNG, decompressed in order."""

    def __init__(self, file: OpenFile, header: Header) -> None:
        self._pieces = _packed(file, header.start)
        self._zlib = zlib.decompressobj()
        self._rest = b""

    def unpack(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        parts, count = [], 0
        while count < size:
            part = self._zlib.decompress(self._rest, size - count) if self._rest else b""
            self._rest = self._zlib.unconsumed_tail
            if not part and not self._rest:
                self._rest = next(self._pieces, b"")
                if not self._rest or self._zlib.eof:
                    raise ValueError("the pixels end early")
            parts.append(part)
            count += len(part)
        return b"".join(parts)

    def finish(self) -> None:
        """Read to the end, where a long chunk's checksum is."""
        for _ in self._pieces:
            pass


class _Rows:
    """The rows of a PNG (of a pass over an interlaced one) from the top, unfiltered, as bytes."""

    def __init__(self, stream: _Stream, header: Header) -> None:
        self._header = header
        self._stream = stream
        self._last = np.zeros(header.row_bytes, np.uint8)

    def take(self, count: int) -> NDArray[np.uint8]:
        """The next ``count`` rows, (count, row bytes)."""
        line = self._header.row_bytes + 1
        slab = max(1, _SLAB // line)
        out = np.empty((count, self._header.row_bytes), np.uint8)
        for first in range(0, count, slab):
            rows = min(slab, count - first)
            filtered = self._stream.unpack(rows * line)
            out[first : first + rows] = unfilter(
                filtered, rows, self._header.pixel_bytes, self._last
            )
            self._last = out[first + rows - 1].copy()
        return out


def unfilter(
    filtered: bytes, rows: int, pixel_bytes: int, above: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Undo the row filters of ``rows`` rows, given the row above the first: (rows, row bytes)."""
    lines = np.frombuffer(filtered, np.uint8).reshape(rows, -1)
    kinds = lines[:, 0]
    if kinds.max(initial=0) >= _FILTERS:  # libpng would print this on standard error
        raise ValueError(f"a row is filtered by {kinds.max()}, which is not a PNG filter")
    width, step = len(above), (_WIDEST - 1) * pixel_bytes
    if width <= step:
        return _undo(lines, pixel_bytes, above)
    out = np.empty((rows, width), np.uint8)
    out[:, :step] = _undo(lines[:, : 1 + step], pixel_bytes, above[:step])
    for lo in range(step, width, step):
        # Each later piece begins with the pixel before it, filtered like the first pixel of a row.
        before = slice(lo - pixel_bytes, lo)
        over = np.concatenate([above[np.newaxis, before], out[:-1, before]])
        shares = np.select([kinds == 3, np.isin(kinds, (2, 4))], [2, 1], 0)[:, np.newaxis]
        guess = np.where(shares > 0, over // np.maximum(shares, 1), 0).astype(np.uint8)
        piece = [kinds[:, np.newaxis], out[:, before] - guess, lines[:, 1 + lo : 1 + lo + step]]
        pixels = above[lo - pixel_bytes : lo + step]
        undone = _undo(np.concatenate(piece, axis=1), pixel_bytes, pixels)
        out[:, lo : lo + step] = undone[:, pixel_bytes:]
    return out


def _undo(
    lines: NDArray[np.uint8], pixel_bytes: int, above: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """:func:`unfilter` for rows that OpenCV accepts; each begins with the byte of its filter."""
    depth, color, order = _DRESS[pixel_bytes]
    rows, width = len(lines), len(above) // pixel_bytes
    body = b"\0" + above.tobytes() + lines.tobytes()  # the row above, marked as not filtered
    packed = zlib.compress(body, 0)
    head = struct.pack(">IIBBBBB", width, rows + 1, depth, color, 0, 0, 0)
    code = SIGNATURE + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    decoded = cv2.imdecode(np.frombuffer(code, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.shape[:2] != (rows + 1, width):
        raise ValueError("OpenCV cannot undo these row filters")
    samples = np.asarray(decoded)[1:]
    if order is not None:
        samples = samples[..., order]
    if depth == 16:
        samples = samples.astype(">u2")
    return np.ascontiguousarray(samples).view(np.uint8).reshape(rows, -1)


def to_samples(rows: NDArray[np.uint8], head: Header) -> NDArray[Any]:
    """Bytes of rows as (rows, width, channels) samples."""
    count = len(rows)
    if head.depth == 16:
        wide = rows.view(">u2").astype(np.uint16)
        return wide.reshape(count, head.width, -1)
    if head.depth < 8:
        bits = np.unpackbits(rows, axis=1).reshape(count, -1, head.depth)
        rows = (bits @ (1 << np.arange(head.depth)[::-1])).astype(np.uint8)[:, : head.width]
        if head.palette is None:
            rows = rows * np.uint8(255 // (2**head.depth - 1))
    if head.palette is not None:
        return head.palette[rows]
    return rows.reshape(count, head.width, -1)


def read_deep(path: Path) -> NDArray[np.uint16]:
    """The samples (H, W, C) of a 16-bit PNG as they are stored, also of an interlaced one.

    Raises:
        BadFile: it is truncated or damaged.
    """
    file = OpenFile(path)
    try:
        with damage_named(path):
            header = read_header(file)
            stream = _Stream(file, header)
            if not header.interlaced:
                rows = _Rows(stream, header).take(header.height)
                stream.finish()
                return to_samples(rows, header)
            out = np.empty((header.height, header.width, header.channels), np.uint16)
            for top, left, down, right in _ADAM7:
                place = out[top::down, left::right]
                if place.size:
                    part = dataclasses.replace(header, height=len(place), width=place.shape[1])
                    place[:] = to_samples(_Rows(stream, part).take(part.height), part)
            stream.finish()
            return out
    finally:
        file.close()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk: length, kind, data, checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


class PngSource(Source):
    """Bands of a PNG. Rows are decoded from the top; going back starts again."""

    def __init__(self, path: Path, file: OpenFile, header: Header, selection: Selection) -> None:
        stored = (header.height, header.width, header.channels)
        flat = header.channels == 1
        order = selection.understand(path, stored[:2] if flat else stored, "YX" if flat else "YXC")
        dtype = np.dtype(np.uint16 if header.depth == 16 else np.uint8)
        super().__init__(str(path), order, dtype)
        self._file = file
        self._header = header
        self.alpha = header.channels in (2, 4)
        self._restart()
        sample_bytes = header.width * header.channels * dtype.itemsize
        self._row_memory = sample_bytes
        self.memory = _COPIES * (_SLAB + header.row_bytes) + sample_bytes + _SHORT_CHUNK

    def window_memory(self, shape: tuple[int, ...]) -> int:
        """Unfilter whole rows, convert them to samples, and append them to the rows in memory."""
        return 3 * shape[0] * self._row_memory

    def _restart(self) -> None:
        self._stream = _Stream(self._file, self._header)
        self._rows = _Rows(self._stream, self._header)
        self._buffer = np.empty((0, self._header.width, self._header.channels), self.dtype)
        self._first = self._next = 0  # the rows in memory

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        (top, bottom), (left, right) = spans
        self._file.check_unchanged()
        if top < self._first:
            self._restart()
        with damage_named(self._file.path, f"rows {self._next} to {bottom}"):
            self._advance(top, bottom)
        window = self._buffer[top - self._first : bottom - self._first, left:right]
        return self._layout.arrange(window[..., 0] if window.shape[-1] == 1 else window)

    def _advance(self, top: int, bottom: int) -> None:
        """Keep at least the rows from ``top`` (or the requested rows before it) to ``bottom``."""
        while self._next < top:  # rows between two windows are unfiltered and dropped
            self._rows.take(1 if top - self._next < 64 else 64)
            self._next += 1 if top - self._next < 64 else 64
            self._first = self._next
            self._buffer = self._buffer[:0]
        lowest = max(self._first, min(top, bottom - self.keep_rows))
        overlap = self._buffer[lowest - self._first :]
        if bottom > self._next:
            new = to_samples(self._rows.take(bottom - self._next), self._header)
            self.decoded_chunks += bottom - self._next
            self._buffer = np.concatenate([overlap, new]) if len(overlap) else new
            self._next = bottom
            if bottom == self._header.height:
                self._stream.finish()
        else:
            self._buffer = overlap
        self._first = lowest

    def identity(self) -> dict[str, Any]:
        """The identity of the file."""
        return self._file.identity()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _check_row(header: Header, file: OpenFile) -> None:
    """Refuse rows that cannot be in such a small file, or are too long to unfilter in memory.

    Raises:
        BadFile: the rows are too long.
    """
    ratio = 1032  # the most bytes that one byte of Deflate can decompress to
    if header.row_bytes > ratio * file.size or _COPIES * header.row_bytes > WHOLE_LIMIT:
        raise BadFile(
            f"{file.path}: claims rows of {header.width} pixels in {file.size} bytes",
            cure=f"rows may take {WHOLE_LIMIT // _COPIES >> 20} MiB; store it as TIFF or Zarr",
        )


def open_png(path: Path, selection: Selection) -> Source | None:
    """A source over a PNG; None if it must be decoded whole.

    That is so if it is interlaced, may be rotated, or has several frames.
    """
    file = OpenFile(path)
    try:
        with damage_named(path, "its header"):
            header = read_header(file)
        _check_row(header, file)
        if selection.indices and header.palette is not None:
            identity = np.arange(256, dtype=np.uint8)[:, np.newaxis]  # index i has the color i
            header = dataclasses.replace(header, palette=identity)
        if not header.interlaced and header.upright:
            return PngSource(path, file, header, selection)
    except BaseException:
        file.close()
        raise
    file.close()
    return None
