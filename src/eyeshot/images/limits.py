"""Checks of a picture file before and while it is decoded: claimed sizes, limits and damage.

In this file:

- the size limit of a picture that is decoded whole, and the first bytes of file formats;
- any error of an image library on a damaged file becomes a BadFile that names the piece;
- check whether a TIFF page can have its claimed size, before allocating memory for it;
- the size that an encoded picture claims, read from its first bytes, before it is decoded.
"""

from __future__ import annotations

import logging
import math
import struct
import tokenize
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import tifffile
from PIL import Image, UnidentifiedImageError

from eyeshot.errors import BadFile
from eyeshot.extras import is_installed, not_installed
from eyeshot.files import explain_os_error

WHOLE_LIMIT = 2 * 2**30
"""Largest picture in bytes that is decoded whole; larger pictures are read by windows."""

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
NPY_START = b"\x93NUMPY"
PNG_START = b"\x89PNG\r\n\x1a\n"


def first_bytes(path: Path) -> bytes:
    """The first 32 bytes of a file of samples, by which its format is known.

    Raises:
        BadFile: the file is missing, empty, or no file: opening a pipe would wait for a writer.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise BadFile(f"{path}: is a pipe or a device", cure="save the image to a file first")
        with path.open("rb") as file:
            start = file.read(32)
    except OSError as error:
        raise explain_os_error(error, path) from error
    if not start:
        raise BadFile(f"{path}: the file is empty", cure="copy or export the image again")
    return start


def check_size(path: Path, shape: tuple[int, ...], itemsize: int) -> None:
    """Refuse a picture whose decoded form would exceed ``WHOLE_LIMIT``, before it is allocated.

    Raises:
        BadFile: it would exceed the limit.
    """
    size = itemsize
    for length in shape:
        size *= length  # Python integers, because a claim of 10^6 x 10^6 must not overflow
    if size > WHOLE_LIMIT:
        claim = " x ".join(map(str, shape))
        raise BadFile(
            f"{path}: claims {claim} samples, {size / 2**30:.1f} GiB decoded, "
            f"and a whole picture may take {WHOLE_LIMIT / 2**30:.0f} GiB",
            cure="if it is genuine, process it by windows as TIFF or Zarr",
        )


_DAMAGED = (
    ValueError, TypeError, AttributeError, IndexError, KeyError, EOFError, SyntaxError, OSError,
    RuntimeError, AssertionError, OverflowError, ZeroDivisionError, MemoryError, struct.error,
    zlib.error, tokenize.TokenError, Image.DecompressionBombError,
)  # fmt: skip
"""The exceptions that Pillow, tifffile, zarr, their codecs and NumPy raise on damaged files."""


@contextmanager
def damage_named(path: Path | str, piece: str = "") -> Iterator[None]:
    """Turn a library's errors inside the block into a BadFile for ``path`` and ``piece``."""
    place = f"{path}: {piece}" if piece else str(path)
    try:
        with _quiet("tifffile"):
            yield
    except UnidentifiedImageError as error:
        raise BadFile(
            f"{path}: not a picture format that Eyeshot reads",
            cure="use PNG, JPEG, TIFF, BMP, WebP, .npy or Zarr",
        ) from error
    except _DAMAGED as error:
        if "imagecodecs" in str(error) and not is_installed("imagecodecs"):  # says tifffile
            raise not_installed("imagecodecs", "images").at(place) from error
        raise BadFile(
            f"{place}: truncated or damaged ({type(error).__name__}: {error})",
            cure="copy or export the image again",
        ) from error


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Suppress a library's log; the error contains the important part."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


Claim = tuple[int, int, int]
"""Height, width, and samples per pixel (1 for formats whose header is not read that far)."""

_JPEG = b"\xff\xd8"
_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start of frame, ITU-T T.81 table B.1
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
_CODESTREAM = b"\xff\x4f\xff\x51"  # JPEG 2000, start of codestream and its size
_JP2 = b"\0\0\0\x0cjP  "
_JXL = b"\xff\x0a"
_JXL_BOXES = b"\0\0\0\x0cJXL "


def claimed_size(data: bytes) -> Claim | None:
    """The size in the header of a JPEG, JPEG 2000, JPEG XL, JPEG XR, PNG, WebP or LERC picture.

    Returns:
        (height, width, samples per pixel); None if ``data`` has another format.

    Raises:
        ValueError: it begins like such a picture, but its header is damaged.
    """
    for starts, read in _READERS:
        if data.startswith(starts):
            try:
                return read(data)
            except (struct.error, IndexError) as error:
                raise ValueError("its header ends early") from error
    return None


def _jpeg(data: bytes) -> Claim:
    at = 2
    while True:
        while data[at] != 0xFF:  # decoders skip stray bytes
            at += 1
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        if marker in _SIZES:
            height, width, samples = struct.unpack_from(">HHB", data, at + 4)
            return height, width, samples
        at += 1
        if marker not in _BARE:
            at += max(2, int.from_bytes(data[at : at + 2], "big"))


def _jpeg2000(data: bytes) -> Claim:
    """The size of the reference grid minus its offset: ITU-T T.800 table A.9."""
    right, bottom, left, top = struct.unpack_from(">4I", data, 8)
    (samples,) = struct.unpack_from(">H", data, 40)
    return bottom - top, right - left, samples


def _jp2(data: bytes) -> Claim:
    return _jpeg2000(_first_box(data, b"jp2c"))


