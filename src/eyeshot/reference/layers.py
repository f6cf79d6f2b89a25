"""The rest of a small network: pooling, up-sampling, linear, ReLU, and the loss of a classifier.

Pooling: a window slides as in a convolution, over each channel by itself, and has no weights.

*Max pooling* passes on the largest cell of the window, and in training sends the whole gradient
back to that one cell. *Average pooling* passes on the mean, and shares the gradient out equally.

With ``ceil_mode`` a last window may hang over the far end, if it still starts inside the image or
its padding on the near side. Cells beyond the image count for nothing in a maximum. In a mean the
padding counts as zeros unless ``count_include_pad`` is off, and what hangs over never counts.

Up-sampling without weights: nearest neighbor and (bi)linear, one axis after another.

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
from typing import Any, Literal, get_args

import numpy as np

from eyeshot.errors import BadValue, UnknownName
from eyeshot.reference.convolution import Gradients
from eyeshot.reference.padding import (
    Array,
    PerAxis,
    check_bias,
    check_gradient,
    count_axes,
    count_outputs,
    met_by,
    per_axis,
    span,
    widen,
)


@dataclass(frozen=True)
class PoolWindow:
    """A pooling window over an image of ``sizes``, one number for every spatial axis."""

    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def overhang(self) -> tuple[int, ...]:
        """Cells that the last window reads beyond the padding at the far end (ceil mode)."""
        return tuple(
            max(0, (count - 1) * s + span(k, d) - (n + 2 * p))
            for n, k, s, p, d, count in zip(
                self.sizes,
                self.kernel,
                self.stride,
                self.padding,
                self.dilation,
                self.outputs,
                strict=True,
            )
        )

    def surround(self, x: Array, padding: float, overhang: float) -> Array:
        """``x`` (N, C, *sizes) inside its padding and overhang, filled with the given values."""
        whole = np.pad(x, self._widths(self.padding), constant_values=padding)
        after = [(0, 0), (0, 0), *[(0, extra) for extra in self.overhang]]
        return np.pad(whole, after, constant_values=overhang)

    def inside(self) -> tuple[Any, ...]:
        """An index for the image within what :meth:`surround` returns."""
        return (..., *(slice(p, p + n) for p, n in zip(self.padding, self.sizes, strict=True)))

    def cells(self, cell: Sequence[int]) -> tuple[Any, ...]:
        """An index for what one cell of the window meets, within :meth:`surround`."""
        return met_by(cell, self.outputs, self.stride, self.dilation)

    @staticmethod
    def _widths(padding: Sequence[int]) -> list[tuple[int, int]]:
        return [(0, 0), (0, 0), *[(p, p) for p in padding]]


def max_pool(
    x: Array,
    kernel: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> Array:
    """The largest cell of every window.

    Args:
        x: (N, C, *sizes) with one, two or three spatial axes.
        kernel: the window's size.
        stride: by how much it moves; its own size when not given.
        padding: cells beyond each end that a window may reach over; at most half the kernel.
        dilation: how far apart the window's cells lie.
        ceil_mode: also place a last window that hangs over the far end.

    Returns:
        (N, C, *outputs), outputs = (size + 2·padding − dilation·(kernel − 1) − 1) / stride + 1,
        rounded down, or up in ceil mode. Not-a-number in a window wins.

    Raises:
        BadValue: an option out of range, or a window larger than the padded image.
    """
    window = make_pool_window(x, kernel, stride, padding, dilation, ceil_mode)
    largest: Array = _window_values(x, window).max(axis=0)
    return largest


def max_pool_backward(
    gradient: Array,
    x: Array,
    kernel: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> Array:
    """∂loss/∂x of :func:`max_pool`: each output's gradient goes to the cell that won.

    Of equal cells the first wins, in row-major order.

    Raises:
        BadValue: as :func:`max_pool`; a ``gradient`` that is not of the output's shape.
    """
    window = make_pool_window(x, kernel, stride, padding, dilation, ceil_mode)
    check_gradient(gradient, (*x.shape[:2], *window.outputs))
    winner = _window_values(x, window).argmax(axis=0)
    total = window.surround(np.zeros_like(x, gradient.dtype), 0, 0)
    for number, cell in enumerate(np.ndindex(*window.kernel)):
        total[window.cells(cell)] += np.where(winner == number, gradient, 0)
    image: Array = total[window.inside()]
    return image


def avg_pool(
    x: Array,
    kernel: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """The mean of every window.

    Args:
        x: (N, C, *sizes) with one, two or three spatial axes.
        kernel, stride, padding, ceil_mode: as for :func:`max_pool`.
        count_include_pad: whether zeros of the padding count as cells of the mean.

    Returns:
        (N, C, *outputs), sizes as for :func:`max_pool`.

    Raises:
        BadValue: as :func:`max_pool`.
    """
    window = make_pool_window(x, kernel, stride, padding, 1, ceil_mode)
    total = _sum(window.surround(widen(x), 0, 0), window)
    return total / _count_as(total, window, count_include_pad)


def avg_pool_backward(
    gradient: Array,
    x: Array,
    kernel: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """∂loss/∂x of :func:`avg_pool`: each cell of a window gets an equal share.

    Raises:
        BadValue: as :func:`max_pool`; a ``gradient`` that is not of the output's shape.
    """
    window = make_pool_window(x, kernel, stride, padding, 1, ceil_mode)
    check_gradient(gradient, (*x.shape[:2], *window.outputs))
    share = gradient / _count_as(gradient, window, count_include_pad)
    total = window.surround(np.zeros_like(x, share.dtype), 0, 0)
    for cell in np.ndindex(*window.kernel):
        total[window.cells(cell)] += share
    image: Array = total[window.inside()]
    return image


def count_cells(window: PoolWindow, count_include_pad: bool) -> Array:
    """(1, 1, *outputs): how many cells each window's mean is taken over."""
    counts = np.ones((1, 1, *window.sizes))
    return _sum(window.surround(counts, 1 if count_include_pad else 0, 0), window)


