"""Pooling: a window slides as in a convolution, over each channel by itself, and has no weights.

*Max pooling* passes on the largest cell of the window, and in training sends the whole gradient
back to that one cell. *Average pooling* passes on the mean, and shares the gradient out equally.

With ``ceil_mode`` a last window may hang over the far end, if it still starts inside the image or
its padding on the near side. Cells beyond the image count for nothing in a maximum. In a mean the
padding counts as zeros unless ``count_include_pad`` is off, and what hangs over never counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eyeshot.errors import BadValue
from eyeshot.reference.padding import (
    Array,
    PerAxis,
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
