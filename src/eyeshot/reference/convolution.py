"""Convolution as in networks: slide a small kernel over an image; each position gives a sum.

For an image x with C channels, kernels w (one for every output channel o) and a bias b::

    y[n, o, i] = b[o] + Σ_c Σ_j  w[o, c, j] · x[n, c, s·i + d·j − p]

i is a position in the output and j is a cell of the kernel, each with one number for every spatial
axis; s is the stride, d the dilation, p the padding. Because of the sum over c, a filter has
*depth*: a filter for an RGB picture consists of three kernels whose three sums are added.

Strictly this is *cross-correlation*. *Convolution* in mathematics reverses the kernel first, in
every spatial axis; ``flip=True`` does this. For a network there is no difference, because it learns
its kernels, and can also learn them reversed.

The sum is linear in x and linear in w, so training needs only three loops of the same form over the
cells of the kernel. Each reads the same cells of the image (:func:`met_by`):

=====================  ==================================  =====================================
:func:`correlate`      y += w[j] · x[cells]                from image and kernel to output
:func:`spread`         x[cells] += w[j] · y                back to the image: its transpose
:func:`kernel_shares`  w[j] += Σ y · x[cells]              back to the kernel
=====================  ==================================  =====================================

*Transposed* convolution is the gradient of a convolution, used forwards to make a map larger.

A convolution gathers: each output cell collects from a patch of the image. Its transpose spreads:
each input cell adds a copy of the kernel, times its value, to the output, and overlapping copies
add up. :func:`conv_backward` sends gradients to the image in exactly this way, so the two share
:func:`spread`. The shapes swap as well: the padding of the convolution, which added cells to its
image, *removes* cells here.

The same numbers come from an ordinary convolution: put s − 1 zeros between neighboring input cells,
pad, and slide the kernel, turned around, with stride 1 (:func:`conv_transpose_by_zero_insertion`).
Textbooks draw it like this. It is slower, because most of its products are with a zero.

Several image sizes have the same convolved size when the stride is above one; ``output_padding``
says which of them to go back to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from eyeshot.errors import BadValue
from eyeshot.reference.padding import (
    Array,
    Padding,
    PerAxis,
    Window,
    check_bias,
    check_gradient,
    make_window,
    met_by,
    pad,
    pad_backward,
    per_axis,
    resolve_padding,
    span,
    widen,
)


class Gradients(NamedTuple):
    """∂loss/∂x, ∂loss/∂weight and ∂loss/∂bias, in the shapes of x, weight and bias."""

    x: Array
    weight: Array
    bias: Array


def conv(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    padding_mode: str = "zeros",
    dilation: PerAxis = 1,
    groups: int = 1,
    flip: bool = False,
) -> Array:
    """Slide ``weight`` over ``x``: cross-correlation, or true convolution with ``flip``.

    Args:
        x: (N, C, *sizes) with one, two or three spatial axes.
        weight: (O, C / groups, *kernel).
        bias: (O,), added to every position of its output channel.
        stride: the number of cells that the window moves.
        padding: cells added at both ends of an axis, ``"valid"`` (none) or ``"same"``.
        padding_mode: ``zeros``, ``reflect``, ``replicate`` or ``circular``.
        dilation: the distance of the kernel's cells on the image.
        groups: the number of groups of input and output channels; each output channel sees only
            the input channels of its own group.
        flip: first reverse the kernel in every spatial axis.

    Returns:
        (N, O, *outputs), outputs = ⌊(size + 2·padding − dilation·(kernel − 1) − 1) / stride⌋ + 1.

    Raises:
        BadValue: the shapes do not match, the groups do not divide the channels, the kernel is
            larger than the padded image, or an option is out of range.
        UnknownName: there is no such padding or padding mode.
    """
    window = make_window(x, weight, stride, dilation, groups)
    check_bias(bias, weight.shape[0])
    widths = resolve_padding(padding, window.kernel, window.stride, window.dilation)
    y = correlate(pad(x, widths, padding_mode), turn(weight) if flip else weight, window)
    return y if bias is None else y + over_space(bias, y)


def conv_backward(
    gradient: Array,
    x: Array,
    weight: Array,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    padding_mode: str = "zeros",
    dilation: PerAxis = 1,
    groups: int = 1,
    flip: bool = False,
) -> Gradients:
    """The gradients of :func:`conv` for ∂loss/∂output ``gradient`` (N, O, *outputs).

    Each output cell passes its gradient back along its products: to every image cell times the
    weight, to every weight times the image cell, and to the bias unchanged.

    Raises:
        BadValue, UnknownName: as :func:`conv`; or ``gradient`` does not have the output's shape.
    """
    window = make_window(x, weight, stride, dilation, groups)
    widths = resolve_padding(padding, window.kernel, window.stride, window.dilation)
    padded = pad(x, widths, padding_mode)
    check_gradient(gradient, (x.shape[0], weight.shape[0], *window.outputs(padded.shape[2:])))
    to_padded = spread(gradient, turn(weight) if flip else weight, window, padded.shape[2:])
    to_weight = kernel_shares(gradient, padded, window)
    return Gradients(
        x=pad_backward(to_padded, widths, padding_mode),
        weight=turn(to_weight) if flip else to_weight,
        bias=sum_over_places(gradient),
    )


def correlate(x: Array, weight: Array, window: Window) -> Array:
    """(N, C, *sizes) to (N, O, *outputs): the sum of the definition, without padding or bias."""
    outputs = window.outputs(x.shape[2:])
    x, weight = widen(x), widen(weight)
    images, kernels = _by_group(x, window.groups), _kernels_by_group(weight, window.groups)
    y = np.zeros((len(x), weight.shape[0], *outputs), np.result_type(x, weight))
    sums = _by_group(y, window.groups, flat=True)
    for cell in np.ndindex(*window.kernel):
        inputs = images[met_by(cell, outputs, window.stride, window.dilation)]
        sums += kernels[(..., *cell)] @ _flatten_places(inputs, outputs)
    return y


def spread(y: Array, weight: Array, window: Window, sizes: Sequence[int]) -> Array:
    """(N, O, *outputs) to (N, C, *sizes): the transpose of :func:`correlate`.

    Every output cell drops its value, times the kernel, on the cells that it was made from. Seen
    as a matrix from all of x to all of y, this is that matrix transposed.
    """
    y, weight = widen(y), widen(weight)
    outputs = y.shape[2:]
    kernels = _kernels_by_group(weight, window.groups)
    channels = kernels.shape[2]
    x = np.zeros((len(y), window.groups * channels, *sizes), np.result_type(y, weight))
    images, values = _by_group(x, window.groups), _by_group(y, window.groups, flat=True)
    for cell in np.ndindex(*window.kernel):
        share = kernels[(..., *cell)].swapaxes(1, 2) @ values
        cells = met_by(cell, outputs, window.stride, window.dilation)
        images[cells] += share.reshape(len(y), window.groups, channels, *outputs)
    return x


def kernel_shares(y: Array, x: Array, window: Window) -> Array:
    """What every kernel cell did: (O, C / groups, *kernel), the sum over places of y · x."""
    y, x = widen(y), widen(x)
    outputs = y.shape[2:]
    images, values = _by_group(x, window.groups), _by_group(y, window.groups, flat=True)
    shape = (window.groups, values.shape[2], images.shape[2], *window.kernel)
    shares = np.zeros(shape, np.result_type(x, y))
    for cell in np.ndindex(*window.kernel):
        inputs = images[met_by(cell, outputs, window.stride, window.dilation)]
        products = values @ _flatten_places(inputs, outputs).swapaxes(-1, -2)
        shares[(..., *cell)] = products.sum(axis=0)
    return shares.reshape(-1, *shape[2:])


def turn(weight: Array) -> Array:
    """The kernel turned around in every spatial axis: last cell first."""
    return np.flip(weight, axis=tuple(range(2, weight.ndim)))


def over_space(bias: Array, y: Array) -> Array:
    """A bias (O,) shaped so that it is added at every place of ``y`` (N, O, *outputs)."""
    return bias.reshape(-1, *[1] * (y.ndim - 2))


def sum_over_places(gradient: Array) -> Array:
    """The gradient of a bias: (N, O, *outputs) summed to (O,)."""
    total: Array = gradient.sum(axis=(0, *range(2, gradient.ndim)))
    return total


def _by_group(x: Array, groups: int, *, flat: bool = False) -> Array:
    """(N, C, *sizes) as (N, groups, C / groups, *sizes), the sizes as one axis if ``flat``."""
    sizes = (-1,) if flat else x.shape[2:]
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, *sizes)


def _kernels_by_group(weight: Array, groups: int) -> Array:
    return weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])


def _flatten_places(inputs: Array, outputs: Sequence[int]) -> Array:
    """(…, *outputs) as (…, places), so that one matrix product serves all places at once."""
    return inputs.reshape(*inputs.shape[: inputs.ndim - len(outputs)], -1)


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
