"""What people read in a terminal: names come out as they are, and never act on it.

A layer, a class or a file may be called ``[/x]``, ``:smile:`` or hold an escape sequence, and a
terminal may know ASCII alone.
"""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from eyeshot.errors import printable


class PlainConsole(Console):
    """A console that knows no markup and no names of emoji, and lets no name steer the terminal."""

    def __init__(self, **options: Any) -> None:
        """As :class:`rich.console.Console`; what a name could ask for is off."""
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """``text``, printable before its width is measured."""
        return super().render_str(_printable(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The segments of ``renderable``, each printable."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(_printable(segment.text), segment.style)


def _printable(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


_ALIKE = {
    *(("×", "x"), ("·", "."), ("…", "..."), ("–", "-"), ("—", "-"), ("−", "-"), ("→", "->")),
    *(("≤", "<="), ("≥", ">="), ("²", "^2"), ("³", "^3"), ("±", "+-"), ("√", "sqrt"), ("Σ", "sum")),
}
_ASCII = dict(_ALIKE)


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """What a terminal cannot show, as something that looks like it, or by its number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    shown = "".join(_ASCII.get(char) or printable(char) for char in text)
    safe = shown.encode("ascii", "backslashreplace").decode("ascii")
    return safe, error.end


def never_fail(*streams: TextIO) -> None:
    """Let streams write what their encoding has no sign for, rather than raise UnicodeEncodeError.

    A file name that is not UTF-8 is written by its bytes, such as ``\\xff``.
    """
    codecs.register_error("eyeshot", _spelled)
    for stream in streams or (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="eyeshot")
