"""Pictures that can only be decoded whole: JPEG, BMP, WebP, GIF, interlaced PNG.

Their whole decoded size counts in ``memory``, and the memory for decoding in ``open_memory``. A
size above ``WHOLE_LIMIT`` is refused before memory is allocated.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadFile
from eyeshot.images import orientation
from eyeshot.images.layouts import Layout
from eyeshot.images.limits import WHOLE_LIMIT
from eyeshot.images.sources.arrays import ArraySource
from eyeshot.images.sources.selection import Selection
from eyeshot.images.sources.source import OpenFile, Source
from eyeshot.images.whole import read_picture

_WHILE_DECODING = 2.5
"""Decoded copies alive at the worst moment: Pillow's, of 4 bytes for 3, and the array; or two
arrays, while a picture is turned."""


class DecodedSource(ArraySource):
    """A whole picture in memory, with the identity of its file."""

    file: dict[str, Any]

    def identity(self) -> dict[str, Any]:
        """The file's."""
        return self.file


def open_decoded(path: Path, selection: Selection) -> Source:
    """Decode a picture whole.

    Raises:
        BadFile: the file is damaged, truncated, not a picture, or too large.
        BadValue: there is no such frame, level or position.
    """
    selection.check_level(path, 1)
    file = OpenFile(path)
    try:
        picture = read_picture(
            path,
            series=selection.series,
            indices=selection.indices,
            offered=selection.offered,
        )
        metadata = "YX" if picture.samples.ndim == 2 else "YXC"
        order = selection.understand(path, picture.samples.shape, metadata)
        source = DecodedSource(picture.samples, order, str(path))
        source.file = file.identity()
    finally:
        file.close()
    source.alpha, source.turn = picture.alpha, picture.turn
    source.notes = picture.notes
    source.part = selection.part(selection.series or 0)
    return _counted(source, picture.samples)


def turned(source: Source, turn: int) -> Source:
    """A source that is in memory whole and rotated upright; ``source`` is closed.

    Args:
        source: the stored image.
        turn: its EXIF or TIFF orientation, 1 to 8.

    Raises:
        BadFile: it is too large.
    """
    with source:
        if math.prod(source.shape) * source.dtype.itemsize > WHOLE_LIMIT // 2:
            raise BadFile(
                f"{source.name}: is stored rotated (orientation {turn}), and is too large to "
                "rotate in memory",
                cure="store it upright, or choose a smaller level",
            )
        stored = np.moveaxis(source.read(), 0, -1)
        upright = orientation.turn_upright(stored, turn)
        letters = "DHWC"[-upright.ndim :]
        layout = Layout(upright.shape, letters, f"{source._layout.why}; turned upright ({turn})")
        held = DecodedSource(upright, layout, source.name)
        held.file = {**source.identity(), "turned": turn}
    held.alpha, held.notes, held.part = source.alpha, source.notes, source.part
    held.turn, held.pages = turn, source.pages
    return _counted(held, upright)


def _counted(source: DecodedSource, held: NDArray[Any]) -> Source:
    source.memory = held.nbytes
    source.open_memory = int(held.nbytes * _WHILE_DECODING)
    source.decoded_chunks = 1
    return source
