"""Options that every command takes that is given a network of one's own."""

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
    typer.Option(metavar="N", help="Which image of a file that holds several; the first is 0."),
]
Index = Annotated[
    str | None,
    typer.Option(metavar="AXIS=N", help="A position of a stack's other axes: T=3, or T=3,C=0."),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Weights of a NET that is Python code: .safetensors, .pt, .pth, .ckpt or .bin.",
    ),
]
