"""Axis maps: their interface, and all but resizing; with half-open intervals of integers.

Windows, their transpose, padding, and mixtures of a whole axis.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """The whole numbers from ``lo`` up to, and not including, ``hi``; empty when ``hi <= lo``."""

    lo: int
    hi: int

    def __len__(self) -> int:
        return self.hi - self.lo if self.hi > self.lo else 0

    def __bool__(self) -> bool:
        return self.hi > self.lo

    def __contains__(self, index: int) -> bool:
        return self.lo <= index < self.hi

    def __str__(self) -> str:
        return f"[{self.lo}, {self.hi})"

    def intersect(self, other: Interval) -> Interval:
        """What both hold."""
        lo = self.lo if self.lo > other.lo else other.lo
        hi = self.hi if self.hi < other.hi else other.hi
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
        if self.lo >= 0 and self.hi <= n:
            return self if self else EMPTY
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


PadMode = Literal["zero", "reflect", "replicate", "circular"]


def _at_most(count: int, extent: int) -> int:
    """``count`` outputs, but no more than there are if the axis ended here."""
    return max(0, min(count, extent))


@dataclass(frozen=True, slots=True)
class Identity(AxisMap):
    """Output i depends on input i: pointwise operators, concatenation over channels."""

    @property
    def period(self) -> tuple[int, int]:
        return (1, 1)

    def output_size(self, n: int) -> int:
        return n

    def input_range(self, outputs: Interval, n: int) -> Interval:
        return outputs

    def input_range_inside(self, outputs: Interval, n: int) -> Interval:
        return outputs.within(n)

    def ready(self, known: int, n: int | None) -> int:
        return known

    def first_needed(self, done: int) -> int:
        return done

    def inputs_of(self, outputs: IntArray, n: int) -> IntArray:
        return outputs[:, None]

    def inputs_of_unbounded(self, outputs: IntArray) -> IntArray:
        return outputs[:, None]

    def as_pad(self) -> Pad:
        return Pad(0, 0)


@dataclass(frozen=True, slots=True)
class Window(AxisMap):
    """A sliding window: output i depends on inputs i·stride − before + dilation·{0 … kernel−1}.

    Convolution, pooling, and a strided slice (kernel 1). Positions outside [0, n) are padding that
    depends on no input. A negative ``before`` skips inputs.

    ``ceil_mode`` follows torch's pooling: the last window may reach beyond the end if it starts
    inside the input or the padding before it.
    """

    kernel: int
    stride: int = 1
    before: int = 0
    after: int = 0
    dilation: int = 1
    ceil_mode: bool = False

    @property
    def span(self) -> int:
        """From the first input of a window to its last, both counted."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def period(self) -> tuple[int, int]:
        return (1, self.stride)

    def output_size(self, n: int) -> int:
        room = n + self.before + self.after - self.span
        if not self.ceil_mode:
            return room // self.stride + 1
        count = -(-room // self.stride) + 1
        # The last window must start inside the input or its leading padding.
        return count - 1 if (count - 1) * self.stride >= n + self.before else count

    def input_range(self, outputs: Interval, n: int) -> Interval:
        if not outputs:
            return EMPTY
        first = outputs.lo * self.stride - self.before
        last = (outputs.hi - 1) * self.stride - self.before
        return Interval(first, last + self.span)

    def input_range_inside(self, outputs: Interval, n: int) -> Interval:
        return self.input_range(outputs, n).within(n)

    def ready(self, known: int, n: int | None) -> int:
        if n is not None and known >= n:
            return self.output_size(n)
        count = (known + self.before - self.span) // self.stride + 1
        return _at_most(count, self.output_size(known if n is None else n))

    def first_needed(self, done: int) -> int:
        return max(0, done * self.stride - self.before)

    def inputs_of(self, outputs: IntArray, n: int) -> IntArray:
        inputs = self.inputs_of_unbounded(outputs)
        return np.where((inputs >= 0) & (inputs < n), inputs, NO_INPUT)

    def inputs_of_unbounded(self, outputs: IntArray) -> IntArray:
        starts = outputs[:, None] * self.stride - self.before
        return starts + self.dilation * np.arange(self.kernel, dtype=np.int64)

    def pads(self, n: int) -> bool:
        read = self.input_range(Interval(0, self.output_size(n)), n)
        return read.lo < 0 or read.hi > n

    def unread(self, n: int) -> int:
        read = (self.output_size(n) - 1) * self.stride - self.before + self.span
        return max(0, n - read - max(0, self.stride - self.span))

    def hangs_over(self, n: int) -> bool:
        return self.output_size(n) != replace(self, ceil_mode=False).output_size(n)

    def as_window(self, n: int) -> Window:
        return self


@dataclass(frozen=True, slots=True)
class Transpose(AxisMap):
    """A transposed window: input i reaches outputs i·stride − padding + dilation·{0 … kernel−1}.

    An output that no input reaches (kernel smaller than the stride, or output padding) is only the
    bias.
    """

    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    output_padding: int = 0

    @property
    def span(self) -> int:
        return self.dilation * (self.kernel - 1) + 1

    @property
    def period(self) -> tuple[int, int]:
        return (self.stride, 1)

    def output_size(self, n: int) -> int:
        return (n - 1) * self.stride - 2 * self.padding + self.span + self.output_padding

    def input_range(self, outputs: Interval, n: int) -> Interval:
        if not outputs:
            return EMPTY
        first = -((self.span - 1 - outputs.lo - self.padding) // self.stride)
        last = (outputs.hi - 1 + self.padding) // self.stride
        return Interval(first, last + 1) if first <= last else EMPTY

    def input_range_inside(self, outputs: Interval, n: int) -> Interval:
        return self.input_range(outputs, n).within(n)

    def ready(self, known: int, n: int | None) -> int:
        if n is not None and known >= n:
            return self.output_size(n)
        count = known * self.stride - self.padding
        return _at_most(count, self.output_size(known if n is None else n))

    def first_needed(self, done: int) -> int:
        return max(0, -((self.span - 1 - done - self.padding) // self.stride))

    def inputs_of(self, outputs: IntArray, n: int) -> IntArray:
        inputs = self.inputs_of_unbounded(outputs)
        return np.where((inputs >= 0) & (inputs < n), inputs, NO_INPUT)

    def inputs_of_unbounded(self, outputs: IntArray) -> IntArray:
        offsets = outputs[:, None] + self.padding
        offsets = offsets - self.dilation * np.arange(self.kernel, dtype=np.int64)
        return np.where(offsets % self.stride == 0, offsets // self.stride, NO_INPUT)

    def whole_blocks(self, outputs: int) -> int:
        return outputs + -(outputs + self.padding) % self.stride


@dataclass(frozen=True, slots=True)
class Pad(AxisMap):
    """Adds ``before`` positions at the start and ``after`` at the end; negative numbers crop.

    ``zero`` means any constant, or the positions of another input in a concatenation along this
    axis: outputs there do not depend on this input. The other modes repeat inputs, so that a
    border output depends on an input further inside.
    """

    before: int
    after: int
    mode: PadMode = "zero"

    @property
    def period(self) -> tuple[int, int]:
        return (1, 1)

    def output_size(self, n: int) -> int:
        return n + self.before + self.after

    def input_range(self, outputs: Interval, n: int) -> Interval:
        return outputs.shifted(-self.before) if outputs else EMPTY

    def input_range_inside(self, outputs: Interval, n: int) -> Interval:
        span = self.input_range(outputs, n)
        inside = span.within(n)
        if self.mode == "zero" or inside == span:
            return inside
        below = span.intersect(Interval(span.lo, 0)) if span.lo < 0 else EMPTY
        above = span.intersect(Interval(n, span.hi)) if span.hi > n else EMPTY
        ends = [edge for part in (below, above) if part for edge in (part.lo, part.hi - 1)]
        inputs = self._inside(np.array(ends, dtype=np.int64), n)
        return inside.hull(Interval(int(inputs.min()), int(inputs.max()) + 1))

    def ready(self, known: int, n: int | None) -> int:
        if n is not None and known >= n:
            return self.output_size(n)
        if self.before > 0 and self._starts_late(known):
            return 0
        count = known + self.before
        return _at_most(count, self.output_size(known if n is None else n))

    def first_needed(self, done: int) -> int:
        behind = {"zero": 0, "replicate": 1, "reflect": self.after + 1, "circular": done}
        repeats = self.after > 0 or self.mode == "zero"
        return max(0, done - self.before - (behind[self.mode] if repeats else 0))

    def inputs_of(self, outputs: IntArray, n: int) -> IntArray:
        return self._inside(self.inputs_of_unbounded(outputs), n)

    def inputs_of_unbounded(self, outputs: IntArray) -> IntArray:
        return outputs[:, None] - self.before

    def _starts_late(self, known: int) -> bool:
        """Whether output 0 must wait for more than the first ``known`` inputs."""
        first = {"zero": 0, "replicate": 1, "reflect": self.before + 1}
        return self.mode == "circular" or known < first[self.mode]

    def _inside(self, inputs: IntArray, n: int) -> IntArray:
        """Where padding takes its values from."""
        if self.mode == "reflect":
            folded = np.abs(inputs)
            return np.where(folded >= n, 2 * (n - 1) - folded, folded)
        if self.mode == "replicate":
            return np.clip(inputs, 0, n - 1)
        if self.mode == "circular":
            return inputs % n
        return np.where((inputs >= 0) & (inputs < n), inputs, NO_INPUT)

    @property
    def is_free(self) -> bool:
        return False

    @property
    def repeats_inputs(self) -> bool:
        return self.mode != "zero"

    @property
    def fewest_inputs(self) -> int:
        return max(self.before, self.after) + 1 if self.mode == "reflect" else 1

    def pads(self, n: int) -> bool:
        return self.before > 0 or self.after > 0

    def as_pad(self) -> Pad | None:
        return self if self.mode == "zero" else None


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
