"""Arrays in, pictures out: grids of maps and kernels, fields, masks, curves, a sheet with headings.

Nothing here knows what a network or a run is; it draws its arguments.

In this file:

- numbers become colors, and maps become tiles in rows and columns; - sheets: pictures with
headings, one below another, as one picture; - fonts for text in pictures: one that is always
available, and one for scripts that it lacks; - a receptive field on a picture: the box, its part in
the padding, and the gradient; - masks: one color per class, and errors by kind in colors that are
distinct for color-blind readers; - pictures as bytes: PNG, JPEG, and the ``data:`` address that
puts one inside a page; - curves as inline SVG: sharp at any size, in the page's own ink in light
and in dark.
"""

from __future__ import annotations

import base64
import colorsys
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from eyeshot.errors import BadValue, UnknownName
from eyeshot.extras import extra

__all__ = [
    "CONFUSED",
    "INVENTED",
    "LOWERS",
    "MISSED",
    "RAISES",
    "RANGES",
    "UNJUDGED",
    "Box",
    "Curve",
    "Panel",
    "check_range",
    "class_colors",
    "color_kernels",
    "color_maps",
    "curves_svg",
    "data_uri",
    "draw_field",
    "draw_gradient",
    "draw_shares",
    "font_for",
    "hex_color",
    "jpeg_bytes",
    "mosaic",
    "paint_classes",
    "paint_errors",
    "png_bytes",
    "reduce_picture",
    "sheet",
]

RANGES = ("own", "shared")
Colors = NDArray[np.uint8]

# Nothing (0) is dark and much is bright; with negative numbers, 0 is white between blue and red.
_POSITIVE, _SIGNED = "magma", "RdBu_r"
_LEAST_SIDE = 12
_DIGITS, _ROOM_FOR_DIGITS = 11, 40
_LABEL, _BESIDE = (24, 24, 32, 255), (128, 128, 140, 255)
_DEAD, _CROSS = (96, 96, 104), (150, 150, 160)


def check_range(range: str) -> None:
    """Refuse a range that is not one of RANGES.

    Raises:
        UnknownName: it is not.
    """
    if range not in RANGES:
        raise UnknownName("range", range, RANGES)


def color_maps(maps: NDArray[Any], *, range: str = "own", lifted: bool = False) -> list[Colors]:
    """Each map of (K, H, W) as colors, (H, W, 3) uint8.

    Where no number is negative, from black (the least) to bright yellow (the largest); otherwise
    from blue (negative) over white (0) to red. NaN and infinities are green, a color that neither
    scale has.

    Args:
        range: ``own``: each map's own largest value is the brightest; ``shared``: the largest of
            all maps is, so that they can be compared.
        lifted: brightness grows with the square root of a number, up to the 99.5th percentile of
            those that are not zero: a map with a few large numbers is not black elsewhere.

    Raises:
        UnknownName: ``range`` is neither.
        BadValue: ``maps`` has not three axes.
    """
    check_range(range)
    values = _real(maps)
    if values.ndim != 3:
        raise BadValue(f"maps of shape {maps.shape}", cure="expected (K, H, W)")
    signed = bool((values < 0).any())
    if lifted:
        scopes = values if range == "own" else [values] * len(values)
        largest = map(_usual_largest, scopes)
        # The scale ends at 1, whether or not a single map gets there.
        scale = np.array([-1.0, 1.0] if signed else [0.0, 1.0])
        lifts = (_lifted(one, most) for one, most in zip(values, largest, strict=True))
        return [_color(one, scale, signed=signed) for one in lifts]
    return [_color(one, one if range == "own" else values, signed=signed) for one in values]


