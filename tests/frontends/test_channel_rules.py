"""Operators that move channels: every unit's footprint is where its gradient comes from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eyeshot.frontends.torch import graph_of
from eyeshot.geometry import Fields, footprint
from eyeshot.graph import Kind

Step = Callable[[Tensor], Tensor]


class _Between(nn.Module):
    """The operator between two convolutions."""

    def __init__(self, step: Step, channels: int) -> None:
        super().__init__()
        self.before = nn.Conv2d(2, 4, 3, padding=1)
        self.step = step
        self.after = nn.Conv2d(channels, 1, (1, 3), stride=2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.after(self.step(self.before(x)))
        return y


def _repeat_one(x: Tensor) -> Tensor:
    return x + x.mean((2, 3), keepdim=True).repeat(1, 1, x.shape[2], x.shape[3])


CASES: dict[str, tuple[Step, int]] = {
    "glu": (lambda x: nn.functional.glu(x, 1), 2),
    "flip": (lambda x: x.flip(1), 4),
    "roll": (lambda x: x.roll(1, 1), 4),
    "repeat": (lambda x: x.repeat(1, 3, 1, 1), 12),
    "repeat of one": (_repeat_one, 4),
    "channel_shuffle": (lambda x: nn.functional.channel_shuffle(x, 2), 4),
}


@pytest.mark.parametrize("name", CASES)
def test_footprints_are_where_gradients_come_from(name: str) -> None:
    torch.manual_seed(1)
    net = _Between(*CASES[name]).double().eval()
    graph = graph_of(net, (2, 6, 7))
    assert all(node.kind is not Kind.UNSUPPORTED for node in graph)
    x = torch.randn(1, 2, 6, 7, dtype=torch.float64, requires_grad=True)
    output = net(x)[0, 0]
    for place in np.ndindex(*output.shape):
        (gradient,) = torch.autograd.grad(output[place], x, retain_graph=True)
        moved = (gradient[0].abs() > 0).any(0).numpy()
        assert (moved == footprint(graph, "after", place)).all()


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda x: x.flip(3), "turns round a spatial axis"),
        (lambda x: x.roll(1, 2), "rolls a spatial axis"),
        (lambda x: x.repeat(1, 1, 2, 1), "repeats a spatial axis"),
        (lambda x: x.cumsum(2), "takes in all those before it"),
        (lambda x: x.sort(dim=3)[0], "in order along a spatial axis"),
        (lambda x: torch.fft.fft2(x).abs(), "every frequency depends on every position"),
        (lambda x: nn.functional.grid_sample(x, x[:, :2].movedim(1, 3)), "values of a map decide"),
        (lambda x: torch.einsum("nchw,hw->nchw", x, torch.ones(6, 7)), "weight for each position"),
        (lambda x: x * torch.einsum("nchw,nchw", x, x), "which letters come out"),
    ],
)
def test_along_a_spatial_axis_nothing_is_claimed(step: Step, message: str) -> None:
    graph = graph_of(_Between(step, 4).eval(), (2, 6, 7))
    unsupported = [node for node in graph if node.kind is Kind.UNSUPPORTED]
    assert message in unsupported[0].reason
    assert Fields(graph).field("after").box is None
