"""What each level of a network sees of a picture, on the way down and up again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.data.pairs import Pairs
from eyeshot.features import see
from eyeshot.frontends.torch import graph_of
from eyeshot.geometry import Fields
from eyeshot.inspection.units import unit_field
from eyeshot.nets.places import levels_of
from eyeshot.pages.parts import Figure, Image, Part, Section
from eyeshot.pictures import color_maps, data_uri, mosaic
from eyeshot.runs import Run
from eyeshot.runs.inputs import prepare_input

SIDE = 256
"""Of the part of a picture that is followed through the network."""
MAPS = 8
"""Of each level, those that vary most."""
_TILE = 128


@dataclass(frozen=True, eq=False)
class Level:
    """What comes out of a level's two convolutions.

    Attributes:
        layer: the last layer of it.
        place: where that stands, in words.
        shape: (C, h, w) of its maps.
        maps: those that are shown, (K, h, w).
        sees: height and width of the part of the picture that a number of it depends on.
    """

    layer: str
    place: str
    shape: tuple[int, ...]
    maps: NDArray[Any]
    sees: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Levels:
    """A part of a picture, (H, W, C), of the pair ``name``, and what each level makes of it."""

    name: str
    picture: NDArray[np.uint8]
    levels: tuple[Level, ...]


def look_inside(run: Run, pairs: Pairs, name: str) -> Levels | None:
    """Follow the middle of one validation picture; None for a network without levels.

    Raises:
        BadFile: the picture cannot be read.
    """
    net = run.net
    names = levels_of(net)
    if not names:
        return None
    path = next(pair.image for pair in pairs.validation if pair.name == name)
    ready = prepare_input(run, path, side=SIDE)
    features = see(net, ready.values, names)
    fields = Fields(graph_of(net, tuple(ready.values.shape[1:])))
    levels = tuple(
        Level(
            layer.name,
            layer.place,
            layer.maps.shape,
            _liveliest(layer.maps),
            tuple(len(side) for side in unit_field(fields, layer.name).box or ()),
        )
        for layer in features.layers
    )
    return Levels(name, ready.picture, levels)


def levels_section(found: Levels) -> Section:
    """A figure a level: its maps, and how far each of its numbers sees."""
    high, wide = found.picture.shape[:2]
    picture = found.picture if found.picture.shape[2] in (1, 3) else found.picture[..., :1]
    image = Image(data_uri(picture), f"Part of picture {found.name}", width=224)
    parts: list[Part] = [
        Figure(image, "The picture", f"The middle {high}×{wide} pixels of {found.name}.")
    ]
    parts += [_figure(level) for level in found.levels]
    says = (
        "On the way down the maps shrink and each number sees more of the picture; on the way up "
        "they grow again, and the skips bring back what is fine. Bright means much of what a "
        "channel looks for."
    )
    return Section("levels", "What each level sees", says, parts)


def _figure(level: Level) -> Figure:
    count, high, wide = level.shape
    shown = mosaic(color_maps(level.maps), side=_TILE, width=MAPS * (_TILE + 4), columns=MAPS)
    which = f"the {len(level.maps)} that vary most" if count > len(level.maps) else "all of them"
    note = f"{count} maps of {high}×{wide}, {which}."
    if level.sees:
        note += f" Each number sees {level.sees[0]}×{level.sees[1]} pixels of the picture."
    block = level.layer.partition(".")[0]
    title = f"{level.place[:1].upper()}{level.place[1:]} ({block})"
    alt = f"{len(level.maps)} feature maps of {level.place}"
    return Figure(Image(data_uri(shown), alt), title, note)


def _liveliest(maps: NDArray[Any]) -> NDArray[Any]:
    """The maps (K, h, w) whose numbers vary most, the liveliest first."""
    order = np.argsort(-maps.std(axis=(1, 2)), kind="stable")[:MAPS]
    return np.asarray(maps[order])
