"""The options of every command that takes a user's network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eyeshot.language import VARIABLE, speak


def _speak(name: str) -> str:
    """Speak the language until the command ends: ``cli.main`` ends it."""
    speak(name)
    return name


Net = Annotated[
    str,
    typer.Argument(
        metavar="NET",
        help="A run folder, file.py:Class, package.module:callable, or a .onnx file.",
    ),
]
Language = Annotated[
    str,
    typer.Option(
        "--lang",
        metavar="en|zh",
        envvar=VARIABLE,
        callback=_speak,
        help="Language of the messages: English or Chinese.",
    ),
]
Series = Annotated[
    int | None,
    typer.Option(metavar="N", help="Image number in a file with several images; the first is 0."),
]
Index = Annotated[
    str | None,
    typer.Option(metavar="AXIS=N", help="Position on the other axes of a stack: T=3, or T=3,C=0."),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Weights for a NET of Python code: .safetensors, .pt, .pth, .ckpt or .bin.",
    ),
]
