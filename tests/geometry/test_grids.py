"""Where outputs stand: against where a bright spot appears, and by hand."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from eyeshot.frontends.torch import traced
from eyeshot.geometry import Grid, grids_of

HALF, QUARTER, THIRD = Fraction(1, 2), Fraction(1, 4), Fraction(1, 3)


class Unet(nn.Module):
    def __init__(self, padding: int = 1, up: nn.Module | None = None) -> None:
        super().__init__()
        self.cut = 2 - 2 * padding
        self.down = nn.Sequential(nn.Conv2d(1, 2, 3, padding=padding), nn.InstanceNorm2d(2))
        self.middle = nn.Conv2d(2, 2, 3, padding=padding)
        self.up = up or nn.ConvTranspose2d(2, 2, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        low = self.up(self.middle(nn.functional.max_pool2d(x, 2)))
        cut = self.cut
        return torch.cat([x[:, :, cut : x.shape[2] - cut, cut : x.shape[3] - cut], low], 1)


class Squeezed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, 1::2, :-3] * x.mean((2, 3), keepdim=True)


def up(**options: object) -> nn.Module:
    return nn.Upsample(**options)  # type: ignore[arg-type]


CASES: dict[str, tuple[nn.Module, Fraction | int, Fraction | int]] = {
    "padded": (nn.Conv2d(1, 1, 3, padding=1), 1, 0),
    "valid": (nn.Conv2d(1, 1, 5), 1, 2),
    "dilated, even": (nn.Conv2d(1, 1, 2, dilation=3), 1, Fraction(3, 2)),
    "stride 2": (nn.Conv2d(1, 1, 3, stride=2, padding=1), 2, 0),
    "pools": (nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(3)), 6, Fraction(5, 2)),
    "transposed": (nn.ConvTranspose2d(1, 1, 2, stride=2), HALF, -QUARTER),
    "transposed, odd": (nn.ConvTranspose2d(1, 1, 3, 2, 1, output_padding=1), HALF, 0),
    "shuffled": (nn.Sequential(nn.Conv2d(1, 9, 1), nn.PixelShuffle(3)), THIRD, -THIRD),
    "nearest": (up(scale_factor=2), HALF, -QUARTER),
    "linear": (up(scale_factor=2, mode="bilinear"), HALF, -QUARTER),
    "linear to a size": (up(size=(31, 31), mode="bilinear"), Fraction(24, 31), Fraction(-7, 62)),
    "corners": (up(size=(47, 47), mode="bilinear", align_corners=True), HALF, 0),
    "adaptive": (nn.AdaptiveAvgPool2d(8), 3, 1),
    "U-Net": (Unet(), 1, 0),
    "U-Net, linear": (Unet(up=up(scale_factor=2, mode="bilinear")), 1, 0),
    "U-Net, valid": (Unet(0), 1, 3),
    "gated, cut": (Squeezed(), 2, 1),
    "cropped": (nn.ZeroPad2d(-4), 1, 4),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_rows_stand_where_they_should(name: str) -> None:
    net, step, first = CASES[name]
    graph = traced(net.eval(), [(1, 24, 24)])
    assert grids_of(graph, graph.outputs[0])[0] == Grid(Fraction(step), Fraction(first))


LINEAR = [
    "padded", "valid", "dilated, even", "stride 2", "transposed", "transposed, odd", "shuffled",
    "nearest", "linear", "linear to a size", "corners", "cropped",
]  # fmt: skip


@pytest.mark.parametrize("name", LINEAR)
def test_a_ramp_is_read_off_by_the_grid(name: str) -> None:
    """Equal weights make of a ramp its value at the middle of what they see."""
    net, *_ = CASES[name]
    for weights in net.parameters():
        nn.init.constant_(weights, 0 if weights.ndim == 1 else 1)
    graph = traced(net.eval(), [(1, 24, 24)])
    grid = grids_of(graph, graph.outputs[0])[1]
    assert grid is not None
    with torch.no_grad():
        ramp = net(torch.arange(24.0).expand(1, 1, 24, 24))[0, 0]
        ones = net(torch.ones(1, 1, 24, 24))[0, 0]
    values = (ramp / ones)[len(ramp) // 2]
    units = range(len(values) // 2 - 3, len(values) // 2 + 3)  # whole periods, far from borders
    expected = sum(float(grid.first + grid.step * unit) for unit in units)
    assert float(values[list(units)].sum()) == pytest.approx(expected, abs=0.01)


class Flipped(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flip(2)


class Reduced(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(2)


def test_positions_without_a_place_have_no_grid() -> None:
    graph = traced(Flipped().eval(), [(1, 24, 20)])
    assert grids_of(graph, graph.outputs[0])[0] is None
    graph = traced(Reduced().eval(), [(1, 24, 20)])
    assert grids_of(graph, graph.outputs[0]) == (None, Grid(Fraction(1), Fraction(0)))