def _count_as(values: Array, window: PoolWindow, count_include_pad: bool) -> Array:
    """The counts in a type that does not turn single precision into double."""
    return count_cells(window, count_include_pad).astype(np.result_type(values, np.float32))


def make_pool_window(
    x: Array,
    kernel: PerAxis,
    stride: PerAxis | None,
    padding: PerAxis,
    dilation: PerAxis,
    ceil_mode: bool,
) -> PoolWindow:
    """Give every option one number for each axis, and count the outputs.

    Raises:
        BadValue: an option out of range, or a window larger than the padded image.
    """
    axes, sizes = count_axes(x), x.shape[2:]
    kernels = per_axis(kernel, axes, "kernel", least=1)
    strides = kernels if stride is None else per_axis(stride, axes, "stride", least=1)
    paddings = per_axis(padding, axes, "padding", least=0)
    dilations = per_axis(dilation, axes, "dilation", least=1)
    if any(2 * p > k for p, k in zip(paddings, kernels, strict=True)):
        raise BadValue(
            f"pooling padding {paddings} with kernel {kernels}",
            cure="use at most half the kernel, so that no window lies in the padding alone",
        )
    padded = [n + 2 * p for n, p in zip(sizes, paddings, strict=True)]
    outputs = count_outputs(padded, kernels, strides, dilations)
    if ceil_mode:
        outputs = _count_with_overhang(sizes, padded, kernels, strides, paddings, dilations)
    return PoolWindow(sizes, kernels, strides, paddings, dilations, outputs)


