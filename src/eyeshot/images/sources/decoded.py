"""Pictures that can only be decoded whole: JPEG, BMP, WebP, GIF, interlaced PNG.

Their whole decoded size is counted in ``memory``, and what decoding takes in ``open_memory``. A
claim beyond ``WHOLE_LIMIT`` is refused before anything is allocated.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eyeshot.images.layouts import understand
from eyeshot.images.sources.arrays import ArraySource
from eyeshot.images.sources.source import OpenFile, Source
from eyeshot.images.whole import read

_WHILE_DECODING = 2.5
"""Decoded copies alive at the worst moment: Pillow's, of 4 bytes for 3, and the array; or two
arrays, while a picture is turned."""


class DecodedSource(ArraySource):
    """A picture held whole, with the identity of its file."""

    file: dict[str, Any]

    def identity(self) -> dict[str, Any]:
        """The file's."""
        return self.file


def open_decoded(path: Path, *, layout: str | None = None, space: int | None = None) -> Source:
    """Decode a picture whole.

    Raises:
        BadFile: damaged, truncated, not a picture, or too large to hold.
    """
    file = OpenFile(path)
    try:
        picture = read(path)
        metadata = "YX" if picture.ndim == 2 else "YXC"
        order = understand(picture.shape, metadata=metadata, layout=layout, space=space)
        source = DecodedSource(picture, order, str(path))
        source.file = file.identity()
    finally:
        file.close()
    source.memory = picture.nbytes
    source.open_memory = int(picture.nbytes * _WHILE_DECODING)
    source.decoded_chunks = 1
    return source
