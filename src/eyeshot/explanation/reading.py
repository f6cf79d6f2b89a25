"""Which inputs a unit of a layer reads, worked out from the layer's own options.

A *reading* is one array for every spatial axis: for each cell of the window, the input position
that it meets, or ``OUTSIDE``. For layers that slide a window it is s·i + d·j − p; a transposed
convolution solves the same sum the other way around.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from torch import nn

from eyeshot.reference.checks import per_axis
from eyeshot.reference.padding import OUTSIDE, padded_positions, resolve_padding
from eyeshot.reference.windows import Array

Conv: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d
ConvTranspose: TypeAlias = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
MaxPool: TypeAlias = nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d
AvgPool: TypeAlias = nn.AvgPool1d | nn.AvgPool2d | nn.AvgPool3d
AdaptiveMaxPool: TypeAlias = nn.AdaptiveMaxPool1d | nn.AdaptiveMaxPool2d | nn.AdaptiveMaxPool3d
AdaptiveAvgPool: TypeAlias = nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d | nn.AdaptiveAvgPool3d


_BY_AXES: dict[int, tuple[type[nn.Module], ...]] = {
    1: (
        nn.Conv1d,
        nn.ConvTranspose1d,
        nn.MaxPool1d,
        nn.AvgPool1d,
        nn.AdaptiveMaxPool1d,
        nn.AdaptiveAvgPool1d,
    ),
    2: (
        nn.Conv2d,
        nn.ConvTranspose2d,
        nn.MaxPool2d,
        nn.AvgPool2d,
        nn.AdaptiveMaxPool2d,
        nn.AdaptiveAvgPool2d,
    ),
    3: (
        nn.Conv3d,
        nn.ConvTranspose3d,
        nn.MaxPool3d,
        nn.AvgPool3d,
        nn.AdaptiveMaxPool3d,
        nn.AdaptiveAvgPool3d,
    ),
}


def count_spatial_axes(layer: nn.Module) -> int:
    """Over how many axes the layer's window slides; 0 where it has none."""
    return next((axes for axes, kinds in _BY_AXES.items() if isinstance(layer, kinds)), 0)


@dataclass(frozen=True, eq=False)
class Reading:
    """What one unit reads along every spatial axis, in the order of the window's cells."""

    axes: tuple[Array, ...]

    def patch(self, image: Array) -> Array:
        """The cells of ``image`` (*sizes) that are read, zero outside: one for each window cell."""
        patch: Array = np.where(self.outside, 0, image[np.ix_(*self.axes)])
        return patch

    @property
    def outside(self) -> Array:
        """Where the window reaches beyond the image, or meets an inserted zero."""
        missing = np.meshgrid(*[axis == OUTSIDE for axis in self.axes], indexing="ij")
        outside: Array = np.logical_or.reduce(missing)
        return outside


def read_conv(layer: Conv, sizes: Sequence[int], at: Sequence[int]) -> Reading:
    """The cells under the kernel of a convolution at output position ``at``."""
    padding = layer.padding if isinstance(layer.padding, str) else tuple(layer.padding)
    widths = resolve_padding(padding, layer.kernel_size, layer.stride, layer.dilation)  # type: ignore[arg-type]
    return Reading(
        tuple(
            padded_positions(n, *widths[axis], layer.padding_mode)[
                layer.stride[axis] * at[axis]
                + layer.dilation[axis] * np.arange(layer.kernel_size[axis])
            ]
            for axis, n in enumerate(sizes)
        )
    )


def read_conv_transpose(layer: ConvTranspose, sizes: Sequence[int], at: Sequence[int]) -> Reading:
    """The input cells whose dropped kernels reach output position ``at``.

    Input i drops its kernel's cell j on the output s·i + d·j − p; so cell j of the kernel brings
    input (at + p − d·j) / s, where that is a whole number and inside the image.
    """
    axes = []
    for axis, n in enumerate(sizes):
        (padding,) = per_axis(layer.padding[axis], 1, "padding", least=0)  # type: ignore[arg-type]
        reached = at[axis] + padding - layer.dilation[axis] * np.arange(layer.kernel_size[axis])
        source = reached // layer.stride[axis]
        exists = (reached % layer.stride[axis] == 0) & (source >= 0) & (source < n)
        axes.append(np.where(exists, source, OUTSIDE))
    return Reading(tuple(axes))


def read_pool(layer: MaxPool | AvgPool, sizes: Sequence[int], at: Sequence[int]) -> Reading:
    """The cells under the window of a pool at output position ``at``."""
    kernel, stride, padding, dilation = pool_options(layer, len(sizes))
    axes = []
    for axis, n in enumerate(sizes):
        met = stride[axis] * at[axis] - padding[axis] + dilation[axis] * np.arange(kernel[axis])
        axes.append(np.where((met >= 0) & (met < n), met, OUTSIDE))
    return Reading(tuple(axes))


def read_adaptive(sizes: Sequence[int], outputs: Sequence[int], at: Sequence[int]) -> Reading:
    """The cells of an adaptive pool from n to m: ⌊i·n/m⌋ up to, not including, ⌈(i + 1)·n/m⌉."""
    return Reading(
        tuple(
            np.arange(i * n // m, -(-(i + 1) * n // m))
            for n, m, i in zip(sizes, outputs, at, strict=True)
        )
    )


def pool_options(layer: MaxPool | AvgPool, axes: int) -> tuple[tuple[int, ...], ...]:
    """Kernel, stride, padding and dilation of a pool, one number for every axis."""
    given = (
        ("kernel", layer.kernel_size, 1),
        ("stride", layer.stride, 1),
        ("padding", layer.padding, 0),
        ("dilation", getattr(layer, "dilation", 1), 1),
    )
    return tuple(_spread(value, axes, name, least) for name, value, least in given)


def count_mean(layer: AvgPool, sizes: Sequence[int], at: Sequence[int]) -> float:
    """What an average pool divides by at ``at``: cells of the window, as the layer counts them."""
    fixed = getattr(layer, "divisor_override", None)
    if fixed:
        return float(fixed)
    kernel, stride, padding, _ = pool_options(layer, len(sizes))
    counts = []
    for axis, n in enumerate(sizes):
        start = stride[axis] * at[axis] - padding[axis]
        edge = padding[axis] if layer.count_include_pad else 0
        counts.append(min(start + kernel[axis], n + edge) - max(start, -edge))
    return float(math.prod(counts))


def _spread(value: int | Sequence[int], axes: int, name: str, least: int) -> tuple[int, ...]:
    numbers = [value] if isinstance(value, int) else list(value)
    return per_axis(numbers * axes if len(numbers) == 1 else numbers, axes, name, least=least)
