"""The output of every command: results on standard output, progress and notes on standard error."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eyeshot.terminal import PlainConsole

_PACKAGE = Path(__file__).parent.parent

console = PlainConsole()
notes = PlainConsole(stderr=True)


def say(line: str) -> None:
    """Print a note on standard error; brackets in it are not markup."""
    notes.print(line, markup=False, soft_wrap=True)


def warn(line: str) -> None:
    """Print a warning on standard error."""
    notes.print(line, markup=False, soft_wrap=True, style="bold yellow")


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """In the block, print Eyeshot's warnings as notes of one line; show other warnings as usual."""
    with warnings.catch_warnings(record=True) as heard:
        yield
    for one in heard:
        if _PACKAGE in Path(one.filename).parents:
            warn(str(one.message))
        else:
            warnings.showwarning(one.message, one.category, one.filename, one.lineno)


def print_json(data: Any) -> None:
    """Print ``data`` as JSON and nothing else, so that a program can read it.

    Raises:
        ValueError: a number is not finite; JSON has no such numbers, so the caller must use null.
    """
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = json.dumps(data, indent=2, allow_nan=False)
    print(text)
