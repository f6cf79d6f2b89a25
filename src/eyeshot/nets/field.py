"""What a U-Net sees and which sizes it takes, from its axis maps composed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import numpy as np

from eyeshot.axes import AxisMap, Pad, Resize, Transpose, Window
from eyeshot.geometry import Phases
from eyeshot.geometry.phases import start, through, union
from eyeshot.nets.blocks import Padding, UpWay

_POOL = Window(2, stride=2)
_UP: dict[UpWay, AxisMap] = {
    "transpose": Transpose(2, stride=2),
    "nearest": Resize("nearest", factor=2.0),
    "bilinear": Resize("linear", factor=2.0),
}


@dataclass(frozen=True, slots=True)
class UNetSpec:
    """What the outputs of a U-Net see, in pixels of its input.

    Attributes:
        receptive_field: height and width of the largest field; how much an output sees depends on
            its phase, its place on the grid of ``alignment`` pixels.
        smallest_field: height and width of the smallest field among the phases.
        halo: how far an output sees beyond the pixel that it stands for, on the side and in the
            phase where that is most.
        before: the same, upwards and to the left alone.
        after: the same, downwards and to the right alone.
        alignment: the fields repeat after so many pixels: ``2 ** depth``. A crop whose corner lies
            on a multiple of it is seen as the whole image is.
        taken_off: pixels that the output is smaller than the input at each of the four sides: 0
            where the padding is ``"same"``.
    """

    receptive_field: tuple[int, int]
    smallest_field: tuple[int, int]
    halo: int
    before: int
    after: int
    alignment: int
    taken_off: int


@dataclass(frozen=True, slots=True)
class Axis:
    """A U-Net along one axis: its height depends on this, and its width in the same way."""

    depth: int
    up: UpWay
    padding: Padding

    def extent(self, n: int) -> int | None:
        """Outputs for ``n`` inputs; None where none is left, or a pool would leave a pixel over.

        A pixel left over would shift the skip against the map from below by half a pixel.
        """
        walked = self._walk(n)
        return None if walked is None else walked[0]

    def nearest(self, n: int) -> tuple[int | None, int]:
        """The largest size taken below ``n``, None if there is none, and the smallest above."""
        above = next(size for size in count(n + 1) if self.extent(size))
        below = next((size for size in range(n - 1, 0, -1) if self.extent(size)), None)
        return below, above

    def spec(self) -> UNetSpec:
        """Of a square network, whose two axes are alike."""
        phases = self.phases()
        smallest, largest = phases.sizes
        _, some_size = self.nearest(0)
        taken_off = (some_size - (self.extent(some_size) or 0)) // 2
        own = np.arange(phases.outputs, dtype=np.int64) + taken_off
        before, after = int((own - phases.lo).max()), int((phases.hi - own - 1).max())
        return UNetSpec(
            receptive_field=(largest, largest),
            smallest_field=(smallest, smallest),
            halo=max(before, after),
            before=before,
            after=after,
            alignment=2**self.depth,
            taken_off=taken_off,
        )

    def phases(self) -> Phases:
        """The outputs' fields on an axis without borders."""
        _, some_size = self.nearest(0)
        _, crops = self._walk(some_size) or (0, [])
        skips = [_follow(start(), *self._convolutions)]
        for _ in range(self.depth):
            skips.append(_follow(skips[-1], _POOL, *self._convolutions))
        found = skips.pop()
        for crop in crops:  # the same for every size that is taken
            joined = union(_follow(skips.pop(), Pad(-crop, -crop)), _follow(found, _UP[self.up]))
            if joined is None:
                raise ArithmeticError("the skip and the map from below differ in stride")
            found = _follow(joined, *self._convolutions)
        return found

    @property
    def _convolutions(self) -> tuple[Window, Window]:
        border = 1 if self.padding == "same" else 0
        return Window(3, before=border, after=border), Window(3, before=border, after=border)

    def _walk(self, n: int) -> tuple[int, list[int]] | None:
        """Outputs for ``n`` inputs, and what each skip is cropped by, from the lowest level up."""
        skips = [_extent(n, *self._convolutions)]
        for _ in range(self.depth):
            if skips[-1] % 2:
                return None
            skips.append(_extent(skips[-1], _POOL, *self._convolutions))
        size, crops = skips.pop(), []
        for skip in reversed(skips):
            if size < 1:
                return None
            size = _UP[self.up].extent(size)
            crops.append((skip - size) // 2)
            size = _extent(size, *self._convolutions)
        return (size, crops) if size > 0 else None


def _extent(n: int, *steps: AxisMap) -> int:
    for step in steps:
        n = step.extent(n)
    return n


def _follow(phases: Phases, *steps: AxisMap) -> Phases:
    """The fields behind several maps, one after another."""
    for step in steps:
        ahead = through(step, phases)
        if ahead is None:
            raise ArithmeticError(f"{step} has no period")
        phases = ahead
    return phases
