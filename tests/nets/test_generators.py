"""Generator and discriminator: the shapes they promise, each way up, and a checkerboard found."""

from __future__ import annotations

import pytest
import torch

import eyeshot
from eyeshot import nets
from eyeshot.errors import BadValue, UnknownName
from eyeshot.nets.unet import UP_WAYS, UpWay


@pytest.mark.parametrize("up", UP_WAYS)
def test_a_latent_grows_into_a_picture(up: UpWay) -> None:
    net = nets.generator(up=up).eval()
    latent = torch.randn(2, 64, 1, 1)
    maps = eyeshot.see(net, latent[:1])
    shapes = {tuple(maps[name].shape) for name in ("relu0", "relu1", "relu2")}
    assert shapes == {(256, 1, 1), (64, 7, 7), (32, 14, 14)}
    picture = net(latent)
    assert picture.shape == (2, 1, 28, 28)
    assert float(picture.detach().abs().amax()) <= 1
    assert nets.discriminator()(picture).shape == (2, 1)


@pytest.mark.parametrize("kernel", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("size", [(28, 28), (32, 16), (64, 64), (12, 10)])
def test_every_kernel_doubles_to_the_pixel(kernel: int, size: tuple[int, int]) -> None:
    net = nets.generator(5, channels=3, size=size, width=2, kernel=kernel).eval()
    assert net(torch.randn(1, 5, 1, 1)).shape == (1, 3, *size)
    assert nets.discriminator(channels=3, size=size, width=2)(torch.randn(1, 3, *size)).shape == (
        1,
        1,
    )


@pytest.mark.parametrize("kernel", [3, 4])
def test_inspect_finds_the_checkerboard_of_an_odd_kernel(kernel: int) -> None:
    findings = eyeshot.inspect(nets.generator(kernel=kernel).eval(), (64, 1, 1)).findings
    layers = [finding.layer for finding in findings if finding.title == "checkerboard"]
    assert layers == (["transpose2", "transpose3"] if kernel == 3 else [])


def test_the_sum_behind_a_pixel_is_explained() -> None:
    net = nets.generator(width=4).eval()
    trace = eyeshot.explain(net, torch.randn(1, 64, 1, 1), layer="transpose3", unit=(0, 9, 20))
    assert trace.total == pytest.approx(trace.network_value, rel=1e-4, abs=1e-7)


def test_mistakes_are_named() -> None:
    with pytest.raises(BadValue, match="kernel is 7; use 2 to 6"):
        nets.generator(kernel=7)
    with pytest.raises(BadValue, match="latent is 0"):
        nets.generator(0)
    with pytest.raises(UnknownName, match="way up 'transposed'"):
        nets.build("generator", up="transposed")
