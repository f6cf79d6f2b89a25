"""The options of every command that takes a user's network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Net = Annotated[
    str,
    typer.Argument(
        metavar="NET",
        help="A run folder, file.py:Class, package.module:callable, or a .onnx file.",
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
