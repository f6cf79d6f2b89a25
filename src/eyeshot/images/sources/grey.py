"""A grey picture that is stored as color: one channel is read of several that are equal."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadValue
from eyeshot.images.layouts import Span
from eyeshot.images.scaling import unit_of
from eyeshot.images.sources.source import Source


class GreySource(Source):
    """Grey stored as RGB, maybe with an opaque alpha channel, as one channel.

    Every window is checked: a colored or transparent pixel is refused, not averaged away.
    """

    def __init__(self, stored: Source) -> None:
        super().__init__(stored.name, stored._layout, stored.dtype)
        self._stored = stored
        self.stand_for(stored)

    @staticmethod
    def fits(source: Source) -> bool:
        """Whether a source has as many channels as such a picture: grey and alpha, RGB or RGBA."""
        return source.shape[0] in (2, 3, 4)

    @classmethod
    def starts_grey(cls, source: Source) -> bool:
        """Whether the first row is grey; a picture in color is refused for its channels."""
        try:
            cls(source).read((0, 1))
        except BadValue:
            return False
        return True

    @property
    def shape(self) -> tuple[int, ...]:
        """(1, H, W)."""
        return (1, *self._stored.shape[1:])

    @property
    def layout(self) -> str:
        """How the stored axes were understood, for people."""
        return f"{self._stored.layout}; grey in {self._stored.shape[0]} channels, read as one"

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        self._stored.keep_rows = self.keep_rows
        samples = self._stored.read(*spans)
        self.decoded_chunks = self._stored.decoded_chunks
        colors = 3 if len(samples) > 2 else 1
        for channel in range(1, len(samples)):
            truth = samples[0] if channel < colors else unit_of(self.dtype)
            other = samples[channel] != truth
            if other.any():
                place = [
                    int(i) + lo for i, (lo, _) in zip(np.argwhere(other)[0], spans, strict=True)
                ]
                kind = "colored" if channel < colors else "transparent"
                raise BadValue(
                    f"{self.name}: the pixel at {tuple(place)} is {kind}, and the network takes "
                    "one channel",
                    cure="convert the image to grey first",
                )
        return samples[:1]

    def identity(self) -> dict[str, Any]:
        """The stored picture's, and that one channel of it is read."""
        return {**self._stored.identity(), "grey": True}

    def close(self) -> None:
        """Let go of the stored picture."""
        self._stored.close()
