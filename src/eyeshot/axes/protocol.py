"""The interface of every axis map, and half-open intervals of integers."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from eyeshot.axes.maps import Pad, Window


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """The whole numbers from ``lo`` up to, and not including, ``hi``; empty when ``hi <= lo``."""

    lo: int
    hi: int

    def __len__(self) -> int:
        return max(0, self.hi - self.lo)

    def __contains__(self, index: int) -> bool:
        return self.lo <= index < self.hi

    def __str__(self) -> str:
        return f"[{self.lo}, {self.hi})"

    def intersect(self, other: Interval) -> Interval:
        """What both hold."""
        lo, hi = max(self.lo, other.lo), min(self.hi, other.hi)
        return Interval(lo, hi) if lo < hi else EMPTY

    def hull(self, other: Interval) -> Interval:
        """The smallest interval that holds both."""
        if not self:
            return other
        if not other:
            return self
        return Interval(min(self.lo, other.lo), max(self.hi, other.hi))

    def within(self, n: int) -> Interval:
        """The part inside ``[0, n)``."""
        return self.intersect(Interval(0, n))

    def shifted(self, by: int) -> Interval:
        """The same interval ``by`` places to the right."""
        return Interval(self.lo + by, self.hi + by)

    def covers(self, other: Interval) -> bool:
        """Whether every number of ``other`` is in this one."""
        return not other or (self.lo <= other.lo and other.hi <= self.hi)


EMPTY = Interval(0, 0)


IntArray = NDArray[np.int64]

NO_INPUT = np.iinfo(np.int64).min
"""Marks an unused place in an array of inputs: zero padding, or a gap between strides."""


class AxisMap(Protocol):
    """How the outputs of an operator depend on its inputs along one axis.

    ``n`` is always the number of inputs. Intervals are half open. From :attr:`is_global` on, the
    members have a default that fits most maps; other maps override it.
    """

    __slots__ = ()

    @property
    def period(self) -> tuple[int, int] | None:
        """``(q, t)``: q outputs further on, the same pattern t inputs further on.

        None if the pattern depends on the size or never repeats; such a map has no meaning on
        an unbounded axis, and :meth:`inputs_of_unbounded` must not be called.
        """

    def output_size(self, n: int) -> int:
        """How many outputs do n inputs give? Zero or less: the input is too small."""

    def input_range(self, outputs: Interval, n: int) -> Interval:
        """The smallest interval of inputs that the ``outputs`` depend on.

        It may reach outside ``[0, n)``: that part is padding.
        """

    def input_range_inside(self, outputs: Interval, n: int) -> Interval:
        """The smallest interval inside ``[0, n)`` with all inputs that ``outputs`` really read.

        It differs from the clipped ``input_range`` if padding repeats inputs (reflect, circular).
        """

    def ready(self, known: int, n: int | None) -> int:
        """How many of the first outputs can be computed from the first ``known`` inputs?

        ``n`` is None while the end is unknown (a camera): then no output that could touch the far
        border is ready.
        """

    def first_needed(self, done: int) -> int:
        """While ``n`` is unknown: the first input that any output from ``done`` on may still read,
        wherever the axis ends."""

    def inputs_of(self, outputs: IntArray, n: int) -> IntArray:
        """The inputs in ``[0, n)`` that each output depends on, exactly.

        Returns:
            An array (len(outputs), m); unused places hold ``NO_INPUT``; repeats are allowed.
        """

    def inputs_of_unbounded(self, outputs: IntArray) -> IntArray:
        """Like :meth:`inputs_of` without borders: inputs may be negative or past the end."""

    @property
    def is_global(self) -> bool:
        """Whether every output depends on every input."""
        return False

    @property
    def is_broadcast(self) -> bool:
        """Whether all outputs depend on a single input."""
        return False

    @property
    def is_free(self) -> bool:
        """Whether the map is right at every size and contains no number of its own size."""
        return True

    @property
    def repeats_inputs(self) -> bool:
        """Whether padding at the border repeats inputs from further inside."""
        return False

    @property
    def fewest_inputs(self) -> int:
        """The smallest ``n`` that it accepts: a reflection needs more inputs than it adds."""
        return 1

    def pads(self, n: int) -> bool:
        """Whether an output reads beyond the first or the last input."""
        return False

    def unread(self, n: int) -> int:
        """The number of last inputs that no window reads, beyond the gap that a stride leaves."""
        return 0

    def hangs_over(self, n: int) -> bool:
        """Whether the last window reaches beyond the end (``ceil_mode``)."""
        return False

    def whole_blocks(self, outputs: int) -> int:
        """The best end of a band near ``outputs``: no input is then computed twice."""
        return outputs

    def grid(self, n: int) -> tuple[Fraction, Fraction] | None:
        """Where outputs lie among inputs: from one to the next, and where output 0 is.

        An output is in the middle of what it reads, far from borders; where that differs from phase
        to phase, the mean over the phases. None if outputs have no places among the inputs.
        """
        if self.period is None:
            return None
        outputs, inputs = self.period
        step = Fraction(inputs, outputs)
        middles = []
        for unit, taps in enumerate(self.inputs_of_unbounded(np.arange(outputs, dtype=np.int64))):
            real = taps[taps != NO_INPUT]
            if len(real):
                middles.append(Fraction(int(real.min()) + int(real.max()), 2) - unit * step)
        return (step, sum(middles, Fraction(0)) / len(middles)) if middles else None

    def as_window(self, n: int) -> Window | None:
        """The equivalent sliding window for ``n`` inputs, or None."""
        return None

    def as_periodic(self, n: int) -> AxisMap:
        """A map that repeats itself and is nearest to this one of ``n`` inputs, if there is one."""
        return self

    def as_pad(self) -> Pad | None:
        """The equivalent padding by zeros, or crop, or None."""
        return None
