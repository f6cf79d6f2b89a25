"""``eyeshot report``: a run on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eyeshot.cli.net_options import Force
from eyeshot.cli.output import say
from eyeshot.cli.training_options import (
    Images,
    JudgedFolder,
    JudgedPart,
    Masks,
    MaskSuffix,
    SkipDamaged,
    Threshold,
    make_layout,
)
from eyeshot.files import check_free, check_page

if TYPE_CHECKING:
    from eyeshot.data import Data, Pairs

_EPILOG = """
[b]Examples[/b]

eyeshot report runs/digits-digit_cnn-seed0

eyeshot report runs/photos-digit_cnn-seed0 --data other-photos/ -o judged.html

eyeshot report runs/cells-unet-seed0
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("report", epilog=_EPILOG)(report_run)


def report_run(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The page; default: report.html in the run folder, written again each time.",
        ),
    ] = None,
    data: JudgedFolder = None,
    part: JudgedPart = None,
    skip_damaged: SkipDamaged = False,
    images: Images = None,
    masks: Masks = None,
    mask_suffix: MaskSuffix = None,
    threshold: Threshold = None,
    force: Force = False,
) -> None:
    """Write one page: learning curves, mistakes, and the maps of the network for a picture."""
    if out is not None:
        check_page(out)
        check_free(out, force=force)
    from eyeshot import runs
    from eyeshot.evaluation import load_learned, load_test_data, load_test_pairs
    from eyeshot.report import write_report

    loaded = runs.load(run)
    if loaded.standing:
        say(loaded.standing)
    judged: Data | Pairs
    if loaded.config.task == "classify":
        judged = load_test_data(loaded, data, part=part, skip_damaged=skip_damaged)
    elif loaded.config.task == "generate":
        judged = load_learned(loaded, data, skip_damaged=skip_damaged)
    else:
        layout = make_layout(images, masks, mask_suffix, threshold)
        judged = load_test_pairs(loaded, data, part=part, skip_damaged=skip_damaged, layout=layout)
    print(write_report(loaded, out, data=judged))
