"""A source that converts its samples: indices to colors, inks to light."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.images.damage import damage_named
from eyeshot.images.layouts import Span
from eyeshot.images.meaning import Meaning
from eyeshot.images.sources.source import Source

_AT_ONCE = 2**18
"""Samples that are converted together, so that the temporary memory is bounded."""
_SCRATCH = 64
"""Bytes a sample that a conversion takes for a moment: floats, several times over."""


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
        self._stored.keep_rows = self.keep_rows  # as a reader of windows asks
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
        """The memory of the stored source, and of the conversion."""
        return {**self._stored.identity(), "made": self._meaning.done}

    def close(self) -> None:
        """Close the stored source."""
        self._stored.close()
