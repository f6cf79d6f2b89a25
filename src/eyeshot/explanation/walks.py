"""A window that moves over a small matrix; every step is a sum that you can check by hand.

Each operation has a *read* matrix (the input as the window reads it: padded, or with zeros
inserted) and a list of steps. A step lists the cells that it reads, their weights, and its result.
Everything that is computed here is in the steps; the tests compare the outputs with
:mod:`eyeshot.reference`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType

from eyeshot.errors import BadValue
from eyeshot.explanation.matrices import Matrix
from eyeshot.explanation.notation import as_number, as_rows, show, show_factor

Rule = Literal["sum", "max", "mean"]
Place = tuple[int, int]

MOST_STEPS = 1024


@dataclass(frozen=True)
class Term:
    """One cell that a step reads.

    Attributes:
        at: row and column in the read matrix.
        value: the number in the cell.
        weight: the factor of the cell; 1 if there are no weights.
    """

    at: Place
    value: float
    weight: float = 1.0


@dataclass(frozen=True)
class Step:
    """One output cell and its terms.

    Attributes:
        output: row and column of the output cell.
        terms: in the order of the window, row by row.
        divisor: the divisor of a mean; 1 otherwise.
        bias: added at the end.
        result: the value of the output cell.
    """

    output: Place
    terms: tuple[Term, ...]
    rule: Rule
    result: float
    divisor: float = 1.0
    bias: float = 0.0

    @property
    def formula(self) -> str:
        """The step in writing: ``1·1 + 0·2 = 1``, ``max(3, 5) = 5``, ``(3 + 5) / 2 = 4``."""
        values = [show_factor(term.value) for term in self.terms]
        if self.rule == "max":
            return (
                f"max({', '.join(show(term.value) for term in self.terms)}) = {show(self.result)}"
            )
        if self.rule == "mean":
            return f"({' + '.join(values)}) / {show(self.divisor)} = {show(self.result)}"
        pairs = zip(self.terms, values, strict=True)
        products = " + ".join(f"{value}·{show_factor(term.weight)}" for term, value in pairs)
        bias = f" + {show_factor(self.bias)}" if self.bias else ""
        return f"{products or '0'}{bias} = {show(self.result)}"


@dataclass(frozen=True, eq=False)
class Walk:
    """One operation over one small matrix, step by step.

    Attributes:
        operation: ``conv``, ``pool``, ``transpose``, ``nearest`` or ``bilinear``.
        options: the settings, by name.
        input: the input matrix.
        read: the matrix that the window reads: the input padded, or with zeros inserted.
        made: a mask of the cells of ``read`` that are padding or inserted zeros.
        kernel: the weights as they are applied to ``read``; None for operations without weights.
        steps: a step for every output cell, row by row.
        output: the results.
    """

    operation: str
    options: dict[str, Any]
    input: Matrix
    read: Matrix
    made: NDArray[np.bool_]
    kernel: Matrix | None
    steps: tuple[Step, ...]

    @property
    def output(self) -> Matrix:
        """(rows, columns): the result of every step in its place."""
        rows, columns = (1 + max(step.output[axis] for step in self.steps) for axis in (0, 1))
        return np.array([step.result for step in self.steps]).reshape(rows, columns)

    def __rich__(self) -> RenderableType:
        from eyeshot.explanation.drawing import draw_walk

        return draw_walk(self)

    def __repr__(self) -> str:
        rows, columns = self.output.shape
        return f"Walk({self.operation!r}, {len(self.steps)} steps, output {rows}×{columns})"

    def _repr_html_(self) -> str:
        from eyeshot.explanation.pieces import walk_piece

        return walk_piece(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON; a cell that holds nothing is None."""
        return {
            "operation": self.operation,
            "options": self.options,
            "input": as_rows(self.input),
            "read": as_rows(self.read),
            "kernel": None if self.kernel is None else as_rows(self.kernel),
            "output": as_rows(self.output),
            "steps": [
                {
                    "output": list(step.output),
                    "terms": [
                        {"at": list(term.at), "value": term.value, "weight": term.weight}
                        for term in step.terms
                    ],
                    "bias": step.bias,
                    "divisor": step.divisor,
                    "formula": step.formula,
                    "result": as_number(step.result),
                }
                for step in self.steps
            ],
        }


def add_up(output: Place, terms: Sequence[Term], bias: float = 0.0) -> Step:
    """A step that adds products up."""
    total = math.fsum(term.value * term.weight for term in terms) + bias
    return Step(output, tuple(terms), "sum", total, bias=bias)


def take_largest(output: Place, terms: Sequence[Term]) -> Step:
    """A step that takes the largest cell; of no cell at all it is −∞, which cannot be shown."""
    if not terms:
        raise BadValue(
            f"the window for output {output} lies outside the image",
            cure="use less padding or dilation",
        )
    return Step(output, tuple(terms), "max", max(term.value for term in terms))


def take_mean(output: Place, terms: Sequence[Term], divisor: float) -> Step:
    """A step that divides a sum by a count of cells."""
    total = math.fsum(term.value for term in terms)
    return Step(output, tuple(terms), "mean", total / divisor, divisor)


def walk_over(outputs: Sequence[int], step: Callable[[Place], Step]) -> tuple[Step, ...]:
    """One step for each of (rows, columns) output cells.

    Raises:
        BadValue: there are too many steps to read.
    """
    rows, columns = outputs
    refuse_long_walk(rows, columns)
    return tuple(step((row, column)) for row in range(rows) for column in range(columns))


def refuse_long_walk(rows: int, columns: int) -> None:
    """Refuse an output with more cells than a person reads.

    Raises:
        BadValue: it has more than MOST_STEPS.
    """
    if rows * columns > MOST_STEPS:
        raise BadValue(
            f"an output of {rows}×{columns} takes {rows * columns} steps",
            cure=f"use a smaller input; at most {MOST_STEPS} steps can be read",
        )
