"""Classifiers as torchvision defines them (MobileNet v1 as its paper does)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.zoo.parts import Branches, GlobalHead, Residual, conv_norm_relu


def alexnet() -> nn.Sequential:
    """Krizhevsky 2014, "one weird trick"."""
    features = nn.Sequential(
        *[nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)],
        *[nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2)],
        *[nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU()],
        *[nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU()],
        *[nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(3, 2)],
    )
    return _with_linear_head(features, 256, 6)


def vgg(depth: int = 16, width: int = 64, norm: bool = False) -> nn.Sequential:
    """Simonyan & Zisserman 2014, with 11, 13, 16 or 19 layers."""
    counts = {
        11: (1, 1, 2, 2, 2),
        13: (2, 2, 2, 2, 2),
        16: (2, 2, 3, 3, 3),
        19: (2, 2, 4, 4, 4),
    }[depth]
    layers: list[nn.Module] = []
    channels = 3
    for level, count in enumerate(counts):
        for _ in range(count):
            wide = width * min(2**level, 8)
            layers.append(nn.Conv2d(channels, wide, 3, padding=1))
            layers += [nn.BatchNorm2d(wide)] if norm else []
            layers.append(nn.ReLU(inplace=True))
            channels = wide
        layers.append(nn.MaxPool2d(2))
    return _with_linear_head(nn.Sequential(*layers), channels, 7)


def _with_linear_head(features: nn.Sequential, channels: int, side: int) -> nn.Sequential:
    net = nn.Sequential()
    net.add_module("features", features)
    net.add_module("avgpool", nn.AdaptiveAvgPool2d(side))
    net.add_module("flatten", nn.Flatten())
    hidden = 4096
    net.add_module(
        "classifier",
        nn.Sequential(
            *[nn.Dropout(), nn.Linear(channels * side * side, hidden), nn.ReLU()],
            *[nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1000)],
        ),
    )
    return net.eval()


def squeezenet() -> nn.Sequential:
    """SqueezeNet 1.0: Iandola et al. 2016."""

    def fire(cin: int, squeeze: int, expand: int) -> nn.Sequential:
        return nn.Sequential(
            *[nn.Conv2d(cin, squeeze, 1), nn.ReLU()],
            Branches(nn.Conv2d(squeeze, expand, 1), nn.Conv2d(squeeze, expand, 3, padding=1)),
            nn.ReLU(),
        )

    def pool() -> nn.MaxPool2d:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    return nn.Sequential(
        *[nn.Conv2d(3, 96, 7, 2), nn.ReLU(), pool()],
        *[fire(96, 16, 64), fire(128, 16, 64), fire(128, 32, 128), pool()],
        *[fire(256, 32, 128), fire(256, 48, 192), fire(384, 48, 192), fire(384, 64, 256), pool()],
        *[fire(512, 64, 256), nn.Dropout(), nn.Conv2d(512, 1000, 1), nn.ReLU()],
        *[nn.AdaptiveAvgPool2d(1), nn.Flatten()],
    ).eval()


def googlenet() -> nn.Sequential:
    """Szegedy et al. 2014 as torchvision has it: batch norm, and a 3x3 where the paper has 5x5."""

    def module(cin: int, one: int, r3: int, c3: int, r5: int, c5: int, pooled: int) -> Branches:
        return Branches(
            conv_norm_relu(cin, one, 1),
            nn.Sequential(conv_norm_relu(cin, r3, 1), conv_norm_relu(r3, c3)),
            nn.Sequential(conv_norm_relu(cin, r5, 1), conv_norm_relu(r5, c5)),
            nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), conv_norm_relu(cin, pooled, 1)),
        )

    def pool(kernel: int = 3) -> nn.MaxPool2d:
        return nn.MaxPool2d(kernel, 2, ceil_mode=True)

    return nn.Sequential(
        *[conv_norm_relu(3, 64, 7, 2), pool(), conv_norm_relu(64, 64, 1)],
        *[conv_norm_relu(64, 192), pool()],
        *[module(192, 64, 96, 128, 16, 32, 32), module(256, 128, 128, 192, 32, 96, 64), pool()],
        *[module(480, 192, 96, 208, 16, 48, 64), module(512, 160, 112, 224, 24, 64, 64)],
        *[module(512, 128, 128, 256, 24, 64, 64), module(512, 112, 144, 288, 32, 64, 64)],
        *[module(528, 256, 160, 320, 32, 128, 128), pool(2)],
        *[module(832, 256, 160, 320, 32, 128, 128), module(832, 384, 192, 384, 48, 128, 128)],
        GlobalHead(1024, 1000, 0.2),
    ).eval()


class _DenseLayer(nn.Module):
    def __init__(self, cin: int, growth: int) -> None:
        super().__init__()
        inner = 4 * growth
        self.body = nn.Sequential(
            *[nn.BatchNorm2d(cin), nn.ReLU(), nn.Conv2d(cin, inner, 1, bias=False)],
            *[nn.BatchNorm2d(inner), nn.ReLU(), nn.Conv2d(inner, growth, 3, 1, 1, bias=False)],
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


def densenet121(growth: int = 32, blocks: tuple[int, ...] = (6, 12, 24, 16)) -> nn.Sequential:
    """Huang et al. 2016."""
    channels = 2 * growth
    layers: list[nn.Module] = [conv_norm_relu(3, channels, 7, 2), nn.MaxPool2d(3, 2, 1)]
    for index, count in enumerate(blocks):
        for _ in range(count):
            layers.append(_DenseLayer(channels, growth))
            channels += growth
        layers += [nn.BatchNorm2d(channels), nn.ReLU()]
        if index < len(blocks) - 1:
            layers += [nn.Conv2d(channels, channels // 2, 1, bias=False), nn.AvgPool2d(2)]
            channels //= 2
    return nn.Sequential(*layers, GlobalHead(channels, 1000)).eval()


def mobilenet_v1() -> nn.Sequential:
    """Howard et al. 2017."""
    layers: list[nn.Module] = [conv_norm_relu(3, 32, 3, 2)]
    channels = 32
    steps = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5]
    for cout, stride in [*steps, (1024, 2), (1024, 1)]:
        layers += [conv_norm_relu(channels, channels, 3, stride, channels)]
        layers += [conv_norm_relu(channels, cout, 1)]
        channels = cout
    return nn.Sequential(*layers, GlobalHead(channels, 1000)).eval()


def mobilenet_v2(width: int = 32) -> nn.Sequential:
    """Sandler et al. 2018; ``width`` of the stem, and everything in proportion."""
    scale = width / 32
    layers: list[nn.Module] = [conv_norm_relu(3, width, 3, 2, activation=nn.ReLU6)]
    channels = width
    table = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)]
    for expand, wide, count, first in [*table, (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]:
        for index in range(count):
            cout, stride = int(wide * scale), first if index == 0 else 1
            body = _inverted(channels, cout, stride, expand)
            layers.append(Residual(body) if stride == 1 and channels == cout else body)
            channels = cout
    last = int(1280 * scale)
    layers.append(conv_norm_relu(channels, last, 1, activation=nn.ReLU6))
    return nn.Sequential(*layers, GlobalHead(last, 1000, 0.2)).eval()


def _inverted(cin: int, cout: int, stride: int, expand: int) -> nn.Sequential:
    inner = cin * expand
    first = [] if expand == 1 else [conv_norm_relu(cin, inner, 1, activation=nn.ReLU6)]
    return nn.Sequential(
        *first,
        conv_norm_relu(inner, inner, 3, stride, inner, nn.ReLU6),
        conv_norm_relu(inner, cout, 1, activation=None),
    )


class _ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _ConvNextBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, 1e-6)
        self.wide = nn.Linear(channels, 4 * channels)
        self.narrow = nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.narrow(nn.functional.gelu(self.wide(y))).permute(0, 3, 1, 2)
        joined: Tensor = x + self.scale * y
        return joined


def convnext_tiny(width: int = 96, depths: tuple[int, ...] = (3, 3, 9, 3)) -> nn.Sequential:
    """Liu et al. 2022."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 4), _ChannelNorm(width, 1e-6)]
    for level, count in enumerate(depths):
        channels = width * 2**level
        layers += [_ConvNextBlock(channels) for _ in range(count)]
        if level < len(depths) - 1:
            layers += [_ChannelNorm(channels, 1e-6), nn.Conv2d(channels, 2 * channels, 2, 2)]
    head = [nn.AdaptiveAvgPool2d(1), _ChannelNorm(channels, 1e-6), nn.Flatten()]
    return nn.Sequential(*layers, *head, nn.Linear(channels, 1000)).eval()