def _first_box(data: bytes, *kinds: bytes) -> bytes:
    """The content of the first box of one of ``kinds``, in the container of JPEG 2000 and JPEG XL.

    Raises:
        ValueError: there is no such box.
    """
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        if kind in kinds:
            return data[at + head :]
        if length < head:
            break
        at += length
    raise ValueError(f"holds no box {kinds[0].decode()!r}")


def _jxl_boxes(data: bytes) -> Claim:
    whole = _first_box(data, b"jxlc", b"jxlp")
    return _jxl(whole if whole.startswith(_JXL) else whole[4:])  # parts are numbered


def _jxl(data: bytes) -> Claim:
    """ISO/IEC 18181-1, the size header: bits from the lowest up."""
    bits = int.from_bytes(data[2:18], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    small = take(1)

    def side() -> int:
        return (take(5) + 1) * 8 if small else take((9, 13, 18, 30)[take(2)]) + 1

    height = side()
    ratio = take(3)
    if ratio == 0:
        return height, side(), 1
    over, under = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return height, height * over // under, 1


def _jpeg_xr(data: bytes) -> Claim:
    """Tags 0xBC80 and 0xBC81 of a container like a TIFF's: ITU-T T.832 annex A."""
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    tags = dict(struct.unpack_from("<HxxxxxxI", data, at + 2 + 12 * n) for n in range(count))
    if 0xBC80 not in tags or 0xBC81 not in tags:
        raise ValueError("its header names no size")
    return tags[0xBC81], tags[0xBC80], 1


def _png(data: bytes) -> Claim:
    width, height, _, color = struct.unpack_from(">IIBB", data, 16)
    return height, width, {2: 3, 4: 2, 6: 4}.get(color, 1)


def _webp(data: bytes) -> Claim | None:
    """RFC 9649: lossy, lossless, or extended with the size of the canvas."""
    if data[8:12] != b"WEBP":
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
    elif kind == b"VP8L":
        both = int.from_bytes(data[21:25], "little")
        width, height = (both & 0x3FFF) + 1, (both >> 14 & 0x3FFF) + 1
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    return height, width, 4


def _lerc(data: bytes) -> Claim:
    """The header of Lerc2, https://github.com/Esri/lerc."""
    (version,) = struct.unpack_from("<i", data, 6)
    at = 14 if version >= 3 else 10
    height, width, samples = struct.unpack_from("<iii", data, at)
    return height, width, samples if version >= 4 else 1


def _first_lerc(data: bytes) -> Claim:
    height, width = struct.unpack_from("<ii", data, 18)
    return height, width, 1


_READERS: tuple[tuple[bytes, Callable[[bytes], Claim | None]], ...] = (
    (_JPEG, _jpeg),
    (_CODESTREAM, _jpeg2000),
    (_JP2, _jp2),
    (_JXL, _jxl),
    (_JXL_BOXES, _jxl_boxes),
    (b"II\xbc", _jpeg_xr),
    (b"\x89PNG", _png),
    (b"RIFF", _webp),
    (b"Lerc2 ", _lerc),
    (b"CntZImage ", _first_lerc),
)


_LARGEST_RATIO = 4096
"""Above the largest ratio of the compressions below: 1032 for Deflate, less for the others."""

_BOUNDED = {1, 5, 8, 32773, 32946}  # none, LZW, Deflate, PackBits, Deflate under its old number
_SMALL = 2**26  # bytes that may be allocated without this check


def check_segments(page: tifffile.TiffPage, file_bytes: int) -> None:
    """Compare the strips or tiles that a page lists with those that its size requires.

    Raises:
        ValueError: some are missing, are beyond the end of the file, or cannot unpack to the
            claimed size.
    """
    needed = math.prod(page.chunked)
    kind = "tiles" if page.is_tiled else "strips"
    if min(page.chunks) < 1:
        raise ValueError(f"{kind} of {page.chunks}")
    if min(len(page.dataoffsets), len(page.databytecounts)) < needed:
        raise ValueError(f"lists {len(page.dataoffsets)} of its {needed} {kind}")
    ends = zip(page.dataoffsets, page.databytecounts, strict=False)
    for number, (offset, count) in enumerate(ends):
        if offset + count > file_bytes:
            raise ValueError(f"{kind[:-1]} {number} lies beyond the end of the file")
    unpacked = math.prod(page.chunks) * (page.dtype.itemsize if page.dtype else 1)
    largest = max(page.databytecounts, default=0)
    packed_too_well = unpacked > _LARGEST_RATIO * max(largest, 1)
    if page.compression in _BOUNDED and unpacked > _SMALL and packed_too_well:
        raise ValueError(f"{kind} of {unpacked} bytes cannot be packed into {largest}")


_SLACK = 2  # a decoder may pad a tile at the edge, or give opacity that the page leaves out
_SIZED_BY_PAGE = {48124, 65000, 65001, 65002}  # Jetraw and EER: decoded to the page's size
_LERC = 34887


def check_claim(page: tifffile.TiffPage, data: bytes) -> None:
    """Compare the size in the header of an encoded strip or tile with the page's size.

    Raises:
        ValueError: it has more than twice as many samples, or its size cannot be read.
    """
    compression = int(page.compression)
    if compression not in tifffile.TIFF.IMAGE_COMPRESSIONS | {_LERC}:
        return  # decoded into as many bytes as the page promises
    if compression in _SIZED_BY_PAGE:
        return
    claim = claimed_size(data)
    if claim is None:
        raise ValueError("its own header is of no known kind")
    promised = math.prod(page.chunks)
    if math.prod(claim) > _SLACK * promised + 2**12:
        size = " x ".join(map(str, claim))
        raise ValueError(f"claims {size} samples where the page promises {promised}")
