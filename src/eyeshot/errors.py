"""What can go wrong, as one tree.

::

    EyeshotError
    ├── UserError             exit 2: the caller asked for something that cannot be had
    │   ├── UnknownName       a kernel, layer, model or option that does not exist; "did you mean"
    │   ├── BadValue          a number, shape or option out of range
    │   ├── BadFile           a file or folder that is missing, damaged, or not what it claims
    │   └── Unsupported       a network or operator for which an exact answer is not defined
    └── Failure               exit 1: the request was sound, the world was not (disk full, NaN)

Every message is one line that names the thing, its value, and the cure. The low level states the
fact; the public call adds the layer, file or option it belongs to (:meth:`EyeshotError.at`).

A message may quote anything in a file or a network. It still has a bounded length, and nothing
in it can steer a terminal: :func:`printable` makes it so, and :func:`shorten` writes one value
without building the text of a large one first.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable
from typing import Any, Self

LONGEST = 1000
"""Characters of a fact or of a cure."""

_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal acts on, what turns the direction of a text, and bytes that are not UTF-8."""


def printable(text: str) -> str:
    """``text`` with what could steer a terminal written as ``\\x1b`` and the like."""
    return _STEERING.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8, as Python keeps it
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def one_line(text: str, most: int = LONGEST) -> str:
    """``text`` on one line, printable, and without its middle where it is too long."""
    half = most // 2
    if len(text) > 4 * most:  # most of it is dropped: do not go over all of it
        text = f"{text[: 2 * most]} … {text[-2 * most :]}"
    line = printable(" ".join(text.split()))
    return line if len(line) <= most else f"{line[: half - 2]} … {line[-half + 1 :]}"


class _Short(reprlib.Repr):
    """``repr`` that looks at a few items of a few levels only."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 80, 80
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = 6

    def repr_int(self, x: int, level: int) -> str:
        if x.bit_length() > 256:  # Python refuses to write more than 4,300 digits
            return f"a number of {x.bit_length()} bits"
        return repr(x)


_short = _Short()


def shorten(value: Any, most: int = 100) -> str:
    """``repr(value)``, bounded in length and in the work that it takes."""
    return one_line(_short.repr(value), most)


class EyeshotError(Exception):
    """Everything that Eyeshot raises on purpose. ``exit_code`` is the command line's."""

    exit_code = 1

    def __init__(self, fact: str, *, cure: str = "") -> None:
        super().__init__(fact, cure)
        self.fact = one_line(fact)
        self.cure = one_line(cure)

    def __str__(self) -> str:
        return f"{self.fact}; {self.cure}" if self.cure else self.fact

    def __reduce__(self) -> tuple[object, ...]:
        """Errors are sent from worker processes, for any arguments of their class."""
        return _rebuilt, (type(self), self.fact, self.cure)

    def at(self, place: str) -> Self:
        """Put ``place`` (a file, a layer, an option) before the fact, and return self."""
        self.fact = one_line(f"{place}: {self.fact}")
        return self


def _rebuilt(kind: type[EyeshotError], fact: str, cure: str) -> EyeshotError:
    error = kind.__new__(kind)
    EyeshotError.__init__(error, fact, cure=cure)
    return error


class UserError(EyeshotError):
    """The caller asked for something that cannot be had."""

    exit_code = 2


class UnknownName(UserError):
    """A name that is not among the known ones; offers the nearest.

    Attributes:
        kind: what the name should be of.
        name: the unknown name.
        near: the known name that is nearest, or an empty text.
        known: the known names, as text.
    """

    kind = name = near = known = ""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names, name = list(known), name[:LONGEST]
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        listed = ", ".join(names[:30]) + (", …" if len(names) > 30 else "")
        cure = f"did you mean {near[0]!r}? " if near else ""
        super().__init__(f"unknown {kind} {name!r}", cure=f"{cure}known: {listed or 'none'}")
        self.kind, self.name = kind, name
        self.near, self.known = near[0] if near else "", listed


class BadValue(UserError):
    """A number, shape or option outside what is possible."""


class BadFile(UserError):
    """A file or folder that is missing, damaged, or not what it claims to be."""


class Unsupported(UserError):
    """A network or operator for which an exact answer is not defined."""


class Failure(EyeshotError):
    """A sound request that could not be carried out: a full disk, a loss that is not a number."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory for an array or tensor could not be had, in the words of torch or Python."""
    words = ("can't allocate memory", "out of memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(one in str(error) for one in words)
    )