def _count_with_overhang(
    sizes: Sequence[int],
    padded: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> tuple[int, ...]:
    """Outputs rounded up, less a last window that would start beyond the image."""
    counts = []
    for n, wide, k, s, p, d in zip(sizes, padded, kernel, stride, padding, dilation, strict=True):
        count = -(-(wide - span(k, d)) // s) + 1
        starts_beyond = (count - 1) * s >= n + p
        counts.append(count - 1 if starts_beyond else count)
    return tuple(counts)


def _window_values(x: Array, window: PoolWindow) -> Array:
    """(cells of the window, N, C, *outputs): what each cell meets; nothing is −∞."""
    x = widen(x)
    lowest = -np.inf if np.issubdtype(x.dtype, np.floating) else np.iinfo(x.dtype).min
    whole = window.surround(x, lowest, lowest)
    return np.stack([whole[window.cells(c)] for c in np.ndindex(*window.kernel)])


def _sum(whole: Array, window: PoolWindow) -> Array:
    total = np.zeros((*whole.shape[:2], *window.outputs), whole.dtype)
    for cell in np.ndindex(*window.kernel):
        total += whole[window.cells(cell)]
    return total


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


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """y = x·Wᵀ + b: every output is a weighted sum of all inputs.

    Args:
        x: (N, I).
        weight: (O, I), a row of weights for every output.
        bias: (O,).

    Returns:
        (N, O).

    Raises:
        BadValue: shapes that do not fit.
    """
    _check_linear(x, weight)
    check_bias(bias, weight.shape[0])
    y = widen(x) @ widen(weight).T
    return y if bias is None else y + bias


def linear_backward(gradient: Array, x: Array, weight: Array) -> Gradients:
    """The gradients of :func:`linear` for ∂loss/∂output ``gradient`` (N, O).

    Raises:
        BadValue: shapes that do not fit.
    """
    _check_linear(x, weight)
    check_gradient(gradient, (x.shape[0], weight.shape[0]))
    return Gradients(x=gradient @ weight, weight=gradient.T @ x, bias=gradient.sum(axis=0))


def relu(x: Array) -> Array:
    """max(x, 0) at every cell, of any shape."""
    return np.maximum(x, 0)


def relu_backward(gradient: Array, x: Array) -> Array:
    """∂loss/∂x of :func:`relu`: the gradient where x > 0, else 0 (also at exactly 0).

    Raises:
        BadValue: ``gradient`` and ``x`` differ in shape.
    """
    check_gradient(gradient, x.shape)
    return np.where(x > 0, gradient, 0)


def softmax(logits: Array) -> Array:
    """(N, K) scores as probabilities: exp(z_k) / Σ_j exp(z_j), each row adding up to one."""
    # Subtracting the largest score changes nothing and keeps exp() from overflowing.
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


def softmax_cross_entropy(logits: Array, labels: Array) -> float:
    """The mean over the batch of −log(probability of the right class).

    Args:
        logits: (N, K) scores before softmax.
        labels: (N,) whole numbers, 0 to K − 1.

    Raises:
        BadValue: labels that do not fit the logits.
    """
    _check_labels(logits, labels)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_shares = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-log_shares[np.arange(len(labels)), labels].mean())


def softmax_cross_entropy_backward(logits: Array, labels: Array) -> Array:
    """∂loss/∂logits (N, K): (probabilities − the right answer) / N.

    Raises:
        BadValue: labels that do not fit the logits.
    """
    _check_labels(logits, labels)
    gradient = softmax(logits)
    gradient[np.arange(len(labels)), labels] -= 1
    return gradient / len(labels)


def _check_linear(x: Array, weight: Array) -> None:
    if x.ndim != 2 or weight.ndim != 2 or x.shape[1] != weight.shape[1]:
        raise BadValue(
            f"a linear layer of weight {weight.shape} on an input of shape {x.shape}",
            cure="give x (N, I) and weight (O, I)",
        )


def _check_labels(logits: Array, labels: Array) -> None:
    if logits.ndim != 2 or 0 in logits.shape or labels.shape != logits.shape[:1]:
        raise BadValue(
            f"labels of shape {labels.shape} for logits of shape {logits.shape}",
            cure="give logits (N, K) and labels (N,)",
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise BadValue(f"labels of type {labels.dtype}", cure="give whole numbers")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise BadValue(
            f"labels from {labels.min()} to {labels.max()} for {logits.shape[1]} classes",
            cure=f"use 0 to {logits.shape[1] - 1}",
        )
