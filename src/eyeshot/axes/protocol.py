"""What every axis map answers."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from eyeshot.axes.interval import Interval

IntArray = NDArray[np.int64]

NO_INPUT = np.iinfo(np.int64).min
"""Marks a place in an array of inputs that holds none: zero padding, or a gap between strides."""


class AxisMap(Protocol):
    """How the outputs of an operator depend on its inputs along one axis.

    ``n`` is always the number of inputs. Intervals are half open.
    """

    @property
    def period(self) -> tuple[int, int] | None:
        """``(q, t)``: q outputs further on, the same pattern t inputs further on.

        None where the pattern depends on the size or never repeats; such a map has no meaning on
        an unbounded axis, and :meth:`inputs_of_unbounded` must not be asked.
        """

    def output_size(self, n: int) -> int:
        """How many outputs do n inputs give? Zero or less: the input is too small."""

    def input_range(self, wanted: Interval, n: int) -> Interval:
        """The smallest interval of inputs that the outputs ``wanted`` depend on.

        It may reach outside ``[0, n)``: that part is padding.
        """

    def input_range_inside(self, wanted: Interval, n: int) -> Interval:
        """The smallest interval inside ``[0, n)`` that holds all that ``wanted`` really read.

        Differs from ``input_range`` cut to size where padding repeats inputs (reflect, circular).
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
        """As :meth:`inputs_of` without borders: inputs may be negative or past the end."""
