"""A sheet: pictures one below the other, each with a heading, as one picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_INK, _FAINT, _PAPER = (24, 24, 32), (104, 104, 116), (255, 255, 255)
_MARGIN, _HEADING, _NOTE, _SPACE = 24, 20, 15, 22


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture of a sheet, (H, W, 3) or (H, W, 4) uint8, with its heading and a fainter note."""

    heading: str
    picture: NDArray[Any]
    note: str = ""


def sheet(title: str, panels: list[Panel]) -> NDArray[np.uint8]:
    """All panels on white paper below ``title``, (H, W, 3) uint8."""
    large, middle, small = (_font(size) for size in (28, _HEADING, _NOTE))
    heights = [_panel_height(panel) for panel in panels]
    texts = [middle.getlength(panel.heading) for panel in panels]
    texts += [small.getlength(panel.note) for panel in panels] + [large.getlength(title)]
    width = int(max(*texts, *(panel.picture.shape[1] for panel in panels))) + 2 * _MARGIN
    top = _MARGIN + 28 + _SPACE
    paper = Image.new("RGB", (width, top + sum(heights) + _MARGIN), _PAPER)
    pen = ImageDraw.Draw(paper)
    pen.text((_MARGIN, _MARGIN - 6), title, _INK, font=large)
    for panel, height in zip(panels, heights, strict=True):
        pen.text((_MARGIN, top), panel.heading, _INK, font=middle)
        below = top + _HEADING + 8
        if panel.note:
            pen.text((_MARGIN, below), panel.note, _FAINT, font=small)
            below += _NOTE + 8
        tile = Image.fromarray(np.ascontiguousarray(panel.picture)).convert("RGBA")
        paper.paste(tile, (_MARGIN, below), tile)
        top += height
    return np.asarray(paper)


def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: Pillow's own font has no ×."""
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)


def _panel_height(panel: Panel) -> int:
    note = _NOTE + 8 if panel.note else 0
    return _HEADING + 8 + note + len(panel.picture) + _SPACE
