"""The type of an answer is that of ``net(image)``, in every row, those of padding alone too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import eyeshot
from tests.engine.law import noise, whole
from tests.frontends.poking import Apply

SLACK = {torch.float16: 4e-3, torch.float32: 1e-5, torch.float64: 1e-12}
WEIGHTLESS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "a mean with zeros outside": lambda x: F.avg_pool2d(F.pad(x, [2, 2, 2, 2]), 5, 1),
    "rows of padding alone": lambda x: F.pad(x, [0, 0, 3, 3], value=0.5).relu(),
    "a corner cut off": lambda x: F.pad(x, [-2, 1, -2, 3], value=0.5),
    "a resize": lambda x: F.interpolate(x, scale_factor=1.5, mode="bilinear"),
    "aligned corners": lambda x: F.interpolate(x, size=(31, 7), mode="bicubic", align_corners=True),
    "a gate": lambda x: x * torch.sigmoid(F.pad(x, [1, 1, 1, 1]).mean((2, 3), keepdim=True)),
    "whole numbers": lambda x: F.pad((x * 10).round().to(torch.int32), [0, 0, 2, 2]),
    "truths": lambda x: F.pad(x, [0, 0, 2, 2]) > 0.5,
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", WEIGHTLESS)
def test_a_network_without_weights_computes_in_the_type_of_the_image(
    name: str, dtype: torch.dtype
) -> None:
    net, image = Apply(WEIGHTLESS[name]).eval(), noise(2, 23, 12).to(dtype)
    (truth,) = whole(net, image)
    for band in (1, 2, 7, None):
        part = eyeshot.run(net, image, band=band)
        assert part.dtype == truth.dtype
        np.testing.assert_allclose(
            part.astype(float), truth.astype(float), rtol=SLACK[dtype], atol=SLACK[dtype]
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_camera_of_rows_of_any_type(dtype: torch.dtype) -> None:
    net = Apply(WEIGHTLESS["a mean with zeros outside"]).eval()
    image = noise(1, 23, 12).to(dtype)
    (truth,) = whole(net, image)
    rows = eyeshot.stream(net, 12, channels=1)
    parts = [rows.push(image[:, i : i + 1].numpy()) for i in range(23)]
    part = np.concatenate([*parts, rows.finish()], 1)
    assert part.dtype == truth.dtype
    np.testing.assert_allclose(part, truth, rtol=0, atol=SLACK[dtype])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_weights_set_the_type(dtype: torch.dtype) -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU()).to(dtype).eval()
    image = noise(2, 23, 12)
    (truth,) = whole(net, image.to(dtype))
    part = eyeshot.run(net, image.double(), band=4)
    assert part.dtype == truth.dtype
    np.testing.assert_allclose(part.astype(float), truth.astype(float), atol=SLACK[dtype])


@pytest.mark.parametrize("sample", [np.uint16(65535), np.uint32(2**32 - 1), np.uint16(50000)])
def test_large_samples_for_float16_are_scaled_before_they_are_rounded(sample: Any) -> None:
    net = nn.Conv2d(1, 1, 1, bias=False).half().eval()
    nn.init.ones_(net.weight)
    image = np.full((1, 5, 6), sample)
    share = float(sample) / float(np.iinfo(image.dtype).max)
    part = eyeshot.run(net, image)
    np.testing.assert_allclose(part.astype(float), share, rtol=1e-3)


NORMS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mean": lambda x: x.mean((2, 3)),
    "norm": lambda x: torch.linalg.vector_norm(x, dim=(2, 3)),
    "deviation": lambda x: x.std((2, 3)),
    "instance norm": F.instance_norm,
}


@pytest.mark.parametrize("name", NORMS)
def test_statistics_of_float16_sum_in_float32(name: str) -> None:
    net = Apply(NORMS[name]).eval()
    image = 300 * torch.rand(2, 64, 60, generator=torch.Generator().manual_seed(0)).half()
    (truth,) = whole(net, image)
    part = eyeshot.run(net, image, band=16)
    np.testing.assert_allclose(part.astype(float), truth.astype(float), rtol=5e-3, atol=5e-3)


class Fixed(nn.Module):
    """Numbers that nobody trains."""

    def __init__(self, forward: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.register_buffer("kernel", noise(2, 1, 3, 3, seed=1))
        self._forward = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._forward(x, self.kernel)  # type: ignore[arg-type]


def test_a_fixed_kernel_sets_the_type_and_a_fixed_number_does_not() -> None:
    image = noise(2, 13, 12, double=True)
    shift = Fixed(lambda x, k: F.avg_pool2d(x - k[:, 0, :1, :1], 3)).eval()
    (truth,) = whole(shift, image)
    part = eyeshot.run(shift, image, band=2)
    assert part.dtype == truth.dtype == np.float64
    np.testing.assert_allclose(part, truth, rtol=0, atol=1e-12)
    blur = Fixed(lambda x, k: F.conv2d(x, k, groups=2)).eval()  # refuses float64, by torch
    part = eyeshot.run(blur, image, band=2)
    assert part.dtype == np.float32
    np.testing.assert_allclose(part, whole(blur, image.float())[0], rtol=0, atol=1e-5)


def test_a_form_may_ask_for_another_type() -> None:
    net, image = nn.Conv2d(1, 1, 3).double().eval(), noise(1, 9, 9, double=True)
    assert eyeshot.run(net, image).dtype == np.float64
    assert eyeshot.run(net, image, output_format="float32").dtype == np.float32
