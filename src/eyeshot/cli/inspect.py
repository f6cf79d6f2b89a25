"""A network before any run: what it is, whether tiles are exact, and its files for other tools.

- ``eyeshot inspect`` and ``audit``: the properties of a network and of a tiling;
- ``eyeshot export``: ONNX, a PyTorch program or a BioImage.IO model;
- ``eyeshot convert``: weights of PaddlePaddle, written and read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eyeshot.cli import shared
from eyeshot.cli.shared import console, notes, print_json, say, warn, warnings_as_notes
from eyeshot.errors import BadValue
from eyeshot.files import check_free, check_page
from eyeshot.language import tr
from eyeshot.terminal import PlainConsole

if TYPE_CHECKING:
    from eyeshot.inspection import Inspection

_INSPECT_EXAMPLES = """
[b]Examples[/b]

eyeshot inspect runs/digits-digit_cnn-seed0

eyeshot inspect my_net.py:Net --size 3x224x224

eyeshot inspect package.module:build --size 1x512x512 -o net.html

eyeshot inspect net.onnx --size 3x640x640

eyeshot inspect net.pt2 --json

eyeshot inspect my_net.py:Net --size 3x224x224 --lang zh

eyeshot inspect my_net.py:Net --size 3x224x224 --layer layer1.0.conv2 --unit 20,31

An import path runs that file's code; opening a run folder, a .onnx or a .pt2 runs no code. The
exit code is 1 if the network does not run at this size.
"""


def register_inspect(app: typer.Typer) -> None:
    """Add the command ``inspect`` to ``app``."""
    app.command("inspect", epilog=_INSPECT_EXAMPLES)(inspect_net)


def inspect_net(
    net: Annotated[
        str,
        typer.Argument(
            metavar="NET",
            help="A run folder, file.py:Class, package.module:callable, a .onnx or .pt2 file.",
        ),
    ],
    size: Annotated[
        list[str] | None,
        typer.Option(
            "--size",
            "-s",
            metavar="CxHxW",
            help="Size of the input, without the batch; once for each input.",
            show_default="the size of a run folder or file",
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Print only what a unit of this layer sees."),
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(metavar="Y,X", help="Which unit of --layer.", show_default="the middle"),
    ] = None,
    weights: shared.Weights = None,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="PAGE.html", help="Also write an HTML page."),
    ] = None,
    force: shared.Force = False,
    lang: shared.Language = "en",
) -> None:
    """Show shapes, receptive fields, cost, accepted sizes and mistakes before a network runs."""
    if unit is not None and layer is None:
        raise BadValue("--unit without --layer", cure="give the layer of the unit with --layer")
    place = None if unit is None else parse_numbers("--unit", unit, ",")
    if out is not None:
        check_page(out)
        check_free(out, force=force)
    inspection = _inspected(net, size or [], weights)
    if out is not None:
        inspection.save(out)
        notes.print(tr("{file}: written", file=out), markup=False, soft_wrap=True)
    if layer is not None:
        field = inspection.field(layer, place)
        if json:
            print_json(field.to_dict())
        else:
            print(field)
    elif json:
        print_json(inspection.to_dict())
    else:
        _print(inspection)
    if any(one.severity == "error" for one in inspection.findings):
        raise typer.Exit(1)


def parse_numbers(option: str, text: str, between: str) -> tuple[int, ...]:
    """``3x224x224`` or ``20,31`` as whole numbers.

    Raises:
        BadValue: a part is not a whole number.
    """
    try:
        return tuple(int(part) for part in text.lower().split(between))
    except ValueError:
        parts = re.findall(r"\d+", text)
        if len(parts) < 2 or "".join(parts) != re.sub(r"[\s,;:x×*()\[\]]", "", text.lower()):
            parts = ["3", "224", "224"] if between == "x" else ["20", "31"]
        cure = tr(
            "give whole numbers with {between} between them, such as {example}",
            between=between,
            example=between.join(parts),
        )
        raise BadValue(f"{option} {text}", cure=cure) from None


def _inspected(where: str, size: list[str], weights: Path | None) -> Inspection:
    sizes = [parse_numbers("--size", one, "x") for one in size]

    from eyeshot.frontends.programs import as_module
    from eyeshot.frontends.torch import from_exported
    from eyeshot.inspection import example_size, inspect, inspect_graph
    from eyeshot.inspection.locating import locate

    found = locate(where, say, weights)
    if found.program is not None:
        graph = from_exported(found.program)
        exported = [graph.nodes[name].shape[1:] for name in graph.inputs]
        if not sizes or sizes == exported:
            return inspect_graph(graph, None, found.name)
        return inspect(as_module(found.program), sizes)
    if found.net is None or not (sizes or found.size):
        example = "3x224x224" if found.net is None else example_size(found.net)
        cure = tr("give the size of the input, such as --size {size}", size=example)
        raise BadValue(tr("no --size"), cure=cure)
    return inspect(found.net, sizes or [found.size or ()])


def _print(inspection: Inspection) -> None:
    """In color on a terminal; wide enough for the tables if the output is a file."""
    from eyeshot.inspection.text import WIDTH, render

    if console.is_terminal and console.width >= WIDTH:
        console.print(render(inspection))
    else:
        PlainConsole(width=WIDTH).print(render(inspection))


_AUDIT_EXAMPLES = """
[b]Examples[/b]

