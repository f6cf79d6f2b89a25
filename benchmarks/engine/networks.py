"""The networks that are run: a U-Net, its batch norms made as if trained, and its folded form."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

CHANNELS, CLASSES = 3, 2


class _Block(nn.Sequential):
    """Convolution, batch norm and ReLU, twice."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(
            nn.Conv2d(before, after, 3, padding=1),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, padding=1),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """Ronneberger et al. 2015 (arXiv:1505.04597), padded so that it keeps the size.

    Input (N, 3, H, W), H and W multiples of ``2 ** depth``; output (N, 2, H, W).
    """

    def __init__(self, base: int = 32, depth: int = 4) -> None:
        super().__init__()
        widths = [base << level for level in range(depth + 1)]
        self.first = _Block(CHANNELS, widths[0])
        self.pool = nn.MaxPool2d(2)
        steps = list(pairwise(widths))
        self.down = nn.ModuleList(_Block(fine, coarse) for fine, coarse in steps)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in reversed(steps)
        )
        self.join = nn.ModuleList(_Block(2 * fine, fine) for fine, _ in reversed(steps))
        self.head = nn.Conv2d(base, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, 2, H, W) of pictures (N, 3, H, W)."""
        x = self.first(x)
        skips = []
        for block in self.down:
            skips.append(x)
            x = block(self.pool(x))
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([skips.pop(), up(x)], dim=1))
        scores: Tensor = self.head(x)
        return scores


def make_network(depth: int = 4, base: int = 32) -> UNet:
    """A U-Net in eval mode, the same weights each time.

    Its batch norms hold the statistics of noise, so that no path through it fades away: a wrong row
    in the deepest block must be seen in the scores.
    """
    draw = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = UNet(base, depth)
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.weight.data.uniform_(0.5, 1.5, generator=draw)
        norm.bias.data.uniform_(-0.3, 0.3, generator=draw)
        norm.momentum = 1.0  # the statistics of one picture replace those of none
    with torch.no_grad():
        net.train()(make_picture(4 << depth, 4 << depth))
    for norm in norms:
        norm.momentum = 0.1
    return net.eval()


def make_picture(height: int, width: int) -> Tensor:
    """White noise (1, 3, H, W): nothing smooth that could hide a wrong row."""
    return torch.rand(1, CHANNELS, height, width, generator=torch.Generator().manual_seed(1))


def folded(net: nn.Module) -> nn.Module:
    """A copy with each batch norm inside the convolution before it, channels last in memory."""
    twin = copy.deepcopy(net)
    for block in twin.modules():
        if isinstance(block, _Block):
            for place in range(0, len(block), 3):
                layer, norm = block[place], block[place + 1]
                if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    block[place] = fuse_conv_bn_eval(layer, norm)
                    block[place + 1] = nn.Identity()
    return twin.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def fused(net: nn.Module) -> nn.Module:
    """:func:`folded`, and each convolution one call of oneDNN's with its ReLU inside."""
    twin = folded(net)
    for block in twin.modules():
        if isinstance(block, _Block):
            for place in range(0, len(block), 3):
                layer = block[place]
                if isinstance(layer, nn.Conv2d):
                    block[place] = FusedConvolution(layer)
                    block[place + 2] = nn.Identity()
    return twin


class FusedConvolution(nn.Module):
    """A convolution and its ReLU as Eyeshot's engine calls them, on a whole picture or a tile."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer
        self.packed: dict[tuple[int, ...], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        """relu(conv(x)), (N, C, H, W)."""
        layer = self.layer
        padding = [int(p) for p in layer.padding]
        stride, dilation = list(layer.stride), list(layer.dilation)
        if tuple(x.shape) not in self.packed:
            self.packed[tuple(x.shape)] = torch.ops.mkldnn._reorder_convolution_weight(
                layer.weight, padding, stride, dilation, layer.groups, list(x.shape)
            )
        weight = self.packed[tuple(x.shape)]
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, weight, layer.bias, padding, stride, dilation, layer.groups, "relu", [], ""
        )
        return result
