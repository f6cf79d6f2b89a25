"""Resizing along one axis: which inputs an output mixes, and with which weights."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal

import numpy as np

from eyeshot.axes import coordinates
from eyeshot.axes.coordinates import SINGLE, Arithmetic, FloatArray
from eyeshot.axes.interval import EMPTY, Interval
from eyeshot.axes.protocol import NO_INPUT, AxisMap, IntArray

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
            inputs = coordinates.nearest(outputs, n, size, self.factor, exact, self.how)[:, None]
            return inputs, np.ones_like(inputs, dtype=self.how.real)
        source = self._source(outputs, n)
        mix = coordinates.linear if self.mode == "linear" else coordinates.cubic
        return mix(source, n, self.how)

    def _source(self, outputs: IntArray, n: int) -> FloatArray:
        real = self.how.real
        scale = coordinates.scale_of(n, self.output_size(n), self.factor, self.align_corners, real)
        if not self.align_corners:
            return coordinates.centered(outputs, scale, self.how)
        aligned: FloatArray = scale * outputs.astype(real)
        return aligned

    def inputs_of(self, outputs: IntArray, n: int) -> IntArray:
        """Without the neighbours whose weight is no more than the rounding of a coordinate."""
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

    def input_range_inside(self, wanted: Interval, n: int) -> Interval:
        if not wanted:
            return EMPTY
        ends = np.array([wanted.lo, wanted.hi - 1], dtype=np.int64)
        inputs, _ = self.weights(ends, n)
        return Interval(int(inputs.min()), int(inputs.max()) + 1)

    def input_range(self, wanted: Interval, n: int) -> Interval:
        if self._ratio is None or not wanted:
            return self.input_range_inside(wanted, n)
        return Interval(self._span(wanted.lo).lo, self._span(wanted.hi - 1).hi)

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
            return [int(source)]  # on an input: its neighbours have weight 0
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
