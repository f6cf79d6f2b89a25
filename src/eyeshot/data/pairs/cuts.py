"""How one axis of a picture is cut into crops, so that each pixel is learned from equally often.

Near the sides of a crop the network sees an end that the picture has not. Only what lies a halo
away from them is *valid*: there the network gives what it gives for the whole picture. A side of
the crop that is a border of the picture is no such end, and costs nothing.

Crops at random places would show the pixels near a border of the picture too rarely, for few crops
reach it. So an axis is cut whole: the valid parts of the crops of one cutting overlap, in each
overlap a boundary is drawn at random, and every pixel belongs to exactly one crop. Crops start at
multiples of an alignment, so that a network with strides divides the crop as it divides the
picture; where they start beyond that is random.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadValue


@dataclass(frozen=True)
class Cut:
    """One crop along one axis.

    Attributes:
        start: where the crop begins.
        stop: one past where it ends.
        first: where its own part of the valid begins.
        last: one past where that ends.
    """

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True)
class Axis:
    """An axis of a picture that is to be cut.

    Attributes:
        length: of the picture.
        crop: of each crop; not above ``length``.
        halo: how far the network sees to each side.
        alignment: crops start at multiples of it. The last one ends with the picture; it starts at
            a multiple only if ``length`` - ``crop`` is one.
    """

    length: int
    crop: int
    halo: int
    alignment: int

    def __post_init__(self) -> None:
        if self.crop < self.length and self._longest_jump < 1:
            least = 2 * self.halo + self.alignment
            raise BadValue(
                f"crop is {self.crop}, and the network sees {self.halo} pixels to each side: "
                "nothing inside a picture would be valid",
                cure=f"use a crop of at least {least}, or of the whole picture ({self.length})",
            )

    @property
    def pieces(self) -> int:
        """How many crops a cutting has: as few as there can be."""
        if self.crop == self.length:
            return 1
        return 1 + -(-self._jumps // self._longest_jump)

    def cut(self, generator: np.random.Generator) -> tuple[Cut, ...]:
        """A random cutting; every position is in the own part of exactly one crop."""
        starts = self._starts(generator)
        # Between two crops the boundary lies where both are valid. Each is drawn alone, less its
        # number, and all are put in order: no two can then be equal, and none leaves its range,
        # since both ends of the ranges rise by 1 or more from one to the next.
        numbers = np.arange(len(starts) - 1)
        lowest, highest = starts[1:] + self.halo, starts[:-1] + self.crop - self.halo
        drawn = generator.integers(lowest - numbers, highest - numbers, endpoint=True)
        inner = np.sort(drawn) + numbers
        bounds = [0, *inner.tolist(), self.length]
        return tuple(
            Cut(start, start + self.crop, first, last)
            for start, (first, last) in zip(starts.tolist(), pairwise(bounds), strict=True)
        )

    @property
    def _longest_jump(self) -> int:
        """Steps of the alignment between two crops whose valid parts still touch."""
        return (self.crop - 2 * self.halo) // self.alignment

    @property
    def _jumps(self) -> int:
        """Steps of the alignment from the first crop to the last."""
        return -(-(self.length - self.crop) // self.alignment)

    def _starts(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """Where the crops begin: jumps that add up, none too long, drawn together.

        No jump is 0: there are as few crops as can be, so each has to bring the end nearer.
        """
        room = [self._longest_jump] * (self.pieces - 1)
        places = np.zeros(self.pieces, np.int64)
        if room:
            jumps = generator.multivariate_hypergeometric(room, self._jumps)
            places[1:] = np.cumsum(jumps) * self.alignment
        return np.minimum(places, self.length - self.crop)


def fit_crop(crop: int, lengths: tuple[int, ...], alignment: int) -> int:
    """The largest crop up to ``crop`` whose last place in every picture is a multiple too.

    Where the pictures' lengths leave different remainders there is none, and ``crop`` is kept.
    """
    remainders = {length % alignment for length in lengths if length > crop}
    if len(remainders) != 1:
        return crop
    fitted = crop - (crop - remainders.pop()) % alignment
    return fitted if fitted > 0 else crop