def _usual_largest(values: NDArray[Any]) -> float:
    """The 99.5th percentile of the magnitudes that are not zero; 1 where all are."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    return float(np.percentile(sizes, 99.5)) if sizes.size else 1.0


def _lifted(values: NDArray[Any], largest: float) -> NDArray[Any]:
    """Numbers from -1 to 1: the square root of their share of the largest, with their sign."""
    shares = np.sqrt(np.clip(np.abs(values) / largest, 0, 1))
    lifted: NDArray[Any] = np.where(np.isfinite(values), np.copysign(shares, values), values)
    return lifted


def color_kernels(kernels: NDArray[Any]) -> list[Colors]:
    """Each kernel of (K, C, kh, kw) as one tile, (kh, kw, 3) uint8.

    Kernels over three channels become RGB with gray for 0; others are drawn channel by channel
    from blue (negative) over white (0) to red, side by side. All share one range.

    Raises:
        BadValue: an array of another number of axes.
    """
    values = _real(kernels)
    if values.ndim != 4:
        raise BadValue(f"kernels of shape {kernels.shape}", cure="expected (K, C, kh, kw)")
    largest = float(np.abs(values).max(initial=0.0)) or 1.0
    if values.shape[1] == 3:
        rgb = np.moveaxis(values, 1, -1) / largest * 127.5 + 127.5
        return list(np.rint(rgb).astype(np.uint8))
    side_by_side = np.moveaxis(values, 1, 2).reshape(len(values), values.shape[2], -1)
    return [_color(one, values, signed=True) for one in side_by_side]


def mosaic(
    tiles: list[Colors],
    *,
    side: int = 112,
    width: int = 960,
    columns: int | None = None,
    gap: int = 4,
    dead: NDArray[np.bool_] | None = None,
    numbers: bool = False,
) -> Colors:
    """Tiles of one shape in rows and columns, (H, W, 4) uint8; the gaps are transparent.

    Small tiles are enlarged by a whole factor, so that every number stays a sharp square; large
    ones are averaged down.

    Args:
        side: how long the longer side of a tile may be drawn, in pixels.
        width: of the whole; many tiles are drawn smaller to keep to it, though not below 12 pixels.
        columns: tiles in a row; by default a grid about four times as wide as high.
        dead: (K,) tiles to draw gray and crossed out.
        numbers: write each tile's number into its corner; beside each row its first number, where
            tiles are too small.

    Raises:
        BadValue: no tiles.
    """
    if not tiles:
        raise BadValue("no tiles to draw", cure="give at least one map")
    across = min(columns or _columns(len(tiles), *tiles[0].shape[:2]), len(tiles))
    side = max(min(side, (width + gap) // across - gap), min(side, _LEAST_SIDE))
    drawn = [_resize(tile, side) for tile in tiles]
    high, wide = drawn[0].shape[:2]
    for crossed in np.flatnonzero(dead).tolist() if dead is not None else ():
        drawn[crossed] = _crossed_out(high, wide)
    down = math.ceil(len(drawn) / across)
    canvas = np.zeros((down * (high + gap) - gap, across * (wide + gap) - gap, 4), np.uint8)
    for place, tile in enumerate(drawn):
        top, left = (place // across) * (high + gap), (place % across) * (wide + gap)
        canvas[top : top + high, left : left + wide, :3] = tile
        canvas[top : top + high, left : left + wide, 3] = 255
    return _numbered(canvas, len(drawn), across, (high + gap, wide + gap)) if numbers else canvas


def _numbered(canvas: Colors, count: int, across: int, pitch: tuple[int, int]) -> Colors:
    """A mosaic with the number of each tile, or of the first tile of each row in a margin."""
    font, _ = font_for("0", _DIGITS)
    inside = min(pitch) >= _ROOM_FOR_DIGITS and pitch[1] >= 4 * _DIGITS // 2 + 6
    margin = 0 if inside else int(font.getlength(str(count))) + 6
    paper = Image.new("RGBA", (canvas.shape[1] + margin, canvas.shape[0]))
    paper.paste(Image.fromarray(canvas), (margin, 0))
    pen = ImageDraw.Draw(paper)
    for number in np.arange(0, count, 1 if inside else across).tolist():
        top, left = (number // across) * pitch[0], (number % across) * pitch[1]
        if inside:
            box = pen.textbbox((left + 2, top + 1), str(number), font=font)
            pen.rectangle((left, top, box[2] + 1, box[3] + 1), fill=_LABEL)
            pen.text((left + 2, top + 1), str(number), (255, 255, 255, 255), font=font)
        elif number == 0 or pitch[0] >= _DIGITS or (number // across) % 2 == 0:
            pen.text((0, top), str(number), _BESIDE, font=font)
    return np.asarray(paper)


def _columns(count: int, height: int, width: int) -> int:
    """A power of two where that leaves no hole, as channels usually come in powers of two."""
    ideal = math.sqrt(4 * count * height / width)
    near = 2 ** int(math.log2(max(ideal, 1)))
    best = near if count % near == 0 else math.ceil(ideal)
    return max(1, min(best, count))


def _matplotlib() -> Any:
    """Its maps of colors and its fonts; ``explain`` comes here for neither, and works without it.

    Raises:
        Failure: it is not installed.
    """
    with extra("report"):
        import matplotlib
        import matplotlib.font_manager
    return matplotlib


def _color(one: NDArray[Any], scope: NDArray[Any], *, signed: bool) -> Colors:
    """Color (H, W) by the range of ``scope``, which need not be the map itself."""
    finite = scope[np.isfinite(scope)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if signed:
        high = max(abs(low), abs(high))
        low = -high
    # A map of one number has no range: white when signed; else dark for 0, bright for another.
    flat = 0.5 if signed else float(high > 0)
    unit = (one - low) / (high - low) if high > low else np.full(one.shape, flat)
    scale = _matplotlib().colormaps[_SIGNED if signed else _POSITIVE]
    colors = scale(np.nan_to_num(np.clip(unit, 0, 1)), bytes=True)[..., :3].copy()
    colors[~np.isfinite(one)] = (0, 200, 0)
    return np.asarray(colors, np.uint8)


def _crossed_out(height: int, width: int) -> Colors:
    """A gray tile with a cross: this channel never says anything."""
    rows, columns = np.mgrid[0:height, 0:width]
    across, down = (columns + 0.5) / width, (rows + 0.5) / height
    thick = 1.5 / min(height, width)
    cross = (np.abs(across - down) < thick) | (np.abs(across + down - 1) < thick)
    return np.where(cross[..., None], _CROSS, _DEAD).astype(np.uint8)


def _resize(tile: Colors, side: int) -> Colors:
    height, width = tile.shape[:2]
    longest = max(height, width)
    if longest <= side:
        factor = side // longest
        return np.repeat(np.repeat(tile, factor, axis=0), factor, axis=1)
    size = (max(1, round(width * side / longest)), max(1, round(height * side / longest)))
    return np.asarray(Image.fromarray(tile).resize(size, Image.Resampling.BOX))


def _real(values: NDArray[Any]) -> NDArray[Any]:
    """Numbers on one line: complex ones by their magnitude, booleans as 0 and 1."""
    return np.abs(values) if np.iscomplexobj(values) else np.asarray(values, np.float64)


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


_WIDE = (
    *("NotoSansCJK", "NotoSansSC", "SourceHanSans", "msyh", "PingFang", "Hiragino Sans GB"),
    *("simhei", "wqy-microhei", "wqy-zenhei", "DroidSansFallback", "Arial Unicode"),
)
"""How files of fonts with Chinese characters are called on Linux, Windows and macOS."""


def font_for(text: str, size: int) -> tuple[ImageFont.FreeTypeFont, str]:
    """A font that can draw a text, and the text; characters that no font here has are escaped.

    DejaVu Sans comes with matplotlib; Pillow's own font has no ×.

    Args:
        text: what is to be drawn.
        size: in pixels.
    """
    for path in (_plain(), _wide()):
        if path is not None and all(ord(char) in _characters(path) for char in text):
            return ImageFont.truetype(path, size), text
    known = _characters(_plain())
    escaped = "".join(
        char if ord(char) in known else char.encode("unicode_escape").decode() for char in text
    )
    return ImageFont.truetype(_plain(), size), escaped


def _plain() -> str:
    return str(Path(_matplotlib().get_data_path(), "fonts/ttf/DejaVuSans.ttf"))


@cache
def _wide() -> str | None:
    """A font of this machine that has Chinese characters; None where there is none."""
    files = sorted(
        _matplotlib().font_manager.findSystemFonts(), key=lambda file: ("Bold" in file, file)
    )
    named = ((name, file) for name in _WIDE for file in files)
    return next((file for name, file in named if Path(file).name.startswith(name)), None)


@cache
def _characters(path: str) -> frozenset[int]:
    font = _matplotlib().font_manager.get_font(path)
    return frozenset(font.get_charmap())


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
    heat = _matplotlib().colormaps["magma"](scaled, bytes=True)[..., :3].astype(np.float64)
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


_QUALITY = 88


def png_bytes(picture: NDArray[Any]) -> bytes:
    """(H, W), (H, W, 1), (H, W, 3) or (H, W, 4) uint8 as PNG; the same picture, the same bytes."""
    pixels = np.ascontiguousarray(picture)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def jpeg_bytes(picture: NDArray[Any]) -> bytes:
    """(H, W) or (H, W, 3) uint8 as JPEG: for photographs, a tenth of the bytes of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(
        buffer, format="JPEG", quality=_QUALITY, optimize=True
    )
    return buffer.getvalue()


