"""The commands that use a trained network from its run folder.

- ``eyeshot evaluate``: how well it does on its test set;
- ``eyeshot report``: the run on one page;
- ``eyeshot predict``: the classes of pictures;
- ``eyeshot sample``: pictures from a trained generator.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from eyeshot.cli.shared import Force, Index, Series, console, notes, print_json, say
from eyeshot.cli.train import (
    Images,
    JudgedFolder,
    JudgedPart,
    Masks,
    MaskSuffix,
    SkipDamaged,
    Threshold,
    make_layout,
)
from eyeshot.errors import BadFile, BadValue, UserError
from eyeshot.files import check_free, check_page, write_aside
from eyeshot.language import ntr, tr

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eyeshot.data import Data, Pairs
    from eyeshot.evaluation import (
        Evaluation,
        MaskEvaluation,
        Prediction,
        RestorationEvaluation,
        SampleEvaluation,
    )

_EVALUATE_EXAMPLES = """
[b]Examples[/b]

eyeshot evaluate runs/digits-digit_cnn-seed0

eyeshot evaluate runs/digits-digit_cnn-seed0 --data ~/mnist --json

eyeshot evaluate runs/photos-digit_cnn-seed0 --data other-photos/ --part val

eyeshot evaluate runs/cells-unet-seed0

eyeshot evaluate runs/cells-unet-seed0 --data other-cells/ --json

eyeshot evaluate runs/digits-generator-seed0 --judge runs/digits-digit_cnn-seed0
"""


def register_evaluate(app: typer.Typer) -> None:
    """Add the command ``evaluate`` to ``app``."""
    app.command("evaluate", epilog=_EVALUATE_EXAMPLES)(evaluate_run)


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
    share = percent(evaluation.accuracy)
    console.print(tr("accuracy {share} ({n} of {all})", share=share, n=right, all=evaluation.count))
    console.print(class_table(evaluation))
    console.print(confusion_table(evaluation))


def _tell_masks(evaluation: MaskEvaluation) -> None:
    console.print(
        ntr(
            "pixel accuracy {share}, mean Dice {dice}, on {n} whole picture",
            "pixel accuracy {share}, mean Dice {dice}, on {n} whole pictures",
            len(evaluation.pictures),
            share=percent(evaluation.accuracy),
            dice=percent(evaluation.dice),
        ),
        soft_wrap=True,
    )
    console.print(mask_table(evaluation))
    table = Table(tr("picture"), title=tr("each picture"), title_justify="left")
    for heading in (tr("pixel accuracy"), tr("mean Dice")):
        table.add_column(heading, justify="right")
    for picture in evaluation.pictures:
        table.add_row(picture.name, percent(picture.accuracy), percent(picture.dice))
    console.print(table)


def _tell_pictures(evaluation: RestorationEvaluation) -> None:
    from eyeshot.language import counted

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
    table = Table(tr("class"), title=tr("each class"), title_justify="left")
    headings = (tr("pixels"), "Dice", "IoU", tr("precision"), tr("recall"))
    for heading in (*headings, tr("boundary F1 ({n} px)", n=evaluation.tolerance)):
        table.add_column(heading, justify="right")
    for one in evaluation.per_class:
        shares = (one.dice, one.iou, one.precision, one.recall, one.boundary_f1)
        pixels = f"{one.pixels:,}" if one.pixels else tr("absent")
        table.add_row(one.name, pixels, *(percent(share) for share in shares))
    return table


def class_table(evaluation: Evaluation) -> Table:
    """A row per class: pictures, precision, recall."""
    table = Table(tr("class"), title=tr("each class"), title_justify="left")
    for heading in (tr("pictures"), tr("precision"), tr("recall")):
        table.add_column(heading, justify="right")
    for result in evaluation.per_class:
        table.add_row(
            result.name, str(result.count), percent(result.precision), percent(result.recall)
        )
    return table


def confusion_table(evaluation: Evaluation) -> Table:
    """The number of pictures of each true class (row) and predicted class (column)."""
    names = [result.name for result in evaluation.per_class]
    table = Table(tr("is \\ said"), title=tr("confusion"), title_justify="left")
    for name in names:
        table.add_column(name, justify="right")
    for name, row in zip(names, evaluation.confusion.tolist(), strict=True):
        table.add_row(name, *(str(count) if count else "·" for count in row))
    return table


def percent(share: float | None) -> str:
    """ "98.75 %", or a dash if there is no share."""
    return "–" if share is None else f"{100 * share:.2f} %"


_REPORT_EXAMPLES = """
[b]Examples[/b]

eyeshot report runs/digits-digit_cnn-seed0

eyeshot report runs/photos-digit_cnn-seed0 --data other-photos/ -o judged.html

eyeshot report runs/cells-unet-seed0
"""


def register_report(app: typer.Typer) -> None:
    """Add the command ``report`` to ``app``."""
    app.command("report", epilog=_REPORT_EXAMPLES)(report_run)


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


_PREDICT_EXAMPLES = """
[b]Examples[/b]

