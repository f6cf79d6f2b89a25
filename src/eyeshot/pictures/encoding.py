"""Drawings as files and pages need them: pictures as PNG and JPEG bytes, curves as SVG.

In this file:

- pictures as bytes: PNG, and the ``data:`` address that puts one inside a page;
- curves as inline SVG: sharp at any size, in the page's own ink in light and in dark.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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
