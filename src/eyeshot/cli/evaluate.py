"""``eyeshot evaluate``: how well a run does on its test set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from eyeshot.cli.output import console, notes, print_json

if TYPE_CHECKING:
    from eyeshot.evaluation import Evaluation

_EPILOG = """
[b]Examples[/b]

eyeshot evaluate runs/digits-digit_cnn-seed0

eyeshot evaluate runs/digits-digit_cnn-seed0 --data ~/mnist --json
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("evaluate", epilog=_EPILOG)(evaluate_run)


def evaluate_run(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")],
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Test on this folder, not where the run's own data was."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Test a trained network: accuracy, precision and recall of each class, confusion."""
    from eyeshot.evaluation import evaluate

    evaluation = evaluate(run, data)
    if json:
        print_json(evaluation.to_json())
        return
    for note in evaluation.notes:
        notes.print(note, soft_wrap=True)
    right = round(evaluation.accuracy * evaluation.count)
    console.print(f"accuracy {percent(evaluation.accuracy)} ({right} of {evaluation.count})")
    console.print(class_table(evaluation))
    console.print(confusion_table(evaluation))


def class_table(evaluation: Evaluation) -> Table:
    """A line a class: how many, precision, recall."""
    table = Table("class", title="each class", title_justify="left")
    for heading in ("pictures", "precision", "recall"):
        table.add_column(heading, justify="right")
    for result in evaluation.per_class:
        table.add_row(
            result.name, str(result.count), percent(result.precision), percent(result.recall)
        )
    return table


def confusion_table(evaluation: Evaluation) -> Table:
    """How many of each class (a row) were said to be of each (a column)."""
    names = [result.name for result in evaluation.per_class]
    table = Table("is \\ said", title="confusion", title_justify="left")
    for name in names:
        table.add_column(name, justify="right")
    for name, row in zip(names, evaluation.confusion.tolist(), strict=True):
        table.add_row(name, *(str(count) if count else "·" for count in row))
    return table


def percent(share: float | None) -> str:
    """ "98.75 %", or a dash where there is nothing to take a share of."""
    return "–" if share is None else f"{100 * share:.2f} %"
