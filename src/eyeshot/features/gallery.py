"""Feature maps as part of a web page, for Jupyter and for ``see -o page.html``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.features.maps import Features, LayerMaps
from eyeshot.pages import Fact, Figure, Image, Section, render_page, render_piece
from eyeshot.pictures import color_maps, data_uri, mosaic

_CELL, _CELLS = 14, 64  # a vector: squares of 14 pixels, up to 64 in a row


@dataclass(frozen=True, eq=False)
class Exhibit:
    """One layer for display: its picture (H, W, 4) and its caption."""

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


def exhibit(layer: LayerMaps, *, range: str = "own", columns: int | None = None) -> Exhibit:
    """One layer's maps as one picture."""
    if layer.maps.ndim < 2:
        # Colors must be comparable, so a vector always shares one range.
        tiles = color_maps(layer.maps.reshape(-1, 1, 1), range="shared")
        picture = mosaic(tiles, side=_CELL, columns=_CELLS, gap=1)
        return Exhibit(layer.name, layer.title, _note(layer, ""), picture)
    planes, cut = as_planes(layer.maps)
    tiles = color_maps(planes, range=range, lifted=True)
    dead = layer.dead if len(layer.dead) == len(tiles) else None
    picture = mosaic(tiles, columns=columns, dead=dead, numbers=len(tiles) > 1)
    return Exhibit(layer.name, layer.title, _note(layer, cut), picture)


def as_planes(maps: NDArray[Any]) -> tuple[NDArray[Any], str]:
    """Maps of a layer as (K, H, W), and a note about omitted parts.

    A volume (C, D, H, W) shows its middle slice; signals (C, W) are the rows of one plane.
    """
    if maps.ndim == 3:
        return maps, ""
    if maps.ndim == 2:
        return maps[None], ""
    middle = tuple(size // 2 for size in maps.shape[1:-2])
    places = ", ".join(map(str, middle))
    return maps[(slice(None), *middle)], f"slice {places} of {_by(maps.shape[1:-2])}"


def gallery(features: Features, *, range: str = "own") -> str:
    """A piece of HTML: every layer's maps in the order of calls."""
    return render_piece("Feature maps", facts=_facts(features), sections=[_maps(features, range)])


def _maps(features: Features, range: str) -> Section:
    figures = [
        Figure(
            Image(
                data_uri(shown.picture),
                f"Feature maps of {shown.name}, {shown.title}: {shown.note}",
            ),
            shown.name,
            f"{shown.title}: {shown.note}",
        )
        for shown in exhibits(features, range=range)
    ]
    scale = "its own largest" if range == "own" else "the layer's largest"
    says = (
        f"Each map is numbered by its channel and colored by {scale} number; brightness grows with "
        "the square root, so that small numbers can be seen. With negative numbers, 0 is white "
        "between blue and red; else 0 is black."
    )
    return Section("maps", "", says, figures)


def _facts(features: Features) -> list[Fact]:
    dead = sum(int(layer.dead.sum()) for layer in features.layers if layer.maps.ndim > 1)
    return [
        Fact(f"{len(features.layers)}", "layers, in the order of calls"),
        Fact(_by(features.image.shape), "numbers went in"),
        Fact(f"{dead:,}", "channels are always 0"),
    ]


def _note(layer: LayerMaps, cut: str) -> str:
    parts = [*([layer.place] if layer.place else []), _by(layer.maps.shape)]
    if np.isfinite(layer.maps).all():
        parts.append(f"values {layer.maps.min():.3g} to {layer.maps.max():.3g}")
    else:
        parts.append("some values are not finite (green)")
    dead = int(layer.dead.sum())
    if dead and layer.maps.ndim > 1:
        parts.append(f"{dead} of {len(layer.dead)} channels dead (crossed out)")
    return ", ".join([*parts, cut] if cut else parts)


def _by(shape: tuple[int, ...]) -> str:
    if len(shape) < 2:
        return f"{shape[0]} numbers" if shape else "one number"
    return " × ".join(map(str, shape))


def page(features: Features, title: str, *, range: str = "own") -> str:
    """The gallery as a page that needs no other file, in the reader's light or dark mode."""
    return render_page(
        title, kicker="Eyeshot", facts=_facts(features), sections=[_maps(features, range)]
    )
