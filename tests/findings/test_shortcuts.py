"""A shortcut without stride or channels: the cure is applied, and the table was right before."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import eyeshot


class _Block(nn.Module):
    """Two convolutions and a shortcut, as in a residual network."""

    def __init__(self, channels: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(16, channels, 3, stride, 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.conv1(x).relu()) + self.shortcut(x)
        return out


class _Up(nn.Module):
    """A step up of a U-Net: the smaller map resized, joined with a skip, convolved."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.conv = nn.ConvTranspose2d(64, 32, 2, 2), nn.Conv2d(64, 32, 3, padding=1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        out: Tensor = self.conv(torch.cat([self.up(x), skip], 1))
        return out


def _net(channels: int, stride: int, shortcut: nn.Module) -> nn.Module:
    block = _Block(channels, stride, shortcut)
    last = nn.Conv2d(channels, 4, 3, 1, 1)
    return nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1), block, last).eval()


def _rows(inspection: eyeshot.Inspection) -> list[Any]:
    """What the table shows of everything behind the block."""
    behind = [row for row in inspection.rows if row.name == "2"]
    return [(row.shape, row.fields, row.cost) for row in behind]


CASES: dict[str, tuple[int, int, nn.Module, str, nn.Module]] = {
    "no stride": (32, 2, nn.Conv2d(16, 32, 1), "shortcut: stride=2, or", nn.Conv2d(16, 32, 1, 2)),
    "a wider kernel without a stride": (
        *(32, 2, nn.Conv2d(16, 32, 3, padding=1)),
        *("shortcut: stride=2, or", nn.Conv2d(16, 32, 3, 2, 1)),
    ),
    "neither stride nor channels": (
        *(32, 2, nn.Conv2d(16, 16, 1)),
        *("shortcut: out_channels=32, stride=2", nn.Conv2d(16, 32, 1, 2)),
    ),
    "nothing, and other channels": (
        *(32, 2, nn.Identity()),
        "a 1×1 convolution from 16 to 32 channels with stride 2 after layer 0",
        nn.Conv2d(16, 32, 1, 2),
    ),
    "nothing, and a stride": (
        *(16, 2, nn.Identity()),
        "a 1×1 convolution with stride 2 after layer 0, or layer 1.conv2 resized by 2",
        nn.Conv2d(16, 16, 1, 2),
    ),
    "other channels": (
        *(32, 1, nn.Identity()),
        "a 1×1 convolution from 16 to 32 channels after layer 0",
        nn.Conv2d(16, 32, 1),
    ),
}


@pytest.mark.parametrize("size", [(3, 64, 64), (3, 65, 49)])
@pytest.mark.parametrize("name", CASES)
def test_the_cure_is_right_and_the_table_is_that_of_the_cured_network(
    name: str, size: tuple[int, int, int]
) -> None:
    channels, stride, wrong, cure, cured = CASES[name]
    broken = eyeshot.inspect(_net(channels, stride, wrong), size)
    (error,) = [one for one in broken.findings if one.severity == "error"]
    assert cure in error.cure
    sound = eyeshot.inspect(_net(channels, stride, cured), size)
    assert not [one for one in sound.findings if one.severity == "error"]
    assert _rows(broken) == _rows(sound)


def test_where_a_skip_is_an_input_of_its_own_that_input_is_named() -> None:
    sizes = [(64, 16, 16), (16, 32, 32)]
    error = eyeshot.inspect(_Up().eval(), sizes).findings[0]
    assert error.cure == "skip of 32 channels, or conv: in_channels=48"
    assert (
        eyeshot.inspect(_Up().eval(), [(64, 16, 16), (32, 32, 32)]).findings[0].severity == "note"
    )
