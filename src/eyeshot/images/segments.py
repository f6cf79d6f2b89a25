"""Check whether a TIFF page can have its claimed size, before allocating memory for it."""

from __future__ import annotations

import math

import tifffile

from eyeshot.images.encoded import claimed_size

_LARGEST_RATIO = 4096
"""No kind of packing below reaches this: Deflate ends at 1032, LZW and PackBits before it."""

_BOUNDED = {1, 5, 8, 32773, 32946}  # none, LZW, Deflate, PackBits, Deflate under its old number
_SMALL = 2**26  # bytes that may be allocated on a file's word


def check_segments(page: tifffile.TiffPage, file_bytes: int) -> None:
    """Compare the strips or tiles that a page lists with the ones that its size calls for.

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
