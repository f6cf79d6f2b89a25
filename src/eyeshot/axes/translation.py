"""One operator on a whole axis and on a part of it: which outputs are the same?

On a tile, a network computes each map from only the tile. An output there equals the output on the
whole axis if it mixes the same inputs in the same way; the two axis maps show this.

The axis maps of a write into a slice are here too: one of the written values, and one of the old
values that remain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eyeshot.axes.maps import EMPTY, NO_INPUT, AxisMap, Broadcast, Global, IntArray, Interval

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Translated:
    """A map along one axis, computed on a part of the whole axis.

    Attributes:
        offset: unit i of the part corresponds to unit ``i + offset`` of the whole; None if no unit
            corresponds to it, or every unit does (a single value for the whole axis).
        same: for each unit of the part, whether its value equals the value on the whole axis.
    """

    offset: int | None
    same: BoolArray

    @property
    def lost(self) -> bool:
        """Whether no unit is the same."""
        return not self.same.any()


def translate(part: AxisMap, whole: AxisMap, source: Translated, n: int) -> Translated:
    """The output of an operator on a part, from the same record of its input.

    Args:
        part: the operator's map at the size of the part.
        whole: its map at the size of the whole axis.
        source: the record of its input.
        n: positions of the input on the whole axis.
    """
    count = len(source.same)
    outputs = part.output_size(count)
    if source.lost:
        return lost(outputs)
    if isinstance(part, Broadcast):
        return Translated(None, np.full(outputs, bool(source.same.all())))
    if count == n and source.offset in (0, None) and part == whole:
        return _of_all(part, source, n)
    if isinstance(part, Global) or source.offset is None:
        return lost(outputs)
    offset = _offset_behind(part, whole, source.offset)
    if offset is None:
        return lost(outputs)
    units = np.arange(outputs, dtype=np.int64)
    inside = (units + offset >= 0) & (units + offset < whole.output_size(n))
    same = np.zeros(outputs, dtype=bool)
    same[inside] = _same_inputs(
        part.inputs_of(units[inside], count), whole.inputs_of(units[inside] + offset, n), source
    )
    return Translated(offset, same)


def lost(outputs: int) -> Translated:
    """A map of which no unit is the same."""
    return Translated(None, np.zeros(outputs, dtype=bool))


def joined(branches: list[Translated]) -> Translated:
    """A map that mixes some branches unit by unit: the same where all of them are."""
    offsets = {one.offset for one in branches if one.offset is not None}
    same = np.logical_and.reduce([one.same for one in branches])
    if len(offsets) > 1:
        return lost(len(same))
    return Translated(next(iter(offsets), None), same)


def _of_all(axis: AxisMap, source: Translated, n: int) -> Translated:
    """The case where the part is the whole axis: correct inputs give correct outputs."""
    outputs = axis.output_size(n)
    if isinstance(axis, Global):
        return Translated(source.offset, np.full(outputs, bool(source.same.all())))
    taps = axis.inputs_of(np.arange(outputs, dtype=np.int64), n)
    return Translated(source.offset, _all_same(taps, source))


def _offset_behind(part: AxisMap, whole: AxisMap, offset: int) -> int | None:
    """The unit of the whole that matches the first unit of the part; None if it is between two."""
    if part.period is None or part.period != whole.period:
        return None
    outputs, inputs = part.period
    behind, rest = divmod(offset * outputs, inputs)
    return None if rest else behind


def _same_inputs(mine: IntArray, theirs: IntArray, source: Translated) -> BoolArray:
    """Whether each unit reads the same inputs in both, and those hold the same values."""
    if mine.shape != theirs.shape or source.offset is None:
        return np.zeros(len(mine), dtype=bool)
    moved = np.where(mine == NO_INPUT, NO_INPUT, mine + source.offset)
    equal: BoolArray = (moved == theirs).all(axis=1)
    return equal & _all_same(mine, source)


def _all_same(taps: IntArray, source: Translated) -> BoolArray:
    real = taps != NO_INPUT
    read: BoolArray = (source.same[np.where(real, taps, 0)] | ~real).all(axis=1)
    return read


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

    def input_range(self, outputs: Interval, n: int) -> Interval:
        first = -((self.start - outputs.lo) // self.step)
        last = -((self.start - outputs.hi) // self.step)
        return Interval(first, last) if outputs and first < last else EMPTY

    def input_range_inside(self, outputs: Interval, n: int) -> Interval:
        return self.input_range(outputs, n).within(n)

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

    def input_range(self, outputs: Interval, n: int) -> Interval:
        lo, hi = outputs.lo, outputs.hi
        if self.step == 1:
            written = Interval(self.start, self.start + self.count)
            lo = written.hi if lo in written else lo
            hi = written.lo if hi - 1 in written else hi
        else:
            lo += lo < hi and self._is_written(lo)
            hi -= lo < hi and self._is_written(hi - 1)
        return Interval(lo, hi) if lo < hi else EMPTY

    def input_range_inside(self, outputs: Interval, n: int) -> Interval:
        return self.input_range(outputs, n).within(n)

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
