"""Resizing along one axis: which inputs an output mixes, and with which weights.

The source coordinates are those of torch's own resizing kernels, exact to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eyeshot.axes.maps import EMPTY, NO_INPUT, AxisMap, IntArray, Interval

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


ResizeMode = Literal["nearest", "nearest-exact", "linear", "cubic"]

_FAR_AWAY = 1 << 40  # inputs, more than any picture has rows
_LEAST_WEIGHT = 1e-9
_ROUNDINGS = 4  # that a source coordinate has gone through, at most


@dataclass(frozen=True, slots=True)
class Resize(AxisMap):
    """Interpolation by a ``factor`` (outputs per input), or to ``size`` outputs.

    Exactly one of the two is set. With a factor the number of outputs is ⌊n·factor⌋, and the
    factor sets the source coordinates; with a size, n / size sets them, as in torch.

    ``how`` is the arithmetic by which torch computes them. ``even`` is False if rounding makes
    ``nearest`` leave the periodic pattern of an exact factor.
    """

    mode: ResizeMode
    factor: float | None = None
    size: int | None = None
    align_corners: bool = False
    how: Arithmetic = SINGLE
    even: bool = field(default=True, compare=False)

    def __post_init__(self) -> None:
        if (self.factor is None) == (self.size is None):
            raise ValueError("a Resize needs a factor or a size, and not both")

    @property
    def _ratio(self) -> Fraction | None:
        """Inputs per output where that does not depend on the size, as an exact fraction."""
        if self.factor is None or self.align_corners:
            return None
        ratio = 1 / Fraction(self.factor).limit_denominator(1000)
        return ratio if abs(float(1 / ratio) - self.factor) < 1e-9 * self.factor else None

    @property
    def period(self) -> tuple[int, int] | None:
        ratio = self._ratio if self.even else None
        return None if ratio is None else (ratio.denominator, ratio.numerator)

    def as_periodic(self, n: int) -> Resize:
        if self.period is not None:
            return self
        factor = self.output_size(n) / n
        return replace(self, factor=factor, size=None, align_corners=False, even=True)

    def grid(self, n: int) -> tuple[Fraction, Fraction]:
        size = self.output_size(n)
        if self.align_corners:
            return Fraction(n - 1, size - 1) if size > 1 and n > 1 else Fraction(n), Fraction(0)
        if self.factor is None:
            step = Fraction(n, size)
        else:
            step = self._ratio or 1 / Fraction(self.factor)
        if self.mode in ("linear", "cubic"):
            return step, (step - 1) / 2
        half = Fraction(self.mode == "nearest-exact", 2)
        units = range(min(step.denominator, max(1, size)))
        below = sum((((unit + half) * step) // 1 - unit * step for unit in units), Fraction(0))
        return step, below / len(units)

    @property
    def is_free(self) -> bool:
        return self.factor is not None

    def output_size(self, n: int) -> int:
        return self.size if self.factor is None else int(np.floor(n * self.factor))  # type: ignore[return-value]

    def weights(self, outputs: IntArray, n: int) -> tuple[IntArray, FloatArray]:
        """The inputs each output mixes and their weights, both (len(outputs), m), m = 1, 2 or 4.

        They are those of torch, to the last bit of the coordinate.
        """
        size = self.output_size(n)
        if self.mode in ("nearest", "nearest-exact"):
            exact = self.mode == "nearest-exact"
            inputs = nearest(outputs, n, size, self.factor, exact, self.how)[:, None]
            return inputs, np.ones_like(inputs, dtype=self.how.real)
        source = self._source(outputs, n)
        mix = linear if self.mode == "linear" else cubic
        return mix(source, n, self.how)

    def _source(self, outputs: IntArray, n: int) -> FloatArray:
        real = self.how.real
        scale = scale_of(n, self.output_size(n), self.factor, self.align_corners, real)
        if not self.align_corners:
            return centered(outputs, scale, self.how)
        aligned: FloatArray = scale * outputs.astype(real)
        return aligned

    def inputs_of(self, outputs: IntArray, n: int) -> IntArray:
        """Without the neighbors whose weight is no more than the rounding of a coordinate."""
        inputs, weights = self.weights(outputs, n)
        rounding = _ROUNDINGS * float(np.finfo(self.how.real).eps)
        least = np.maximum(_LEAST_WEIGHT, rounding * (inputs[:, :1] + 1.0))
        return np.where(np.abs(weights) > least, inputs, NO_INPUT)

    def follows_its_pattern(self, n: int) -> bool:
        """Whether each output that torch computes reads what an exact factor would have it read."""
        ratio = self._ratio
        if ratio is None or self.mode not in ("nearest", "nearest-exact"):
            return True
        outputs = np.arange(self.output_size(n), dtype=np.int64)
        doubled = 2 * outputs + (self.mode == "nearest-exact")
        exact = np.minimum(doubled * ratio.numerator // (2 * ratio.denominator), n - 1)
        return bool((self.weights(outputs, n)[0][:, 0] == exact).all())

    def input_range_inside(self, outputs: Interval, n: int) -> Interval:
        if not outputs:
            return EMPTY
        ends = np.array([outputs.lo, outputs.hi - 1], dtype=np.int64)
        inputs, _ = self.weights(ends, n)
        return Interval(int(inputs.min()), int(inputs.max()) + 1)

    def input_range(self, outputs: Interval, n: int) -> Interval:
        if self._ratio is None or not outputs:
            return self.input_range_inside(outputs, n)
        return Interval(self._span(outputs.lo).lo, self._span(outputs.hi - 1).hi)

    def ready(self, known: int, n: int | None) -> int:
        if n is not None and known >= n:
            return self.output_size(n)
        if known <= 0:
            return 0
        if n is None and self._ratio is None:
            return 0
        return self._count_within(known, n)

    def first_needed(self, done: int) -> int:
        ratio = self._ratio
        if ratio is None:
            return 0
        # torch rounds a scale that is not exact in binary, and may then read the input before.
        exact = ratio.numerator == 1 and ratio.denominator & (ratio.denominator - 1) == 0
        first = self.input_range_inside(Interval(done, done + 1), _FAR_AWAY).lo
        return max(0, min(first, self._span(done).lo - (not exact)))

    def inputs_of_unbounded(self, outputs: IntArray) -> IntArray:
        ratio = self._ratio
        if ratio is None:
            raise TypeError("this Resize has no period: ask inputs_of(), which knows the size")
        rows = [self._exact_taps(int(i)) for i in outputs]
        widest = max((len(row) for row in rows), default=1)
        padded = [row + [NO_INPUT] * (widest - len(row)) for row in rows]
        return np.array(padded, dtype=np.int64).reshape(len(rows), widest)

    def _exact_taps(self, output: int) -> list[int]:
        span = self._span(output)
        source = self._center(output)
        if source == source // 1 and self.mode in ("linear", "cubic"):
            return [int(source)]  # on an input: its neighbors have weight 0
        return list(range(span.lo, span.hi))

    def _span(self, output: int) -> Interval:
        """The inputs around one output, also those of weight 0, so that the range is monotone."""
        below = int(self._center(output) // 1)
        before, after = {"linear": (0, 2), "cubic": (1, 3)}.get(self.mode, (0, 1))
        return Interval(below - before, below + after)

    def _center(self, output: int) -> Fraction:
        """The exact source coordinate of one output, if a factor sets it."""
        ratio = self._ratio or Fraction(1)
        half = Fraction(1, 2)
        if self.mode == "nearest":
            return output * ratio
        center = (output + half) * ratio
        return center if self.mode == "nearest-exact" else center - half

    def _count_within(self, known: int, n: int | None) -> int:
        """How many first outputs read inputs below ``known`` only: a bisection, as it is monotone.

        While the end is unknown, no output may touch it. So this uses the unbounded form, and also
        the inputs read with a distant end: at the first border a neighbor of weight 0 is read, too.
        """
        low, high = 0, self.output_size(known if n is None else n)
        while low < high:
            middle = (low + high + 1) // 2
            output = Interval(middle - 1, middle)
            if n is None:
                last = max(
                    self.input_range(output, known).hi,
                    self.input_range_inside(output, _FAR_AWAY).hi,
                )
            else:
                last = self.input_range_inside(output, n).hi
            if last <= known:
                low = middle
            else:
                high = middle - 1
        return low
