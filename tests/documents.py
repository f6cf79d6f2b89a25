"""Pages read as programs: their blocks, what is run of each, and what it must print.

* ```` ```python ```` runs. A ```` ```text ```` block right below it is what it prints.
* ```` ```console ```` runs each line ``$ eyeshot …``; lines below it, if any, are what it prints;
  ``...`` stands for anything.
* ``<!-- file: net.py -->`` right above a ``python`` block also saves it under that name.
* ``<!-- not run: reason -->`` right above a block keeps it from running.

A page runs from top to bottom in a folder of its own, in which the pictures and the run lie that
``docs/index.md`` promises. A page in Chinese has the code of its English twin (``tools/twins.py``
says what may differ), and runs only if some of it does something else.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eyeshot import cli
from eyeshot.cli import shared

ROOT = Path(__file__).resolve().parents[1]
CHINESE = [ROOT / "README.zh-CN.md", *sorted((ROOT / "docs" / "zh").rglob("*.md"))]
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page not in CHINESE),
]
LANGUAGES = {"python", "console", "text", "yaml", ""}
WIDTH = 100  # of the terminal that the pages were written on

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"<!-- file: ([\w.]+) -->\n+\Z")
_NOT_RUN = re.compile(r"<!-- not run: ((?:(?!-->).)+?) -->\n+\Z", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str | None  # the reason
    saved_as: str | None  # the name that a reader saves it under
    follows_python: bool  # nothing but space between the two

    @property
    def where(self) -> str:
        """As in ``docs/filters.md:12``."""
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of the page, from top to bottom."""
    text, found, previous = page.read_text(), [], None
    for match in _FENCE.finditer(text):
        above = text[: match.start()]
        mark = _NOT_RUN.search(above)
        gap = text[previous.end() : match.start()] if previous else "none"
        follows = previous is not None and previous[1] == "python" and not gap.strip()
        line = above.count("\n") + 1
        reason = " ".join(mark[1].split()) if mark else None
        saved = _FILE.search(above)
        saved_as = saved[1] if saved else None
        found.append(Block(page, line, match[1], match[2], reason, saved_as, follows))
        previous = match
    return found


@dataclass(frozen=True)
class Command:
    """``$ eyeshot …`` on a page, and the lines shown below it."""

    arguments: list[str]
    shown: str


def commands(block: Block) -> list[Command]:
    """The commands of ours in a console block; others, such as ``$ make``, are left alone."""
    found = []
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        line, _, shown = part.replace("\\\n", " ").partition("\n")
        words = shlex.split(line, comments=True)
        if words and words[0] == "eyeshot":
            found.append(Command(words[1:], shown))
    return found


def run_page(page: Path) -> None:
    """Run what the page tells its reader to run.

    Raises:
        AssertionError: something fails, or prints what the page does not show; names the block.
    """
    names: dict[str, Any] = {"__name__": "page"}
    printed = ""
    for block in blocks(page):
        if block.not_run is not None:
            continue
        if block.saved_as is not None:
            Path(block.saved_as).write_text(block.text)
        if block.language == "python":
            printed = _run_python(block, names)
        elif block.language == "text" and block.follows_python:
            _compare(block.text, printed, block.where)
        elif block.language == "console":
            for command in commands(block):
                _run_command(command, block.where)


def _run_python(block: Block, names: dict[str, Any]) -> str:
    with _caught() as printed:
        try:
            exec(compile(block.text, "net.py", "exec"), names)
        except Exception as error:
            raise AssertionError(f"{block.where}: {type(error).__name__}: {error}") from error
    return printed.getvalue()


def _run_command(command: Command, where: str) -> None:
    with _caught() as printed:
        code = cli.main(command.arguments)
    text = printed.getvalue()
    line = shlex.join(["eyeshot", *command.arguments])
    expected = 2 if "\neyeshot: " in f"\n{command.shown}" else 0
    assert code == expected, f"{where}: {line}: exit code {code}\n{text}"
    if command.shown.strip():
        _compare(command.shown, text, f"{where}: {line}")


@contextlib.contextmanager
def _caught() -> Iterator[io.StringIO]:
    """Both streams as one text, as wide as the pages are."""
    widths = shared.console.width, shared.notes.width
    shared.console.width = shared.notes.width = WIDTH
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            yield printed
    finally:
        shared.console.width, shared.notes.width = widths


def _compare(shown: str, printed: str, where: str) -> None:
    want, got = (_tidy(text) for text in (shown, printed))
    same = doctest.OutputChecker().check_output(want, got, doctest.ELLIPSIS)
    assert same, f"{where} shows\n{want}\nbut this is printed\n{got}"


def _tidy(text: str) -> str:
    """Without spaces at the ends of lines and empty lines at either end."""
    return "\n".join(line.rstrip() for line in text.strip("\n").split("\n")).rstrip() + "\n"
