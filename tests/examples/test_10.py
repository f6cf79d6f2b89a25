"""What the network sees: four steps, and the same maps as plain PyTorch's hooks bring."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import load

example = load("10")


def test_the_four_steps_of_the_digit_network(tmp_path: Path) -> None:
    result = example.main(tmp_path, quick=True)
    assert result["titles"] == ["convolution + ReLU", "max pooling"] * 2
    assert result["shapes"] == [(16, 28, 28), (16, 14, 14), (32, 14, 14), (32, 7, 7)]
    assert result["apart"] == 0
    assert result["answer"] == example.DIGIT

    features = result["features"]
    assert (features["relu1"] == np.maximum(features["conv1"], 0)).all()
    pooled = features["relu2"].reshape(32, 7, 2, 7, 2).max(axis=(2, 4))
    assert (features["pool2"] == pooled).all()
