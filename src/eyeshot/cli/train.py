"""``eyeshot train``: from pictures to a run folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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


Source = Annotated[
    str, typer.Argument(metavar="digits|mnist|FOLDER", help="What to learn; a folder of classes.")
]
DataFolder = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Where the files of mnist lie.")
]
Size = Annotated[str | None, typer.Option(metavar="HxW", help="Resize pictures to height x width.")]
Model = Annotated[str, typer.Option(help="digit_cnn, or small_vgg: more accurate, slower.")]
Width = Annotated[int | None, typer.Option(help="Channels of the first layer.")]
Depth = Annotated[int | None, typer.Option(help="How many times the map is halved.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the pictures.")]
BatchSize = Annotated[int | None, typer.Option(help="Pictures a step.")]
Rate = Annotated[float | None, typer.Option("--lr", help="The highest learning rate.")]
Decay = Annotated[float | None, typer.Option(help="AdamW's weight decay.")]
Smoothing = Annotated[float | None, typer.Option(help="The share of a label spread over all.")]
Shift = Annotated[
    int | None, typer.Option(help="Move pictures by up to so many pixels while training.")
]
Seed = Annotated[int, typer.Option(help="Another seed, another network.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Devices = Annotated[int, typer.Option(help="How many of them.")]
Precision = Annotated[str, typer.Option(help="32-true or bf16-mixed.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="DIR", help="The run folder; else runs/DATA-MODEL-seedN."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")]
Force = Annotated[bool, typer.Option("--force", help="Throw an earlier run away.")]
Pause = Annotated[float, typer.Option(metavar="SECONDS", help="Lose at most so much when killed.")]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("train", epilog=_EPILOG)(train_network)


def train_network(
    source: Source,
    data: DataFolder = None,
    size: Size = None,
    model: Model = "digit_cnn",
    width: Width = None,
    depth: Depth = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: Rate = None,
    weight_decay: Decay = None,
    label_smoothing: Smoothing = None,
    shift: Shift = None,
    seed: Seed = 0,
    device: Device = "auto",
    devices: Devices = 1,
    precision: Precision = "32-true",
    out: Out = None,
    resume: Resume = False,
    force: Force = False,
    checkpoint_seconds: Pause = 10.0,
) -> None:
    """Train a network to tell classes of pictures apart, and save it in a run folder."""
    from eyeshot.report import write_report
    from eyeshot.training import train

    settings: Settings = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "label_smoothing": label_smoothing,
        "shift": shift,
        "seed": seed,
        "device": device,
        "devices": devices,
        "precision": precision,
    }
    arguments = {"width": width, "depth": depth}
    named = {name: value for name, value in arguments.items() if value is not None}
    run = train(
        source,
        folder=data,
        size=None if size is None else parse_size(size),
        model=model,
        model_arguments=named,
        out=out,
        resume=resume,
        force=force,
        checkpoint_seconds=checkpoint_seconds,
        **settings,
    )
    if int(os.environ.get("LOCAL_RANK", "0")):
        return  # one of several processes, each with a device of its own: the first speaks
    notes.print(f"saved; the report: {write_report(run)}", soft_wrap=True, markup=False)
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
