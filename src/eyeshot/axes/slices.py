"""Axis maps of a write into a slice: of the written values, and of the remaining old values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eyeshot.axes.interval import EMPTY, Interval
from eyeshot.axes.protocol import NO_INPUT, AxisMap, IntArray


@dataclass(frozen=True, slots=True)
class Placed(AxisMap):
    """Input i becomes output start + i·step, of ``size`` outputs; the others depend on nothing."""

    start: int
    step: int
    size: int

    @property
    def period(self) -> tuple[int, int]:
        return (self.step, 1)

    def output_size(self, n: int) -> int:
        return self.size

    def input_range(self, wanted: Interval, n: int) -> Interval:
        first = -((self.start - wanted.lo) // self.step)
        last = -((self.start - wanted.hi) // self.step)
        return Interval(first, last) if wanted and first < last else EMPTY

    def input_range_inside(self, wanted: Interval, n: int) -> Interval:
        return self.input_range(wanted, n).within(n)

    def ready(self, known: int, n: int | None) -> int:
        if n is not None and known >= n:
            return self.size
        return max(0, min(self.size, self.start + known * self.step))

    def first_needed(self, done: int) -> int:
        return max(0, -((self.start - done) // self.step))

    def inputs_of(self, outputs: IntArray, n: int) -> IntArray:
        inputs = self.inputs_of_unbounded(outputs)
        return np.where((inputs >= 0) & (inputs < n), inputs, NO_INPUT)

    def inputs_of_unbounded(self, outputs: IntArray) -> IntArray:
        offsets = outputs[:, None] - self.start
        return np.where(offsets % self.step == 0, offsets // self.step, NO_INPUT)

    @property
    def is_free(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Spared(AxisMap):
    """Output i depends on input i, except ``count`` outputs from ``start`` on, ``step`` apart.

    These depend on no input: other values are written there.
    """

    start: int
    step: int
    count: int

    @property
    def period(self) -> tuple[int, int]:
        # A write with gaps fills a grid; a write without gaps fills a part of the whole.
        return (1, 1) if self.step == 1 else (self.step, self.step)

    def output_size(self, n: int) -> int:
        return n

    def input_range(self, wanted: Interval, n: int) -> Interval:
        lo, hi = wanted.lo, wanted.hi
        if self.step == 1:
            written = Interval(self.start, self.start + self.count)
            lo = written.hi if lo in written else lo
            hi = written.lo if hi - 1 in written else hi
        else:
            lo += lo < hi and self._is_written(lo)
            hi -= lo < hi and self._is_written(hi - 1)
        return Interval(lo, hi) if lo < hi else EMPTY

    def input_range_inside(self, wanted: Interval, n: int) -> Interval:
        return self.input_range(wanted, n).within(n)

    def ready(self, known: int, n: int | None) -> int:
        return known

    def first_needed(self, done: int) -> int:
        return done

    def inputs_of(self, outputs: IntArray, n: int) -> IntArray:
        steps = outputs - self.start
        written = (steps % self.step == 0) & (steps >= 0) & (steps < self.count * self.step)
        return np.where(written, NO_INPUT, outputs)[:, None]

    def inputs_of_unbounded(self, outputs: IntArray) -> IntArray:
        if self.step == 1:
            return outputs[:, None]
        return np.where((outputs - self.start) % self.step == 0, NO_INPUT, outputs)[:, None]

    @property
    def is_free(self) -> bool:
        return False

    def _is_written(self, output: int) -> bool:
        place, gap = divmod(output - self.start, self.step)
        return gap == 0 and 0 <= place < self.count
