"""``eyeshot report``: a run on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_EPILOG = """
[b]Examples[/b]

eyeshot report runs/digits-digit_cnn-seed0

eyeshot report runs/photos-digit_cnn-seed0 --data other-photos/ -o judged.html
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("report", epilog=_EPILOG)(report_run)


def report_run(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The page; else report.html in the run folder."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Judge it by this folder, not by what it was trained on."),
    ] = None,
) -> None:
    """Write one page: learning curves, mistakes, kernels, feature maps, parameters."""
    from eyeshot import runs
    from eyeshot.evaluation import load_test_data
    from eyeshot.report import write_report

    loaded = runs.load(run)
    judged_by = None if data is None else load_test_data(loaded, data)
    print(write_report(loaded, output, data=judged_by))
