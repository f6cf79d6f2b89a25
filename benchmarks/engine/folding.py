"""A network as plain torch runs it best: norms folded, channels last, activations in oneDNN."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from benchmarks.engine.networks import Residual


def folded(net: nn.Module) -> nn.Module:
    """A copy with each batch norm inside the convolution before it, channels last in memory."""
    twin = copy.deepcopy(net)
    for block in _sequences(twin):
        for place in range(len(block) - 1):
            layer, norm = block[place], block[place + 1]
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                block[place] = fuse_conv_bn_eval(layer, norm)
                block[place + 1] = nn.Identity()
    return twin.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def fused(net: nn.Module) -> nn.Module:
    """:func:`folded`, and each convolution one call of oneDNN's with its activation inside.

    The last convolution of a residual block also adds the other branch.
    """
    twin = folded(net)
    for block in _sequences(twin):
        layers = [layer for layer in block if not isinstance(layer, nn.Identity)]
        kept: list[Any] = []
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                kept.append(FusedConvolution(layer))
                continue
            last = kept[-1] if kept else None
            inside = isinstance(layer, nn.ReLU | nn.ReLU6)
            if inside and isinstance(last, FusedConvolution) and last.activation == "none":
                last.activation = "hardtanh" if isinstance(layer, nn.ReLU6) else "relu"
            else:
                kept.append(layer)
        del block[:]
        block.extend(kept)
    for residual in twin.modules():
        if isinstance(residual, Residual):
            residual.forward = _joined(residual)  # type: ignore[method-assign]
    return twin


def _sequences(net: nn.Module) -> list[nn.Sequential]:
    return [block for block in net.modules() if isinstance(block, nn.Sequential)]


def _joined(residual: Residual) -> Any:
    """A residual block whose last convolution adds the other branch."""
    layers: list[Any] = list(residual.body.children())
    before, last = layers[:-1], layers[-1]
    rectified = isinstance(residual.last, nn.ReLU)

    def forward(x: Tensor) -> Tensor:
        # A branch that is the input itself is read again by nobody but the block.
        other, value = residual.shortcut(x), x
        for layer in before:
            value = layer(value)
        result: Tensor = last.add(other, value, "relu" if rectified else None)
        return result

    return forward


class FusedConvolution(nn.Module):
    """A convolution and its activation as Eyeshot's engine calls them, on a picture or a tile."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer
        self.activation = "none"
        self.packed: dict[tuple[int, ...], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        """activation(conv(x)), (N, C, H, W)."""
        limits = [0.0, 6.0] if self.activation == "hardtanh" else []
        call = torch.ops.mkldnn._convolution_pointwise
        result: Tensor = call(x, *self._settings(x), self.activation, limits, "")
        return result

    def add(self, total: Tensor, x: Tensor, activation: str | None) -> Tensor:
        """activation(total + conv(x)), in the memory of ``total``."""
        call = torch.ops.mkldnn._convolution_pointwise_.binary
        result: Tensor = call(total, x, *self._settings(x), "add", 1.0, activation, [], "")
        return result

    def _settings(self, x: Tensor) -> tuple[Any, ...]:
        layer = self.layer
        padding = [int(p) for p in layer.padding]
        stride, dilation = list(layer.stride), list(layer.dilation)
        if tuple(x.shape) not in self.packed:
            self.packed[tuple(x.shape)] = torch.ops.mkldnn._reorder_convolution_weight(
                layer.weight, padding, stride, dilation, layer.groups, list(x.shape)
            )
        weight = self.packed[tuple(x.shape)]
        return weight, layer.bias, padding, stride, dilation, layer.groups
