"""Masks with a palette: the same index must have the same color in every file.

A mask with a palette stores indices, and each file has its own palette. Some programs number the
colors of each file in order of appearance, so that background is 0 in one mask and 1 in the next.
If the colors differ, the indices are not classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eyeshot.data.pairs.legend import FILE, Legend
from eyeshot.data.problem import Problem
from eyeshot.images.damage import damage_named
from eyeshot.images.limits import TIFF_STARTS
from eyeshot.images.pillow import open_image

if TYPE_CHECKING:
    from eyeshot.data.pairs.survey import Seen

_SUFFIXES = {".png", ".gif", ".bmp", ".dib", ".pcx", ".tif", ".tiff", ".tga"}


def read_palette(path: Path, indices: Iterable[int]) -> dict[int, int]:
    """The colours, red · 65536 + green · 256 + blue, that a file gives to ``indices``.

    Empty where the file has no palette.

    Raises:
        BadFile: the file is damaged.
    """
    if not path.is_file() or path.suffix.lower() not in _SUFFIXES:
        return {}
    with path.open("rb") as file:
        start = file.read(4)
    with damage_named(path):
        colors = _of_tiff(path) if start.startswith(TIFF_STARTS) else _of_pillow(path)
    return {index: colors[index] for index in indices if index < len(colors)}


def _of_pillow(path: Path) -> list[int]:
    with open_image(path) as image:
        if image.mode != "P":
            return []
        flat = image.getpalette("RGB") or []
    return [_code(flat[at : at + 3]) for at in range(0, len(flat) - 2, 3)]


def _of_tiff(path: Path) -> list[int]:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        if page.photometric != tifffile.PHOTOMETRIC.PALETTE or page.colormap is None:
            return []
        table = np.asarray(page.colormap).T
    return [_code((row >> 8).tolist()) for row in table]


def _code(color: Sequence[int]) -> int:
    red, green, blue = color
    return red << 16 | green << 8 | blue


def compare_palettes(masks: Iterable[Seen], legend: Legend) -> tuple[Legend, list[Problem]]:
    """The legend with the color of each index, and the masks with a different palette.

    Args:
        masks: in any order.
        legend: of indices; its own palette, if it has one, is what masks are compared with.
    """
    known = {
        code: color for code, color in zip(legend.codes, legend.palette, strict=False) if color >= 0
    }
    first = dict.fromkeys(known, "the masks that were learned from")
    problems = []
    for mask in masks:
        for index, color in mask.palette.items():
            if known.setdefault(index, color) != color:
                problems.append(_problem(mask, index, known[index], first[index]))
                break
            first.setdefault(index, str(mask.files.target))
    if not known:
        return legend, problems
    palette = tuple(known.get(code, -1) for code in legend.codes)
    return replace(legend, palette=palette), problems


def _problem(mask: Seen, index: int, before: int, where: str) -> Problem:
    there, here = (
        f"[{color >> 16}, {color >> 8 & 255}, {color & 255}]"
        for color in (before, mask.palette[index])
    )
    message = f"its palette gives {index} the colour {here}, and that of {where} {there}"
    cure = f"indices are no classes here: write {FILE} with colours, such as 'cell: {here}'"
    return Problem(mask.files.target, message, cure)
