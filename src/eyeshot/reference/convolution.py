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
cells of the kernel. Each reads the same cells of the image (:func:`windows.met_by`):

=====================  ==================================  =====================================
:func:`correlate`      y += w[j] · x[cells]                from image and kernel to output
:func:`spread`         x[cells] += w[j] · y                back to the image: its transpose
:func:`kernel_shares`  w[j] += Σ y · x[cells]              back to the kernel
=====================  ==================================  =====================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

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
    resolve_padding,
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
