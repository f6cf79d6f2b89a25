"""Starting values: outputs and gradients vanish, stay or explode, and so does learning."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from eyeshot import data

from . import load

example = load("13")


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any]:
    part = data.load("digits").train
    return (part.images[:2000] / 255 - 0.13) / 0.31, part.labels[:2000]


def test_a_factor_counts_once_for_each_layer(digits: tuple[Any, Any]) -> None:
    x, labels = digits[0][:128], digits[1][:128]
    outputs, gradients = {}, {}
    for name, scale in example.SCALES.items():
        net = example.build(scale)
        assert list(example.weighted(net).values())[-1] == "linear 6"
        outputs[name] = [wide for _, wide in example.measure_activations(net, x).values()]
        gradients[name] = list(example.measure_gradients(net, x, labels).values())
    for layer, right in enumerate(outputs["He"], start=1):
        assert 0.2 < right < 5
        # ReLU and pools keep a factor, so these are exact to rounding.
        small, large = outputs["He × 0.1"][layer - 1], outputs["He × 10"][layer - 1]
        assert small == pytest.approx(right * 0.1**layer, rel=1e-3)
        assert large == pytest.approx(right * 10.0**layer, rel=1e-3)
    for name, (low, high) in {
        "He × 0.1": (0, 1e-5),
        "He": (1e-2, 1),
        "He × 10": (1e2, math.inf),
    }.items():
        assert low < gradients[name][0] / gradients[name][-1] < high


def test_only_the_right_start_learns(digits: tuple[Any, Any]) -> None:
    losses = {}
    for name, scale in example.SCALES.items():
        losses[name] = example.train(example.build(scale), *digits, steps=60)
    guessing = math.log(10)
    assert abs(losses["He × 0.1"][-1] - guessing) < 0.02
    assert sum(losses["He"][-10:]) / 10 < guessing / 2
    assert not math.isfinite(losses["He × 10"][-1])


def test_batch_norm_forgives_a_start_that_is_too_small(digits: tuple[Any, Any]) -> None:
    net = example.build(0.1, norm=True)
    assert sum(isinstance(layer, torch.nn.BatchNorm2d) for layer in net) == 4
    losses = example.train(net, *digits, steps=40)
    assert sum(losses[-10:]) / 10 < math.log(10) / 2
