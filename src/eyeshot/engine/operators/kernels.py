"""The convolution kernels, behind one small interface: padded values in, a value out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from eyeshot.engine.operators.filtering import opencv_convolver, suits_opencv
from eyeshot.engine.operators.windows import Padded
from eyeshot.graph import Node

Convolver = Callable[[Sequence[Padded], torch.Tensor | None], torch.Tensor]
"""The sum of one convolution for each value, then the bias and the activation; in the memory
given, where the kernel can write there."""

_CONVOLUTIONS: dict[int, Callable[..., torch.Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_LAYOUTS_KEPT = 2


def convolver(node: Node, weights: Sequence[torch.Tensor], bias: torch.Tensor | None) -> Convolver:
    """The fastest kernel there is for this convolution, on the weights' device and type."""
    options = (
        list(node.attributes["stride"]),
        list(node.attributes["dilation"]),
        int(node.attributes["groups"]),
    )
    relu = node.attributes.get("activation") == "relu"
    if suits_opencv(weights, options):
        return opencv_convolver(weights[0], bias, relu)
    make = _onednn if _has_onednn(weights[0]) else _plain
    return make(weights, bias, options, relu)


def _plain(
    weights: Sequence[torch.Tensor],
    bias: torch.Tensor | None,
    options: tuple[list[int], list[int], int],
    relu: bool,
) -> Convolver:
    convolve = _CONVOLUTIONS[weights[0].ndim - 2]
    stride, dilation, groups = options

    def compute(values: Sequence[Padded], room: torch.Tensor | None) -> torch.Tensor:
        (first, padding), *others = values
        total = convolve(first, weights[0], bias, stride, padding, dilation, groups)
        for weight, (value, padding) in zip(weights[1:], others, strict=True):
            total += convolve(value, weight, None, stride, padding, dilation, groups)
        return torch.relu_(total) if relu else total

    return compute


def _has_onednn(weight: torch.Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and weight.ndim == 4
        and torch._C._has_mkldnn
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    )


def _onednn(
    weights: Sequence[torch.Tensor],
    bias: torch.Tensor | None,
    options: tuple[list[int], list[int], int],
    relu: bool,
) -> Convolver:
    """oneDNN's convolution with the activation, or the sum so far, in the same call."""
    convolve: Any = torch.ops.mkldnn._convolution_pointwise
    add: Any = torch.ops.mkldnn._convolution_pointwise_.binary
    packed = [_Packed(weight, options) for weight in weights]
    stride, dilation, groups = options

    def compute(values: Sequence[Padded], room: torch.Tensor | None) -> torch.Tensor:
        # oneDNN adds to what is there, so nought there is as good as writing: it spares the copy.
        fits = room is not None and room.is_contiguous(memory_format=torch.channels_last)
        total = room.zero_() if room is not None and fits else None
        last = len(values) - 1
        for i, (value, padding) in enumerate(values):
            value = value.contiguous(memory_format=torch.channels_last)
            weight = packed[i].laid_out(value, padding)
            unary = "relu" if relu and i == last else None
            shift = bias if i == 0 else None
            settings = (padding, stride, dilation, groups)
            if total is None:
                total = convolve(value, weight, shift, *settings, unary or "none", [], "")
            else:
                add(total, value, weight, shift, *settings, "add", 1.0, unary, [], "")
        return torch.empty(0) if total is None else total

    return compute


class _Packed:
    """A weight in the layout that oneDNN likes, which depends on the size of the picture.

    It is made anew when the size changes: for the first and last band, and once for all those
    between.
    """

    def __init__(self, weight: torch.Tensor, options: tuple[list[int], list[int], int]) -> None:
        self._weight, self._options = weight, options
        self._layouts: dict[tuple[int, ...], torch.Tensor] = {}

    def laid_out(self, value: torch.Tensor, padding: list[int]) -> torch.Tensor:
        """The weight for values of this shape."""
        key = (*value.shape, *padding)
        if key not in self._layouts:
            if len(self._layouts) >= _LAYOUTS_KEPT:
                self._layouts.clear()
            reorder: Any = torch.ops.mkldnn._reorder_convolution_weight
            stride, dilation, groups = self._options
            shape = list(value.shape)
            self._layouts[key] = reorder(self._weight, padding, stride, dilation, groups, shape)
        return self._layouts[key]
