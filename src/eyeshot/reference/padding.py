"""What stands beyond the border of an image, and how gradients come back from there.

Padding an axis is reading it through a list of positions: the padded axis ``[-1 0 1 2 -1]`` reads
nothing (a zero), then cells 0, 1 and 2, then nothing again. The four kinds differ in that list
alone, and its gradient adds each padded cell back to the cell that it was read from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np

from eyeshot.errors import BadValue, UnknownName
from eyeshot.reference.checks import per_axis
from eyeshot.reference.windows import Array, PerAxis

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
"""``a b c`` padded by two: ``0 0 abc 0 0``, ``c b abc b a``, ``a a abc c c``, ``b c abc a b``."""

Padding: TypeAlias = PerAxis | Literal["valid", "same"]
"""``valid``: none. ``same``: as many outputs as inputs; an odd cell more goes to the far end."""

Widths: TypeAlias = tuple[tuple[int, int], ...]
"""Cells added before and after, for every spatial axis."""

OUTSIDE = -1


def resolve_padding(
    padding: Padding, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Widths:
    """Cells to add before and after on every axis.

    Raises:
        UnknownName: a word other than ``valid`` and ``same``.
        BadValue: a negative number, or ``same`` with a stride, where it has no meaning.
    """
    if not isinstance(padding, str):
        return tuple((p, p) for p in per_axis(padding, len(kernel), "padding", least=0))
    if padding == "valid":
        return tuple((0, 0) for _ in kernel)
    if padding != "same":
        raise UnknownName("padding", padding, ["valid", "same"])
    if any(s != 1 for s in stride):
        raise BadValue(
            f"padding 'same' with stride {tuple(stride)}",
            cure="use stride 1, or give the padding as a number",
        )
    missing = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    return tuple((total // 2, total - total // 2) for total in missing)


def padded_positions(n: int, before: int, after: int, mode: str) -> Array:
    """The cell of an axis of length ``n`` that each padded cell reads; ``OUTSIDE`` for a zero.

    Raises:
        UnknownName: no such padding mode.
        BadValue: more padding than the axis has cells to reflect (n − 1) or to wrap around (n).
    """
    if mode not in get_args(PaddingMode):
        raise UnknownName("padding mode", mode, get_args(PaddingMode))
    most = {"reflect": n - 1, "circular": n}.get(mode)
    if most is not None and max(before, after) > most:
        raise BadValue(
            f"{mode} padding of {max(before, after)} on an axis of {n} cells",
            cure=f"use at most {most}, or another padding mode",
        )
    position: Array = np.arange(-before, n + after)
    if mode == "reflect":
        last = n - 1
        position = last - np.abs(last - np.abs(position))
    elif mode == "replicate":
        position = position.clip(0, n - 1)
    elif mode == "circular":
        position = position % n
    else:
        position[(position < 0) | (position >= n)] = OUTSIDE
    return position


def pad(x: Array, widths: Widths, mode: str = "zeros") -> Array:
    """``x`` (N, C, *sizes) with ``widths`` cells added on every spatial axis.

    Raises:
        UnknownName, BadValue: as :func:`padded_positions`.
    """
    for axis, (before, after) in enumerate(widths, start=2):
        source = padded_positions(x.shape[axis], before, after, mode)
        if before or after:
            x = np.take(x, source, axis)
            np.moveaxis(x, axis, 0)[source == OUTSIDE] = 0
    return x


def pad_backward(gradient: Array, widths: Widths, mode: str = "zeros") -> Array:
    """The gradient of :func:`pad`: every padded cell's share goes to the cell it was read from.

    ``gradient`` has the padded shape; the result has the shape before padding.
    """
    for axis, (before, after) in enumerate(widths, start=2):
        if not (before or after):
            continue
        n = gradient.shape[axis] - before - after
        source = padded_positions(n, before, after, mode)
        inside = source != OUTSIDE
        shares = np.moveaxis(gradient, axis, 0)
        total = np.zeros((n, *shares.shape[1:]), gradient.dtype)
        np.add.at(total, source[inside], shares[inside])
        gradient = np.moveaxis(total, 0, axis)
    return gradient