eyeshot predict runs/digits-digit_cnn-seed0 photo-of-a-seven.jpg

eyeshot predict runs/digits-digit_cnn-seed0 *.png --top 1 --json

eyeshot predict runs/digits-digit_cnn-seed0 scans/
"""


def register_predict(app: typer.Typer) -> None:
    """Add the command ``predict`` to ``app``."""
    app.command("predict", epilog=_PREDICT_EXAMPLES)(predict_images)


def predict_images(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE…", help="Pictures, or folders of pictures.")
    ],
    top: Annotated[int, typer.Option(help="Number of classes to print for each picture.")] = 3,
    series: Series = None,
    index: Index = None,
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Classify pictures, and list the steps that prepared each picture for the network.

    If a picture cannot be used, standard error names it, the other pictures are classified, and the
    exit code is 2. With --json its entry holds "error" instead of "top".
    """
    from eyeshot import runs
    from eyeshot.evaluation import predict

    loaded = runs.load(run)
    if loaded.standing:
        say(loaded.standing)
    answers: list[dict[str, Any]] = []
    failed: list[UserError] = []
    pictures = list(_pictures(images))
    for image in pictures:
        try:
            (prediction,) = predict(loaded, [image], top, series=series, index=index)
        except UserError as error:
            if len(pictures) == 1 or str(image) not in error.fact:
                raise  # the error does not concern a single picture
            failed.append(error)
            answers.append({"image": str(image), "error": str(error)})
            continue
        answers.append(prediction.to_dict())
        if not json:
            _tell(prediction)
    if json:
        print_json(answers)
    for one in failed:
        notes.print(f"eyeshot: {one}", soft_wrap=True, markup=False)
    if failed:
        raise typer.Exit(2)


def _pictures(named: Sequence[Path]) -> Iterator[Path]:
    """The named pictures, and the pictures directly in a named folder, sorted by name."""
    from eyeshot.data.tree import is_picture, visible

    for path in named:
        if not path.is_dir() or path.suffix.lower() == ".zarr":
            yield path
            continue
        found = [entry for entry in visible(path) if entry.is_file() and is_picture(entry)]
        if not found:
            raise BadFile(f"{path}: contains no pictures", cure="name a folder with pictures")
        yield from found


def _tell(prediction: Prediction) -> None:
    for note in prediction.notes:
        text = tr("{file}: {note}", file=prediction.name, note=note)
        notes.print(text, soft_wrap=True, markup=False)
    ranked = "  ".join(f"{name} {share:.1%}" for name, share in prediction.classes)
    console.print(f"{prediction.name}: {ranked}", soft_wrap=True)


_SAMPLE_EXAMPLES = """
[b]Examples[/b]

eyeshot sample runs/digits-generator-seed0 -o sheet.png

eyeshot sample runs/digits-generator-seed0 -o sheet.png --count 100 --seed 3

eyeshot sample runs/digits-generator-seed0 -o walk.png --walk --count 12

eyeshot sample runs/digits-generator-seed0 -o samples.npy --count 1000

A .npy file contains the pictures as uint8 (N, H, W, C). With the same seed, a larger count starts
with the same pictures.
"""
_FORMATS = (".png", ".npy")


def register_sample(app: typer.Typer) -> None:
    """Add the command ``sample`` to ``app``."""
    app.command("sample", epilog=_SAMPLE_EXAMPLES)(sample_run)


def sample_run(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder of a generator.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A .png sheet or a .npy array.")],
    count: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of pictures; default: 64, or 10 with --walk."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the latents.")] = 0,
    walk: Annotated[
        bool, typer.Option("--walk", help="Pictures between two latents, in a single row.")
    ] = False,
    force: Force = False,
) -> None:
    """Make pictures from random numbers with a network trained by --task generate."""
    if out.suffix.lower() not in _FORMATS:
        raise BadValue(f"{out}: not a picture format", cure="end the name in .png or .npy")
    check_free(out, force=force)
    from eyeshot.evaluation import sample

    pictures = sample(run, count or (10 if walk else 64), seed=seed, walk=walk)
    _write(pictures, out, columns=len(pictures) if walk else None)
    notes.print(f"wrote {out}", soft_wrap=True, markup=False)


def _write(pictures: NDArray[Any], out: Path, columns: int | None) -> None:
    """Write the pictures (N, H, W, C) as a sheet that is about square."""
    import math

    import numpy as np

    with write_aside(out) as aside:
        if out.suffix.lower() == ".npy":
            with aside.open("wb") as file:
                np.save(file, pictures)
            return
        from eyeshot.pictures import mosaic, png_bytes

        tiles = list(np.broadcast_to(pictures, (*pictures.shape[:3], 3)))
        across = columns or math.ceil(math.sqrt(len(tiles)))
        aside.write_bytes(png_bytes(mosaic(tiles, columns=across)))
