"""A receptive field drawn on a picture: the box, its part in the padding, and the gradient.

Masks are drawn here too: one color per class, and errors by kind in colors that are distinct for
color-blind readers.
"""

from __future__ import annotations

import colorsys
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from eyeshot.extras import extra

with extra("report"):
    from matplotlib import colormaps

Box = tuple[tuple[int, int], tuple[int, int]]
"""Rows and columns, each from the first to one past the last; may reach outside the picture."""

_BOX_COLOR, _EDGE_COLOR = (255, 80, 40), (120, 120, 132)
_PADDING_LIGHT, _PADDING_DARK = (226, 226, 232), (206, 206, 214)
_DIM = 0.55  # how much of the picture is left outside the box
_BELOW_SHARES = 0.35  # and below the colors of shares
_STRIPE = 6
_SEEN = 4  # pixels on the screen that a color takes at least
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
    """The same frame, with how strongly each pixel moves the unit in place of its colors.

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
    gray = _as_rgb(picture).mean(axis=2, keepdims=True) * 0.25
    mixed = np.maximum(heat, gray * (1 - scaled[..., None]))
    return _framed(mixed.astype(np.uint8), box, side)


def draw_shares(
    picture: NDArray[Any], shares: NDArray[Any], *, side: int = 640
) -> NDArray[np.uint8]:
    """What each pixel adds to a number: red where it raises it, blue where it lowers it.

    Args:
        picture: as for :func:`draw_field`; it shows in gray below.
        shares: (H, W). The color grows with the number and is full for the largest twentieth; 0
            has none. Where pixels are too small to be seen, a color is the sum of a square of them.
        side: as for :func:`draw_field`.

    Returns:
        (h, w, 3) uint8.
    """
    finite = np.nan_to_num(shares, nan=0.0, posinf=0.0, neginf=0.0)
    sums = _summed(finite, 2 ** max(0, math.ceil(math.log2(_SEEN * max(finite.shape) / side))))
    sizes = np.sort(np.abs(sums[sums != 0]))
    full = float(sizes[-1 - len(sizes) // 20]) if len(sizes) else 1.0
    strength = (np.minimum(1, np.abs(sums) / full) * (finite != 0))[..., None]
    color = np.where(sums[..., None] > 0, RAISES, LOWERS)
    gray = _as_rgb(picture).mean(axis=2, keepdims=True) * _BELOW_SHARES
    mixed = gray * (1 - strength) + color * strength
    return _framed(np.rint(mixed).astype(np.uint8), None, side, sharp=True)


def _summed(numbers: NDArray[np.floating], block: int) -> NDArray[np.floating]:
    """Each number replaced by the sum over its square of ``block`` by ``block``."""
    for axis, n in enumerate(numbers.shape):
        sums = np.add.reduceat(numbers, range(0, n, block), axis=axis)
        numbers = np.repeat(sums, block, axis=axis).take(range(n), axis=axis)
    return numbers


def _as_rgb(picture: NDArray[Any]) -> NDArray[Any]:
    pixels = picture if picture.ndim == 3 else picture[..., None]
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[..., :3]


def _inside(box: Box, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    (top, bottom), (left, right) = box
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    return (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)


def _framed(
    pixels: NDArray[np.uint8], box: Box | None, side: int, *, sharp: bool = False
) -> NDArray[np.uint8]:
    """Room for the part of the box outside the picture, enlarged or reduced, outlined."""
    height, width = pixels.shape[:2]
    (top, bottom), (left, right) = box or ((0, height), (0, width))
    first_row, first_column = min(0, top), min(0, left)
    rows = max(height, bottom) - first_row
    columns = max(width, right) - first_column
    scale = side / max(rows, columns)
    if scale >= _SQUARES_FROM:
        scale = float(int(scale))  # every pixel stays a sharp square
    canvas = Image.fromarray(_stripes(round(rows * scale), round(columns * scale)))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    sharp = sharp or scale >= _SQUARES_FROM
    near = Image.Resampling.NEAREST if sharp else Image.Resampling.BICUBIC
    resample = near if scale >= 1 else Image.Resampling.BOX
    place = (round(-first_column * scale), round(-first_row * scale))
    canvas.paste(Image.fromarray(pixels).resize(size, resample), place)
    pen = ImageDraw.Draw(canvas)
    far = (place[0] + size[0] - 1, place[1] + size[1] - 1)
    pen.rectangle((*place, *far), outline=_EDGE_COLOR)
    if box is None:
        return np.asarray(canvas)
    corners = (
        round((left - first_column) * scale),
        round((top - first_row) * scale),
        round((right - first_column) * scale) - 1,
        round((bottom - first_row) * scale) - 1,
    )
    pen.rectangle(corners, outline=_BOX_COLOR, width=max(2, side // 220))
    return np.asarray(canvas)


def _stripes(height: int, width: int) -> NDArray[np.uint8]:
    """Slanted stripes, which no picture has: here is padding, or nothing at all."""
    rows, columns = np.mgrid[0:height, 0:width]
    dark = ((rows + columns) // _STRIPE) % 2 == 0
    return np.where(dark[..., None], _PADDING_DARK, _PADDING_LIGHT).astype(np.uint8)


# Okabe and Ito, "Color universal design", 2008: told apart with any kind of color blindness.
_ORANGE, _SKY, _GREEN, _YELLOW = (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)
_BLUE, _VERMILION, _PURPLE = (0, 114, 178), (213, 94, 0), (204, 121, 167)
_DARK, _LIGHT = (36, 38, 48), (244, 240, 228)
_SEVERAL = (_DARK, _ORANGE, _SKY, _GREEN, _YELLOW, _BLUE, _VERMILION, _PURPLE)
_GOLDEN_TURN = 0.618034  # of the color circle: no two of many hues come near one another

MISSED, INVENTED, CONFUSED = (255, 122, 24), _SKY, _YELLOW
"""The colors of errors: a class that was not found, one that is not there, one for another."""
RAISES, LOWERS = (214, 96, 77), (67, 147, 195)
"""The colors of what adds to a number, and of what takes from it."""
UNJUDGED = (128, 128, 132)
"""The color of pixels without a label."""
_DIMMED = 0.5  # how much of a picture is left below the colors of its errors


def class_colors(count: int) -> NDArray[np.uint8]:
    """A color for each of ``count`` classes, (count, 3): the first is dark, for the ground."""
    if count == 2:
        return np.array([_DARK, _LIGHT], np.uint8)
    more = [
        colorsys.hls_to_rgb(number * _GOLDEN_TURN % 1, (0.4, 0.6, 0.75)[number % 3], 0.55)
        for number in range(max(0, count - len(_SEVERAL)))
    ]
    beyond = [tuple(round(255 * part) for part in color) for color in more]
    return np.array([*_SEVERAL, *beyond], np.uint8)[:count]


def paint_classes(labels: NDArray[Any], count: int) -> NDArray[np.uint8]:
    """Class numbers (H, W) as colors (H, W, 3); below 0 there is no label."""
    table = np.concatenate([class_colors(count), np.array([UNJUDGED], np.uint8)])
    return np.asarray(table[np.where(labels < 0, count, labels)])


def paint_errors(
    picture: NDArray[np.uint8], truth: NDArray[Any], predicted: NDArray[Any]
) -> NDArray[np.uint8]:
    """A picture (H, W, 3), dimmed, with its wrong pixels in the colors of their kinds.

    Class 0 is the ground: what is truly another class and was taken for the ground is missed, the
    reverse is invented, and everything else is one class for another.

    Args:
        picture: below the colors.
        truth: (H, W) class numbers; below 0 there is no label, so nothing is wrong.
        predicted: (H, W) class numbers.
    """
    painted = (picture * _DIMMED).astype(np.uint8)
    wrong = (truth >= 0) & (truth != predicted)
    painted[wrong] = CONFUSED
    painted[wrong & (predicted == 0)] = MISSED
    painted[wrong & (truth == 0)] = INVENTED
    painted[truth < 0] = UNJUDGED
    return painted


def hex_color(color: tuple[int, ...] | NDArray[Any]) -> str:
    """``#rrggbb``, as a web page takes it."""
    return "#" + "".join(f"{int(part):02x}" for part in color)
