"""The networks that are run, their norms made as if trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.engine.settings import Settings

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


class Residual(nn.Module):
    """The rectified sum of two branches; of their plain sum where nothing is rectified.

    Input and output (N, C, H, W).
    """

    def __init__(self, body: nn.Module, shortcut: nn.Module, *, rectified: bool = True) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut
        self.last = nn.ReLU(inplace=True) if rectified else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """last(body(x) + shortcut(x))."""
        result: Tensor = self.last(self.body(x) + self.shortcut(x))
        return result


def _layer(
    before: int,
    after: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    last: type[nn.Module] | None = nn.ReLU,
) -> list[nn.Module]:
    """Convolution, batch norm and activation, of the same size but for the stride."""
    padding = dilation * (kernel // 2)
    options = (kernel, stride, padding, dilation, groups)
    layers = [nn.Conv2d(before, after, *options, bias=False), nn.BatchNorm2d(after)]
    return layers if last is None else [*layers, last(inplace=True)]


class Bottlenecks(nn.Sequential):
    """ResNet-50 without its classifier (He et al. 2016, stride in the 3×3 convolution).

    Input (N, 3, H, W); output (N, 64 * base, H / 32, W / 32), or H / 16 where ``atrous``: the last
    stage then has dilation 2 in place of its stride.
    """

    def __init__(self, base: int = 32, *, atrous: bool = False) -> None:
        layers = [*_layer(CHANNELS, 2 * base, 7, stride=2), nn.MaxPool2d(3, 2, 1)]
        before = 2 * base
        for stage, count in enumerate((3, 4, 6, 3)):
            inner = 2 * base << stage
            dilation = 2 if atrous and stage == 3 else 1
            for place in range(count):
                stride = 2 if place == 0 and stage > 0 and dilation == 1 else 1
                body = nn.Sequential(
                    *_layer(before, inner),
                    *_layer(inner, inner, 3, stride=stride, dilation=dilation),
                    *_layer(inner, 4 * inner, last=None),
                )
                joined = _layer(before, 4 * inner, stride=stride, last=None)
                shortcut = nn.Sequential(*joined) if place == 0 else nn.Identity()
                layers.append(Residual(body, shortcut))
                before = 4 * inner
        super().__init__(*layers)


class Atrous(nn.Module):
    """DeepLab-like (Chen et al. 2017, arXiv:1706.05587) without its pooling of the whole image.

    Input (N, 3, H, W); output (N, 21, H, W).
    """

    def __init__(self, base: int = 32) -> None:
        super().__init__()
        self.body = Bottlenecks(base, atrous=True)
        self.pyramid = nn.ModuleList(
            nn.Sequential(*_layer(64 * base, 8 * base, 1 if rate == 1 else 3, dilation=rate))
            for rate in (1, 6, 12, 18)
        )
        self.joined = nn.Sequential(*_layer(32 * base, 8 * base), nn.Conv2d(8 * base, 21, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, 21, H, W) of images (N, 3, H, W)."""
        x = self.body(x)
        x = self.joined(torch.cat([branch(x) for branch in self.pyramid], dim=1))
        return F.interpolate(x, scale_factor=16.0, mode="bilinear", align_corners=False)


class Depthwise(nn.Sequential):
    """MobileNetV2 without its classifier (Sandler et al. 2018, arXiv:1801.04381).

    Input (N, 3, H, W); output (N, 40 * base, H / 32, W / 32).
    """

    def __init__(self, base: int = 32) -> None:
        layers = _layer(CHANNELS, base, 3, stride=2, last=nn.ReLU6)
        before = base
        stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2))
        for times, width, count, first in (*stages, (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)):
            after = width * base // 32
            for place in range(count):
                stride, inner = first if place == 0 else 1, times * before
                body = nn.Sequential(
                    *(_layer(before, inner, last=nn.ReLU6) if times > 1 else ()),
                    *_layer(inner, inner, 3, stride=stride, groups=inner, last=nn.ReLU6),
                    *_layer(inner, after, last=None),
                )
                same = stride == 1 and before == after
                layers.append(Residual(body, nn.Identity(), rectified=False) if same else body)
                before = after
        super().__init__(*layers, *_layer(before, 40 * base, last=nn.ReLU6))


