"""The plain data of explanations: units, how numbers are written, matrices typed by hand.

In this file:

- what an explanation of one unit holds: plain data, for the terminal, a page, or JSON;
- how numbers are written for people and for JSON;
- small matrices typed by hand: ``"1 1 1 / 0 1 0"``, or a text file with a row on every line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType
from torch import Tensor

from eyeshot import filters
from eyeshot.errors import BadValue
from eyeshot.explanation.capture import Seen
from eyeshot.reference.padding import Array


def show(number: float) -> str:
    """At most six significant digits, whole numbers without a point, no ``-0``."""
    return f"{number + 0.0:.6g}"


def show_factor(number: float) -> str:
    """As :func:`show`, a negative number in brackets, so that it can follow an operator."""
    return f"({show(number)})" if number < 0 else show(number)


def say_option(value: object) -> str:
    """An option in few letters: ``(2, 2)`` is 2, ``((1, 1), (1, 1))`` is 1."""
    if isinstance(value, tuple):
        words = [say_option(part) for part in value]
        return words[0] if len(set(words)) == 1 else ",".join(words)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return show(value) if isinstance(value, int | float) else str(value)


def as_rows(array: NDArray[Any]) -> Any:
    """Nested lists of numbers; numbers that are not finite become None, because JSON has none."""
    if array.ndim:
        return [as_rows(row) for row in array]
    return as_number(array.item())


def as_number(number: float) -> float | None:
    """``number``, or None where it is not finite."""
    return number if math.isfinite(number) else None


TraceRule = Literal["sum", "max", "min", "mean", "product", "value", "copy"]


@dataclass(frozen=True, eq=False)
class Part:
    """The contribution of one input channel, or of one number of a map, to the unit.

    Attributes:
        channel: its number in the layer's input.
        patch: the cells that are read, in the shape of the window; a number if there is no window.
        outside: a mask of cells that are padding or inserted zeros.
        kernel: the weight of each cell; None if there are no weights.
        sum: the partial sum, or a pool's result for the patch.
        source: the layer that it comes from, if there may be several.
        at: the start of the patch in that layer's map, if it is not the unit's own position; with
            the first dimension too where that is not the batch.
        cells: for a window, its positions in that layer's map along each axis; -1 for cells
            outside the map.
    """

    channel: int
    patch: Array
    outside: Array
    kernel: Array | None
    sum: float
    source: str = ""
    at: tuple[int, ...] = ()
    cells: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, eq=False)
class UnitTrace:
    """The explanation of one number in a network.

    Attributes:
        layer: the dotted name of the layer.
        operator: the operator and its settings, as text.
        unit: (channel, row, column), or as many numbers as the layer's output has axes.
        shape: the shape of the layer's output, without the batch.
        rule: how the parts are combined: their ``sum`` (of products, if cells have weights), the
            ``max`` or ``min`` of cells, their ``mean``, a ``product``, the ``value`` that the
            operator gives for them, or a ``copy`` of one part.
        divisor: the divisor of a mean; 1 otherwise.
        parts: a part for every input channel that the unit sees, or for every operand.
        bias: added to the parts; None if there is no bias.
        total: the result of the parts and the bias, in float64.
        network_value: the network's own value, equal to ``total`` to 1e-5 of the largest part.
    """

    layer: str
    operator: str
    unit: tuple[int, ...]
    shape: tuple[int, ...]
    rule: TraceRule
    divisor: float
    parts: tuple[Part, ...]
    bias: float | None
    total: float
    network_value: float

    def __rich__(self) -> RenderableType:
        from eyeshot.explanation.drawing import draw_trace

        return draw_trace(self)

    def __repr__(self) -> str:
        unit = ", ".join(map(str, self.unit))
        return (
            f"UnitTrace({self.layer!r}, unit ({unit}), {len(self.parts)} parts, "
            f"total {self.total:.6g}, network {self.network_value:.6g})"
        )

    def _repr_html_(self) -> str:
        from eyeshot.explanation.drawing import trace_piece

        return trace_piece(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON; numbers that are not finite become None."""
        return {
            "layer": self.layer,
            "operator": self.operator,
            "unit": list(self.unit),
            "shape": list(self.shape),
            "rule": self.rule,
            "divisor": self.divisor,
            "parts": [
                {
                    "channel": part.channel,
                    "patch": as_rows(part.patch),
                    "outside": part.outside.tolist(),
                    "kernel": None if part.kernel is None else as_rows(part.kernel),
                    "sum": as_number(part.sum),
                    "source": part.source,
                    "at": list(part.at),
                    "cells": [list(axis) for axis in part.cells],
                }
                for part in self.parts
            ],
            "bias": None if self.bias is None else as_number(self.bias),
            "total": as_number(self.total),
            "network_value": as_number(self.network_value),
        }


