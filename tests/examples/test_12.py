"""Noise taken out of photographs: the measures, the filters, and a network of any size."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from eyeshot import images

from . import load

example = load("12")


def test_filters_help_and_the_network_stands_beside_them(tmp_path: Path) -> None:
    figures = example.main(tmp_path, quick=True)
    noisy, mean, gaussian, unet = figures
    assert (noisy, mean.split(":")[0], gaussian.split(":")[0]) == ("noisy", "mean", "gaussian")
    assert unet == "U-Net"
    # Noise of that deviation, a little of it clipped at black and white.
    assert figures["noisy"][0] == pytest.approx(20 * math.log10(255 / example.SIGMA), abs=1.2)
    for name in (mean, gaussian):
        assert figures[name][0] > figures["noisy"][0] + 3
        assert figures[name][1] > figures["noisy"][1]
    held_out = sorted(path.stem for path in (tmp_path / "photographs/val/image").iterdir())
    assert held_out == sorted(f"{row}-{column}" for row, column in example.HELD_OUT)
    assert len(list((tmp_path / "photographs/train/image").iterdir())) == 12
    clean = images.read(tmp_path / "photographs/val/target/1-1.png")
    assert clean.shape == (150, 128, 3)


def test_the_measures() -> None:
    clean = np.full((20, 30, 3), 100, np.uint8)
    assert example.psnr(clean + np.uint8(51), clean) == pytest.approx(20 * math.log10(5))
    assert example.ssim(clean, clean) == pytest.approx(1)
    noisy = np.random.default_rng(0).integers(0, 255, clean.shape).astype(np.uint8)
    assert example.ssim(noisy, clean) < 0.1
