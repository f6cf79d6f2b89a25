"""What stands beyond the border of an image, and how gradients come back from there.

Padding an axis is reading it through a list of positions: the padded axis ``[-1 0 1 2 -1]`` reads
nothing (a zero), then cells 0, 1 and 2, then nothing again. The four kinds differ in that list
alone, and its gradient adds each padded cell back to the cell that it was read from.

In this file:

- positions of a sliding window: the index arithmetic that convolution and pooling share;
- checks of arguments; every option becomes one number per axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadValue, UnknownName

Array: TypeAlias = NDArray[Any]
PerAxis: TypeAlias = int | Sequence[int]
"""One whole number for every spatial axis, or one for all of them."""


@dataclass(frozen=True)
class Window:
    """How a window moves, one number for every spatial axis, and how channels are grouped."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def outputs(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """How many places it fits at on an image of ``sizes`` (already padded)."""
        return count_outputs(sizes, self.kernel, self.stride, self.dilation)


def span(kernel: int, dilation: int) -> int:
    """How many input cells a window covers from its first to its last: d·(k − 1) + 1."""
    return dilation * (kernel - 1) + 1


def count_outputs(
    sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[int, ...]:
    """How many places a window fits at, on every axis: ⌊(n − d·(k − 1) − 1) / s⌋ + 1.

    Raises:
        BadValue: the window is larger than the (padded) image.
    """
    spans = [span(k, d) for k, d in zip(kernel, dilation, strict=True)]
    if any(wide > n for wide, n in zip(spans, sizes, strict=True)):
        raise BadValue(
            f"a window of {_by(spans)} is larger than the padded image of {_by(sizes)}",
            cure="use a smaller kernel or dilation, or more padding",
        )
    return tuple((n - wide) // s + 1 for n, wide, s in zip(sizes, spans, stride, strict=True))


def met_by(
    cell: Sequence[int], outputs: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[Any, ...]:
    """An index for the input cells that one kernel cell meets, one for every place.

    On an axis they are s·i + d·j for i = 0, 1, …, outputs − 1: a slice with step s.
    """
    steps = (
        slice(d * j, d * j + s * (count - 1) + 1, s)
        for j, count, s, d in zip(cell, outputs, stride, dilation, strict=True)
    )
    return (..., *steps)


def _by(sizes: Sequence[int]) -> str:
    return "×".join(str(size) for size in sizes)


MOST_AXES = 3


def count_axes(x: Array) -> int:
    """The number of spatial axes of ``x``, which is (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Raises:
        BadValue: there are no spatial axes, more than three, or one of length zero.
    """
    axes = x.ndim - 2
    if not 1 <= axes <= MOST_AXES:
        raise BadValue(
            f"an input of shape {x.shape} has {x.ndim} axes",
            cure="give (N, C, L), (N, C, H, W) or (N, C, D, H, W)",
        )
    if 0 in x.shape:
        raise BadValue(f"an input of shape {x.shape} is empty", cure="give at least one cell")
    return axes


def widen(x: Array) -> Array:
    """Whole numbers as int64, so that a sum of bytes does not run over; others as they are."""
    return x.astype(np.int64) if x.dtype.kind in "bui" else x


def per_axis(value: PerAxis, axes: int, name: str, *, least: int) -> tuple[int, ...]:
    """One whole number for every axis: ``2`` for two axes becomes ``(2, 2)``.

    Raises:
        BadValue: a wrong count of numbers, a number below ``least``, or not a whole number.
    """
    values = list(value) if isinstance(value, Iterable) else [value] * axes
    if len(values) != axes:
        raise BadValue(
            f"{name} {tuple(values)} has {len(values)} numbers for {axes} spatial axes",
            cure="give one number, or one for each axis",
        )
    for number in values:
        if not isinstance(number, int | np.integer) or isinstance(number, bool) or number < least:
            raise BadValue(f"{name} {number!r}", cure=f"give whole numbers of at least {least}")
    return tuple(int(number) for number in values)


def make_window(
    x: Array, weight: Array, stride: PerAxis, dilation: PerAxis, groups: int, *, into: int = 1
) -> Window:
    """Check that ``weight`` fits ``x``, and give every option one number for each axis.

    ``into`` is the axis of the weight that input channels belong to: 1 for a convolution, whose
    weight is (O, C / groups, *kernel), and 0 for its transpose, (C, O / groups, *kernel).

    Raises:
        BadValue: they do not fit.
    """
    axes = count_axes(x)
    if weight.ndim != x.ndim or 0 in weight.shape:
        raise BadValue(
            f"a weight of shape {weight.shape} for an input of shape {x.shape}",
            cure=f"give a weight with two channel axes and {axes} spatial axes, none of them empty",
        )
    (groups,) = per_axis(groups, 1, "groups", least=1)
    channels = x.shape[1]
    if channels % groups or weight.shape[0] % groups:
        raise BadValue(
            f"groups {groups} do not divide {channels} input channels and a weight of shape "
            f"{weight.shape}",
            cure="use a divisor of both channel counts",
        )
    expected = weight.shape[1] * groups if into == 1 else weight.shape[0]
    if expected != channels:
        raise BadValue(
            f"a weight of shape {weight.shape} with groups {groups} takes {expected} channels, and "
            f"the input of shape {x.shape} has {channels}",
            cure="make the two agree",
        )
    return Window(
        kernel=weight.shape[2:],
        stride=per_axis(stride, axes, "stride", least=1),
        dilation=per_axis(dilation, axes, "dilation", least=1),
        groups=groups,
    )


def check_bias(bias: Array | None, channels: int) -> None:
    """Raise BadValue unless ``bias`` is absent or has one number for each output channel."""
    if bias is not None and bias.shape != (channels,):
        raise BadValue(
            f"a bias of shape {bias.shape} for {channels} output channels",
            cure=f"give shape ({channels},)",
        )


def check_gradient(gradient: Array, shape: tuple[int, ...]) -> None:
    """Raise BadValue unless ``gradient`` has the expected ``shape``."""
    if gradient.shape != shape:
        raise BadValue(
            f"a gradient of shape {gradient.shape} for an output of shape {shape}",
            cure="give the gradient of this very output",
        )


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
