"""``eyeshot convert``: weights between a run folder and PaddlePaddle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_EPILOG = """
[b]Examples[/b]

eyeshot convert runs/digits-digit_cnn-seed0 -o paddle.safetensors

eyeshot convert paddle.safetensors --like runs/digits-digit_cnn-seed0 -o runs/from-paddle

In Paddle: net.set_state_dict of the file's tensors. A .pdparams is a pickle and is not opened.
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("convert", epilog=_EPILOG)(convert_weights)


def convert_weights(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A run folder, or Paddle's .safetensors.")
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="PATH", help="A .safetensors, or a new run folder."),
    ],
    like: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="For Paddle's weights: a run of their network."),
    ] = None,
) -> None:
    """Weights between a run folder and PaddlePaddle, by its names and layouts."""
    from eyeshot.exporting import convert

    print(convert(source, out, like=like))
