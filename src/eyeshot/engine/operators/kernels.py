"""The convolution kernels, behind one small interface: a value and its padding in, a value out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from eyeshot.graph import Node

Convolver = Callable[[torch.Tensor, list[int]], torch.Tensor]

_CONVOLUTIONS: dict[int, Callable[..., torch.Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def convolver(node: Node, weight: torch.Tensor, bias: torch.Tensor | None) -> Convolver:
    """The fastest kernel there is for this convolution, on the weight's device and type."""
    stride, dilation = list(node.attributes["stride"]), list(node.attributes["dilation"])
    groups = int(node.attributes["groups"])
    relu = node.attributes.get("activation") == "relu"
    if _has_onednn(weight):
        return _onednn(weight, bias, stride, dilation, groups, relu)
    convolve = _CONVOLUTIONS[weight.ndim - 2]

    def plain(value: torch.Tensor, padding: list[int]) -> torch.Tensor:
        result = convolve(value, weight, bias, stride, padding, dilation, groups)
        return torch.relu_(result) if relu else result

    return plain


def _has_onednn(weight: torch.Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and weight.ndim == 4
        and torch._C._has_mkldnn
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    )


def _onednn(
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: list[int],
    dilation: list[int],
    groups: int,
    relu: bool,
) -> Convolver:
    """oneDNN's convolution with the activation in the same call, and the weight laid out for it.

    The layout that oneDNN likes depends on the size of the picture, so it is made anew when the
    size changes: for the first and last band, and once for all those between.
    """
    convolve: Any = torch.ops.mkldnn._convolution_pointwise
    reorder: Any = torch.ops.mkldnn._reorder_convolution_weight
    packed: dict[tuple[int, ...], torch.Tensor] = {}

    def fused(value: torch.Tensor, padding: list[int]) -> torch.Tensor:
        key = (*value.shape, *padding)
        if key not in packed:
            if len(packed) > 8:
                packed.clear()
            packed[key] = reorder(weight, padding, stride, dilation, groups, list(value.shape))
        value = value.contiguous(memory_format=torch.channels_last)
        attribute = "relu" if relu else "none"
        result: torch.Tensor = convolve(
            value, packed[key], bias, padding, stride, dilation, groups, attribute, [], ""
        )
        return result

    return fused
