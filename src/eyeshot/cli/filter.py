"""``eyeshot filter``: lay a kernel on a picture file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from eyeshot.cli.shared import Force, Index, Series, notes
from eyeshot.errors import BadValue
from eyeshot.files import check_free, check_not_input
from eyeshot.language import tr

if TYPE_CHECKING:
    import numpy as np

    from eyeshot.filters import Alpha, Padding, Range

_WHOLE_NUMBERS_ONLY = {".png", ".jpg", ".jpeg", ".bmp"}

_EPILOG = """
[b]Examples[/b]

eyeshot filter photo.jpg --kernel sobel -o edges.png

eyeshot filter photo.jpg --kernel mean:15 --padding reflect -o soft.png

eyeshot filter photo.jpg --kernel my_kernel.txt --range rescale -o out.png

eyeshot filter scan.tif --kernel laplacian --range keep -o signed.tif

A kernel file has one row of numbers per line, such as  1/9 1/9 1/9 ; # starts a comment.
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("filter", epilog=_EPILOG)(filter_picture)


def _print_kernels(value: bool) -> None:
    if not value:
        return
    from eyeshot.filters import RECIPES

    for name, recipe in RECIPES.items():
        size = f"{recipe.size}, or NAME:SIZE" if recipe.sized else f"{recipe.size}"
        print(f"{name:<10}  {size:<15}  {recipe.about}")
    raise typer.Exit


def _check_suffix(out: Path, result: np.dtype[Any], source: np.dtype[Any]) -> None:
    """Refuse to write floats to a format for whole numbers."""
    if result.kind == "f" and out.suffix.lower() in _WHOLE_NUMBERS_ONLY:
        cure = "write .tif or .npy"
        if source.kind == "u":
            cure += ", or use --range clip or rescale"
        raise BadValue(f"{out}: the result is {result}, which {out.suffix} cannot hold", cure=cure)


def filter_picture(
    image: Annotated[Path, typer.Argument(help="The picture: PNG, JPEG, TIFF, NPY.")],
    kernel: Annotated[
        str,
        typer.Option("--kernel", "-k", metavar="NAME[:SIZE]|FILE", help="See --list."),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="OUT", help="Output file; the suffix sets the format."),
    ],
    padding: Annotated[
        str,
        typer.Option(
            metavar="same|valid|reflect|replicate|circular",
            help="Values outside the picture; same: zeros; valid: only whole patches.",
        ),
    ] = "same",
    range_: Annotated[
        str | None,
        typer.Option(
            "--range",
            metavar="clip|rescale|keep",
            help="Results out of range: clip them, rescale all, or keep floats.",
            show_default="clip; keep for float pictures",
        ),
    ] = None,
    convolve: Annotated[
        bool,
        typer.Option(
            "--convolve", help="Turn the kernel by 180° (true convolution, not cross-correlation)."
        ),
    ] = False,
    alpha: Annotated[
        str | None,
        typer.Option(
            metavar="keep|filter",
            help="The last of 2 or 4 channels: keep it as alpha, or filter it.",
            show_default="as the file says",
        ),
    ] = None,
    series: Series = None,
    index: Index = None,
    force: Force = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no summary.")] = False,
    _list: Annotated[
        bool,
        typer.Option(
            "--list", callback=_print_kernels, is_eager=True, help="List the kernels and stop."
        ),
    ] = False,
) -> None:
    """Apply a kernel to a picture, separately for each color; alpha does not change."""
    from eyeshot import images
    from eyeshot.filters import carry_out, make_plan, resolve

    check_not_input(out, image)
    kernels = resolve(kernel)  # report a wrong name before reading a large picture
    opened = images.read_picture(image, series=series, index=index)
    picture = opened.samples
    try:
        plan = make_plan(
            picture,
            kernels,
            padding=cast("Padding", padding),
            range=cast("Range | None", range_),
            convolve=convolve,
            alpha=cast("Alpha", alpha or ("keep" if opened.alpha else "filter")),
        )
    except BadValue as error:
        raise error.at(str(image)) from error
    _check_suffix(out, plan.result, picture.dtype)
    check_free(out, force=force)
    images.write(out, carry_out(plan, picture), alpha=plan.alpha)
    if not quiet:
        for note in opened.notes:
            notes.print(tr("{file}: {note}", file=image, note=note), markup=False, soft_wrap=True)
        notes.print(f"{out}: {plan}", markup=False, soft_wrap=True)
