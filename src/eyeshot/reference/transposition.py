"""Transposed convolution: the gradient of a convolution, used forwards to make a map larger.

A convolution gathers: each output cell collects from a patch of the image. Its transpose spreads:
each input cell drops a copy of the kernel, times its value, on the output, and overlapping copies
add up. That is exactly how :func:`conv_backward` sends gradients to the image, so the two share
:func:`convolution.spread`, and the shapes swap as well: the padding of the convolution, which added
cells to its image, *removes* cells here.

The same numbers come from an ordinary convolution: put s − 1 zeros between neighboring input
cells, pad, and slide the kernel, turned around, with stride 1
(:func:`conv_transpose_by_zero_insertion`). It is the picture that textbooks draw, and slower, since
most of its products are with a zero.

Several image sizes have the same convolved size when the stride is above one; ``output_padding``
says which of them to go back to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from eyeshot.errors import BadValue
from eyeshot.reference.convolution import (
    Gradients,
    correlate,
    kernel_shares,
    over_space,
    spread,
    sum_over_places,
    turn,
)
from eyeshot.reference.padding import (
    Array,
    PerAxis,
    Window,
    check_bias,
    check_gradient,
    make_window,
    per_axis,
    span,
)


def conv_transpose(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> Array:
    """Spread ``x`` over a larger map through ``weight``.

    Args:
        x: (N, C, *sizes) with one, two or three spatial axes.
        weight: (C, O / groups, *kernel): that of the convolution which this transposes.
        bias: (O,).
        stride: how far apart neighboring input cells are dropped on the output.
        padding: cells removed at both ends of every output axis.
        output_padding: cells added at the far end of every output axis.
        dilation: how far apart the cells of the kernel lie on the output.
        groups: as for a convolution.

    Returns:
        (N, O, *outputs), with
        outputs = (size − 1)·stride − 2·padding + dilation·(kernel − 1) + 1 + output_padding.

    Raises:
        BadValue: shapes that do not fit, nothing left after ``padding``, or ``output_padding`` not
            below the stride or the dilation.
    """
    window = make_window(x, weight, stride, dilation, groups, into=0)
    check_bias(bias, weight.shape[1] * window.groups)
    keep, full = _cropped_cells(x.shape[2:], window, padding, output_padding)
    y: Array = spread(x, weight, window, full)[keep]
    return y if bias is None else y + over_space(bias, y)


def conv_transpose_backward(
    gradient: Array,
    x: Array,
    weight: Array,
    *,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> Gradients:
    """The gradients of :func:`conv_transpose`: the way back is a plain convolution.

    Args:
        gradient: ∂loss/∂output, (N, O, *outputs).
        x, weight, stride, padding, output_padding, dilation, groups: those of the forward call.

    Raises:
        BadValue: as :func:`conv_transpose`; a ``gradient`` that is not of the output's shape.
    """
    window = make_window(x, weight, stride, dilation, groups, into=0)
    keep, full = _cropped_cells(x.shape[2:], window, padding, output_padding)
    whole = np.zeros((len(x), weight.shape[1] * window.groups, *full), gradient.dtype)
    check_gradient(gradient, whole[keep].shape)
    whole[keep] = gradient  # the cells that padding removed had no part in the loss
    # correlate() may fit more places than x has cells when output_padding reaches the stride.
    places: tuple[Any, ...] = (..., *(slice(0, n) for n in x.shape[2:]))
    return Gradients(
        x=correlate(whole, weight, window)[places],
        weight=kernel_shares(x, whole, window),
        bias=sum_over_places(gradient),
    )


def conv_transpose_by_zero_insertion(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> Array:
    """The same as :func:`conv_transpose`, by zeros and an ordinary convolution.

    Arguments, result (N, O, *outputs) and errors are those of :func:`conv_transpose`.
    """
    window = make_window(x, weight, stride, dilation, groups, into=0)
    check_bias(bias, weight.shape[1] * window.groups)
    stuffed = surround_with_zeros(
        insert_zeros(x, window.stride),
        window.kernel,
        window.stride,
        padding,
        output_padding,
        window.dilation,
    )
    one = (1,) * len(window.kernel)
    turned = turn(swap_channels(weight, window.groups))
    y = correlate(stuffed, turned, Window(window.kernel, one, window.dilation, window.groups))
    return y if bias is None else y + over_space(bias, y)


def insert_zeros(x: Array, stride: Sequence[int]) -> Array:
    """Put stride − 1 zeros between neighboring cells of ``x`` (N, C, *sizes).

    A size n becomes (n − 1)·stride + 1.
    """
    sizes = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], stride, strict=True)]
    stuffed = np.zeros((*x.shape[:2], *sizes), x.dtype)
    every: tuple[Any, ...] = (..., *(slice(None, None, s) for s in stride))
    stuffed[every] = x
    return stuffed


def surround_with_zeros(
    stuffed: Array,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: PerAxis,
    output_padding: PerAxis,
    dilation: Sequence[int],
) -> Array:
    """Pad so that a kernel reaches every output cell: d·(k − 1) − p cells before, and at the end
    ``output_padding`` more. A negative count removes cells.

    Raises:
        BadValue: a padding or output padding out of range.
    """
    axes = len(kernel)
    paddings = per_axis(padding, axes, "padding", least=0)
    extras = _check_extras(output_padding, stride, dilation)
    for axis in range(axes):
        before = dilation[axis] * (kernel[axis] - 1) - paddings[axis]
        after = before + extras[axis]
        n = stuffed.shape[axis + 2]
        if n + before + after < span(kernel[axis], dilation[axis]):
            raise _no_cell_remains(paddings)
        moved = np.moveaxis(stuffed, axis + 2, 0)[max(0, -before) : n - max(0, -after)]
        widths = [(max(0, before), max(0, after)), *[(0, 0)] * (moved.ndim - 1)]
        stuffed = np.moveaxis(np.pad(moved, widths), 0, axis + 2)
    return stuffed


def swap_channels(weight: Array, groups: int) -> Array:
    """(C, O / groups, *kernel) as (O, C / groups, *kernel), group by group."""
    grouped = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    swapped = grouped.swapaxes(1, 2)
    return swapped.reshape(-1, *swapped.shape[2:])


def _cropped_cells(
    sizes: Sequence[int], window: Window, padding: PerAxis, output_padding: PerAxis
) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """An index for what ``padding`` leaves of the whole spread map, and that map's sizes."""
    paddings = per_axis(padding, len(sizes), "padding", least=0)
    extras = _check_extras(output_padding, window.stride, window.dilation)
    spans = [span(k, d) for k, d in zip(window.kernel, window.dilation, strict=True)]
    full = tuple(
        (n - 1) * s + wide + extra
        for n, s, wide, extra in zip(sizes, window.stride, spans, extras, strict=True)
    )
    if any(n <= 2 * p for n, p in zip(full, paddings, strict=True)):
        raise _no_cell_remains(paddings)
    cells = (slice(p, n - p) for p, n in zip(paddings, full, strict=True))
    return (..., *cells), full


def _check_extras(
    output_padding: PerAxis, stride: Sequence[int], dilation: Sequence[int]
) -> tuple[int, ...]:
    extras = per_axis(output_padding, len(stride), "output_padding", least=0)
    if any(extra >= max(s, d) for extra, s, d in zip(extras, stride, dilation, strict=True)):
        raise BadValue(
            f"output_padding {extras} with stride {tuple(stride)} and dilation {tuple(dilation)}",
            cure="keep it below the stride or the dilation",
        )
    return extras


def _no_cell_remains(paddings: tuple[int, ...]) -> BadValue:
    return BadValue(
        f"padding {paddings} removes the whole output of a transposed convolution",
        cure="use less padding, or a larger kernel",
    )
