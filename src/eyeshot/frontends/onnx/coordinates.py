"""Which inputs each output of an ONNX ``Resize`` mixes along one axis, and by which weights.

By the words of the standard. Where rounding decides, as it does between the two inputs around a
half, in float32 and by onnxruntime's order of operations (``upsamplebase.h``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.frontends.onnx.site import Refusal

_ROUNDING = 1e-6
"""Of a coordinate beside its size, by which programs differ."""
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Resizing:
    """How an operator resizes, the same for every axis.

    Attributes:
        mode: nearest, linear or cubic.
        transform: from an output's place to its source, such as ``half_pixel``.
        rounding: of ``nearest``, such as ``floor``.
        cubic: the coefficient of the cubic kernel.
        inside_only: cubic weights outside of the image are left out.
        fill: for what lies outside; None where the border is repeated.
    """

    mode: str
    transform: str
    rounding: str = "round_prefer_floor"
    cubic: float = -0.75
    inside_only: bool = False
    fill: float | None = None


@dataclass(frozen=True)
class AxisResize:
    """One axis: from ``n`` inputs to ``m`` outputs by ``scale``; ``crop`` is its part, if any.

    ``by_size`` says that the file gives m, and the scale follows.
    """

    n: int
    m: int
    scale: float
    crop: tuple[float, float] = (0.0, 1.0)
    by_size: bool = False

    def source(self, how: Resizing, real: type[np.floating[Any]]) -> Floats:
        """Where each output lies among the inputs."""
        x = np.arange(self.m).astype(real)
        scale, half = real(np.float32(self.scale)), real(0.5)
        n, m = real(self.n), real(self.m)
        found: Floats
        match how.transform:
            case "tf_crop_and_resize":
                start, end = map(real, self.crop)
                if self.m == 1:
                    return np.array([half * (start + end) * (n - 1)])
                found = start * (n - 1) + (x * (end - start) * (n - 1)) / (m - 1)
            case _ if scale == 1 and self.n == self.m:
                return x
            case "asymmetric":
                found = x / scale
            case "half_pixel":
                found = (x + half) / scale - half
            case "pytorch_half_pixel":
                found = (x + half) / scale - half if self.m > 1 else np.zeros_like(x)
            case "tf_half_pixel_for_nn":
                found = (x + half) / scale
            case "align_corners":
                if self.scale * self.n != self.m and self.m > 1 and not self.by_size:
                    raise Refusal(
                        "finds places by align_corners for a size that is no whole number, and "
                        "ONNX and onnxruntime disagree on them",
                        "resize to sizes, or by a scale that gives a whole number",
                    )
                found = x * (n - 1) / (m - 1) if self.m > 1 else np.zeros_like(x)
            case "half_pixel_symmetric":
                shift = n / 2 * (1 - m / (scale * n))
                found = shift + (x + half) / scale - half
            case other:
                raise Refusal(f"finds places by {other}", "use half_pixel or asymmetric")
        return found

    def nearest(self, how: Resizing) -> Ints:
        """The input that each output copies.

        Raises:
            Refusal: for some output, rounding decides between two inputs.
        """
        x = self.source(how, np.float64)
        found = self._copied(how, self.source(how, np.float32))
        others = [self._copied(how, x)]
        exact = float(np.float32(self.scale)) == self.scale
        if (self.by_size and not exact) or how.transform == "half_pixel_symmetric":
            least = _ROUNDING * (1 + np.abs(x))
            others += [self._copied(how, x - least), self._copied(how, x + least)]
        if any((found != one).any() for one in others):
            raise Refusal(
                f"resizes {self.n} positions to {self.m}, where rounding decides between two of "
                "them, and programs disagree",
                "give an image of another size",
            )
        return found

    def _copied(self, how: Resizing, x: Floats) -> Ints:
        match how.rounding:
            case "round_prefer_floor":
                away = np.sign(x) * np.floor(np.abs(x) + 0.5)
                found = np.where(x == np.trunc(x) + 0.5, np.floor(x), away)
            case "round_prefer_ceil":
                found = np.sign(x) * np.floor(np.abs(x) + 0.5)
            case "floor":
                found = np.floor(x)
            case "ceil":
                found = np.ceil(x)
            case "simple":  # before version 11
                found = np.ceil(x) if self.scale < 1 else np.trunc(x)
            case other:
                raise Refusal(f"rounds by {other}", "use floor or round_prefer_floor")
        return np.clip(found, 0, self.n - 1).astype(np.int64)

    def mix(self, how: Resizing) -> tuple[Ints, Floats]:
        """For each output its inputs and their weights, both (m, taps)."""
        x = self.source(how, np.float64)
        below = np.floor(x)
        part = (x - below)[:, None]
        if how.mode == "linear":
            taps, weights = np.array([0, 1]), np.concatenate([1 - part, part], 1)
        else:
            taps = np.array([-1, 0, 1, 2])
            weights = _cubic(np.abs(part - taps), how.cubic)
        places = below[:, None].astype(np.int64) + taps
        if how.inside_only and how.mode == "cubic":
            weights = np.where((places >= 0) & (places < self.n), weights, 0.0)
            weights = weights / weights.sum(1, keepdims=True)
        return np.clip(places, 0, self.n - 1), weights

    def outside(self, how: Resizing) -> NDArray[np.bool_]:
        """Which outputs lie outside of the image."""
        x = self.source(how, np.float32)
        return (x < 0) | (x > self.n - 1)


def _cubic(distance: Floats, a: float) -> Floats:
    """The kernel of Keys (1981) with its coefficient."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    found: Floats = np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
    return found
