"""A sheet: pictures one below the other, each with a heading, as one picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from eyeshot.pictures.fonts import font_for

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
    lines = [(title, 28), *((panel.heading, _HEADING) for panel in panels)]
    lines += [(panel.note, _NOTE) for panel in panels]
    texts = [font.getlength(text) for font, text in (font_for(*line) for line in lines)]
    width = int(max(*texts, *(panel.picture.shape[1] for panel in panels))) + 2 * _MARGIN
    top = _MARGIN + 28 + _SPACE
    paper = Image.new("RGB", (width, top + sum(map(_panel_height, panels)) + _MARGIN), _PAPER)
    pen = ImageDraw.Draw(paper)
    _write(pen, _MARGIN - 6, title, 28, _INK)
    for panel in panels:
        _write(pen, top, panel.heading, _HEADING, _INK)
        below = top + _HEADING + 8
        if panel.note:
            _write(pen, below, panel.note, _NOTE, _FAINT)
            below += _NOTE + 8
        tile = Image.fromarray(np.ascontiguousarray(panel.picture)).convert("RGBA")
        paper.paste(tile, (_MARGIN, below), tile)
        top += _panel_height(panel)
    return np.asarray(paper)


def _write(
    pen: ImageDraw.ImageDraw, top: int, text: str, size: int, ink: tuple[int, int, int]
) -> None:
    font, drawn = font_for(text, size)
    pen.text((_MARGIN, top), drawn, ink, font=font)


def _panel_height(panel: Panel) -> int:
    note = _NOTE + 8 if panel.note else 0
    return _HEADING + 8 + note + len(panel.picture) + _SPACE
