"""Networks that keep positions (U-Net, FPN, DeepLab), and small ones with branches and gates."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.zoo.parts import Branches, GlobalHead, SqueezeExcite, conv_norm_relu

Up = Literal["transpose", "bilinear", "shuffle"]


def _two_convolutions(cin: int, cout: int) -> nn.Sequential:
    return nn.Sequential(
        *[nn.Conv2d(cin, cout, 3, padding=1), nn.ReLU()],
        *[nn.Conv2d(cout, cout, 3, padding=1), nn.ReLU()],
    )


def _upward(way: Up, channels: int) -> nn.Module:
    """Twice the size, half the channels."""
    if way == "transpose":
        return nn.ConvTranspose2d(channels, channels // 2, 2, 2)
    if way == "bilinear":
        return nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(channels, channels // 2, 1)
        )
    return nn.Sequential(nn.Conv2d(channels, 2 * channels, 1), nn.PixelShuffle(2))


class UNet(nn.Module):
    """Ronneberger et al. 2015, same-padded: two 3x3 a level, ``depth`` halvings."""

    def __init__(
        self, depth: int = 4, base: int = 64, up: Up = "transpose", cin: int = 1, classes: int = 2
    ) -> None:
        super().__init__()
        widths = [base * 2**level for level in range(depth + 1)]
        before = [cin, *widths[:-1]]
        self.down = nn.ModuleList(
            _two_convolutions(a, b) for a, b in zip(before, widths, strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(_upward(up, wide) for wide in reversed(widths[1:]))
        self.join = nn.ModuleList(
            _two_convolutions(2 * wide, wide) for wide in reversed(widths[:-1])
        )
        self.head = nn.Conv2d(base, classes, 1)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            skips.append(x)
        for up, join, skip in zip(self.up, self.join, reversed(skips[:-1]), strict=True):
            x = join(torch.cat([skip, up(x)], 1))
        scores: Tensor = self.head(x)
        return scores


class FPN(nn.Module):
    """A feature pyramid (Lin et al. 2017): three levels, each with what the coarser one says."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            conv_norm_relu(3 if level == 0 else width, width, 3, 2) for level in range(3)
        )
        self.lateral = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(3))
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(3))
        self.eval()

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        top = self.lateral[2](maps[2])
        merged = [top]
        for level in (1, 0):
            up = functional.interpolate(merged[0], scale_factor=2.0, mode="nearest")
            merged.insert(0, self.lateral[level](maps[level]) + up)
        return [smooth(one) for smooth, one in zip(self.smooth, merged, strict=True)]


class ASPP(nn.Module):
    """DeepLab v3 (Chen et al. 2017) in small: three dilations and an image-wide branch."""

    def __init__(self, width: int = 8, rates: tuple[int, ...] = (1, 2, 4)) -> None:
        super().__init__()
        self.stem = conv_norm_relu(3, width, 3, 2)
        self.rates = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=rate, dilation=rate) for rate in rates
        )
        self.image = nn.Conv2d(width, width, 1)
        self.join = nn.Conv2d(width * (len(rates) + 1), width, 1)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        whole = self.image(functional.adaptive_avg_pool2d(x, 1)).relu().expand_as(x)
        joined = self.join(torch.cat([*(rate(x) for rate in self.rates), whole], 1))
        return functional.interpolate(joined, scale_factor=2.0, mode="bilinear")


def inception_net(width: int = 8) -> nn.Sequential:
    """Branches of unlike kernels, a 1x5 beside a 5x1 among them."""
    return nn.Sequential(
        conv_norm_relu(3, width, 3, 2),
        Branches(
            nn.Conv2d(width, width, 1),
            nn.Conv2d(width, width, (1, 5), padding=(0, 2)),
            nn.Conv2d(width, width, (5, 1), padding=(2, 0)),
            nn.AvgPool2d(3, 1, 1),
        ),
        nn.Hardswish(),
        GlobalHead(4 * width, 10),
    ).eval()


def se_net(width: int = 8) -> nn.Sequential:
    """Squeeze-and-excite between two convolutions."""
    return nn.Sequential(
        conv_norm_relu(3, width, 3, 2),
        SqueezeExcite(width, width // 2),
        conv_norm_relu(width, 2 * width, 3, 2, groups=2),
        nn.GroupNorm(2, 2 * width),
        GlobalHead(2 * width, 10),
    ).eval()
