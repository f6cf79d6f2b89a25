"""Max and average pooling against PyTorch and central differences, every option."""

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
from eyeshot.reference import avg_pool, avg_pool_backward, max_pool, max_pool_backward
from eyeshot.reference.padding import Array
from tests.networks import examples

from .oracle import assert_equal, by_autograd, by_differences, distinct, each_axis, normal, seeds

MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVG = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@dataclass(frozen=True)
class Case:
    x: Array
    kernel: tuple[int, ...]
    options: dict[str, Any]


@st.composite
def cases(draw: st.DrawFn, most_dilation: int = 1) -> Case:
    axes = draw(st.integers(1, 3))
    kernel = draw(each_axis(axes, 1, 4))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    dilation = draw(each_axis(axes, 1, most_dilation))
    least = [
        # the window fits, and with dilation no window can step over the whole image
        max(1, d * (k - 1) + 1 - 2 * p, d)
        for k, p, d in zip(kernel, padding, dilation, strict=True)
    ]
    if axes == 3 and most_dilation == 1:
        least = [max(low, k) for low, k in zip(least, kernel, strict=True)]  # avg_pool3d insists
    sizes = [low + draw(st.integers(0, 4)) for low in least]
    options: dict[str, Any] = {
        "stride": draw(each_axis(axes, 1, 4)),
        "padding": padding,
        "ceil_mode": draw(st.booleans()),
    }
    if most_dilation > 1:
        options["dilation"] = dilation
    else:
        options["count_include_pad"] = draw(st.booleans())
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 2)), *sizes)
    return Case(distinct(draw(seeds), *shape), kernel, options)


@given(cases(most_dilation=3))
@examples(60)
def test_max_pool_and_its_gradient_equal_pytorch(case: Case) -> None:
    pool = MAX[len(case.kernel)]
    y = max_pool(case.x, case.kernel, **case.options)
    assert_equal(y, pool(torch.from_numpy(case.x), case.kernel, **case.options))
    gradient = normal(7, *y.shape)
    (theirs,) = by_autograd(lambda x: pool(x, case.kernel, **case.options), [case.x], gradient)
    assert_equal(max_pool_backward(gradient, case.x, case.kernel, **case.options), theirs)


@given(cases())
@examples(60)
def test_avg_pool_and_its_gradient_equal_pytorch(case: Case) -> None:
    pool = AVG[len(case.kernel)]
    y = avg_pool(case.x, case.kernel, **case.options)
    assert_equal(y, pool(torch.from_numpy(case.x), case.kernel, **case.options))
    gradient = normal(7, *y.shape)
    (theirs,) = by_autograd(lambda x: pool(x, case.kernel, **case.options), [case.x], gradient)
    assert_equal(avg_pool_backward(gradient, case.x, case.kernel, **case.options), theirs)


@given(cases(most_dilation=2).filter(lambda case: case.x.size < 100))
@examples(10)
def test_the_gradient_of_max_pool_equals_central_differences(case: Case) -> None:
    gradient = normal(7, *max_pool(case.x, case.kernel, **case.options).shape)
    (slope,) = by_differences(
        lambda x: max_pool(x, case.kernel, **case.options), [case.x.copy()], gradient
    )
    ours = max_pool_backward(gradient, case.x, case.kernel, **case.options)
    np.testing.assert_allclose(ours, slope, atol=1e-6)


@given(cases().filter(lambda case: case.x.size < 100))
@examples(10)
def test_the_gradient_of_avg_pool_equals_central_differences(case: Case) -> None:
    gradient = normal(7, *avg_pool(case.x, case.kernel, **case.options).shape)
    (slope,) = by_differences(
        lambda x: avg_pool(x, case.kernel, **case.options), [case.x.copy()], gradient
    )
    ours = avg_pool_backward(gradient, case.x, case.kernel, **case.options)
    np.testing.assert_allclose(ours, slope, atol=1e-6)


def test_of_equal_cells_the_first_gets_the_gradient_as_in_pytorch() -> None:
    x, gradient = np.ones((1, 1, 4, 4)), np.ones((1, 1, 2, 2))
    (theirs,) = by_autograd(lambda t: F.max_pool2d(t, 2), [x], gradient)
    ours = max_pool_backward(gradient, x, 2)
    assert_equal(ours, theirs)
    assert ours[0, 0].tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]


def test_the_tutorial_example_stays_in_whole_numbers() -> None:
    y = max_pool(np.arange(32).reshape(1, 2, 4, 4), 3, padding=1, stride=(2, 1))
    assert np.issubdtype(y.dtype, np.integer)
    assert y[0, 0].tolist() == [[5, 6, 7, 7], [13, 14, 15, 15]]
    assert y[0, 1].tolist() == [[21, 22, 23, 23], [29, 30, 31, 31]]


def test_not_a_number_is_not_hidden() -> None:
    x = np.array([1.0, np.nan, 3.0, 2.0])[None, None]
    assert np.isnan(max_pool(x, 2)[0, 0, 0])
    assert max_pool(x, 2)[0, 0, 1] == 3


X = np.zeros((1, 1, 5, 5))


@pytest.mark.parametrize(
    ("kernel", "options", "message"),
    [
        (6, {}, "window of 6×6 is larger than the padded image of 5×5"),
        (3, {"padding": 2}, "pooling padding (2, 2) with kernel (3, 3)"),
        (0, {}, "kernel 0"),
        (2, {"stride": 0}, "stride 0"),
        ((2, 2, 2), {}, "3 numbers for 2"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    kernel: Any, options: dict[str, Any], message: str
) -> None:
    for pool in (max_pool, avg_pool):
        with pytest.raises(BadValue) as caught:
            pool(X, kernel, **options)
        assert message in str(caught.value)


def test_a_gradient_of_another_shape_is_refused() -> None:
    for backward in (max_pool_backward, avg_pool_backward):
        with pytest.raises(BadValue, match="gradient of shape"):
            backward(X, X, 2)
