"""Sources that convert or decode a file's samples: colors, gray as color, whole pictures.

In this file:

- a source that converts its samples: indices to colors, inks to RGB;
- a gray picture that is stored as color: one of several equal channels is read;
- a picture with an alpha channel that is opaque everywhere: the other channels are read;
- pictures that can only be decoded whole: JPEG, BMP, WebP, GIF, interlaced PNG.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadFile, BadValue
from eyeshot.images import layouts
from eyeshot.images.layouts import Layout, Span
from eyeshot.images.limits import WHOLE_LIMIT, damage_named
from eyeshot.images.meaning import Meaning
from eyeshot.images.sources.arrays import ArraySource
from eyeshot.images.sources.source import OpenFile, Selection, Source
from eyeshot.images.whole import read_picture, unit_of
from eyeshot.language import tr

_AT_ONCE = 2**18
"""Samples that are converted together, so that the temporary memory is bounded."""
_SCRATCH = 64
"""Temporary bytes per sample of a conversion: several copies as floats."""


class ConvertedSource(Source):
    """Windows of another source, converted one by one."""

    def __init__(self, stored: Source, meaning: Meaning) -> None:
        layout = stored._layout
        if meaning.done:
            layout = dataclasses.replace(layout, why=f"{layout.why}; {meaning.done}")
        super().__init__(stored.name, layout, meaning.dtype)
        self._stored = stored
        self._meaning = meaning
        self.stand_for(stored)
        self.memory += _AT_ONCE * _SCRATCH
        self.alpha = meaning.alpha

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) after the conversion."""
        return (self._meaning.channels, *self._stored.shape[1:])

    def window_memory(self, shape: tuple[int, ...]) -> int:
        """The stored window in addition to the converted window."""
        return super().window_memory(shape) + self._stored.window_memory(shape)

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        self._stored.keep_rows = self.keep_rows  # set by the reader of windows
        samples = self._stored.read(*spans)
        self.decoded_chunks = self._stored.decoded_chunks
        out = np.empty((self._meaning.channels, *samples.shape[1:]), self.dtype)
        step = max(1, _AT_ONCE * samples.shape[1] // samples.size)
        with damage_named(self.name):
            for top in range(0, samples.shape[1], step):
                rows = slice(top, top + step)
                out[:, rows] = self._meaning.convert(samples[:, rows])
        return out

    def identity(self) -> dict[str, Any]:
        """The identity of the stored source, and the conversion."""
        return {**self._stored.identity(), "made": self._meaning.done}

    def close(self) -> None:
        """Close the stored source."""
        self._stored.close()


class GraySource(Source):
    """Gray stored as RGB, maybe with an opaque alpha channel, as one channel.

    Every window is checked: a colored or transparent pixel is refused, not averaged away.
    """

    def __init__(self, stored: Source) -> None:
        super().__init__(stored.name, stored._layout, stored.dtype)
        self.stored = stored
        self.stand_for(stored)

    @staticmethod
    def fits(source: Source) -> bool:
        """Whether a source has as many channels as such a picture: gray and alpha, RGB or RGBA."""
        return source.shape[0] in (2, 3, 4)

    @classmethod
    def starts_gray(cls, source: Source) -> bool:
        """Whether the first row is gray; a picture in color is refused for its channels."""
        try:
            cls(source).read((0, 1))
        except BadValue:
            return False
        return True

    @property
    def shape(self) -> tuple[int, ...]:
        """(1, H, W)."""
        return (1, *self.stored.shape[1:])

    @property
    def layout(self) -> str:
        """How the stored axes were interpreted, in words."""
        return f"{self.stored.layout}; gray in {self.stored.shape[0]} channels, read as one"

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        self.stored.keep_rows = self.keep_rows
        samples = self.stored.read(*spans)
        self.decoded_chunks = self.stored.decoded_chunks
        colors = 3 if len(samples) > 2 else 1
        for channel in range(1, len(samples)):
            expected = samples[0] if channel < colors else unit_of(self.dtype)
            other = samples[channel] != expected
            if other.any():
                place = [
                    int(i) + lo for i, (lo, _) in zip(np.argwhere(other)[0], spans, strict=True)
                ]
                kind = "colored" if channel < colors else "transparent"
                raise BadValue(
                    f"{self.name}: the pixel at {tuple(place)} is {kind}, and the network takes "
                    "one channel",
                    cure="convert the image to gray first",
                )
        return samples[:1]

    def identity(self) -> dict[str, Any]:
        """The identity of the stored picture, and that one channel of it is read."""
        return {**self.stored.identity(), "gray": True}

    def close(self) -> None:
        """Close the stored picture."""
        self.stored.close()


class OpaqueSource(Source):
    """A picture with an alpha channel, opaque everywhere, as its colors or its gray alone.

    Every window is checked: a transparent pixel is refused, since the network cannot see it.
    """

    def __init__(self, stored: Source) -> None:
        super().__init__(stored.name, stored._layout, stored.dtype)
        self.stored = stored
        self.stand_for(stored)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) without the alpha channel."""
        return (self.stored.shape[0] - 1, *self.stored.shape[1:])

    @property
    def layout(self) -> str:
        """How the stored axes were interpreted, in words."""
        return f"{self.stored.layout}; {self.left_out}"

    @property
    def left_out(self) -> str:
        """What is left out, in words."""
        return tr("the alpha channel is left out: it is opaque")

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        self.stored.keep_rows = self.keep_rows
        samples = self.stored.read(*spans)
        self.decoded_chunks = self.stored.decoded_chunks
        seen_through = samples[-1] != unit_of(self.dtype)
        if seen_through.any():
            place = tuple(
                int(i) + lo for i, (lo, _) in zip(np.argwhere(seen_through)[0], spans, strict=True)
            )
            raise BadValue(
                tr(
                    "{name}: the pixel at {place} is transparent, and the network takes no alpha "
                    "channel",
                    name=self.name,
                    place=place,
                ),
                cure=tr("lay the image on a background first"),
            )
        return samples[:-1]

    def identity(self) -> dict[str, Any]:
        """The identity of the stored picture, and that its alpha channel is left out."""
        return {**self.stored.identity(), "opaque": True}

    def close(self) -> None:
        """Close the stored picture."""
        self.stored.close()


READINGS: dict[str, type[GraySource | OpaqueSource]] = {"gray": GraySource, "opaque": OpaqueSource}
"""Ways to read fewer channels than a file stores, by the name in a cluster's task."""


