"""A layer by hand: the same gradients from two sides, and a kernel learned with them."""

from __future__ import annotations

import numpy as np
import torch

from eyeshot import data

from . import load

example = load("08")


def test_the_layer_is_a_convolution() -> None:
    layer, x = example.ConvLayer(2, 3, 3), torch.randn(1, 2, 6, 5, dtype=torch.float64)
    expected = torch.nn.functional.conv2d(x, layer.kernel, layer.bias)
    assert torch.allclose(layer(x), expected, atol=1e-12)


def test_the_gradients_of_reference_and_autograd_are_equal() -> None:
    differences = example.compare_gradients()
    assert set(differences) == {"x", "kernel", "bias"}
    assert max(differences.values()) < 1e-10


def test_it_learns_the_kernel_that_it_has_never_seen() -> None:
    digits = data.load("digits")
    pictures = next(digits.train.batches(16))[0].double() / 255 - digits.mean[0]
    learned = example.learn(pictures, steps=80)
    np.testing.assert_allclose(learned["by hand"], learned["autograd"], atol=1e-10)
    assert learned["losses"][-1] < learned["losses"][0] / 100
    assert np.abs(learned["by hand"][0, 0] - example.SOBEL_X.numpy()).max() < 0.5