def data_uri(picture: NDArray[Any], *, photo: bool = False) -> str:
    """The picture as ``data:image/png;base64,…``, so that a page needs no other file.

    A ``photo`` becomes a JPEG; everything else keeps its exact pixels.
    """
    kind, content = ("jpeg", jpeg_bytes(picture)) if photo else ("png", png_bytes(picture))
    return f"data:image/{kind};base64," + base64.b64encode(content).decode("ascii")


def reduce_picture(picture: NDArray[np.uint8], *, height: int) -> NDArray[np.uint8]:
    """(H, W) or (H, W, 3) averaged down to ``height`` pixels in the same proportions."""
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    resized = Image.fromarray(picture).resize((width, height), Image.Resampling.BOX)
    return np.asarray(resized)


_WIDTH, _HEIGHT = 460, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 12, 34


@dataclass(frozen=True)
class Curve:
    """One line: its name, its points (x, y), and the CSS class that gives its color."""

    name: str
    points: Sequence[tuple[float, float]]
    style: str


@dataclass(frozen=True)
class _Scale:
    """Numbers to pixels, along both axes."""

    x: tuple[float, float]
    y: tuple[float, float]

    def place(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return (
            _LEFT + across * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM),
        )


def curves_svg(
    curves: Sequence[Curve], *, title: str, x_label: str, y_label: str, percent: bool = False
) -> str:
    """``<svg>`` text of the curves over one pair of axes; points that are not finite are left out.

    Args:
        title: read out by screen readers.
        percent: write y as per cent.
    """
    drawn = [_finite(curve) for curve in curves]
    points = [point for curve in drawn for point in curve.points]
    if not points:
        return f'<svg class="plot" role="img" aria-label="{escape(title)}: nothing to draw"></svg>'
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x_ticks, y_ticks = _ticks(min(xs), max(xs), whole=True), _ticks(min(ys), max(ys))
    scale = _Scale(_span(xs, x_ticks, tight=True), _span(ys, y_ticks))
    parts = [
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">',
        *_grid(scale, x_ticks, y_ticks, percent=percent),
        f'<text class="axis" x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{_HEIGHT - 4}" '
        f'text-anchor="middle">{escape(x_label)}</text>',
        f'<text class="axis" transform="translate(12 {(_TOP + _HEIGHT - _BOTTOM) / 2:.0f}) '
        f'rotate(-90)" text-anchor="middle">{escape(y_label)}</text>',
        *(_line(curve, scale) for curve in drawn),
        "</svg>",
    ]
    return "\n".join(parts)


