"""Where torch's resizing kernels read: their source coordinates, to the last bit.

A rounded coordinate decides which pixel ``nearest`` takes and how ``linear`` mixes its two, and the
rounding grows with the height: one multiplication more or less is 5e-4 of a pixel at row 16,000.
The formulas are those of ``aten/native/UpSample.h`` and ``aten/native/cpu/UpSampleKernel.cpp``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.axes.protocol import IntArray

FloatArray = NDArray[np.floating[Any]]

_CUBIC_A = -0.75  # the coefficient of torch's bicubic kernel (Keys 1981 has -0.5)


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """The arithmetic by which torch computes a coordinate.

    Attributes:
        double: in float64, for float64 maps; in float32 for all other types, also half types.
        fused: a product and a difference are rounded together, as on a processor with FMA.
        packed: ``nearest`` by torch's kernel for channels-last and small maps, which has other
            rules: see :func:`nearest`.
    """

    double: bool = False
    fused: bool = True
    packed: bool = False

    @property
    def real(self) -> type[np.floating[Any]]:
        """The type of the coordinates."""
        return np.float64 if self.double else np.float32


SINGLE = Arithmetic()


def scale_of(
    n: int, outputs: int, factor: float | None, align_corners: bool, real: type[np.floating[Any]]
) -> np.floating[Any]:
    """Inputs from one output to the next, as torch rounds it."""
    if align_corners:
        return real(n - 1) / real(outputs - 1) if outputs > 1 else real(0)
    return real(1.0 / factor) if factor is not None else real(n) / real(outputs)


def nearest(
    outputs: IntArray, n: int, size: int, factor: float | None, exact: bool, how: Arithmetic
) -> IntArray:
    """The one input that each output of ``nearest`` (``exact``: ``nearest-exact``) copies."""
    if how.packed:
        return _nearest_packed(outputs, n, size, factor, exact)
    scale = scale_of(n, size, factor, False, how.real)
    if exact:
        source = np.maximum(centered(outputs, scale, how), how.real(0)).astype(np.float64) + 0.5
    else:
        source = scale * outputs.astype(how.real)
    return np.minimum(_floor(source), n - 1)


def _nearest_packed(
    outputs: IntArray, n: int, size: int, factor: float | None, exact: bool
) -> IntArray:
    """In float32 for every type, and by whole numbers where it copies or doubles."""
    scale = scale_of(n, size, factor, False, np.float32)
    if exact:
        source: FloatArray = (outputs + 0.5) * np.float64(scale)
    elif size in (n, 2 * n):
        return outputs * n // size
    else:
        source = outputs.astype(np.float32) * scale
    return np.minimum(_floor(source), n - 1)


def centered(outputs: IntArray, scale: np.floating[Any], how: Arithmetic) -> FloatArray:
    """``scale · (output + ½) − ½``, rounded as torch rounds it."""
    real = how.real
    middle = outputs.astype(real) + real(0.5)
    if not how.fused:
        plain: FloatArray = scale * middle - real(0.5)
        return plain
    if not how.double:  # the product of two float32 is exact in float64
        exact: FloatArray = np.float64(scale) * middle.astype(np.float64) - 0.5
        return exact.astype(np.float32)
    product, rest = _exact_product(np.float64(scale), middle.astype(np.float64))
    less = product - 0.5
    lost = product - (less + 0.5)
    fused: FloatArray = less + (lost + rest)
    return fused


def _exact_product(one: np.float64, other: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A product of float64 and its rounding error (Dekker 1971)."""
    product = one * other
    (a, b), (c, d) = _halves(one), _halves(other)
    rest: FloatArray = ((a * c - product) + a * d + b * c) + b * d
    return product, rest


def _halves(value: Any) -> tuple[Any, Any]:
    """A float64 as a sum of two numbers of 26 bits."""
    wide = value * 134217729.0  # 2^27 + 1
    high = wide - (wide - value)
    return high, value - high


def linear(source: FloatArray, n: int, how: Arithmetic) -> tuple[IntArray, FloatArray]:
    """The two inputs around each coordinate and their weights, both (len(source), 2)."""
    below, part = _guarded(np.maximum(source, how.real(0)), n, how)
    above = np.minimum(below + 1, n - 1)
    return np.stack([below, above], 1), np.stack([how.real(1) - part, part], 1)


def cubic(source: FloatArray, n: int, how: Arithmetic) -> tuple[IntArray, FloatArray]:
    """The four inputs around each coordinate and their weights, both (len(source), 4)."""
    below, t = _guarded(source, n, how)
    inputs = np.clip(below[:, None] + np.arange(-1, 3), 0, n - 1)
    one = how.real(1)
    rest = one - t
    weights = [_far(t + one, how), _near(t, how), _near(rest, how), _far(rest + one, how)]
    return inputs, np.stack(weights, 1)


def _guarded(source: FloatArray, n: int, how: Arithmetic) -> tuple[IntArray, FloatArray]:
    """The input below each coordinate, and the distance of the coordinate from it, 0 … 1."""
    below = np.minimum(_floor(source), n - 1)
    return below, np.clip(source - below.astype(how.real), how.real(0), how.real(1))


def _floor(source: FloatArray) -> IntArray:
    """Torch calls ``floorf``, so a float64 is first rounded to float32, maybe upwards."""
    return np.floor(source.astype(np.float32)).astype(np.int64)


def _near(x: FloatArray, how: Arithmetic) -> FloatArray:
    """The cubic kernel up to a distance of 1."""
    a = _CUBIC_A
    sloped: FloatArray = _plus(a + 2, x, -(a + 3), how) * x
    return _plus(sloped, x, 1, how)


def _far(x: FloatArray, how: Arithmetic) -> FloatArray:
    """And from there to 2: a small difference of large terms, so each rounding shows."""
    a = _CUBIC_A
    return _plus(_plus(_plus(a, x, -5 * a, how), x, 8 * a, how), x, -4 * a, how)


def _plus(one: FloatArray | float, x: FloatArray, more: float, how: Arithmetic) -> FloatArray:
    """``one · x + more``, as torch rounds it; fused in float64, a rounding shows in no image."""
    if how.fused and not how.double:
        exact = np.asarray(one, np.float64) * x.astype(np.float64) + more
        return exact.astype(np.float32)
    plain: FloatArray = np.asarray(one, how.real) * x + how.real(more)
    return plain
