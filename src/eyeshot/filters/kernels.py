"""The named kernels, for cross-correlation: they are not flipped.

A recipe builds one kernel, or two whose responses are combined to a magnitude, sqrt(x² + y²). The
``-x`` kernels respond to change from left to right (vertical edges), and are positive where the
picture becomes brighter; the ``-y`` kernels respond to change from top to bottom.

A filter's options are defined and checked here too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eyeshot.errors import BadValue, UnknownName

Array = NDArray[Any]
DType = np.dtype[Any]
Weights = NDArray[np.float64]

# Values outside the picture: zeros, nothing (only whole patches), the picture mirrored
# about its outermost pixels, its outermost pixels repeated, or the picture from its other side.
Padding = Literal["same", "valid", "reflect", "replicate", "circular"]

# Results outside the picture's range: clip them, stretch all to fit, or keep them.
Range = Literal["clip", "rescale", "keep"]

# The last channel of a (H, W, 2) or (H, W, 4) picture: keep it, or filter it like a color.
Alpha = Literal["keep", "filter"]

PADDINGS: tuple[str, ...] = get_args(Padding)
RANGES: tuple[str, ...] = get_args(Range)
ALPHAS: tuple[str, ...] = get_args(Alpha)


def check_option(kind: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a word that is not among the ``known`` ones.

    Raises:
        UnknownName: with the nearest known word.
    """
    if value not in known:
        raise UnknownName(kind, str(value), known)


LARGEST_SIZE = 1001

Kernels = tuple[Weights, ...]


@dataclass(frozen=True)
class Recipe:
    """How a named kernel is made: ``build(size)``; ``size`` is the default, or the only one."""

    about: str
    size: int
    build: Callable[[int], Kernels]
    sized: bool = False


def freeze(values: ArrayLike) -> Weights:
    """A read-only float64 copy of ``values``."""
    weights = np.array(values, dtype=np.float64)
    weights.setflags(write=False)
    return weights


def gaussian(size: int, sigma: float | None = None) -> Weights:
    """A (size, size) Gaussian whose weights sum to 1.

    ``sigma`` is in pixels; by default 0.3·((size − 1)/2 − 1) + 0.8, OpenCV's rule, which lets the
    weights fade to a few per cent at the rim.

    Raises:
        BadValue: size below 1, or sigma not above 0.
    """
    if size < 1:
        raise BadValue(f"gaussian size is {size}", cure="use 1 or more")
    if sigma is None:
        sigma = 0.3 * ((size - 1) / 2 - 1) + 0.8
    if not sigma > 0 or not np.isfinite(sigma):
        raise BadValue(f"gaussian sigma is {sigma}", cure="use a number above 0")
    steps = np.arange(size) - (size - 1) / 2
    bell = np.exp(-(steps**2) / (2 * sigma**2))
    bell /= bell.sum()
    return freeze(np.outer(bell, bell))


def _identity(_size: int) -> Kernels:
    return (freeze([[0, 0, 0], [0, 1, 0], [0, 0, 0]]),)


def _mean(size: int) -> Kernels:
    return (freeze(np.full((size, size), 1 / size**2)),)


def _motion(size: int) -> Kernels:
    return (freeze(np.eye(size) / size),)


def _edge5(size: int) -> Kernels:
    weights = np.full((size, size), -1.0)
    weights[size // 2, size // 2] = size**2 - 1
    return (freeze(weights),)


def _fixed(rows: ArrayLike) -> Callable[[int], Kernels]:
    weights = freeze(rows)
    return lambda _size: (weights,)


def _gradient(smoothing: list[int], axes: str) -> Callable[[int], Kernels]:
    """A difference along one axis, smoothed along the other: x, y, or both as a magnitude."""
    along_x = freeze(np.outer(smoothing, [-1, 0, 1]))
    pair = {"x": along_x, "y": freeze(along_x.T)}
    chosen = tuple(pair[axis] for axis in axes)
    return lambda _size: chosen


_PREWITT, _SOBEL, _SCHARR = [1, 1, 1], [1, 2, 1], [3, 10, 3]

RECIPES = MappingProxyType(
    {
        "identity": Recipe("the picture as it is", 3, _identity),
        "mean": Recipe("the average of a square", 3, _mean, sized=True),
        "gaussian": Recipe("smoothing, near pixels count more", 5, lambda n: (gaussian(n),), True),
        "sharpen": Recipe("details raised", 3, _fixed([[0, -1, 0], [-1, 5, -1], [0, -1, 0]])),
        "laplacian": Recipe(
            "how much a pixel differs from its four neighbors",
            3,
            _fixed([[0, 1, 0], [1, -4, 1], [0, 1, 0]]),
        ),
        "sobel-x": Recipe("change from left to right", 3, _gradient(_SOBEL, "x")),
        "sobel-y": Recipe("change from top to bottom", 3, _gradient(_SOBEL, "y")),
        "sobel": Recipe("edge strength: magnitude of sobel-x, sobel-y", 3, _gradient(_SOBEL, "xy")),
        "prewitt-x": Recipe("as sobel-x, evenly smoothed", 3, _gradient(_PREWITT, "x")),
        "prewitt-y": Recipe("as sobel-y, evenly smoothed", 3, _gradient(_PREWITT, "y")),
        "prewitt": Recipe("edge strength, evenly smoothed", 3, _gradient(_PREWITT, "xy")),
        "scharr-x": Recipe("as sobel-x, truer at slants", 3, _gradient(_SCHARR, "x")),
        "scharr-y": Recipe("as sobel-y, truer at slants", 3, _gradient(_SCHARR, "y")),
        "scharr": Recipe("edge strength, the same at every slant", 3, _gradient(_SCHARR, "xy")),
        "emboss": Recipe(
            "lit from the top left, as a relief", 3, _fixed([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
        ),
        "edge5": Recipe("24 in the middle, -1 in the 24 places around it", 5, _edge5),
        "motion": Recipe("blur along a line, top left to bottom right", 9, _motion, sized=True),
    }
)

NAMES = tuple(RECIPES)


@lru_cache(maxsize=64)
def build(name: str, size: int | None = None) -> Kernels:
    """The kernels with this name: one (kh, kw) array, or two that are combined to a magnitude.

    Raises:
        UnknownName: there is no such kernel.
        BadValue: the kernel does not exist in this size.
    """
    recipe = RECIPES.get(name)
    if recipe is None:
        raise UnknownName("kernel", name, NAMES)
    if size is None or size == recipe.size:
        return recipe.build(recipe.size)
    if not recipe.sized:
        cure = f"write {name!r} alone; sizes can be chosen for {_sized_names()}"
        raise BadValue(f"kernel {name!r} comes in size {recipe.size} only, not {size}", cure=cure)
    if not 1 <= size <= LARGEST_SIZE:
        raise BadValue(f"kernel size is {size}", cure=f"use 1 to {LARGEST_SIZE}")
    return recipe.build(size)


def _sized_names() -> str:
    return ", ".join(name for name, recipe in RECIPES.items() if recipe.sized)
