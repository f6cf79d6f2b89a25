"""How much arithmetic an operator takes, for each number that it reads or gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from eyeshot.graph import Node

Shapes = Callable[[], Sequence[tuple[int, ...]]]
"""Gives the shapes of a call's tensors, in the order of its arguments."""


@dataclass(frozen=True, slots=True)
class Effort:
    """Multiply-adds of a weighted sum. Padding counts as if it were there.

    Attributes:
        per_input: for each number read of the first input.
        per_output: for each number given.
    """

    per_input: int = 0
    per_output: int | Fraction = 0

    def of(self, read: int, gives: int) -> int:
        """The multiply-adds where so many numbers are read of the first input, and given."""
        return int(read * self.per_input + gives * self.per_output)


def no_effort(node: Node, shapes: Shapes) -> Effort:
    """Of everything that is no weighted sum."""
    return Effort()


def one_each(node: Node, read: int, gives: int) -> int:
    """One operation for each number of the largest input, or of the output if it has more."""
    return max(read, gives)


def nothing(node: Node, read: int, gives: int) -> int:
    """No other operation: numbers are moved, or only weighed and added up."""
    return 0
