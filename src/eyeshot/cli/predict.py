"""``eyeshot predict``: the classes of pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eyeshot.cli.net_options import Index, Series
from eyeshot.cli.output import console, notes, print_json, say
from eyeshot.errors import BadFile, UserError
from eyeshot.language import tr

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
