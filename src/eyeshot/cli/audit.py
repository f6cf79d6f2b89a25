"""``eyeshot audit``: check whether tiles give the output of the whole pass."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eyeshot.cli import net_options as options
from eyeshot.cli.inspect import parse_numbers
from eyeshot.cli.output import notes, print_json, say, warn, warnings_as_notes

_EPILOG = """
[b]Examples[/b]

eyeshot audit net.py:UNet --tile 512 --overlap 64

eyeshot audit runs/cells --tile 512 --overlap 64 --image slide.tif --size 3x1408x1408

eyeshot audit net.py:UNet --weights trained.safetensors --tile 256x512 --overlap 32 --json

Tiles are placed as in MONAI, SAHI and most scripts: the step is tile minus overlap, and the last
tile is moved back into the image. The exit code is 1 if they are not exact when cropped.
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("audit", epilog=_EPILOG)(audit_tiles)


def audit_tiles(
    net: options.Net,
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
    weights: options.Weights = None,
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
