"""Which inputs a unit of an operator reads, worked out from the operator's own numbers.

A *reading* is one array for every spatial axis: for each cell of the window, the input position
that it meets, or ``OUTSIDE``. For operators that slide a window it is s·i + d·j − p; a transposed
convolution solves the same sum the other way around.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eyeshot.params import Params
from eyeshot.reference.padding import OUTSIDE
from eyeshot.reference.windows import Array


@dataclass(frozen=True, eq=False)
class Reading:
    """What one unit reads along every spatial axis, in the order of the window's cells."""

    axes: tuple[Array, ...]

    def patches(self, maps: Tensor) -> Array:
        """The cells of ``maps`` (C, *sizes) that are read, (C, *window) in float64, zero outside.

        Only these cells are copied: a map may have millions of others.
        """
        index: tuple[Any, ...] = tuple(torch.from_numpy(one) for one in np.ix_(*self.axes))
        cells = maps[(slice(None), *index)]
        patches: Array = np.where(self.outside, 0, cells.detach().cpu().double().numpy())
        return patches

    @property
    def cells(self) -> tuple[tuple[int, ...], ...]:
        """The positions along every axis as plain numbers; -1 for no position."""
        return tuple(tuple(int(at) for at in axis) for axis in self.axes)

    @property
    def outside(self) -> Array:
        """Where the window reaches beyond the image, or meets an inserted zero."""
        missing = np.meshgrid(*[axis == OUTSIDE for axis in self.axes], indexing="ij")
        outside: Array = np.logical_or.reduce(missing)
        return outside


def read_window(params: Params, sizes: Sequence[int], at: Sequence[int]) -> Reading:
    """The cells under the kernel of a convolution or pool at output position ``at``.

    Args:
        params: kernel, stride, padding (before, after) and dilation of each axis.
        sizes: of the input's map.
        at: the output position.
    """
    axes = []
    for axis, n in enumerate(sizes):
        cells = params.dilation[axis] * np.arange(params.kernel[axis])
        met = params.stride[axis] * at[axis] - params.padding[axis][0] + cells
        axes.append(np.where((met >= 0) & (met < n), met, OUTSIDE))
    return Reading(tuple(axes))


def read_transposed(params: Params, sizes: Sequence[int], at: Sequence[int]) -> Reading:
    """The input cells whose dropped kernels reach output position ``at``.

    Input i drops its kernel's cell j on the output s·i + d·j − p; so cell j of the kernel brings
    input (at + p − d·j) / s, where that is a whole number and inside the image.
    """
    axes = []
    for axis, n in enumerate(sizes):
        cells = params.dilation[axis] * np.arange(params.kernel[axis])
        reached = at[axis] + params.padding[axis][0] - cells
        source = reached // params.stride[axis]
        exists = (reached % params.stride[axis] == 0) & (source >= 0) & (source < n)
        axes.append(np.where(exists, source, OUTSIDE))
    return Reading(tuple(axes))


def read_adaptive(sizes: Sequence[int], outputs: Sequence[int], at: Sequence[int]) -> Reading:
    """The cells of an adaptive pool from n to m: ⌊i·n/m⌋ up to, not including, ⌈(i + 1)·n/m⌉."""
    return Reading(
        tuple(
            np.arange(i * n // m, -(-(i + 1) * n // m))
            for n, m, i in zip(sizes, outputs, at, strict=True)
        )
    )


def count_mean(params: Params, sizes: Sequence[int], at: Sequence[int]) -> float:
    """What an average pool divides by at ``at``: cells of the window, as the operator counts."""
    counts = []
    for axis, n in enumerate(sizes):
        before, after = params.padding[axis]
        start = params.stride[axis] * at[axis] - before
        inside = params.count_include_pad
        end = min(start + params.kernel[axis], n + (after if inside else 0))
        counts.append(end - max(start, -before if inside else 0))
    return float(math.prod(counts))
