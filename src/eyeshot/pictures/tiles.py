"""Many small maps in one picture: numbers become colors, and maps become tiles in rows and columns.

In this file:

- sheets: pictures with headings, one below another, as one picture;
- fonts for text in pictures: one that is always available, and one for scripts that it lacks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from eyeshot.errors import BadValue, UnknownName
from eyeshot.extras import extra

with extra("report"):
    import matplotlib
    from matplotlib import colormaps, font_manager

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
    scale = colormaps[_SIGNED if signed else _POSITIVE]
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
    return str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"))


@cache
def _wide() -> str | None:
    """A font of this machine that has Chinese characters; None where there is none."""
    files = sorted(font_manager.findSystemFonts(), key=lambda file: ("Bold" in file, file))
    named = ((name, file) for name in _WIDE for file in files)
    return next((file for name, file in named if Path(file).name.startswith(name)), None)


@cache
def _characters(path: str) -> frozenset[int]:
    font = font_manager.get_font(path)
    return frozenset(font.get_charmap())