def reading_of(source: Source) -> str:
    """The name of the way in which a source is read; empty for all its channels."""
    return next((name for name, kind in READINGS.items() if isinstance(source, kind)), "")


def read_as(name: str, source: Source) -> Source:
    """A source, read in the way of that name."""
    return READINGS[name](source) if name else source


_WHILE_DECODING = 2.5
"""The most decoded copies at one time: Pillow's, with 4 bytes for 3, and the array; or two arrays
while a picture is rotated."""


class DecodedSource(ArraySource):
    """A whole picture in memory, with the identity of its file."""

    file: dict[str, Any]

    def identity(self) -> dict[str, Any]:
        """The identity of the file."""
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
    """The whole image in memory, rotated upright; ``source`` is closed.

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
        upright = layouts.turn_upright(stored, turn)
        letters = "DHWC"[-upright.ndim :]
        layout = Layout(upright.shape, letters, f"{source._layout.why}; turned upright ({turn})")
        decoded = DecodedSource(upright, layout, source.name)
        decoded.file = {**source.identity(), "turned": turn}
    decoded.alpha, decoded.notes, decoded.part = source.alpha, source.notes, source.part
    decoded.turn, decoded.pages = turn, source.pages
    return _counted(decoded, upright)


def _counted(source: DecodedSource, samples: NDArray[Any]) -> Source:
    source.memory = samples.nbytes
    source.open_memory = int(samples.nbytes * _WHILE_DECODING)
    source.decoded_chunks = 1
    return source
