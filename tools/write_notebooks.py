"""The programs of ``docs/learn.md`` as notebooks: the page's words, then the program in pieces.

    python -m tools.write_notebooks [--out DIR]   write them
    python -m tools.write_notebooks --run         and run them from top to bottom

They are made from the page and from ``examples/``, and not kept in the project, because a copy of
both would fall behind. ``make docs`` puts them into the site's folder ``notebooks``. Each piece of
a program is a cell, in the order of the file; the last cell runs it and shows its picture. Pictures
have a white ground of their own, so they can be read in dark mode.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_SECTION = re.compile(r"^## (.+?)$\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_PICTURE = re.compile(r"^!\[[^\]]*\]\([^)]*\)\n?", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\([^)\s]+\)")
_OWN_NAME = re.compile(r"`examples/(\d\d_\w+)\.py`")


def sections(page: Path = ROOT / "docs" / "learn.md") -> dict[str, str]:
    """For each program that the page names, by its stem, the page's words about it."""
    found = {}
    for title, body in _SECTION.findall(page.read_text()):
        named = _OWN_NAME.search(body)
        if named:
            words = _LINK.sub(r"\1", _PICTURE.sub("", body)).strip()
            found[named[1]] = f"# {title}\n\n{words}"
    return found


def pieces(script: Path) -> Iterator[str]:
    """The program in the order of its file: imports and constants together, each function alone.

    What runs it from a shell is left out.
    """
    text = script.read_text()
    lines, together = text.splitlines(), [""]
    for statement in ast.parse(text).body[1:]:  # the first is the docstring
        if isinstance(statement, ast.If):
            continue
        begin = min(
            [statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))]
        )
        source = "\n".join(lines[begin - 1 : statement.end_lineno])
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            if together != [""]:
                yield "\n".join(together).strip()
                together = [""]
            yield source
        else:
            together.append(source)
    if together != [""]:
        yield "\n".join(together).strip()


def notebook(words: str, script: Path) -> dict[str, Any]:
    """One notebook, as its file holds it."""
    last = f'from IPython.display import Image\n\nmain(Path("out"))\nImage("out/{script.stem}.png")'
    cells: list[dict[str, Any]] = [
        {"cell_type": "markdown", "id": "words", "metadata": {}, "source": words}
    ]
    cells += [
        {
            "cell_type": "code",
            "id": f"piece-{number}",
            "metadata": {},
            "source": source,
            "execution_count": None,
            "outputs": [],
        }
        for number, source in enumerate([*pieces(script), last], 1)
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def write(out: Path) -> list[Path]:
    """Write a notebook for each program of the page into ``out``, and return their paths."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for stem, words in sections().items():
        path = out / f"{stem}.ipynb"
        text = json.dumps(notebook(words, ROOT / "examples" / f"{stem}.py"), indent=1)
        path.write_text(text + "\n")
        written.append(path)
    return written


def run(path: Path) -> None:
    """Run a notebook in a process of its own, in its folder, and keep what it shows.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    import nbclient
    import nbformat

    read = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        read, timeout=600, resources={"metadata": {"path": path.parent}}
    ).execute()
    nbformat.write(read, path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "notebooks")
    parser.add_argument("--run", action="store_true", help="run them, and keep their outputs")
    arguments = parser.parse_args()
    for one in write(arguments.out):
        if arguments.run:
            run(one)
        print(one)