def as_numbers(tensor: Tensor) -> Array:
    """A tensor's numbers, float64."""
    numbers: Array = tensor.detach().cpu().double().numpy()
    return numbers


def number_part(
    channel: int,
    value: Any,
    weight: float | None,
    source: str = "",
    at: tuple[int, ...] = (),
) -> Part:
    """A part that is one number, weighed or not."""
    made = float(value) * (1.0 if weight is None else weight)
    kernel = None if weight is None else np.asarray(weight, np.float64)
    outside = np.zeros((), bool)
    return Part(channel, np.asarray(value, np.float64), outside, kernel, made, source, at)


def described(
    seen: Seen,
    unit: tuple[int, ...],
    rule: TraceRule,
    parts: Sequence[Part],
    *,
    bias: float | None = None,
    divisor: float = 1.0,
    total: float | None = None,
) -> UnitTrace:
    """The complete explanation; if the total is not given, its rule computes it."""
    return UnitTrace(
        layer=seen.name,
        operator=_written(seen),
        unit=unit,
        shape=tuple(seen.output.shape[1:]),
        rule=rule,
        divisor=divisor,
        parts=tuple(parts),
        bias=bias,
        total=_total(rule, [part.sum for part in parts], bias) if total is None else total,
        network_value=float(seen.output[(0, *unit)]),
    )


def _total(rule: TraceRule, sums: list[float], bias: float | None) -> float:
    if rule == "product":
        return math.prod(sums)
    if rule in ("max", "min"):
        return float(np.max(sums) if rule == "max" else np.min(sums))  # NaN wins, as in torch
    return sum(sums) + (bias or 0.0)


def _written(seen: Seen) -> str:
    """``conv2d  kernel 3  stride 1``: the operator and its numbers."""
    options = seen.node.params.to_dict()
    words = [f"{key.replace('_', ' ')} {say_option(value)}" for key, value in options.items()]
    return "  ".join([seen.node.operator, *words])


Matrix = NDArray[np.float64]

LARGEST_SIDE = 64  # a matrix that a person reads number by number is not larger


def read_matrix(text: str) -> Matrix:
    """The matrix that ``text`` spells, or the one in the text file that it names.

    Rows are separated by ``/``, numbers by blanks or commas.

    Raises:
        BadValue: rows of different lengths, too many cells to read, or neither numbers nor a file.
        BadFile: a file that does not hold a table of numbers.
    """
    rows = _spelled(text)
    if rows is None:
        path = Path(text)
        if not path.is_file():
            raise _no_matrix(text, "is neither a matrix nor a file")
        return check_matrix(filters.read_kernel(path), text)
    return _checked(rows, text)


def parse_matrix(text: str) -> Matrix:
    """The matrix in ``text``; it never reads a file, so untrusted text is safe.

    Raises:
        BadValue: rows of different lengths, too many cells to read, or no numbers.
    """
    rows = _spelled(text)
    if rows is None:
        raise _no_matrix(text, "is no matrix")
    return _checked(rows, text)


def _spelled(text: str) -> list[list[float]] | None:
    try:
        return [[float(word) for word in row.replace(",", " ").split()] for row in text.split("/")]
    except ValueError:
        return None


def _no_matrix(text: str, fact: str) -> BadValue:
    cure = 'write rows separated by /, such as "1 0 1 / 0 1 0 / 1 0 1"'
    return BadValue(f"{text!r} {fact}", cure=cure)


def _checked(rows: list[list[float]], text: str) -> Matrix:
    if len({len(row) for row in rows}) != 1 or not rows[0]:
        raise BadValue(
            f"the matrix {text!r} has rows of {', '.join(str(len(row)) for row in rows)} numbers",
            cure="give every row as many",
        )
    return check_matrix(rows, repr(text))


def check_matrix(values: Sequence[Sequence[float]] | NDArray[np.generic], name: str) -> Matrix:
    """``values`` as a float64 matrix that a person can read.

    Raises:
        BadValue: not two axes, empty, not finite, or a side of more than 64.
    """
    matrix = np.asarray(values, np.float64)
    if matrix.ndim != 2 or matrix.size == 0:
        raise BadValue(f"{name} has shape {matrix.shape}", cure="give rows and columns")
    if not np.isfinite(matrix).all():
        raise BadValue(f"{name} holds NaN or infinity", cure="give finite numbers")
    if max(matrix.shape) > LARGEST_SIDE:
        rows, columns = matrix.shape
        raise BadValue(
            f"{name} is {rows}×{columns}", cure=f"at most {LARGEST_SIDE} on a side can be read"
        )
    return matrix
