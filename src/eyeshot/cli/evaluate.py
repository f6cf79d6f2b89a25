"""``eyeshot evaluate``: how well a run does on its test set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from eyeshot.cli.output import console, notes, print_json, say
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

if TYPE_CHECKING:
    from eyeshot.evaluation import (
        Evaluation,
        MaskEvaluation,
        RestorationEvaluation,
        SampleEvaluation,
    )

_EPILOG = """
[b]Examples[/b]

eyeshot evaluate runs/digits-digit_cnn-seed0

eyeshot evaluate runs/digits-digit_cnn-seed0 --data ~/mnist --json

eyeshot evaluate runs/photos-digit_cnn-seed0 --data other-photos/ --part val

eyeshot evaluate runs/cells-unet-seed0

eyeshot evaluate runs/cells-unet-seed0 --data other-cells/ --json

eyeshot evaluate runs/digits-generator-seed0 --judge runs/digits-digit_cnn-seed0
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("evaluate", epilog=_EPILOG)(evaluate_run)


def evaluate_run(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")],
    data: JudgedFolder = None,
    part: JudgedPart = None,
    skip_damaged: SkipDamaged = False,
    images: Images = None,
    masks: Masks = None,
    mask_suffix: MaskSuffix = None,
    threshold: Threshold = None,
    judge: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="For a generator: a run of a classifier that evaluates its pictures.",
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(metavar="N", help="For a generator: number of pictures; default: 1000."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Evaluate a trained network on data that it has not learned from.

    Classifiers: accuracy, precision and recall of each class, confusion. Masks, on whole pictures:
    Dice, IoU and boundary F1 of each class. Restored pictures: PSNR and SSIM.
    Generators: a classifier's results for their pictures, and distances from held-out pictures.
    """
    from eyeshot import runs
    from eyeshot.evaluation import Evaluation, MaskEvaluation, SampleEvaluation, evaluate

    layout = make_layout(images, masks, mask_suffix, threshold)
    loaded = runs.load(run)
    if loaded.standing:
        say(loaded.standing)
    evaluation = evaluate(
        loaded,
        data,
        part=part,
        skip_damaged=skip_damaged,
        layout=layout,
        judge=judge,
        count=count,
    )
    if json:
        print_json(evaluation.to_dict())
        return
    for note in evaluation.notes:
        notes.print(note, soft_wrap=True, markup=False)
    if isinstance(evaluation, Evaluation):
        _tell_classes(evaluation)
    elif isinstance(evaluation, MaskEvaluation):
        _tell_masks(evaluation)
    elif isinstance(evaluation, SampleEvaluation):
        _tell_samples(evaluation)
    else:
        _tell_pictures(evaluation)


def _tell_classes(evaluation: Evaluation) -> None:
    right = round(evaluation.accuracy * evaluation.count)
    console.print(f"accuracy {percent(evaluation.accuracy)} ({right} of {evaluation.count})")
    console.print(class_table(evaluation))
    console.print(confusion_table(evaluation))


def _tell_masks(evaluation: MaskEvaluation) -> None:
    from eyeshot.findings.wording import counted

    console.print(
        f"pixel accuracy {percent(evaluation.accuracy)}, mean Dice {percent(evaluation.dice)}, "
        f"on {counted(len(evaluation.pictures), 'whole picture')}",
        soft_wrap=True,
    )
    console.print(mask_table(evaluation))
    table = Table("picture", title="each picture", title_justify="left")
    for heading in ("pixel accuracy", "mean Dice"):
        table.add_column(heading, justify="right")
    for picture in evaluation.pictures:
        table.add_row(picture.name, percent(picture.accuracy), percent(picture.dice))
    console.print(table)


def _tell_pictures(evaluation: RestorationEvaluation) -> None:
    from eyeshot.findings.wording import counted

    console.print(
        f"PSNR {evaluation.psnr:.2f} dB, SSIM {evaluation.ssim:.4f}, the means of "
        f"{counted(len(evaluation.pictures), 'whole picture')}",
        soft_wrap=True,
    )
    table = Table("picture", title="each picture, and as it was given", title_justify="left")
    for heading in ("PSNR", "SSIM", "PSNR given", "SSIM given"):
        table.add_column(heading, justify="right")
    for one in evaluation.pictures:
        figures = (
            f"{one.psnr:.2f} dB",
            f"{one.ssim:.4f}",
            f"{one.given_psnr:.2f} dB",
            f"{one.given_ssim:.4f}",
        )
        table.add_row(one.name, *figures)
    console.print(table)


def _tell_samples(evaluation: SampleEvaluation) -> None:
    table = Table("figure", title=f"{evaluation.count} made pictures", title_justify="left")
    for heading in ("made", "held out"):
        table.add_column(heading, justify="right")
    if evaluation.sure is not None:
        sure, real = percent(evaluation.sure), percent(evaluation.held_out_sure)
        table.add_row("the judge is sure of (0.9 or more)", sure, real)
    frechet = (f"{one:.3f}" for one in (evaluation.frechet, evaluation.held_out_frechet))
    table.add_row("Fréchet distance from those learned from", *frechet)
    nearest = (f"{one:.3f}" for one in (evaluation.nearest, evaluation.held_out_nearest))
    table.add_row("median distance from the nearest of them (0 … 1)", *nearest)
    table.add_row("closest of all", f"{evaluation.closest:.3f}", "")
    console.print(table)
    if evaluation.entropy is not None:
        shares = "  ".join(
            f"{name} {100 * share:.1f} %" for name, share in evaluation.shares.items()
        )
        console.print(f"taken for: {shares}", soft_wrap=True, markup=False)
        console.print(f"entropy of the classes: {evaluation.entropy:.3f} bits", soft_wrap=True)


def mask_table(evaluation: MaskEvaluation) -> Table:
    """A row per class: pixels, Dice, IoU, precision, recall, boundary F1."""
    table = Table("class", title="each class", title_justify="left")
    headings = ("pixels", "Dice", "IoU", "precision", "recall")
    for heading in (*headings, f"boundary F1 ({evaluation.tolerance} px)"):
        table.add_column(heading, justify="right")
    for one in evaluation.per_class:
        shares = (one.dice, one.iou, one.precision, one.recall, one.boundary_f1)
        pixels = f"{one.pixels:,}" if one.pixels else "absent"
        table.add_row(one.name, pixels, *(percent(share) for share in shares))
    return table


def class_table(evaluation: Evaluation) -> Table:
    """A row per class: pictures, precision, recall."""
    table = Table("class", title="each class", title_justify="left")
    for heading in ("pictures", "precision", "recall"):
        table.add_column(heading, justify="right")
    for result in evaluation.per_class:
        table.add_row(
            result.name, str(result.count), percent(result.precision), percent(result.recall)
        )
    return table


def confusion_table(evaluation: Evaluation) -> Table:
    """The number of pictures of each true class (row) and predicted class (column)."""
    names = [result.name for result in evaluation.per_class]
    table = Table("is \\ said", title="confusion", title_justify="left")
    for name in names:
        table.add_column(name, justify="right")
    for name, row in zip(names, evaluation.confusion.tolist(), strict=True):
        table.add_row(name, *(str(count) if count else "·" for count in row))
    return table


def percent(share: float | None) -> str:
    """ "98.75 %", or a dash if there is no share."""
    return "–" if share is None else f"{100 * share:.2f} %"
