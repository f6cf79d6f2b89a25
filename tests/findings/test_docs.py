"""The page on findings: its code runs in order and prints what the page shows."""

from __future__ import annotations

import contextlib
import io
import os
import re
from pathlib import Path
from typing import Any

import torch

PAGE = Path(__file__).resolve().parents[2] / "docs" / "findings.md"
_BLOCK = re.compile(r"```(python|text)\n(.*?)```", re.DOTALL)


def test_the_page_prints_what_it_shows() -> None:
    """``EYESHOT_OVERWRITE=1`` writes what is printed into the page instead."""
    page = PAGE.read_text()
    names: dict[str, Any] = {"__name__": "page"}
    printed = io.StringIO()
    written = page
    torch.manual_seed(0)
    for kind, block in _BLOCK.findall(page):
        if kind == "python":
            # Dedented code has the line numbers of its block, as in a file of its own.
            with contextlib.redirect_stdout(printed):
                exec(compile(block, "net.py", "exec"), names)
            continue
        output, printed = printed.getvalue(), io.StringIO()
        if os.environ.get("EYESHOT_OVERWRITE"):
            written = written.replace(f"```text\n{block}```", f"```text\n{output}```", 1)
        else:
            assert output == block
    if os.environ.get("EYESHOT_OVERWRITE"):
        PAGE.write_text(written)
    assert printed.getvalue() == ""
