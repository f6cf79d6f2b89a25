"""``eyeshot demo``: everything in one go, on the digits in the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eyeshot.cli import net_options
from eyeshot.cli.output import console

_EPILOG = """
[b]Examples[/b]

eyeshot demo

eyeshot demo --out /tmp/first-look

eyeshot demo --lang zh
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("demo", epilog=_EPILOG)(show_demo)


def show_demo(
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="DIR", help="A new folder, or the folder of an earlier demo."
        ),
    ] = Path("demo"),
    lang: net_options.Language = "en",
) -> None:
    """Train a network on handwritten digits, use it, and show its insides, in under two minutes."""
    from eyeshot.demo import run_demo

    run_demo(out, say=lambda line: console.print(line, soft_wrap=True, markup=False))
