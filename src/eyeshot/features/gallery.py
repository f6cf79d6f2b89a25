"""Feature maps as a piece of a web page: what Jupyter shows, and ``see -o page.html``."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.features.maps import Features, LayerMaps
from eyeshot.pictures import colour_maps, data_uri, mosaic

_MOST_SIDE, _LEAST_SIDE, _PIXELS = 112, 24, 1_200_000


@dataclass(frozen=True, eq=False)
class Exhibit:
    """One layer ready to be shown: its picture (H, W, 4) and what to say about it."""

    name: str
    title: str
    note: str
    picture: NDArray[np.uint8]


def exhibits(features: Features, *, range: str = "own") -> list[Exhibit]:
    """Every layer's maps as one picture; a layer of a thousand channels gets smaller tiles.

    Raises:
        UnknownName: ``range`` is not ``own`` or ``shared``.
    """
    return [exhibit(layer, range=range) for layer in features.layers if layer.maps.size]


def exhibit(layer: LayerMaps, *, range: str = "own", side: int | None = None) -> Exhibit:
    """One layer's maps as one picture."""
    flat, cut = as_planes(layer.maps)
    # A vector is one strip: its numbers have a colour only beside each other.
    vector = layer.maps.ndim < 2
    tiles = colour_maps(flat, range="shared" if vector else range)
    dead = layer.dead if not vector and len(layer.dead) == len(tiles) else None
    if vector:
        wide = max(4, min(24, 1200 // flat.shape[2])) * flat.shape[2]
        tiles = [np.repeat(tiles[0], max(1, 20 * flat.shape[2] // wide), axis=0)]
        side = wide
    picture = mosaic(tiles, side=side or _side(len(tiles)), dead=dead)
    return Exhibit(layer.name, layer.title, _note(layer, cut), picture)


def as_planes(maps: NDArray[Any]) -> tuple[NDArray[Any], str]:
    """Maps of any layer as (K, H, W), and what was left out to get there.

    A volume shows its middle slice; a (C, W) signal is one row a channel; a vector one row.
    """
    if maps.ndim == 3:
        return maps, ""
    if maps.ndim < 3:
        return np.atleast_2d(maps)[None], ""
    middle = tuple(size // 2 for size in maps.shape[1:-2])
    places = ", ".join(map(str, middle))
    return maps[(slice(None), *middle)], f"slice {places} of {_by(maps.shape[1:-2])}"


def gallery(features: Features, *, range: str = "own") -> str:
    """An HTML fragment: the image that went in, then every layer's maps in the order of calls."""
    parts = ['<div class="eyeshot-gallery">']
    for shown in exhibits(features, range=range):
        words = f"{shown.title}: {shown.note}"
        parts.append(
            f'<figure style="margin:0 0 1.6em"><figcaption style="margin-bottom:.4em">'
            f"<strong><code>{escape(shown.name)}</code></strong> {escape(words)}</figcaption>"
            f'<img alt="{escape(f"Feature maps of {shown.name}, {words}")}" '
            f'style="max-width:100%;image-rendering:pixelated" src="{data_uri(shown.picture)}">'
            f"</figure>"
        )
    return "\n".join([*parts, "</div>"])


def _side(count: int) -> int:
    """How large a tile may be so that the whole picture stays reasonable."""
    return int(np.clip((_PIXELS / count) ** 0.5, _LEAST_SIDE, _MOST_SIDE))


def _note(layer: LayerMaps, cut: str) -> str:
    parts = [_by(layer.maps.shape)]
    if np.isfinite(layer.maps).all():
        parts.append(f"values {layer.maps.min():.3g} to {layer.maps.max():.3g}")
    else:
        parts.append("some values are not finite (green)")
    dead = int(layer.dead.sum())
    if dead and layer.maps.ndim > 1:
        parts.append(f"{dead} of {len(layer.dead)} channels dead (crossed out)")
    return ", ".join([*parts, cut] if cut else parts)


def _by(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "one number"
