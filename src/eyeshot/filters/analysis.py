"""What a kernel is, and the cheapest exact way to lay it on a picture.

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

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np

from eyeshot.filters.kernels import Weights


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
    """Column and row whose outer product equals ``weights`` to the rounding of the float type.

    A rank-1 matrix is the product of any of its columns and any of its rows, divided by the weight
    where they cross. The largest weight is the crossing that rounds least.
    """
    crossing = np.unravel_index(np.abs(weights).argmax(), weights.shape)
    largest = weights[crossing]
    if largest == 0:
        return None
    column, row = weights[:, crossing[1]], weights[crossing[0]] / largest
    tolerance = (2**-23 if itemsize == 4 else 2**-51) * abs(largest)
    if (np.abs(weights - np.outer(column, row)) > tolerance).any():
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
