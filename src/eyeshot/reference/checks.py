"""Checks of the arguments; every option becomes one number per axis."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from eyeshot.errors import BadValue
from eyeshot.reference.windows import Array, PerAxis, Window

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
    taken = weight.shape[1] * groups if into == 1 else weight.shape[0]
    if taken != channels:
        raise BadValue(
            f"a weight of shape {weight.shape} with groups {groups} takes {taken} channels, and "
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
