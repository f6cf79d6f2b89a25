"""How every command speaks: results on standard output, progress and notes on standard error."""

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
    """A note on standard error, as it is: brackets in it are no markup."""
    notes.print(line, markup=False, soft_wrap=True)


def warn(line: str) -> None:
    """A note that must not be missed."""
    notes.print(line, markup=False, soft_wrap=True, style="bold yellow")


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Within the block a warning of Eyeshot's is a note in one line; others are shown as ever."""
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
        ValueError: a number is not finite; JSON has no word for it, so the caller must say null.
    """
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = json.dumps(data, indent=2, allow_nan=False)
    print(text)
