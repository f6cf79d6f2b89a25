"""Networks whose operators take memory in different ways."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from eyeshot import nets


def _conv(cin: int, cout: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups)


class LayerNorms(nn.Module):
    """Channels moved last, normalized, mixed by a linear layer, and moved back."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = _conv(1, 16), nn.Conv2d(32, 1, 1)
        self.norm, self.mix = nn.LayerNorm(16), nn.Linear(16, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of a batch (N, C, H, W)."""
        y = self.mix(self.norm(self.first(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        scores: torch.Tensor = self.last(y)
        return scores


class Resized(nn.Module):
    """A map made larger in the middle."""

    def __init__(self, factor: float, mode: str) -> None:
        super().__init__()
        self.first, self.last = _conv(1, 16), _conv(16, 1)
        self.factor, self.mode = factor, mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of a batch (N, C, H, W)."""
        larger = F.interpolate(self.first(x), scale_factor=self.factor, mode=self.mode)
        scores: torch.Tensor = self.last(larger)
        return scores


class Gated(nn.Module):
    """Squeeze and excite: a map is held whole until its mean is known."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate, self.last = _conv(1, 4), nn.Conv2d(4, 4, 1), _conv(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of a batch (N, C, H, W)."""
        y = self.first(x)
        scores: torch.Tensor = self.last(y * self.gate(F.adaptive_avg_pool2d(y, 1)).sigmoid())
        return scores


class Pyramid(nn.Module):
    """Two outputs of different sizes, and a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = _conv(1, 16), _conv(16, 32, stride=2)
        self.heads = nn.ModuleList([nn.Conv2d(16, 2, 1), nn.Conv2d(32, 2, 1)])
        self.up = nn.ConvTranspose2d(32, 16, 2, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores of a batch (N, C, H, W)."""
        fine = self.fine(x).relu()
        coarse = self.coarse(fine).relu()
        joined = torch.cat([fine, self.up(coarse)], 1)
        return self.heads[0](joined[:, :16] + joined[:, 16:]), self.heads[1](coarse)


class Attended(nn.Module):
    """Attention over the tokens of a coarse map, which is held whole for it."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.three = nn.Conv2d(1, 32, 16, 16), nn.Linear(32, 96)
        self.up, self.last = nn.ConvTranspose2d(32, 8, 16, 16), _conv(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of a batch (N, C, H, W)."""
        y = self.tokens(x)
        q, k, v = self.three(y.flatten(2).mT).chunk(3, -1)
        mixed = F.scaled_dot_product_attention(q, k, v).mT.reshape(y.shape)
        scores: torch.Tensor = self.last(self.up(y + mixed).relu())
        return scores


class Normalized(nn.Module):
    """A U-Net whose maps are held whole, in memory or on disk, until their norms are known."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse, self.joined = self._block(1, 16), self._block(16, 32), _conv(32, 16)
        self.up, self.norm = nn.ConvTranspose2d(32, 16, 2, 2), nn.InstanceNorm2d(16)
        self.last = nn.Conv2d(16, 2, 1)

    def _block(self, cin: int, cout: int) -> nn.Module:
        norms = (nn.InstanceNorm2d(cout, affine=True) for _ in range(2))
        return nn.Sequential(
            _conv(cin, cout), next(norms), nn.ReLU(), _conv(cout, cout), next(norms), nn.ReLU()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of a batch (N, C, H, W)."""
        fine = self.fine(x)
        up = self.up(self.coarse(F.max_pool2d(fine, 2)))
        joined = self.norm(self.joined(torch.cat([fine, up], 1))).relu()
        scores: torch.Tensor = self.last(joined)
        return scores


def _mobile() -> nn.Module:
    return nn.Sequential(
        _conv(3, 32, stride=2), nn.BatchNorm2d(32), nn.ReLU6(),
        _conv(32, 32, groups=32), nn.BatchNorm2d(32), nn.Hardswish(), nn.Conv2d(32, 64, 1),
        _conv(64, 64, 7, groups=64), nn.GELU(), nn.Conv2d(64, 2, 1),
    )  # fmt: skip


def _volume() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv3d(16, 16, 3, padding=1), nn.ReLU(),
        nn.Conv3d(16, 2, 1),
    )  # fmt: skip


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "unet of 8 classes": lambda: nets.unet(in_channels=1, classes=8, base=8, depth=3),
    "unet": lambda: nets.unet(in_channels=1, classes=2, base=8, depth=3),
    "unet, 3 channels": lambda: nets.unet(in_channels=3, classes=1, base=8, depth=2),
    "volume": _volume,
    "softmax, gelu": lambda: nn.Sequential(_conv(1, 16), nn.Softmax(1), nn.GELU(), _conv(16, 1, 1)),
    "response norm": lambda: nn.Sequential(_conv(1, 16), nn.LocalResponseNorm(5), _conv(16, 1)),
    "layer norm": LayerNorms,
    "bicubic": lambda: Resized(3, "bicubic"),
    "bilinear": lambda: Resized(1.5, "bilinear"),
    "float64": lambda: nn.Sequential(_conv(1, 16), nn.ReLU(), _conv(16, 16), _conv(16, 1)).double(),
    "mobile": _mobile,
    "dilated": lambda: nn.Sequential(
        _conv(1, 16), nn.Conv2d(16, 16, 3, padding=8, dilation=8), nn.ReLU(), nn.MaxPool2d(3, 1, 1),
        nn.AvgPool2d(3, 2, 1), nn.ConvTranspose2d(16, 8, 3, 2, 1, 1), _conv(8, 1),
    ),
    "gated": Gated,
    "pyramid": Pyramid,
    "filter": lambda: _conv(1, 1, 5),
    "filter, 3 channels": lambda: _conv(3, 3, 5, groups=3),
    "classifier": lambda: nn.Sequential(
        _conv(3, 32, 7, stride=2), nn.ReLU(), _conv(32, 64, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    ),
    "attention": Attended,
    "flatten, linear": lambda: nn.Sequential(
        _conv(1, 16), nn.ReLU(), nn.MaxPool2d(4), _conv(16, 16), nn.ReLU(), nn.MaxPool2d(4),
        nn.Flatten(), nn.Linear(16 * 16 * 128, 64), nn.ReLU(), nn.Linear(64, 10),
    ),
    "instance norm unet": Normalized,
    "signal": lambda: nn.Sequential(
        nn.Conv1d(1, 16, 9, padding=4), nn.ReLU(), nn.Conv1d(16, 16, 9, padding=4),
        nn.Conv1d(16, 1, 1),
    ),
}  # fmt: skip


def make(name: str) -> nn.Module:
    """The network of that name, in eval mode, the same in every process."""
    torch.manual_seed(0)
    return NETWORKS[name]().eval()
