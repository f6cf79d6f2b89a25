"""`conv_transpose` is PyTorch's, is zero insertion, is the gradient of a convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from eyeshot.errors import BadValue
from eyeshot.reference import (
    conv,
    conv_backward,
    conv_transpose,
    conv_transpose_backward,
    conv_transpose_by_zero_insertion,
    insert_zeros,
)
from eyeshot.reference.padding import Array
from tests.networks import examples

from .oracle import assert_equal, by_autograd, by_differences, each_axis, normal, seeds

TORCH = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@dataclass(frozen=True)
class Case:
    x: Array
    weight: Array
    bias: Array
    options: dict[str, Any]

    def by_torch(self, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return TORCH[x.ndim - 2](x, w, b, **self.options)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    axes = draw(st.integers(1, 3))
    sizes = draw(each_axis(axes, 1, 4))
    kernel = draw(each_axis(axes, 1, 4 if axes < 3 else 3))
    stride, dilation = draw(each_axis(axes, 1, 3)), draw(each_axis(axes, 1, 3))
    extra = tuple(
        draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
    )
    whole = [
        (n - 1) * s + d * (k - 1) + 1 + e
        for n, s, d, k, e in zip(sizes, stride, dilation, kernel, extra, strict=True)
    ]
    padding = tuple(draw(st.integers(0, min(3, (n - 1) // 2))) for n in whole)
    groups = draw(st.integers(1, 3))
    into, out = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    seed = draw(seeds)
    return Case(
        normal(seed, draw(st.integers(1, 2)), into, *sizes),
        normal(seed + 1, into, out // groups, *kernel),
        normal(seed + 2, out),
        {
            "stride": stride,
            "padding": padding,
            "output_padding": extra,
            "dilation": dilation,
            "groups": groups,
        },
    )


@given(cases())
@examples(60)
def test_it_and_its_gradients_equal_pytorch(case: Case) -> None:
    tensors = [torch.from_numpy(a) for a in (case.x, case.weight, case.bias)]
    y = conv_transpose(case.x, case.weight, case.bias, **case.options)
    assert_equal(y, case.by_torch(*tensors))

    gradient = normal(7, *y.shape)
    ours = conv_transpose_backward(gradient, case.x, case.weight, **case.options)
    theirs = by_autograd(case.by_torch, (case.x, case.weight, case.bias), gradient)
    for mine, expected in zip(ours, theirs, strict=True):
        assert_equal(mine, expected)


@given(cases())
@examples(60)
def test_zero_insertion_then_convolution_is_the_same(case: Case) -> None:
    arguments = (case.x, case.weight, case.bias)
    spread = conv_transpose(*arguments, **case.options)
    assert_equal(conv_transpose_by_zero_insertion(*arguments, **case.options), spread)


@given(cases())
@examples(30)
def test_it_is_the_gradient_of_the_convolution_with_the_same_weight(case: Case) -> None:
    options = {k: v for k, v in case.options.items() if k != "output_padding"}
    y = conv_transpose(case.x, case.weight, **case.options)
    # That convolution may fit further places where output_padding reaches the stride: no gradient.
    image = np.zeros_like(y)
    places = conv(image, case.weight, **options).shape
    gradient = np.zeros(places)
    gradient[tuple(slice(0, n) for n in case.x.shape)] = case.x
    assert_equal(conv_backward(gradient, image, case.weight, **options).x, y)


@given(cases().filter(lambda case: case.x.size + case.weight.size < 100))
@examples(10)
def test_gradients_equal_central_differences(case: Case) -> None:
    y = conv_transpose(case.x, case.weight, case.bias, **case.options)
    gradient = normal(7, *y.shape)
    ours = conv_transpose_backward(gradient, case.x, case.weight, **case.options)
    slopes = by_differences(
        lambda x, w, b: conv_transpose(x, w, b, **case.options),
        [case.x.copy(), case.weight.copy(), case.bias.copy()],
        gradient,
    )
    for mine, expected in zip(ours, slopes, strict=True):
        np.testing.assert_allclose(mine, expected, atol=1e-6)


def test_zeros_are_inserted_between_and_not_around() -> None:
    x = np.array([[1, 2], [3, 4]])[None, None]
    assert insert_zeros(x, (2, 3))[0, 0].tolist() == [[1, 0, 0, 2], [0, 0, 0, 0], [3, 0, 0, 4]]


X = np.zeros((1, 4, 3, 3))
W = np.zeros((4, 2, 3, 3))


@pytest.mark.parametrize(
    ("weight", "options", "message"),
    [
        (W, {"padding": 3}, "padding (3, 3) removes the whole output"),
        (W, {"output_padding": 1}, "output_padding (1, 1) with stride (1, 1)"),
        (W, {"output_padding": -1, "stride": 2}, "output_padding -1"),
        (W, {"groups": 3}, "groups 3 do not divide"),
        (np.zeros((3, 2, 3, 3)), {}, "takes 3 channels"),
        (W, {"bias": np.zeros(4)}, "bias of shape (4,) for 2"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    weight: Array, options: dict[str, Any], message: str
) -> None:
    for function in (conv_transpose, conv_transpose_by_zero_insertion):
        with pytest.raises(BadValue) as caught:
            function(X, weight, **options)
        assert message in str(caught.value)


def test_a_gradient_of_another_shape_is_refused() -> None:
    with pytest.raises(BadValue, match="gradient of shape"):
        conv_transpose_backward(np.zeros((1, 2, 9, 9)), X, W)
