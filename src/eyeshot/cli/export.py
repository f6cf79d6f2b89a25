"""``eyeshot export`` and ``convert``: a network or its weights for other tools.

``export`` writes ONNX, a PyTorch program or a BioImage.IO model; ``convert`` writes and reads
weights of PaddlePaddle.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eyeshot.cli import net_options as options
from eyeshot.cli.inspect import parse_numbers
from eyeshot.cli.output import notes, print_json, say, warn, warnings_as_notes

_EXPORT_EXAMPLES = """
[b]Examples[/b]

eyeshot export runs/cells -o cells.onnx

eyeshot export net.py:UNet --weights trained.safetensors -o net.onnx --size 3x256x256

eyeshot export runs/cells -o cells.pt2

eyeshot export runs/cells -o cells.zip --license CC-BY-4.0

What is written is run beside the network at three sizes first. An import path runs that file's
code.
"""


def register_export(app: typer.Typer) -> None:
    """Add the command ``export`` to ``app``."""
    app.command("export", epilog=_EXPORT_EXAMPLES)(export_net)


def export_net(
    net: options.Net,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="A .onnx, .pt2 or .zip.")
    ],
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            "-s",
            metavar="CxHxW",
            help="An input that the network takes.",
            show_default="that of a run, or one that is found",
        ),
    ] = None,
    opset: Annotated[int, typer.Option(metavar="N", help="Version of ONNX's operators.")] = 18,
    license_: Annotated[
        str | None,
        typer.Option("--license", metavar="SPDX", help="Of a .zip, such as CC-BY-4.0."),
    ] = None,
    author: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Of a .zip; once for each.")
    ] = None,
    weights: options.Weights = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    json: Annotated[bool, typer.Option("--json", help="What was written, as JSON.")] = False,
) -> None:
    """Write a network for other tools: ONNX, a PyTorch program, or a BioImage.IO model."""
    shape = None if size is None else parse_numbers("--size", size, "x")

    import eyeshot
    from eyeshot.inspection.locating import locate_runnable

    network = locate_runnable(net, say, weights, warn)
    with warnings_as_notes(), notes.status("exporting"):
        found = eyeshot.export(
            network,
            out,
            size=shape,
            opset=opset,
            license=license_,
            authors=author or (),
            force=force,
        )
    if json:
        print_json(found.to_dict())
    else:
        print(found)


_CONVERT_EXAMPLES = """
[b]Examples[/b]

eyeshot convert runs/digits-digit_cnn-seed0 -o paddle.safetensors

eyeshot convert paddle.safetensors --like runs/digits-digit_cnn-seed0 -o runs/from-paddle

In Paddle: net.set_state_dict of the file's tensors. A .pdparams is a pickle and is not opened.
"""


def register_convert(app: typer.Typer) -> None:
    """Add the command ``convert`` to ``app``."""
    app.command("convert", epilog=_CONVERT_EXAMPLES)(convert_weights)


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