eyeshot audit net.py:UNet --tile 512 --overlap 64

eyeshot audit runs/cells --tile 512 --overlap 64 --image slide.tif --size 3x1408x1408

eyeshot audit net.py:UNet --weights trained.safetensors --tile 256x512 --overlap 32 --json

Tiles are placed as in MONAI, SAHI and most scripts: the step is tile minus overlap, and the last
tile is moved back into the image. The exit code is 1 if they are not exact when cropped.
"""


def register_audit(app: typer.Typer) -> None:
    """Add the command ``audit`` to ``app``."""
    app.command("audit", epilog=_AUDIT_EXAMPLES)(audit_tiles)


def audit_tiles(
    net: shared.Net,
    tile: Annotated[
        str,
        typer.Option(metavar="N", help="Tile size in pixels: 512, or 512x256 for rows x columns."),
    ],
    overlap: Annotated[
        str, typer.Option(metavar="N", help="Pixels shared with the next tile, in the same form.")
    ],
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            "-s",
            metavar="CxHxW",
            help="Size of the noise, or of the middle of --image.",
            show_default="three tiles, or the whole image",
        ),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(metavar="IMAGE", help="Measure on this image.", show_default="noise"),
    ] = None,
    the_map: Annotated[
        str | None,
        typer.Option(
            "--map", metavar="NAME", help="Output to audit, name or index.", show_default="all"
        ),
    ] = None,
    weights: shared.Weights = None,
    seed: Annotated[int, typer.Option(help="Random seed of the noise.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Check whether tiles give the output of the whole pass, and suggest exact settings."""
    sides, shared = parse_numbers("--tile", tile, "x"), parse_numbers("--overlap", overlap, "x")
    shape = None if size is None else parse_numbers("--size", size, "x")

    import eyeshot
    from eyeshot.inspection.locating import locate_runnable

    network = locate_runnable(net, say, weights, warn)
    with warnings_as_notes(), notes.status("auditing") as status:
        found = eyeshot.audit(
            network,
            image,
            tile=sides[0] if len(sides) == 1 else sides,
            overlap=shared[0] if len(shared) == 1 else shared,
            size=shape,
            output=int(the_map) if the_map is not None and the_map.isdecimal() else the_map,
            seed=seed,
            progress=status.update,
        )
    if json:
        print_json(found.to_dict())
    else:
        print(found)
    if not found.exact:
        raise typer.Exit(1)


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
    net: shared.Net,
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
    weights: shared.Weights = None,
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
