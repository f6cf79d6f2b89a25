"""``eyeshot predict``: what single pictures show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eyeshot.cli.output import notes, print_json

_EPILOG = """
[b]Examples[/b]

eyeshot predict runs/digits-digit_cnn-seed0 photo-of-a-seven.jpg

eyeshot predict runs/digits-digit_cnn-seed0 *.png --top 1 --json
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("predict", epilog=_EPILOG)(predict_images)


def predict_images(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="The pictures.")],
    top: Annotated[int, typer.Option(help="How many classes to tell for each.")] = 3,
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Say what each picture shows, and what was done to it before the network saw it."""
    from eyeshot.evaluation import predict

    predictions = predict(run, images, top)
    if json:
        print_json([prediction.to_json() for prediction in predictions])
        return
    for prediction in predictions:
        for note in prediction.notes:
            notes.print(f"{prediction.name}: {note}", soft_wrap=True, markup=False)
        ranked = "  ".join(f"{name} {share:.1%}" for name, share in prediction.classes)
        print(f"{prediction.name}: {ranked}")