class VolumeUNet(nn.Module):
    """nnU-Net-like (Isensee et al. 2021): strided convolutions, instance norms, leaky ReLUs.

    Input (N, 1, D, H, W), each a multiple of 32; output (N, 2, D, H, W).
    """

    def __init__(self, base: int = 32) -> None:
        super().__init__()
        widths = [base * times for times in (1, 2, 4, 8, 10, 10)]
        steps = list(pairwise(widths))
        self.first = self._block(1, base)
        self.down = nn.ModuleList(self._block(fine, coarse, 2) for fine, coarse in steps)
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(coarse, fine, 2, stride=2) for fine, coarse in reversed(steps)
        )
        self.join = nn.ModuleList(self._block(2 * fine, fine) for fine, _ in reversed(steps))
        self.head = nn.Conv3d(base, CLASSES, 1)

    @staticmethod
    def _block(before: int, after: int, stride: int = 1) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv3d(before, after, 3, stride, 1),
            nn.InstanceNorm3d(after, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
            nn.Conv3d(after, after, 3, 1, 1),
            nn.InstanceNorm3d(after, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, 2, D, H, W) of volumes (N, 1, D, H, W)."""
        x = self.first(x)
        skips = []
        for block in self.down:
            skips.append(x)
            x = block(x)
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([up(x), skips.pop()], dim=1))
        scores: Tensor = self.head(x)
        return scores


class Wave(nn.Module):
    """WaveNet-like (van den Oord et al. 2016, arXiv:1609.03499): 30 gated, causal, dilated layers.

    Input (N, 1, T); output (N, 2, T). A sample sees the 3,070 before it.
    """

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, width, 1)
        self.rates = [1 << place for place in range(10)] * 3
        self.gates = nn.ModuleList(
            nn.Conv1d(width, 2 * width, 2, dilation=rate) for rate in self.rates
        )
        self.mixed = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in self.rates)
        self.head = nn.Conv1d(width, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, 2, T) of signals (N, 1, T)."""
        x = self.first(x)
        for rate, gate, mixed in zip(self.rates, self.gates, self.mixed, strict=True):
            up, down = gate(F.pad(x, (rate, 0))).chunk(2, dim=1)
            x = x + mixed(torch.tanh(up) * torch.sigmoid(down))
        scores: Tensor = self.head(torch.relu(x))
        return scores


def make_network(depth: int = 4, base: int = 32) -> UNet:
    """A U-Net in eval mode, the same weights each time.

    Its batch norms hold the statistics of noise, so that no path through it fades away: a wrong row
    in the deepest block must be seen in the scores.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = UNet(base, depth)
    _train(net, make_picture(4 << depth, 4 << depth))
    return net


def _train(net: nn.Module, picture: Tensor) -> None:
    """Norms with drawn weights and the statistics of this picture; the network in eval mode."""
    draw = torch.Generator().manual_seed(0)
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.weight.data.uniform_(0.5, 1.5, generator=draw)
        norm.bias.data.uniform_(-0.3, 0.3, generator=draw)
        norm.momentum = 1.0  # the statistics of one picture replace those of none
    with torch.no_grad():
        net.train()(picture)
    for norm in norms:
        norm.momentum = 0.1
    net.eval()


def make_picture(*shape: int, channels: int = CHANNELS) -> Tensor:
    """White noise (1, channels, H, W): nothing smooth that could hide a wrong row."""
    return torch.rand(1, channels, *shape, generator=torch.Generator().manual_seed(1))


@dataclass(frozen=True)
class Choice:
    """A network of the table, and over what it runs.

    Attributes:
        title: its name for readers.
        make: builds it from the width that is 32 in the table.
        size: of the input, where ``Settings.size`` is 2048; it grows with it, in steps of 32.
        channels: of the input.
        against: the contenders, each with the speed to reach and the one aimed at.
        memory: of each of them, the share to stay within.
        rounds: at most, after the first pass; 0 times that one.
    """

    title: str
    make: Callable[[int], nn.Module]
    size: tuple[int, ...]
    against: dict[str, tuple[float, float]]
    channels: int = CHANNELS
    memory: float = 1 / 5
    rounds: int = 1 << 10

    def shape(self, size: int) -> tuple[int, ...]:
        """The size of the input for :attr:`Settings.size`."""
        return tuple(max(64, n * size // 2048 // 32 * 32) for n in self.size)


def _engines(openvino: tuple[float, float]) -> dict[str, tuple[float, float]]:
    torch_best = {"net(x)": (2.5, 5.0), "best torch": (1.4, 2.0)}
    return {**torch_best, "onnxruntime": (1.2, 1.5), "OpenVINO": openvino}


NETWORKS: dict[str, Choice] = {
    "unet32": Choice("U-Net 32/4", UNet, (2048, 2048), _engines((1.0, 1.2))),
    "unet64": Choice("U-Net 64/4", lambda b: UNet(2 * b), (1024, 1024), _engines((1.15, 1.4))),
    "resnet50": Choice("ResNet-50 body", Bottlenecks, (1024, 1024), _engines((0.9, 1.1))),
    "deeplab": Choice("DeepLab-like", Atrous, (1024, 1024), _engines((0.9, 1.1))),
    "mobilenet": Choice("MobileNetV2 body", Depthwise, (1024, 1024), _engines((0.9, 1.1))),
    "volume": Choice(
        "nnU-Net-like 3-D U-Net",
        VolumeUNet,
        (160, 192, 160),
        {"net(x)": (1.5, 1.5)},
        channels=1,
        memory=1 / 4,
        rounds=1,
    ),
    "signal": Choice(
        "WaveNet-like, 30 layers",
        lambda base: Wave(base // 4),
        (3600 * 16_000,),
        {"net(x)": (1.0, 2.0)},
        channels=1,
        rounds=0,
    ),
}


def network_of(settings: Settings) -> nn.Module:
    """The network of the settings, in eval mode, the same weights each time."""
    if settings.network == "unet32":
        return make_network(settings.depth, settings.base)
    choice = NETWORKS[settings.network]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = choice.make(settings.base)
    if len(choice.size) == 2:
        # Of many colors and contrasts: over noise alone, deep maps hardly vary, and norms that
        # divided by so little would enlarge the rounding of the layers before.
        draw = torch.Generator().manual_seed(2)
        color, contrast = torch.rand(2, 8, CHANNELS, 1, 1, generator=draw)
        _train(net, make_picture(96, 96) * contrast + color)
    return net.eval()


def picture_of(settings: Settings) -> Tensor:
    """What it runs over, (1, C, …)."""
    choice = NETWORKS[settings.network]
    if settings.network == "unet32":
        return make_picture(settings.size, settings.size)
    return make_picture(*choice.shape(settings.size), channels=choice.channels)
