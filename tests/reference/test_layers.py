"""Linear, ReLU and softmax cross-entropy against PyTorch; a small network learns with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from eyeshot import reference as ref
from eyeshot.errors import BadValue
from eyeshot.reference.padding import Array
from tests.networks import examples

from .oracle import assert_equal, by_autograd, by_differences, distinct, normal, seeds

counts = st.integers(1, 6)


@given(counts, counts, counts, seeds)
@examples(25)
def test_linear_and_its_gradients_equal_pytorch(n: int, into: int, out: int, seed: int) -> None:
    arrays = normal(seed, n, into), normal(seed + 1, out, into), normal(seed + 2, out)
    assert_equal(ref.linear(*arrays), F.linear(*map(torch.from_numpy, arrays)))
    gradient = normal(7, n, out)
    ours = ref.linear_backward(gradient, arrays[0], arrays[1])
    for mine, theirs in zip(ours, by_autograd(F.linear, arrays, gradient), strict=True):
        assert_equal(mine, theirs)


def test_relu_and_its_gradient_equal_pytorch_at_zero_too() -> None:
    x = distinct(0, 2, 3, 5)
    x[0, 0, 0] = 0.0
    assert_equal(ref.relu(x), F.relu(torch.from_numpy(x)))
    gradient = normal(1, *x.shape)
    assert_equal(ref.relu_backward(gradient, x), by_autograd(F.relu, [x], gradient)[0])


@given(counts, st.integers(2, 7), seeds, st.sampled_from([1.0, 1000.0]))
@examples(25)
def test_cross_entropy_and_its_gradient_equal_pytorch(
    n: int, classes: int, seed: int, size: float
) -> None:
    logits = normal(seed, n, classes) * size  # exp(1000) overflows unless it is taken care of
    labels = np.random.default_rng(seed).integers(0, classes, n)
    tensor = torch.tensor(logits, requires_grad=True)
    loss = F.cross_entropy(tensor, torch.from_numpy(labels))
    np.testing.assert_allclose(
        ref.softmax_cross_entropy(logits, labels), loss.item(), rtol=1e-10, atol=1e-12
    )
    (theirs,) = torch.autograd.grad(loss, tensor)
    assert_equal(ref.softmax_cross_entropy_backward(logits, labels), theirs)
    assert_equal(ref.softmax(logits), F.softmax(tensor, dim=1))


def test_the_gradient_of_cross_entropy_equals_central_differences() -> None:
    logits, labels = normal(0, 4, 5), np.array([0, 4, 2, 2])
    (slope,) = by_differences(
        lambda z: np.array(ref.softmax_cross_entropy(z, labels)), [logits.copy()], np.array(1.0)
    )
    ours = ref.softmax_cross_entropy_backward(logits, labels)
    np.testing.assert_allclose(ours, slope, atol=1e-8)


def test_a_network_of_them_has_the_gradients_that_pytorch_finds() -> None:
    """Convolution, ReLU, pooling, linear and loss chained by hand, end to end."""
    x, labels = normal(0, 3, 1, 8, 8), np.array([1, 0, 2])
    w1, b1, w2, b2 = normal(1, 4, 1, 3, 3), normal(2, 4), normal(3, 3, 36), normal(4, 3)

    def by_torch(*weights: torch.Tensor) -> torch.Tensor:
        k, b, w, c = weights
        maps = F.max_pool2d(F.relu(F.conv2d(torch.from_numpy(x), k, b)), 2)
        return F.cross_entropy(F.linear(maps.flatten(1), w, c), torch.from_numpy(labels))

    sums = ref.conv(x, w1, b1)
    active = ref.relu(sums)
    pooled = ref.max_pool(active, 2)
    flat = pooled.reshape(3, -1)
    logits = ref.linear(flat, w2, b2)
    to_logits = ref.softmax_cross_entropy_backward(logits, labels)
    to_flat, to_w2, to_b2 = ref.linear_backward(to_logits, flat, w2)
    to_active = ref.max_pool_backward(to_flat.reshape(pooled.shape), active, 2)
    _, to_w1, to_b1 = ref.conv_backward(ref.relu_backward(to_active, sums), x, w1)

    theirs = by_autograd(by_torch, (w1, b1, w2, b2), np.array(1.0))
    for mine, expected in zip((to_w1, to_b1, to_w2, to_b2), theirs, strict=True):
        assert_equal(mine, expected)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 3]), "labels from 0 to 3 for 3 classes"),
        (np.array([-1, 0]), "labels from -1 to 0"),
        (np.array([0.0, 1.0]), "labels of type float64"),
        (np.array([0]), "labels of shape (1,)"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: Array, message: str) -> None:
    for function in (ref.softmax_cross_entropy, ref.softmax_cross_entropy_backward):
        with pytest.raises(BadValue) as caught:
            function(np.zeros((2, 3)), labels)
        assert message in str(caught.value)


def test_a_linear_layer_that_does_not_fit_is_refused() -> None:
    with pytest.raises(BadValue, match=r"weight \(4, 3\) on an input of shape \(2, 5\)"):
        ref.linear(np.zeros((2, 5)), np.zeros((4, 3)))
