"""A receptive field drawn on a picture: the box, what of it is padding, and where a gradient is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from eyeshot.extras import extra

with extra("report"):
    from matplotlib import colormaps

Box = tuple[tuple[int, int], tuple[int, int]]
"""Rows and columns, each from the first to one past the last; may reach outside the picture."""

_BOX_COLOUR, _EDGE_COLOUR = (255, 80, 40), (120, 120, 132)
_PADDING_LIGHT, _PADDING_DARK = (226, 226, 232), (206, 206, 214)
_DIM = 0.55  # how much of the picture is left outside the box
_STRIPE = 6
_SQUARES_FROM = 3


def draw_field(picture: NDArray[Any], box: Box, *, side: int = 640) -> NDArray[np.uint8]:
    """The picture with the box of one unit; striped where the box reaches into padding.

    Args:
        picture: (H, W), (H, W, 1) or (H, W, 3) uint8.
        box: rows and columns of the field, in the picture's pixels.
        side: about how long the longer side of the drawing is, in pixels.

    Returns:
        (h, w, 3) uint8: the picture, and around it what the box covers outside it.
    """
    colors = _as_rgb(picture).astype(np.float64)
    inside = _inside(box, colors.shape[:2])
    dimmed = np.where(inside[..., None], colors, colors * _DIM)
    return _framed(dimmed.astype(np.uint8), box, side)


def draw_gradient(
    picture: NDArray[Any], strength: NDArray[Any], box: Box, *, side: int = 640
) -> NDArray[np.uint8]:
    """The same frame, with how strongly each pixel moves the unit in place of its colours.

    Args:
        picture: as for :func:`draw_field`; it shows faintly below.
        strength: (H, W), not negative; the strongest pixel is the brightest.
        box: as for :func:`draw_field`.
        side: as for :func:`draw_field`.

    Returns:
        (h, w, 3) uint8, of the same size as :func:`draw_field` gives.
    """
    largest = float(strength.max(initial=0.0)) or 1.0
    # The square root lets weak pixels be seen beside strong ones.
    scaled = np.sqrt(np.clip(strength / largest, 0, 1))
    heat = colormaps["magma"](scaled, bytes=True)[..., :3].astype(np.float64)
    grey = _as_rgb(picture).mean(axis=2, keepdims=True) * 0.25
    mixed = np.maximum(heat, grey * (1 - scaled[..., None]))
    return _framed(mixed.astype(np.uint8), box, side)


def _as_rgb(picture: NDArray[Any]) -> NDArray[Any]:
    pixels = picture if picture.ndim == 3 else picture[..., None]
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[..., :3]


def _inside(box: Box, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    (top, bottom), (left, right) = box
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    return (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)


def _framed(pixels: NDArray[np.uint8], box: Box, side: int) -> NDArray[np.uint8]:
    """Room for the part of the box outside the picture, enlarged or reduced, outlined."""
    height, width = pixels.shape[:2]
    (top, bottom), (left, right) = box
    first_row, first_column = min(0, top), min(0, left)
    rows = max(height, bottom) - first_row
    columns = max(width, right) - first_column
    scale = side / max(rows, columns)
    if scale >= _SQUARES_FROM:
        scale = float(int(scale))  # every pixel stays a sharp square
    canvas = Image.fromarray(_stripes(round(rows * scale), round(columns * scale)))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    near = Image.Resampling.NEAREST if scale >= _SQUARES_FROM else Image.Resampling.BICUBIC
    resample = near if scale >= 1 else Image.Resampling.BOX
    place = (round(-first_column * scale), round(-first_row * scale))
    canvas.paste(Image.fromarray(pixels).resize(size, resample), place)
    pen = ImageDraw.Draw(canvas)
    far = (place[0] + size[0] - 1, place[1] + size[1] - 1)
    pen.rectangle((*place, *far), outline=_EDGE_COLOUR)
    corners = (
        round((left - first_column) * scale),
        round((top - first_row) * scale),
        round((right - first_column) * scale) - 1,
        round((bottom - first_row) * scale) - 1,
    )
    pen.rectangle(corners, outline=_BOX_COLOUR, width=max(2, side // 220))
    return np.asarray(canvas)


def _stripes(height: int, width: int) -> NDArray[np.uint8]:
    """Slanted stripes, which no picture has: here is padding, or nothing at all."""
    rows, columns = np.mgrid[0:height, 0:width]
    dark = ((rows + columns) // _STRIPE) % 2 == 0
    return np.where(dark[..., None], _PADDING_DARK, _PADDING_LIGHT).astype(np.uint8)
