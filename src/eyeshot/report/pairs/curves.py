"""How a network of masks or pictures learned: its loss, and how well it did on whole pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eyeshot.pages.parts import Part, Plot, Section, Table
from eyeshot.pictures import Curve, curves_svg
from eyeshot.report.material import read_epochs
from eyeshot.runs import METRICS, Run

_CROPS, _WHOLE = ("crops, while learning", "train"), ("whole held-out pictures", "test")


@dataclass(frozen=True)
class Column:
    """A column of ``metrics.csv``: what it is called in the table, and how its numbers look."""

    key: str
    name: str
    form: str


@dataclass(frozen=True)
class Score:
    """What a task is judged by: its name, whether it is a share, its columns, what to tell of it.

    ``measured`` is the column of crops, ``judged`` that of whole pictures.
    """

    name: str
    title: str
    measured: str
    judged: str
    percent: bool


SCORES = {
    "segment": Score("Dice", "Dice: how well masks are met", "dice", "validation_dice", True),
    "restore": Score("PSNR", "PSNR in decibels", "psnr", "validation_psnr", False),
}
COLUMNS = {
    "segment": (
        Column("loss", "loss", ".4f"),
        Column("dice", "Dice of crops", ".2%"),
        Column("validation_dice", "Dice", ".2%"),
        Column("validation_iou", "IoU", ".2%"),
        Column("validation_accuracy", "pixels right", ".2%"),
        Column("validation_boundary_f1", "boundary F1", ".2%"),
    ),
    "restore": (
        Column("loss", "loss", ".5f"),
        Column("psnr", "PSNR of crops", ".2f"),
        Column("validation_psnr", "PSNR", ".2f"),
        Column("validation_ssim", "SSIM", ".4f"),
    ),
}


def curves_section(run: Run) -> Section:
    """Learning curves, and their numbers in a folded table.

    Raises:
        BadFile: ``metrics.csv`` is damaged.
    """
    columns, score = COLUMNS[run.config.task], SCORES[run.config.task]
    rows = read_epochs(run.path / METRICS, ("epoch", *(column.key for column in columns)))
    if not rows:
        says = "The run folder has no metrics.csv, so the curves of the training are not known."
        return Section("learning", "How it learned", says)
    recipe, size = run.config.recipe, "×".join(map(str, run.config.size))
    best = max(rows, key=lambda row: row[score.judged])
    says = (
        f"Each of {len(rows)} epochs showed the network {recipe.steps} times up to "
        f"{recipe.batch_size} crops of at most {size}, changed at random; then it was "
        "judged on whole pictures that it never learns from. "
        f"The weights of epoch {best['epoch']:.0f} did best, and are the result."
    )
    loss = Curve(_CROPS[0], [(row["epoch"], row["loss"]) for row in rows], _CROPS[1])
    parts: list[Part] = [
        _scores(score, rows, averaged=bool(recipe.average)),
        _plot("Loss: how wrong it is", [loss], (_CROPS,), "loss"),
        _table(columns, rows),
    ]
    return Section("learning", "How it learned", says, parts)


def _scores(score: Score, rows: Sequence[dict[str, float]], *, averaged: bool) -> Plot:
    curves = [
        Curve(name, [(row["epoch"], row[key]) for row in rows], style)
        for (name, style), key in ((_CROPS, score.measured), (_WHOLE, score.judged))
    ]
    note = "Crops are changed at random, and whole pictures are not."
    if averaged:
        note += " These are judged with the running average of the weights."
    return _plot(score.title, curves, (_CROPS, _WHOLE), score.name, score.percent, note)


def _plot(
    title: str,
    curves: Sequence[Curve],
    legend: Sequence[tuple[str, str]],
    y_label: str,
    percent: bool = False,
    note: str = "",
) -> Plot:
    svg = curves_svg(curves, title=title, x_label="epoch", y_label=y_label, percent=percent)
    return Plot(title, svg, legend, note)


def _table(columns: Sequence[Column], rows: Sequence[dict[str, float]]) -> Table:
    told: list[list[Any]] = [
        [f"{row['epoch']:.0f}", *(format(row[column.key], column.form) for column in columns)]
        for row in rows
    ]
    head = ["epoch", *(column.name for column in columns)]
    return Table(head, told, words=0, folded="The numbers")
