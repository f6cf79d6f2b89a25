"""A page that was read, drawn: the whole of it reduced, and one part enlarged."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from eyeshot.demo.pages.reading import Marks, Readings
from eyeshot.demo.pages.scattering import Page

_SIDE = 1024  # of either half of the picture, in pixels
_PART = 512  # pixels of the page in the enlarged half
_GAP = 24
_RIGHT, _WRONG, _FALSE, _MISSED = (38, 140, 70), (210, 30, 30), (220, 120, 0), (30, 80, 220)


def draw_page(page: Page, readings: Readings, marks: Marks) -> NDArray[np.uint8]:
    """The page beside its part with the most mistakes, (H, W, 3) uint8, dark on light.

    A green frame is a digit that was found and read right; red one that was read wrong, with what
    it was read as; orange one that is not there; blue one that was missed.
    """
    corner = _worst_part(page, readings, marks)
    whole = _marked(page, readings, marks, (0, 0), page.pixels.shape[0])
    part = _marked(page, readings, marks, corner, min(_PART, *page.pixels.shape))
    gap = np.full((_SIDE, _GAP, 3), 255, np.uint8)
    return np.concatenate([whole, gap, part], axis=1)


def _marked(
    page: Page, readings: Readings, marks: Marks, corner: tuple[int, int], extent: int
) -> NDArray[np.uint8]:
    """A square of the page, drawn ``_SIDE`` pixels wide, with frames around what was read."""
    top, left = corner
    pixels = Image.fromarray(255 - page.pixels[top : top + extent, left : left + extent])
    picture = pixels.resize((_SIDE, _SIDE), Image.Resampling.BOX).convert("RGB")
    pen, scale = ImageDraw.Draw(picture), _SIDE / extent
    for place, label, right, false in zip(
        readings.corners, readings.labels, marks.right, marks.false, strict=True
    ):
        color = _RIGHT if right else _FALSE if false else _WRONG
        _frame(pen, place - (top, left), page.side, scale, color, str(label), plain=bool(right))
    for place in page.corners[marks.missed]:
        _frame(pen, place - (top, left), page.side, scale, _MISSED, "?", plain=False)
    return np.asarray(picture)


def _frame(
    pen: ImageDraw.ImageDraw,
    corner: NDArray[Any],
    side: int,
    scale: float,
    color: tuple[int, int, int],
    text: str,
    *,
    plain: bool,
) -> None:
    """A frame around one digit; what was read stands beside it where there is room, or a need."""
    grown = 0.0 if plain or scale >= 1 else side / 2  # a mistake must be seen on a small page
    top, left = (float(one) * scale for one in corner - grown)
    bottom, right = (float(one) * scale for one in corner + side + grown)
    pen.rectangle((left, top, right, bottom), outline=color, width=1 if plain else 3)
    if scale >= 1:
        font = ImageFont.load_default(size=9 * scale)
        pen.text((right + scale, top - scale), text, fill=color, font=font)


def _worst_part(page: Page, readings: Readings, marks: Marks) -> tuple[int, int]:
    """The corner of the part of the page with the most mistakes in its inside."""
    wrong = np.concatenate([readings.corners[~marks.right], page.corners[marks.missed]])
    extent = min(_PART, *page.pixels.shape)
    if not len(wrong):
        return (0, 0)
    corners = np.clip(wrong - extent // 2, 0, np.array(page.pixels.shape) - extent)
    inside = (
        (wrong[None] >= corners[:, None]) & (wrong[None] < corners[:, None] + extent - page.side)
    ).all(axis=2)
    top, left = corners[inside.sum(axis=1).argmax()].tolist()
    return top, left
