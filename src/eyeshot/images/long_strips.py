"""Strips of TIFF that hold more rows than the image has left.

Some writers fill up the last strip, or write one strip longer than the image. libtiff, and so
Pillow and GIMP, read the rows that belong to the image; the decoders of tifffile refuse the strip,
as its content does not fit. Here the rows beyond the image are removed from its code.
"""

from __future__ import annotations

import math
import zlib

import tifffile

_DEFLATE = {8, 32946}
_PACKBITS = 32773
_MOST = 64
"""How many times longer than its rows a strip may be, so that a bomb is not decoded."""


def without_excess(page: tifffile.TiffPage, data: bytes, segment: int) -> bytes | None:
    """The code of a strip's rows alone; None if it holds no more than these, or is damaged.

    Args:
        page: the page that tells how its strips are encoded.
        data: the code of the strip.
        segment: the number of the strip in the page.
    """
    known = page.compression in {*_DEFLATE, _PACKBITS} and isinstance(page.bitspersample, int)
    if page.is_tiled or page.fillorder != 1 or not known:
        return None
    needed = _bytes_of(page, segment)
    if page.compression == _PACKBITS:
        import imagecodecs

        if len(data) > _MOST * needed:
            return None
        plain = bytes(imagecodecs.packbits_decode(data))
        return bytes(imagecodecs.packbits_encode(plain[:needed])) if len(plain) > needed else None
    return _deflated_again(data, needed)


def _bytes_of(page: tifffile.TiffPage, segment: int) -> int:
    """The decoded bytes of the rows of a strip that are in the image."""
    strips = math.ceil(page.imagelength / page.rowsperstrip)
    rows = min(page.rowsperstrip, page.imagelength - segment % strips * page.rowsperstrip)
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    return int(rows * math.ceil(page.imagewidth * samples * page.bitspersample / 8))


def _deflated_again(data: bytes, needed: int) -> bytes | None:
    """The first ``needed`` bytes of a Deflate stream as one; None if its checksum is wrong."""
    decoder = zlib.decompressobj()
    try:
        plain = decoder.decompress(data, needed)
        excess = 0
        while not decoder.eof and excess < _MOST * needed:
            more = len(decoder.decompress(decoder.unconsumed_tail, needed))
            excess += more
            if not more and not decoder.unconsumed_tail:
                break  # it is truncated
    except zlib.error:
        return None
    return zlib.compress(plain, 1) if decoder.eof and excess and len(plain) == needed else None
