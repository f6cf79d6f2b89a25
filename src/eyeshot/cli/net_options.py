"""Options that every command takes that is given a network of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Net = Annotated[
    str,
    typer.Argument(metavar="NET", help="A run folder, file.py:Class, or package.module:callable."),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Weights of a NET that is Python code: .safetensors, .pt, .pth, .ckpt or .bin.",
    ),
]
