"""Axis maps whose outputs mix the whole axis, or windows cut from the whole axis."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np

from eyeshot.axes.protocol import EMPTY, NO_INPUT, AxisMap, IntArray, Interval
from eyeshot.axes.windows import Window


class _NeedsTheWholeSize(AxisMap, Protocol):
    """Maps that mean nothing on an axis without ends."""

    __slots__ = ()

    @property
    def period(self) -> None:
        return None

    def first_needed(self, done: int) -> int:
        return 0

    def inputs_of_unbounded(self, outputs: IntArray) -> IntArray:
        raise TypeError(
            f"{type(self).__name__} has no period: ask inputs_of(), which knows the size"
        )


@dataclass(frozen=True, slots=True)
class Global(_NeedsTheWholeSize):
    """Every output depends on every input: a global pool, a normalization over positions.

    ``outputs`` is their number; None keeps that of the inputs.
    """

    outputs: int | None = None

    def output_size(self, n: int) -> int:
        return n if self.outputs is None else self.outputs

    def input_range(self, outputs: Interval, n: int) -> Interval:
        return Interval(0, n) if outputs else EMPTY

    input_range_inside = input_range

    def ready(self, known: int, n: int | None) -> int:
        return self.output_size(n) if n is not None and known >= n else 0

    def inputs_of(self, outputs: IntArray, n: int) -> IntArray:
        return np.broadcast_to(np.arange(n, dtype=np.int64), (len(outputs), n))

    @property
    def is_global(self) -> bool:
        return True

    def grid(self, n: int) -> tuple[Fraction, Fraction] | None:
        # A norm over positions leaves each where it is. Of other operators nothing is known: an
        # axis that was flipped mixes all positions, too.
        return (Fraction(1), Fraction(0)) if self.outputs is None else None

    def as_window(self, n: int) -> Window | None:
        return Window(n) if self.outputs == 1 else None


@dataclass(frozen=True, slots=True)
class Broadcast(_NeedsTheWholeSize):
    """All ``size`` outputs depend on a single input: (N, C, 1, 1) combined with (N, C, H, W)."""

    size: int

    def output_size(self, n: int) -> int:
        return self.size

    def input_range(self, outputs: Interval, n: int) -> Interval:
        return Interval(0, 1) if outputs else EMPTY

    input_range_inside = input_range

    def ready(self, known: int, n: int | None) -> int:
        return self.size if known else 0

    def inputs_of(self, outputs: IntArray, n: int) -> IntArray:
        return np.zeros((len(outputs), 1), dtype=np.int64)

    @property
    def is_broadcast(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Adaptive(_NeedsTheWholeSize):
    """Adaptive pooling: output i of m reads [⌊i·n/m⌋, ⌈(i+1)·n/m⌉); windows of unequal length."""

    outputs: int

    def output_size(self, n: int) -> int:
        return self.outputs

    def input_range(self, outputs: Interval, n: int) -> Interval:
        if not outputs:
            return EMPTY
        return Interval(self._start(outputs.lo, n), self._stop(outputs.hi - 1, n))

    input_range_inside = input_range

    def ready(self, known: int, n: int | None) -> int:
        if n is None:
            return 0
        count = known * self.outputs // n  # windows that end at or before `known`
        return min(count, self.outputs)

    def inputs_of(self, outputs: IntArray, n: int) -> IntArray:
        starts, stops = outputs * n // self.outputs, -(-(outputs + 1) * n // self.outputs)
        longest = int((stops - starts).max(initial=0))
        inputs = starts[:, None] + np.arange(longest, dtype=np.int64)
        return np.where(inputs < stops[:, None], inputs, NO_INPUT)

    @property
    def is_free(self) -> bool:
        return False

    def grid(self, n: int) -> tuple[Fraction, Fraction]:
        step = Fraction(n, self.outputs)
        return step, (step - 1) / 2

    def _start(self, i: int, n: int) -> int:
        return i * n // self.outputs

    def _stop(self, i: int, n: int) -> int:
        return -(-(i + 1) * n // self.outputs)
