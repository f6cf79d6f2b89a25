"""Shapes taken from another tensor: expand_as, reshape_as and view_as, by parts as in one pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import eyeshot
from tests.engine.law import noise


class Net(nn.Module):
    """A convolution, then whatever is asked."""

    def __init__(self, then: Callable[[nn.ModuleList, Tensor], Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.first, self.then, self.parts = (
            nn.Conv2d(3, 8, 3, padding=1),
            then,
            nn.ModuleList(parts),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.then(self.parts, self.first(x))
        return y


def channel_attention(parts: nn.ModuleList, x: Tensor) -> Tensor:
    """As timm's EcaModule: a mean a channel, a Conv1d over channels, expanded again."""
    y = x.mean((2, 3)).view(x.shape[0], 1, -1)
    gate: Tensor = parts[0](y).view(x.shape[0], -1, 1, 1).sigmoid()
    return x * gate.expand_as(x)


NETS = {
    "channel attention": Net(channel_attention, nn.Conv1d(1, 1, 3, padding=1)),
    "a mean over positions": Net(lambda _, x: x - x.mean((2, 3), keepdim=True).expand_as(x)),
    "of a turned map": Net(
        lambda _, x: x.transpose(2, 3) * x.amax((2, 3), keepdim=True).expand_as(x.transpose(2, 3))
    ),
    "one channel for all": Net(lambda _, x: x * x[:, :1].expand_as(x)),
    "reshape_as": Net(lambda _, x: x[:, :, None].reshape_as(x) * 2),
    "view_as": Net(lambda _, x: x[:, None].view_as(x) + 1),
}


@pytest.mark.parametrize("name", NETS)
def test_it_is_the_whole_pass(name: str) -> None:
    net, x = NETS[name].eval(), noise(3, 17, 13)
    with torch.no_grad():
        truth = net(x[None])[0].numpy()
    for band in (1, 5, 64):
        np.testing.assert_allclose(eyeshot.run(net, x, band=band), truth, atol=1e-5)


def test_an_expanded_mean_sees_the_whole_image_and_a_reshaped_map_its_own_place() -> None:
    size = (3, 17, 13)
    assert eyeshot.receptive_field(NETS["channel attention"].eval(), size).status == "whole image"
    assert eyeshot.receptive_field(NETS["reshape_as"].eval(), size).seen.sizes == (3, 3)


def test_a_compiled_network_is_inspected() -> None:
    compiled = torch.compile(nn.Sequential(nn.Conv2d(3, 4, 3)).eval(), backend="eager")
    assert isinstance(compiled, nn.Module)
    assert eyeshot.inspect(compiled, (3, 20, 16)).rows[-1].shape == (4, 18, 14)
