"""The options of ``eyeshot run``, each with its name, its type and its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Images = Annotated[
    list[Path],
    typer.Argument(
        metavar="IMAGE…", help="PNG, JPEG, TIFF, BMP, WebP, GIF, .npy or Zarr; one for each input."
    ),
]
Outs = Annotated[
    list[Path] | None,
    typer.Option("--out", "-o", metavar="OUT", help=".npy, .png, .tif or .zarr."),
]
Form = Annotated[
    str,
    typer.Option(
        "--as",
        metavar="FORM",
        help="scores, float32, probabilities, argmax, threshold:0.5 or uint8.",
    ),
]
Memory = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Memory limit of the process, such as 2GB.")
]
Scratch = Annotated[
    str | None,
    typer.Option(
        metavar="DIR[:SIZE]",
        help="Where maps go that must be held whole and do not fit; default: beside OUT.",
    ),
]
Region = Annotated[
    str | None, typer.Option(metavar="Y0:Y1,X0:X1", help="Only this part of the output.")
]
Level = Annotated[int, typer.Option(metavar="N", help="Level of a pyramid; 0 is the largest.")]
Layout = Annotated[
    str | None, typer.Option(metavar="AXES", help="Order of the image's axes: HW, HWC, CHW …")
]
Raw = Annotated[bool, typer.Option("--raw", help="Do not scale whole-number samples.")]
White = Annotated[
    float | None,
    typer.Option(
        metavar="SAMPLE",
        help="The whole-number sample that becomes 1, such as 4095; default: the type's largest.",
    ),
]
PerSlice = Annotated[
    bool,
    typer.Option("--per-slice", help="Run a stack slice by slice; OUT is a stack (.npy or .zarr)."),
]
Pad = Annotated[
    str | None,
    typer.Option(
        metavar="reflect|edge|zero",
        help="Pad the image to a size that the network accepts, and crop the output.",
    ),
]
Band = Annotated[int | None, typer.Option(metavar="ROWS", min=1, help="Rows that enter together.")]
Where = Annotated[
    Path | None,
    typer.Option(
        metavar="MASK",
        help="Compute only here: a mask picture of any size, or polygons as GeoJSON.",
    ),
]
Fill = Annotated[
    float, typer.Option(metavar="SAMPLE", help="The output's sample outside of --where.")
]
Blank = Annotated[
    bool | None,
    typer.Option(
        "--blank/--no-blank",
        help="Compute a blank region once and copy it; default: if the image and NET are large.",
    ),
]
Device = Annotated[str | None, typer.Option(metavar="cpu|cuda", help="Where to run.")]
PlanOnly = Annotated[bool, typer.Option("--plan", help="Print the plan, and do not run.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Continue an unfinished run with the same settings.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing output.")]
Json = Annotated[bool, typer.Option("--json", help="Print the plan or the figures as JSON.")]
