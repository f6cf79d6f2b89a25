"""How numbers are written for people and for JSON."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray


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
