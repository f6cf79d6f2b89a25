"""``eyeshot sample``: pictures from a trained generator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eyeshot.cli.net_options import Force
from eyeshot.cli.output import notes
from eyeshot.errors import BadValue
from eyeshot.files import check_free, write_aside

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EPILOG = """
[b]Examples[/b]

eyeshot sample runs/digits-generator-seed0 -o sheet.png

eyeshot sample runs/digits-generator-seed0 -o sheet.png --count 100 --seed 3

eyeshot sample runs/digits-generator-seed0 -o walk.png --walk --count 12

eyeshot sample runs/digits-generator-seed0 -o samples.npy --count 1000

A .npy file contains the pictures as uint8 (N, H, W, C). With the same seed, a larger count starts
with the same pictures.
"""
_FORMATS = (".png", ".npy")


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("sample", epilog=_EPILOG)(sample_run)


def sample_run(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder of a generator.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A .png sheet or a .npy array.")],
    count: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of pictures; default: 64, or 10 with --walk."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the latents.")] = 0,
    walk: Annotated[
        bool, typer.Option("--walk", help="Pictures between two latents, in a single row.")
    ] = False,
    force: Force = False,
) -> None:
    """Make pictures from random numbers with a network trained by --task generate."""
    if out.suffix.lower() not in _FORMATS:
        raise BadValue(f"{out}: not a picture format", cure="end the name in .png or .npy")
    check_free(out, force=force)
    from eyeshot.evaluation import sample

    pictures = sample(run, count or (10 if walk else 64), seed=seed, walk=walk)
    _write(pictures, out, columns=len(pictures) if walk else None)
    notes.print(f"wrote {out}", soft_wrap=True, markup=False)


def _write(pictures: NDArray[Any], out: Path, columns: int | None) -> None:
    """Write the pictures (N, H, W, C) as a sheet that is about square."""
    import math

    import numpy as np

    with write_aside(out) as aside:
        if out.suffix.lower() == ".npy":
            with aside.open("wb") as file:
                np.save(file, pictures)
            return
        from eyeshot.pictures import mosaic, png_bytes

        tiles = list(np.broadcast_to(pictures, (*pictures.shape[:3], 3)))
        across = columns or math.ceil(math.sqrt(len(tiles)))
        aside.write_bytes(png_bytes(mosaic(tiles, columns=across)))
