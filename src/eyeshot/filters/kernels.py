"""The named kernels, what kind a kernel is, and the cheapest exact way to apply it to a picture.

A recipe builds one kernel, or two whose responses are combined to a magnitude, sqrt(x² + y²). The
``-x`` kernels respond to change from left to right (vertical edges), and are positive where the
picture becomes brighter; the ``-y`` kernels respond to change from top to bottom. Kernels are for
cross-correlation: they are not flipped. The options of a filter are defined and checked here too.

The kinds, from special to general: *box* (all weights equal), *separable* (a column times a row:
rank 1), *dense* (anything else). The methods:

========== ============================================ =======================================
direct     every weight that is not zero, multiplied    3×3 of any kind, dense small
separable  a row of weights, then a column of weights   rank 1, from about 5×5 up
box        running sums: the cost ignores the size      box, from about 21×21 up
fft        one product a frequency                      dense large, from about 24×24 full weights
========== ============================================ =======================================

Where one method becomes faster than the next was measured on float32 color pictures (see
``benchmarks/filters.py``); a wrong guess costs time, never a wrong pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
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


class Kind(StrEnum):
    """What a kernel is."""

    BOX = "box"
    SEPARABLE = "separable"
    DENSE = "dense"


class Method(StrEnum):
    """How a kernel is laid on a picture."""

    DIRECT = "direct"
    SEPARABLE = "separable"
    BOX = "box"
    FFT = "fft"


# (top, left, height, width) of a rectangle of weights.
Piece = tuple[int, int, int, int]

# Costs in units of one multiply-add a pixel, measured.
_SEPARABLE_OVERHEAD = 4  # a second pass through the rows in the cache
_BOX_COST = 41  # running sums in float64, for any size
_PIECE_OVERHEAD = 16  # one more pass over the picture
_FFT_COST = 600

# OpenCV's own filter2D goes over to a Fourier transform at this many weights, zeros included:
# 25 times slower on a sparse kernel. Larger kernels are split into pieces below this size.
_LARGEST_PIECE = {4: 129, 8: 49}


@dataclass(frozen=True)
class Route:
    """The kind of a kernel and the way to compute it.

    Attributes:
        kind: the kind of the kernel.
        method: the way to compute it.
        shape: (kh, kw).
        weights: the number of nonzero weights.
        column: (kh,) and ``row``: (kw,) weights whose product the kernel is, if it has rank 1.
        pieces: for the direct method, (top, left, height, width) of the parts summed one by one.
    """

    kind: Kind
    method: Method
    shape: tuple[int, int]
    weights: int
    column: tuple[float, ...] | None = None
    row: tuple[float, ...] | None = None
    pieces: tuple[Piece, ...] = ()

    def __str__(self) -> str:
        height, width = self.shape
        what = f"{height}×{width} {self.kind}"
        if self.method is Method.DIRECT:
            parts = f" in {len(self.pieces)} pieces" if len(self.pieces) > 1 else ""
            return f"{what}, direct: {self.weights} multiply-adds a pixel{parts}"
        if self.method is Method.SEPARABLE:
            return f"{what}, a row then a column: {height + width} multiply-adds a pixel"
        if self.method is Method.BOX:
            return f"{what}, running sums: a few additions a pixel, whatever the size"
        return f"{what}, by the Fourier transform"


def anchor(shape: tuple[int, int]) -> tuple[int, int]:
    """The weight (row, column) on the output's own pixel.

    The middle of an odd size; for an even size the weight before the middle, as in PyTorch's
    ``padding="same"``, so that the extra row and column are below and to the right.
    """
    return (shape[0] - 1) // 2, (shape[1] - 1) // 2


def find_route(weights: Weights, itemsize: int = 4, *, local: bool = False) -> Route:
    """Find the kind of a (kh, kw) kernel and the cheapest way to compute it.

    Args:
        weights: (kh, kw).
        itemsize: bytes of the float type of the computation, 4 or 8.
        local: only methods in which a pixel's value (for example NaN) cannot spread beyond the
            kernel.
    """
    return _find_route(weights.tobytes(), weights.shape[1], itemsize, local)


@lru_cache(maxsize=64)
def _find_route(weight_bytes: bytes, width: int, itemsize: int, local: bool) -> Route:
    weights = np.frombuffer(weight_bytes).reshape(-1, width)
    height, count = len(weights), int(np.count_nonzero(weights))
    factors = _factor(weights, itemsize)
    kind = Kind.SEPARABLE if factors is not None else Kind.DENSE
    if (weights == weights[0, 0]).all():
        kind = Kind.BOX
    costs: dict[Method, int] = {}
    if factors is not None:
        costs[Method.SEPARABLE] = height + width + _SEPARABLE_OVERHEAD
    if not local:
        costs[Method.FFT] = _FFT_COST
        if kind is Kind.BOX:
            costs[Method.BOX] = _BOX_COST
    pieces: tuple[Piece, ...] = ()
    if count <= min(costs.values(), default=count):
        pieces = _cut(weights, _LARGEST_PIECE[itemsize])
        costs[Method.DIRECT] = count + _PIECE_OVERHEAD * (len(pieces) - 1)
    method = min(costs, key=lambda candidate: costs[candidate])
    column, row = factors or (None, None)
    used = pieces if method is Method.DIRECT else ()
    return Route(kind, method, (height, width), count, column, row, used)


def _factor(weights: Weights, itemsize: int) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Column and row whose outer product equals each weight to the rounding of the float type.

    A rank-1 matrix is the product of any of its columns and any of its rows, divided by the weight
    where they cross. The largest weight is the crossing that rounds least.
    """
    crossing = np.unravel_index(np.abs(weights).argmax(), weights.shape)
    largest = weights[crossing]
    if largest == 0:
        return None
    column, row = weights[:, crossing[1]], weights[crossing[0]] / largest
    tolerance = 2**-23 if itemsize == 4 else 2**-51
    if (np.abs(weights - np.outer(column, row)) > tolerance * np.abs(weights)).any():
        return None
    return tuple(column.tolist()), tuple(row.tolist())


def _cut(weights: Weights, largest: int) -> tuple[Piece, ...]:
    """Cut into bands of rows, as tall as they can be, each trimmed to its non-zero weights."""
    height, width = weights.shape
    if height * width <= largest:
        return ((0, 0, height, width),)
    pieces: list[Piece] = []
    for left in range(0, width, largest):
        columns = min(largest, width - left)
        band: Piece | None = None
        for bottom in range(1, height + 1):
            top = band[0] if band else bottom - 1
            grown = _trim(weights, top, left, bottom - top, columns)
            if band and grown and grown[2] * grown[3] > largest:
                pieces.append(band)
                grown = _trim(weights, bottom - 1, left, 1, columns)
            band = grown
        if band:
            pieces.append(band)
    return tuple(pieces)


def _trim(weights: Weights, top: int, left: int, height: int, width: int) -> Piece | None:
    part = weights[top : top + height, left : left + width]
    rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    if rows.size == 0:
        return None
    return (
        top + int(rows[0]),
        left + int(columns[0]),
        int(rows[-1] - rows[0]) + 1,
        int(columns[-1] - columns[0]) + 1,
    )
