"""``eyeshot train``: from pictures to a run folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eyeshot.cli.output import notes
from eyeshot.errors import BadValue

if TYPE_CHECKING:
    from eyeshot.training import Settings

_EPILOG = """
[b]Examples[/b]

eyeshot train digits

eyeshot train mnist --data ~/mnist --model small_vgg --seed 1 --out runs/best

eyeshot train photos/ --size 64x64 --epochs 20

eyeshot train photos/ --size 64x64 --epochs 20 --resume

A training that was stopped, even by kill -9, goes on with the same command and --resume, and gives
the same weights to the bit.
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("train", epilog=_EPILOG)(train_network)


def train_network(
    source: Annotated[
        str,
        typer.Argument(metavar="digits|mnist|FOLDER", help="What to learn; a folder of classes."),
    ],
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Where the files of mnist lie.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Resize pictures to height x width.")
    ] = None,
    model: Annotated[str, typer.Option(help="digit_cnn, or small_vgg: more accurate, slower.")] = (
        "digit_cnn"
    ),
    width: Annotated[int | None, typer.Option(help="Channels of the first layer.")] = None,
    depth: Annotated[int | None, typer.Option(help="How many times the map is halved.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the pictures.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pictures a step.")] = None,
    lr: Annotated[float | None, typer.Option(help="The highest learning rate.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="AdamW's.")] = None,
    label_smoothing: Annotated[float | None, typer.Option(help="0 to 1.")] = None,
    shift: Annotated[
        int | None, typer.Option(help="Move pictures by up to so many pixels while training.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed, another network.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    devices: Annotated[int, typer.Option(help="How many of them.")] = 1,
    precision: Annotated[str, typer.Option(help="32-true or bf16-mixed.")] = "32-true",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="DIR", help="The run folder; else runs/DATA-MODEL-seedN."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Throw an earlier run away.")] = False,
    checkpoint_seconds: Annotated[
        float, typer.Option(metavar="SECONDS", help="Lose at most so much when killed.")
    ] = 10.0,
) -> None:
    """Train a network to tell classes of pictures apart, and save it in a run folder."""
    from eyeshot.training import train

    settings: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": lr,
        "weight_decay": weight_decay,
        "label_smoothing": label_smoothing,
        "shift": shift,
    }
    chosen: Settings = {"seed": seed, "device": device, "devices": devices, "precision": precision}
    chosen.update({name: value for name, value in settings.items() if value is not None})  # type: ignore[typeddict-item]
    arguments = {"width": width, "depth": depth}
    run = train(
        source,
        folder=data,
        size=None if size is None else parse_size(size),
        model=model,
        model_arguments={name: value for name, value in arguments.items() if value is not None},
        out=out,
        resume=resume,
        force=force,
        checkpoint_seconds=checkpoint_seconds,
        **chosen,
    )
    if int(os.environ.get("LOCAL_RANK", "0")):
        return  # one of several processes, each with a device of its own: the first speaks
    notes.print(f"saved; next: eyeshot evaluate {run.path}", soft_wrap=True)
    print(run.path)


def parse_size(text: str) -> tuple[int, int]:
    """ "64x48" as (64, 48), height before width; "64" as (64, 64).

    Raises:
        BadValue: it is neither.
    """
    parts = text.lower().replace("×", "x").split("x")
    if not (1 <= len(parts) <= 2 and all(part.isascii() and part.isdigit() for part in parts)):
        raise BadValue(f"--size is {text!r}", cure="give height x width in pixels, such as 64x48")
    height, width = int(parts[0]), int(parts[-1])
    return height, width
