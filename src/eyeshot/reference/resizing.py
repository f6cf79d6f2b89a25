"""Up-sampling without weights: nearest neighbor and (bi)linear, one axis after another.

Along one axis every output cell is a weighted sum of input cells, so resizing an axis from n to m
cells is an m × n matrix whose rows add up to one. *Nearest* has a single 1 in each row, *linear*
the two shares of the neighbors on either side. Two axes give bilinear, three trilinear: the same
matrices, one after another. The gradient is their transposes.

Where an output cell looks, for a ratio r = n / m of input to output cells:

- nearest: at cell ⌊i·r⌋;
- linear, ``align_corners`` off: at (i + ½)·r − ½, so that cells are little squares and the two
  images cover the same ground; positions before the first cell's center read the first cell;
- linear, ``align_corners`` on: at i·(n − 1)/(m − 1), so that the first and last cells stay put.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

import numpy as np

from eyeshot.errors import BadValue, UnknownName
from eyeshot.reference.padding import Array, PerAxis, check_gradient, count_axes, per_axis

UpsampleMode = Literal["nearest", "linear"]


@dataclass(frozen=True)
class AxisResize:
    """One axis: from ``before`` to ``after`` cells, an output step being ``ratio`` input cells.

    The ratio is exact: in floating point 3 · (1/3) may fall short of cell 1.
    """

    before: int
    after: int
    ratio: Fraction


def upsample(
    x: Array,
    *,
    size: PerAxis | None = None,
    scale: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool = False,
) -> Array:
    """Resize every spatial axis (down as well as up).

    Args:
        x: (N, C, *sizes) with one, two or three spatial axes.
        size: the number of cells on every axis, or
        scale: how many times as many; the size is then ⌊n·scale⌋ and a step is 1 / scale.
        mode: ``nearest`` or ``linear`` (bilinear on two axes, trilinear on three).
        align_corners: keep the corner cells where they are (``linear`` only).

    Returns:
        (N, C, *size), floating point.

    Raises:
        BadValue: neither or both of ``size`` and ``scale``, or one that leaves no cell;
            ``align_corners`` with ``nearest``.
        UnknownName: no such mode.
    """
    for axis, matrix in enumerate(_matrices(x, size, scale, mode, align_corners), start=2):
        x = _along(axis, matrix, x)
    return x


def upsample_backward(
    gradient: Array,
    x: Array,
    *,
    size: PerAxis | None = None,
    scale: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool = False,
) -> Array:
    """∂loss/∂x of :func:`upsample`: the transposed matrices.

    Raises:
        BadValue, UnknownName: as :func:`upsample`; a ``gradient`` not of the output's shape.
    """
    matrices = _matrices(x, size, scale, mode, align_corners)
    check_gradient(gradient, (*x.shape[:2], *[len(matrix) for matrix in matrices]))
    for axis, matrix in enumerate(matrices, start=2):
        gradient = _along(axis, matrix.T, gradient)
    return gradient


def nearest_matrix(resize: AxisResize) -> Array:
    """(after, before): row i has a 1 at the cell that output i copies."""
    looks_at = [min(math.floor(i * resize.ratio), resize.before - 1) for i in range(resize.after)]
    copies: Array = np.eye(resize.before)[looks_at]
    return copies


def linear_matrix(resize: AxisResize, align_corners: bool) -> Array:
    """(after, before): row i has the shares of the two cells on either side of where i looks.

    As PyTorch does, an axis whose size stays as it is is copied, whatever the scale.
    """
    if resize.before == resize.after:
        return np.eye(resize.before)
    row = np.arange(resize.after)
    if align_corners:
        position = row * ((resize.before - 1) / max(1, resize.after - 1))
    else:
        position = ((row + 0.5) * float(resize.ratio) - 0.5).clip(min=0)
    last = resize.before - 1
    left = np.floor(position).astype(np.intp).clip(max=last)
    right = (left + 1).clip(max=last)
    share = (position - left)[:, None]
    cells = np.eye(resize.before)
    shares: Array = cells[left] * (1 - share) + cells[right] * share
    return shares


def plan_resize(
    sizes: Sequence[int], size: PerAxis | None, scale: float | Sequence[float] | None
) -> tuple[AxisResize, ...]:
    """Sizes and ratios for every axis from either way of asking.

    Raises:
        BadValue: neither or both given, or a size of no cell.
    """
    if (size is None) == (scale is None):
        raise BadValue(f"size {size} and scale {scale}", cure="give one of the two")
    if size is not None:
        sides = per_axis(size, len(sizes), "size", least=1)
        return tuple(AxisResize(n, m, Fraction(n, m)) for n, m in zip(sizes, sides, strict=True))
    scales = [scale] * len(sizes) if isinstance(scale, int | float) else list(scale or [])
    if len(scales) != len(sizes):
        raise BadValue(f"scale {scale} for {len(sizes)} spatial axes", cure="give one for each")
    if any(not np.isfinite(f) or int(n * f) < 1 for n, f in zip(sizes, scales, strict=True)):
        raise BadValue(f"scale {scale} for an image of {tuple(sizes)}", cure="leave some cells")
    return tuple(
        AxisResize(n, int(n * f), 1 / Fraction(str(f))) for n, f in zip(sizes, scales, strict=True)
    )


def _matrices(
    x: Array,
    size: PerAxis | None,
    scale: float | Sequence[float] | None,
    mode: str,
    align_corners: bool,
) -> list[Array]:
    count_axes(x)
    if mode not in get_args(UpsampleMode):
        raise UnknownName("up-sampling mode", mode, get_args(UpsampleMode))
    plan = plan_resize(x.shape[2:], size, scale)
    if mode == "linear":
        return [linear_matrix(resize, align_corners) for resize in plan]
    if align_corners:
        raise BadValue("align_corners with nearest up-sampling", cure="use mode 'linear'")
    return [nearest_matrix(resize) for resize in plan]


def _along(axis: int, matrix: Array, x: Array) -> Array:
    """Multiply ``x`` by ``matrix`` along one axis."""
    dtype = x.dtype if np.issubdtype(x.dtype, np.floating) else matrix.dtype
    moved = np.moveaxis(x, axis, -1) @ matrix.T.astype(dtype)
    return np.moveaxis(moved, -1, axis)
