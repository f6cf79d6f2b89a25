"""Weights in the layouts that oneDNN's convolutions take."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch

LAYOUTS = 2
"""The most layouts of one weight in memory at a time."""
Options = tuple[list[int], list[int], int]
"""Stride, dilation and groups."""


class PackedWeight:
    """A weight in the layout that oneDNN chooses for a size of image.

    A weight in the layout for another size slows a convolution down to half. Most sizes share a
    layout: it depends on the width, and rarely on the number of rows. So each different layout is
    kept once, for all sizes that it serves.

    Args:
        weight: returns the weight, (O, C / groups, kernel height, kernel width).
        shape: its shape.
        options: of the convolution.
    """

    def __init__(
        self, weight: Callable[[], torch.Tensor], shape: Sequence[int], options: Options
    ) -> None:
        self._weight, self._shape, self._options = weight, list(shape), options
        self._names: dict[tuple[int, ...], bytes] = {}  # of the layout for each size
        self._layouts: dict[bytes, torch.Tensor] = {}  # the last one used is last
        self._lock = threading.Lock()

    def laid_out(self, size: Sequence[int], padding: list[int]) -> torch.Tensor:
        """The weight for images of a size (N, C, H, W)."""
        key = (*size, *padding)
        with self._lock:
            if key not in self._names and self._layouts:
                # The layout does not depend on the numbers, which may be costly to compute.
                self._names[key] = _name(self._reordered(torch.empty(self._shape), key))
            made = self._layouts.pop(self._names.get(key, b""), None)
            if made is None:
                made = self._reordered(self._weight(), key)
                self._names[key] = _name(made)
                while len(self._layouts) >= LAYOUTS:
                    del self._layouts[next(iter(self._layouts))]
            self._layouts[self._names[key]] = made
            return made

    def forget(self) -> None:
        """Free all layouts; they are made again when they are needed."""
        with self._lock:
            self._layouts.clear()

    def _reordered(self, weight: torch.Tensor, key: tuple[int, ...]) -> torch.Tensor:
        reorder: Any = torch.ops.mkldnn._reorder_convolution_weight
        stride, dilation, groups = self._options
        rank = len(self._shape)
        size, padding = list(key[:rank]), list(key[rank:])
        made: torch.Tensor = reorder(weight, padding, stride, dilation, groups, size)
        return made


def _name(weight: torch.Tensor) -> bytes:
    """oneDNN's description of a layout; equal descriptions are equal layouts."""
    describe: Any = torch.ops.mkldnn._get_mkldnn_serialized_md
    described: torch.Tensor = describe(weight)
    return described.numpy().tobytes()
