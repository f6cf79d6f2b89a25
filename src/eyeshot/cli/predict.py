"""``eyeshot predict``: what single pictures show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eyeshot.cli.net_options import Index, Series
from eyeshot.cli.output import console, notes, print_json, say
from eyeshot.errors import BadFile, UserError

if TYPE_CHECKING:
    from eyeshot.evaluation import Prediction

_EPILOG = """
[b]Examples[/b]

eyeshot predict runs/digits-digit_cnn-seed0 photo-of-a-seven.jpg

eyeshot predict runs/digits-digit_cnn-seed0 *.png --top 1 --json

eyeshot predict runs/digits-digit_cnn-seed0 scans/
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("predict", epilog=_EPILOG)(predict_images)


def predict_images(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE…", help="Pictures, and folders of pictures.")
    ],
    top: Annotated[int, typer.Option(help="How many classes to tell for each.")] = 3,
    series: Series = None,
    index: Index = None,
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Say what each picture shows, and what was done to it before the network saw it.

    A picture that cannot be used is named on standard error, and the others are answered; the exit
    code is then 2. With --json its entry holds "error" in place of "top".
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
                raise  # nothing to do with one picture among others
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
    """The pictures that were named, and those directly in a folder that was, by name."""
    from eyeshot.data.entries import is_picture, visible

    for path in named:
        if not path.is_dir() or path.suffix.lower() == ".zarr":
            yield path
            continue
        found = [entry for entry in visible(path) if entry.is_file() and is_picture(entry)]
        if not found:
            raise BadFile(f"{path}: holds no pictures", cure="name a folder that has some")
        yield from found


def _tell(prediction: Prediction) -> None:
    for note in prediction.notes:
        notes.print(f"{prediction.name}: {note}", soft_wrap=True, markup=False)
    ranked = "  ".join(f"{name} {share:.1%}" for name, share in prediction.classes)
    console.print(f"{prediction.name}: {ranked}", soft_wrap=True)
