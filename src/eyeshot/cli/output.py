"""How every command speaks: results on standard output, progress and notes on standard error."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console

console = Console(highlight=False)
notes = Console(stderr=True, highlight=False)


def print_json(data: Any) -> None:
    """Print ``data`` as JSON and nothing else, so that a program can read it.

    Raises:
        ValueError: a number is not finite; JSON has no word for it, so the caller must say null.
    """
    print(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))
