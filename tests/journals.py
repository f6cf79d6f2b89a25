"""The journal of an unfinished output, read without the code that wrote it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def path_of(out: Path) -> Path:
    """The path of the journal of an output."""
    return out.with_name(out.name + ".part.json")


def lines_of(out: Path) -> list[bytes]:
    """The state and the changes; the last item is what follows the last line, nothing if whole."""
    return path_of(out).read_bytes().split(b"\n")


def state_of(out: Path) -> dict[str, Any]:
    """The state after all changes."""
    first, *changes = lines_of(out)
    state: dict[str, Any] = json.loads(first)
    for line in changes[:-1]:
        for name, value in json.loads(line).items():
            state[name] = {**state[name], **value} if name in ("done", "sums") else value
    return state


def change_journal(out: Path, **changes: object) -> None:
    """Write a journal of one line, with other values."""
    path_of(out).write_text(json.dumps({**state_of(out), **changes}))
