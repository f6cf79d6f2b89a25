"""Layers and shapes: the tutorial's numbers."""

from __future__ import annotations

import torch

from . import load

example = load("03")


def test_two_channels_to_three() -> None:
    assert example.two_to_three_channels() == {
        "input": (4, 2, 3, 5),
        "output": (4, 3, 3, 5),
        "weights": (3, 2, 3, 5),
        "bias": (3,),
    }


def test_a_one_by_one_convolution_is_a_linear_layer_over_channels() -> None:
    assert example.one_by_one() < 1e-5


def test_same_keeps_and_valid_loses_kernel_less_one() -> None:
    sizes = example.same_and_valid()
    for (kernel, padding), size in sizes.items():
        assert size == (28 if padding == "same" else 29 - kernel)


def test_28_by_28_becomes_26_by_26_by_8_with_72_weights() -> None:
    maps, layer = example.eight_maps(torch.rand(1, 1, 28, 28))
    assert maps.shape == (1, 8, 26, 26)
    assert layer.weight.numel() == 72
