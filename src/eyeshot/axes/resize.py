"""Resizing along one axis: which inputs an output mixes, and with which weights.

The formulas are those of torch's CPU and CUDA kernels (``aten/native/UpSample.h``), in the same
floating-point precision, since a rounded source coordinate decides which neighbour is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eyeshot.axes.interval import EMPTY, Interval
from eyeshot.axes.protocol import NOTHING, IntArray

ResizeMode = Literal["nearest", "nearest-exact", "linear", "cubic"]
FloatArray = NDArray[np.floating[Any]]

_CUBIC_A = -0.75  # the coefficient of torch's bicubic kernel (Keys 1981 has -0.5)
_FAR_AWAY = 1 << 40  # inputs, more than any picture has rows
_NOUGHT = 1e-9  # a weight below this is nought but for the rounding of its source coordinate


def repeats_at(mode: ResizeMode, axes: int, inputs: int, outputs: int) -> int | None:
    """How often torch repeats each input without a look at the factor; None where it looks.

    Along an axis whose size stays as it is, torch copies: always where it interpolates linearly,
    and for ``nearest`` over two axes, but not over one or three. There ``nearest`` repeats each
    input just twice where the size doubles, too. (pytorch/pytorch#70559; UpSampleKernel.cpp.)
    """
    in_a_plane = mode == "nearest" and axes == 2
    if outputs == inputs and (in_a_plane or mode == "linear"):
        return 1
    return 2 if in_a_plane and outputs == 2 * inputs else None


@dataclass(frozen=True, slots=True)
class Resize:
    """Interpolation by a ``factor`` (outputs per input), or to ``size`` outputs.

    Exactly one of the two is given. With a factor the number of outputs is ⌊n·factor⌋, and the
    factor itself sets the source coordinates; with a size, n / size does, as in torch.

    Attributes:
        repeats: torch leaves the factor aside at this size, and gives each input so many times; see
            :func:`repeats_at`. None where the factor, or the size, says what is read.
    """

    mode: ResizeMode
    factor: float | None = None
    size: int | None = None
    align_corners: bool = False
    repeats: int | None = None

    def __post_init__(self) -> None:
        if (self.factor is None) == (self.size is None):
            raise ValueError("a Resize needs a factor or a size, and not both")

    @property
    def _ratio(self) -> Fraction | None:
        """Inputs per output where that does not depend on the size, as an exact fraction."""
        if self.repeats is not None:
            return Fraction(1, self.repeats)
        if self.factor is None or self.align_corners:
            return None
        ratio = 1 / Fraction(self.factor).limit_denominator(1000)
        return ratio if abs(float(1 / ratio) - self.factor) < 1e-9 * self.factor else None

    @property
    def period(self) -> tuple[int, int] | None:
        ratio = self._ratio
        return None if ratio is None else (ratio.denominator, ratio.numerator)

    def extent(self, n: int) -> int:
        return self.size if self.factor is None else int(np.floor(n * self.factor))  # type: ignore[return-value]

    def weights(
        self, outputs: IntArray, n: int, double: bool = False
    ) -> tuple[IntArray, FloatArray]:
        """The inputs each output mixes and their weights, both (len(outputs), m), m = 1, 2 or 4.

        ``double``: in the precision that torch uses for float64 pictures.
        """
        real: type[np.floating[Any]] = np.float64 if double else np.float32
        if self.repeats is not None or self.mode in ("nearest", "nearest-exact"):
            inputs = self._nearest(outputs, n)[:, None]
            return inputs, np.ones_like(inputs, dtype=real)
        source = self._source(outputs, n, real)
        if self.mode == "linear":
            return self._linear(np.maximum(source, real(0)), n, real)
        return self._cubic(source, n, real)

    def taps(self, outputs: IntArray, n: int) -> IntArray:
        inputs, weights = self.weights(outputs, n, double=True)
        return np.where(np.abs(weights) > _NOUGHT, inputs, NOTHING)

    def reads(self, wanted: Interval, n: int) -> Interval:
        if not wanted:
            return EMPTY
        ends = np.array([wanted.lo, wanted.hi - 1], dtype=np.int64)
        inputs, _ = self.weights(ends, n)
        return Interval(int(inputs.min()), int(inputs.max()) + 1)

    def needs(self, wanted: Interval, n: int) -> Interval:
        if self._ratio is None or not wanted:
            return self.reads(wanted, n)
        return Interval(self._span(wanted.lo).lo, self._span(wanted.hi - 1).hi)

    def ready(self, known: int, n: int | None) -> int:
        if n is not None and known >= n:
            return self.extent(n)
        if known <= 0:
            return 0
        if n is None and self._ratio is None:
            return 0
        return self._count_within(known, n)

    def keeps(self, done: int) -> int:
        ratio = self._ratio
        if ratio is None:
            return 0
        # torch rounds a scale that is not exact in binary, and may then read the input before.
        exact = ratio.numerator == 1 and ratio.denominator & (ratio.denominator - 1) == 0
        return max(0, self._span(done).lo - (not exact))

    def reach(self, outputs: IntArray) -> IntArray:
        ratio = self._ratio
        if ratio is None:
            raise TypeError("this Resize has no period: ask taps(), which knows the size")
        rows = [self._exact_taps(int(i)) for i in outputs]
        widest = max((len(row) for row in rows), default=1)
        padded = [row + [NOTHING] * (widest - len(row)) for row in rows]
        return np.array(padded, dtype=np.int64).reshape(len(rows), widest)

    def _exact_taps(self, output: int) -> list[int]:
        span = self._span(output)
        source = self._centre(output)
        if source == source // 1 and self.mode in ("linear", "cubic"):
            return [int(source)]  # on an input: its neighbours have weight nought
        return list(range(span.lo, span.hi))

    def _span(self, output: int) -> Interval:
        """The inputs around one output, neighbours at weight nought too: so it is monotone."""
        if self.repeats is not None:
            return Interval(output // self.repeats, output // self.repeats + 1)
        below = int(self._centre(output) // 1)
        before, after = {"linear": (0, 2), "cubic": (1, 3)}.get(self.mode, (0, 1))
        return Interval(below - before, below + after)

    def _centre(self, output: int) -> Fraction:
        """The source coordinate of one output, exactly, where a factor sets it."""
        ratio = self._ratio or Fraction(1)
        half = Fraction(1, 2)
        if self.mode == "nearest" or self.repeats is not None:
            return output * ratio
        centre = (output + half) * ratio
        return centre if self.mode == "nearest-exact" else centre - half

    def _count_within(self, known: int, n: int | None) -> int:
        """How many first outputs read inputs below ``known`` only: a bisection, as it is monotone.

        While the end is unknown the far border must not be met, so the unbounded form is asked,
        and beside it what is read where that border is far away: at the near one a neighbour of
        weight nought is read too.
        """
        low, high = 0, self.extent(known if n is None else n)
        while low < high:
            middle = (low + high + 1) // 2
            output = Interval(middle - 1, middle)
            if n is None:
                last = max(self.needs(output, known).hi, self.reads(output, _FAR_AWAY).hi)
            else:
                last = self.reads(output, n).hi
            if last <= known:
                low = middle
            else:
                high = middle - 1
        return low

    def _scale(self, n: int, real: type[np.floating[Any]]) -> np.floating[Any]:
        outputs = self.extent(n)
        if self.align_corners:
            return real(n - 1) / real(outputs - 1) if outputs > 1 else real(0)
        return real(1.0 / self.factor) if self.factor is not None else real(n) / real(outputs)

    def _nearest(self, outputs: IntArray, n: int) -> IntArray:
        if self.repeats is not None:
            return outputs // self.repeats
        scale = self._scale(n, np.float32)
        half = np.float32(0.5) if self.mode == "nearest-exact" else np.float32(0)
        source = np.floor((outputs.astype(np.float32) + half) * scale)
        return np.minimum(source.astype(np.int64), n - 1)

    def _source(self, outputs: IntArray, n: int, real: type[np.floating[Any]]) -> FloatArray:
        scale = self._scale(n, real)
        if self.align_corners:
            aligned: FloatArray = scale * outputs.astype(real)
            return aligned
        centred: FloatArray = scale * (outputs.astype(real) + real(0.5)) - real(0.5)
        return centred

    def _linear(
        self, source: FloatArray, n: int, real: type[np.floating[Any]]
    ) -> tuple[IntArray, FloatArray]:
        below = np.minimum(source.astype(np.int64), n - 1)
        part = np.clip(source - below.astype(real), real(0), real(1))
        above = np.minimum(below + 1, n - 1)
        return np.stack([below, above], 1), np.stack([real(1) - part, part], 1)

    def _cubic(
        self, source: FloatArray, n: int, real: type[np.floating[Any]]
    ) -> tuple[IntArray, FloatArray]:
        floor = np.floor(source)
        t = source - floor
        inputs = floor.astype(np.int64)[:, None] + np.arange(-1, 3)
        a = real(_CUBIC_A)

        def near(x: FloatArray) -> FloatArray:
            return np.asarray(((a + real(2)) * x - (a + real(3))) * x * x + real(1))

        def far(x: FloatArray) -> FloatArray:
            return np.asarray(((a * x - real(5) * a) * x + real(8) * a) * x - real(4) * a)

        one = real(1)
        weights = np.stack([far(t + one), near(t), near(one - t), far(real(2) - t)], 1)
        return np.clip(inputs, 0, n - 1), weights