def _finite(curve: Curve) -> Curve:
    points = [(x, y) for x, y in curve.points if math.isfinite(x) and math.isfinite(y)]
    return Curve(curve.name, points, curve.style)


def _line(curve: Curve, scale: _Scale) -> str:
    """The line, and a dot at each point that says its value when pointed at."""
    places = [scale.place(x, y) for x, y in curve.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(
        f'<circle cx="{left:.1f}" cy="{top:.1f}" r="3"><title>{escape(curve.name)}, '
        f"{x:g}: {y:.4g}</title></circle>"
        for (left, top), (x, y) in zip(places, curve.points, strict=True)
    )
    return f'<g class="curve {curve.style}"><polyline points="{path}"/>{dots}</g>'


def _grid(scale: _Scale, x_ticks: list[float], y_ticks: list[float], *, percent: bool) -> list[str]:
    lines = []
    for y in y_ticks:
        left, top = scale.place(scale.x[0], y)
        text = f"{100 * y:.4g} %" if percent else f"{y:.4g}"
        lines.append(
            f'<line class="grid" x1="{left:.1f}" y1="{top:.1f}" x2="{_WIDTH - _RIGHT}" '
            f'y2="{top:.1f}"/><text class="tick" x="{left - 6:.1f}" y="{top + 4:.1f}" '
            f'text-anchor="end">{text}</text>'
        )
    for x in x_ticks:
        left, top = scale.place(x, scale.y[0])
        lines.append(
            f'<text class="tick" x="{left:.1f}" y="{top + 16:.1f}" '
            f'text-anchor="middle">{x:g}</text>'
        )
    return lines


def _span(values: list[float], ticks: list[float], *, tight: bool = False) -> tuple[float, float]:
    low = min(values) if tight else min(*values, *ticks)
    high = max(values) if tight else max(*values, *ticks)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float, *, whole: bool = False, count: int = 5) -> list[float]:
    """About ``count`` round numbers from ``low`` or just below it to ``high`` or just above."""
    spread = high - low or max(abs(high), 1.0) * (1.0 if whole else 0.1)
    rough = spread / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= rough * 0.999)
    if whole:
        step = max(1.0, math.ceil(step))
        first, last = math.ceil(low / step), math.floor(high / step)
    else:
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]
