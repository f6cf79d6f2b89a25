"""The size that an encoded picture claims, read from its first bytes, before it is decoded.

A decoder allocates the size in a picture's own header. Inside a TIFF tile, or in a file of a few
kilobytes, that header may be wrong; so it is read here and compared with the expected size.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

Claim = tuple[int, int, int]
"""Height, width, and samples a pixel (1 where the header is not read that far)."""

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
        while data[at] != 0xFF:  # decoders pass over stray bytes
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
    """The reference grid less its offset: ITU-T T.800 table A.9."""
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
