"""The size limit of a picture that is decoded whole, and the first bytes of file formats."""

from __future__ import annotations

from pathlib import Path

from eyeshot.errors import BadFile

WHOLE_LIMIT = 2 * 2**30
"""Largest picture in bytes that is decoded whole; larger pictures are read by windows."""

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
NPY_START = b"\x93NUMPY"
PNG_START = b"\x89PNG\r\n\x1a\n"


def check_size(path: Path, shape: tuple[int, ...], itemsize: int) -> None:
    """Refuse a picture whose decoded form would exceed ``WHOLE_LIMIT``, before it is allocated.

    Raises:
        BadFile: it would.
    """
    size = itemsize
    for length in shape:
        size *= length  # whole Python numbers: a claim of 10^6 x 10^6 must not overflow
    if size > WHOLE_LIMIT:
        claim = " x ".join(map(str, shape))
        raise BadFile(
            f"{path}: claims {claim} samples, {size / 2**30:.1f} GiB decoded, "
            f"and a whole picture may take {WHOLE_LIMIT / 2**30:.0f} GiB",
            cure="if it is genuine, process it by windows as TIFF or Zarr",
        )
