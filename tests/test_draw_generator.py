"""The figures of ``docs/generator.md`` show what is so: a checkerboard, and a pixel's sum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tools.draw_generator import (
    checkerboard_share,
    draw_checkerboard,
    draw_growth,
    draw_trace,
    mean_power,
    spectrum,
    trace_to_latent,
)

from eyeshot import nets
from eyeshot.nets.unet import UpWay
from tools import draw_generator


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw_generator, "NETS", 60)
    monkeypatch.setattr(draw_generator, "LATENTS", 4)


def test_a_3x3_kernel_leaves_waves_of_two_pixels_and_a_4x4_does_not() -> None:
    shares = [checkerboard_share(mean_power(kernel)) for kernel in (3, 4)]
    assert shares[0] > 0.3
    assert shares[1] < shares[0] / 4


def test_the_spectrum_of_a_known_wave() -> None:
    rows = np.arange(28)[:, None]
    power = 1 + 0.25 * (-1.0) ** rows * np.ones((1, 28))
    assert checkerboard_share(power) == pytest.approx(0.25)
    assert spectrum(power).sum() == pytest.approx(0.25)


@pytest.mark.parametrize("up", ["transpose", "bilinear"])
def test_a_pixel_is_the_sum_of_its_parts(up: UpWay) -> None:
    torch.manual_seed(0)
    net = nets.generator(12, width=4, up=up).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.bias)
            torch.nn.init.normal_(module.running_mean)  # type: ignore[arg-type]
    latent = torch.randn(1, 12, 1, 1)
    traced = trace_to_latent(net, latent, (13, 14))
    with torch.no_grad():
        plain = float(torch.atanh(net(latent).double())[0, 0, 13, 14])
    assert traced.value == pytest.approx(plain, rel=1e-4)
    # The slopes hold near this latent: so does the sum, for a latent that is a little longer.
    with torch.no_grad():
        near = float(torch.atanh(net(latent * (1 + 1e-4)).double())[0, 0, 13, 14])
    assert near - plain == pytest.approx(1e-4 * traced.parts.sum(), rel=0.05, abs=2e-7)
    assert traced.reads["relu0"] == 1
    if up == "transpose":
        assert traced.reads["relu2"] == 4  # a 4×4 kernel with stride 2 reads 2×2


def test_the_figures_are_drawn() -> None:
    torch.manual_seed(0)
    net = nets.generator(16, width=8).eval()
    latent = torch.randn(1, 16, 1, 1)
    for figure in (draw_growth(net, latent), draw_trace(net, latent), draw_checkerboard()):
        figure.canvas.draw()
        width, height = figure.canvas.get_width_height()
        assert min(width, height) > 200
