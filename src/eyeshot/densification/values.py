"""What a value of the classifier has become in its dense form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eyeshot.axes import Interval


@dataclass(frozen=True, slots=True)
class Value:
    """One value of the classifier, of one crop, and the map of the dense form that stands for it.

    The dense form only ever holds maps (N, C, H, W). What the classifier does to the shape of its
    value (a flatten, a transposition) moves no number: it is followed here, on the places alone.

    Attributes:
        name: of the map in the dense form.
        shape: what one crop gives: (C, h, w).
        places: of the classifier's value without its batch: where each number lies in (C, h, w),
            counted through; of any shape.
        stride: pixels of the page from one position of the map to the next.
        step: positions of the map from one place of the same crop to the next: 1, but where strides
            are undone to have a position at every pixel.
        field: for each axis, the pixels that position 0 sees.
        affine: a scale and a shift of each number that is still to be applied, by the reader
            of the numbers, all at once.
    """

    name: str
    shape: tuple[int, ...]
    places: Tensor
    stride: tuple[int, ...]
    step: tuple[int, ...]
    field: tuple[Interval, ...]
    affine: tuple[Tensor, Tensor] | None = None

    @property
    def window(self) -> tuple[int, ...]:
        """Places of one crop along each axis: (h, w)."""
        return self.shape[1:]

    @property
    def is_map(self) -> bool:
        """Whether the classifier's value is a map too, (N, C, h, w)."""
        return self.places.shape == self.shape and self.in_order

    @property
    def is_point(self) -> bool:
        """Whether a crop gives one place only, its channels in order, of whatever shape."""
        return math.prod(self.window) == 1 and self.in_order

    @property
    def in_order(self) -> bool:
        """Whether the numbers lie in the order of (C, h, w)."""
        return torch.equal(self.places.reshape(-1), torch.arange(self.places.numel()))

    def reshaped(self, shape: Sequence[int]) -> Value:
        """The same numbers in the same order, of another shape in the classifier."""
        return replace(self, places=self.places.reshape(tuple(shape)))

    def seen_through(self, taps: Sequence[Interval]) -> tuple[Interval, ...]:
        """The field of a position 0 that reads the places ``taps`` of this value."""
        found = []
        for side, tap, stride, step in zip(self.field, taps, self.stride, self.step, strict=True):
            pixels = stride * step
            found.append(Interval(side.lo + tap.lo * pixels, side.hi + (tap.hi - 1) * pixels))
        return tuple(found)


def natural(shape: tuple[int, ...]) -> Tensor:
    """The places of a map (C, h, w) that is what it is."""
    return torch.arange(math.prod(shape)).reshape(shape)
