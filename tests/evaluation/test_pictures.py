"""PSNR and SSIM gathered by windows, against their definitions on whole pictures."""

from __future__ import annotations

import math
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from tests.networks import examples
from torch import Tensor, nn

from eyeshot import nets
from eyeshot.data.pairs import load_pairs
from eyeshot.engine.networks import trace
from eyeshot.errors import BadValue
from eyeshot.evaluation import pairs, passes
from eyeshot.evaluation.pairs import SSIM_WINDOW, Likeness, judge_pictures, psnr_of

Picture = NDArray[np.float64]


def ssim_by_definition(one: Picture, other: Picture) -> float:
    """Of one channel: Wang et al., equation 13, with the window of 11 pixels and deviation 1.5."""

    def mean(values: Picture) -> Picture:
        blurred: Picture = ndimage.gaussian_filter(values, 1.5, truncate=5 / 1.5, mode="mirror")
        return blurred

    first, second = mean(one), mean(other)
    spread_one, spread_other = mean(one * one) - first**2, mean(other * other) - second**2
    together = mean(one * other) - first * second
    c1, c2 = 0.01**2, 0.03**2
    above = (2 * first * second + c1) * (2 * together + c2)
    return float((above / ((first**2 + second**2 + c1) * (spread_one + spread_other + c2))).mean())


@given(
    seed=st.integers(0, 9999),
    height=st.integers(6, 40),
    width=st.integers(6, 30),
    channels=st.integers(1, 3),
    step=st.integers(1, 15),
    at_once=st.sampled_from([1, 100, 2**18]),
)
@examples(30)
def test_likeness_by_windows_is_that_of_the_whole(
    seed: int, height: int, width: int, channels: int, step: int, at_once: int
) -> None:
    generator = np.random.default_rng(seed)
    one = generator.random((channels, height, width))
    other = (one + generator.normal(0, 0.1, one.shape)).clip(0, 1)
    likeness = Likeness()
    halo = SSIM_WINDOW // 2
    for start in range(0, height, step):
        stop = min(height, start + step)
        top, bottom = max(0, start - halo), min(height, stop + halo)
        with mock.patch.object(pairs, "_AT_ONCE", at_once):
            likeness.add(one[:, top:bottom], other[:, top:bottom], slice(start - top, stop - top))
    assert likeness.psnr == pytest.approx(10 * math.log10(1 / ((one - other) ** 2).mean()))
    expected = np.mean([ssim_by_definition(a, b) for a, b in zip(one, other, strict=True)])
    assert likeness.ssim == pytest.approx(expected, abs=1e-6)


def test_the_same_picture() -> None:
    picture = np.random.default_rng(0).random((1, 20, 20))
    likeness = Likeness()
    likeness.add(picture, picture, slice(0, 20))
    assert likeness.psnr == 100
    assert likeness.ssim == pytest.approx(1)
    assert math.isnan(psnr_of(math.nan))


class Halved(nn.Module):
    """Half of what comes in, and beyond what a picture can hold in one corner."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.constant_(self.conv.weight, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv(x)
        return result


def pair_of(folder: Path, image: NDArray[np.uint8], target: NDArray[np.uint8], name: str) -> None:
    for part in ("train", "val"):
        for kind, pixels in (("image", image), ("target", target)):
            (folder / part / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / part / kind / f"{name}.png")


@pytest.mark.parametrize("window", [2**21, 200])
def test_whole_pictures_clipped_and_compared(
    window: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "_WINDOW", window)
    generator = np.random.default_rng(2)
    given_pixels = generator.integers(0, 180, (35, 40)).astype(np.uint8)
    expected = generator.integers(0, 256, (35, 40)).astype(np.uint8)
    pair_of(tmp_path, given_pixels, expected, "a")
    pairs = load_pairs(tmp_path, task="restore")
    net = trace(Halved().eval(), mean=(0.0,), std=(1.0,))
    evaluation = judge_pictures(net, pairs, pairs.validation)
    answer, truth = (given_pixels / 255 * 2).clip(0, 1), expected / 255
    (picture,) = evaluation.pictures
    assert picture.psnr == pytest.approx(10 * math.log10(1 / ((answer - truth) ** 2).mean()), 1e-5)
    assert picture.ssim == pytest.approx(ssim_by_definition(answer, truth), abs=1e-5)
    before = given_pixels / 255
    assert picture.given_psnr == pytest.approx(10 * math.log10(1 / ((before - truth) ** 2).mean()))
    assert picture.given_ssim == pytest.approx(ssim_by_definition(before, truth), abs=1e-5)
    assert evaluation.psnr == picture.psnr
    assert evaluation.to_dict()["pictures"][0]["name"] == "a"


def test_pictures_too_small_to_compare_are_named(tmp_path: Path) -> None:
    small = np.zeros((5, 40), np.uint8)
    small[0] = 200
    pair_of(tmp_path, small, small, "thin")
    pairs = load_pairs(tmp_path, task="restore")
    net = trace(Halved().eval())
    with pytest.raises(BadValue, match=r"thin\.png: 5×40, too small"):
        judge_pictures(net, pairs, pairs.validation)


def test_answers_too_small_to_compare_are_named(tmp_path: Path) -> None:
    pixels = np.arange(19 * 19, dtype=np.uint16).astype(np.uint8).reshape(19, 19)
    pair_of(tmp_path, pixels, pixels, "small")
    pairs = load_pairs(tmp_path, task="restore")
    net = trace(nets.unet(classes=1, depth=1, base=2, padding="valid").eval())
    with pytest.raises(BadValue, match=r"small\.png: 2×2, all that .*: use larger pictures"):
        judge_pictures(net, pairs, pairs.validation)


def test_the_network_is_run_without_gradients(tmp_path: Path) -> None:
    pixels = np.arange(400, dtype=np.uint8).reshape(20, 20)
    pair_of(tmp_path, pixels, pixels, "a")
    pairs = load_pairs(tmp_path, task="restore")
    module = Halved().eval()
    judge_pictures(trace(module), pairs, pairs.validation)
    assert module.conv.weight.grad is None
    assert torch.is_grad_enabled()
