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
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Self


class EyeshotError(Exception):
    """Everything that Eyeshot raises on purpose. ``exit_code`` is the command line's."""

    exit_code = 1

    def __init__(self, fact: str, *, cure: str = "") -> None:
        super().__init__(fact, cure)
        self.fact = " ".join(fact.split())
        self.cure = " ".join(cure.split())

    def __str__(self) -> str:
        return f"{self.fact}; {self.cure}" if self.cure else self.fact

    def __reduce__(self) -> tuple[object, ...]:
        """Errors cross from worker processes, whatever their class takes to be made."""
        return _rebuilt, (type(self), self.fact, self.cure)

    def at(self, place: str) -> Self:
        """Put ``place`` (a file, a layer, an option) before the fact, and return self."""
        self.fact = f"{place}: {self.fact}"
        return self


def _rebuilt(kind: type[EyeshotError], fact: str, cure: str) -> EyeshotError:
    error = kind.__new__(kind)
    EyeshotError.__init__(error, fact, cure=cure)
    return error


class UserError(EyeshotError):
    """The caller asked for something that cannot be had."""

    exit_code = 2


class UnknownName(UserError):
    """A name that is not among the known ones; offers the nearest."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = list(known)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        listed = ", ".join(names[:30]) + (", …" if len(names) > 30 else "")
        cure = f"did you mean {near[0]!r}? " if near else ""
        super().__init__(f"unknown {kind} {name!r}", cure=f"{cure}known: {listed or 'none'}")


class BadValue(UserError):
    """A number, shape or option outside what is possible."""


class BadFile(UserError):
    """A file or folder that is missing, damaged, or not what it claims to be."""


class Unsupported(UserError):
    """A network or operator for which an exact answer is not defined."""


class Failure(EyeshotError):
    """A sound request that could not be carried out: a full disk, a loss that is not a number."""
