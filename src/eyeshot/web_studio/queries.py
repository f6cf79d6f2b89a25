"""What a page asks, read and checked: text in, numbers out, one line where it is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from eyeshot.errors import BadValue, shorten

_LONGEST = 1 << 20
"""Characters of one value: a whole network's edits are far below it."""


@dataclass(frozen=True)
class Query:
    """The parameters of one question, by name, and the bytes sent with it."""

    values: Mapping[str, str]
    body: bytes = b""

    def text(self, name: str, default: str | None = None) -> str:
        """A parameter as it is.

        Raises:
            BadValue: it is missing and has no default, or is too long.
        """
        value = self.values.get(name, default)
        if value is None:
            raise BadValue(f"no {name} given", cure=f"add {name}=…")
        if len(value) > _LONGEST:
            raise BadValue(f"{name} of {len(value)} characters", cure="use fewer")
        return value

    def whole(self, name: str, default: int | None = None) -> int:
        """A whole number."""
        text = self.text(name, None if default is None else str(default))
        return _whole(name, text)

    def wholes(self, name: str, count: int | None = None) -> tuple[int, ...]:
        """Whole numbers with commas between; as many as ``count``."""
        text = self.text(name)
        found = tuple(_whole(name, part) for part in text.split(",")) if text else ()
        if count is not None and len(found) != count:
            raise BadValue(f"{name} {shorten(text)}", cure=f"give {count} whole numbers")
        return found

    def number(self, name: str, default: float) -> float:
        """A finite number."""
        text = self.text(name, str(default))
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise BadValue(f"{name} {shorten(text)}", cure="give a number")
        return value

    def flag(self, name: str) -> bool:
        """Whether it is ``1``."""
        return self.text(name, "") == "1"


def _whole(name: str, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise BadValue(f"{name} {shorten(text)}", cure="give a whole number") from None
    if abs(value) > 2**40:
        raise BadValue(f"{name} {shorten(text)}", cure="give a smaller number")
    return value
