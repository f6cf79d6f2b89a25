"""Small matrices typed by hand: ``"1 1 1 / 0 1 0"``, or a text file with a row on every line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eyeshot import filters
from eyeshot.errors import BadValue

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
