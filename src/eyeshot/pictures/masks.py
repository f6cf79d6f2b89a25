"""Masks as pictures: a colour for each class, and errors by their kind, told apart by any eye."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Okabe and Ito, "Color universal design", 2008: told apart with any kind of colour blindness.
_ORANGE, _SKY, _GREEN, _YELLOW = (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)
_BLUE, _VERMILION, _PURPLE = (0, 114, 178), (213, 94, 0), (204, 121, 167)
_DARK, _LIGHT = (36, 38, 48), (244, 240, 228)
_SEVERAL = (_DARK, _ORANGE, _SKY, _GREEN, _YELLOW, _BLUE, _VERMILION, _PURPLE)
_GOLDEN_TURN = 0.618034  # of the colour circle: no two of many hues come near one another

MISSED, INVENTED, CONFUSED = (255, 122, 24), _SKY, _YELLOW
"""The colours of errors: a class that was not found, one that is not there, one for another."""
UNJUDGED = (128, 128, 132)
"""The colour of pixels that nobody has judged."""
_DIM = 0.5  # how much of a picture is left below the colours of its errors


def class_colors(count: int) -> NDArray[np.uint8]:
    """A colour for each of ``count`` classes, (count, 3): the first is dark, for the ground."""
    if count == 2:
        return np.array([_DARK, _LIGHT], np.uint8)
    more = [
        colorsys.hls_to_rgb(number * _GOLDEN_TURN % 1, (0.4, 0.6, 0.75)[number % 3], 0.55)
        for number in range(max(0, count - len(_SEVERAL)))
    ]
    beyond = [tuple(round(255 * part) for part in color) for color in more]
    return np.array([*_SEVERAL, *beyond], np.uint8)[:count]


def paint_classes(labels: NDArray[Any], count: int) -> NDArray[np.uint8]:
    """Class numbers (H, W) as colours (H, W, 3); what is below 0 nobody has judged."""
    table = np.concatenate([class_colors(count), np.array([UNJUDGED], np.uint8)])
    return np.asarray(table[np.where(labels < 0, count, labels)])


def paint_errors(
    picture: NDArray[np.uint8], truth: NDArray[Any], said: NDArray[Any]
) -> NDArray[np.uint8]:
    """A picture (H, W, 3), dimmed, with its wrong pixels in the colours of their kinds.

    Class 0 is the ground: what is truly another class and was taken for the ground is missed, the
    reverse is invented, and everything else is one class for another.

    Args:
        picture: below the colours.
        truth: (H, W) class numbers; below 0 nobody has judged, and nothing is wrong.
        said: (H, W) class numbers.
    """
    painted = (picture * _DIM).astype(np.uint8)
    wrong = (truth >= 0) & (truth != said)
    painted[wrong] = CONFUSED
    painted[wrong & (said == 0)] = MISSED
    painted[wrong & (truth == 0)] = INVENTED
    painted[truth < 0] = UNJUDGED
    return painted


def hex_color(color: tuple[int, ...] | NDArray[Any]) -> str:
    """``#rrggbb``, as a web page takes it."""
    return "#" + "".join(f"{int(part):02x}" for part in color)
