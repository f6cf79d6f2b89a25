"""Nearest and linear up-sampling against PyTorch, up and down, on one to three axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st

from eyeshot.errors import BadValue, UnknownName
from eyeshot.reference import upsample, upsample_backward
from eyeshot.reference.layers import linear_matrix, nearest_matrix, plan_resize
from eyeshot.reference.padding import Array
from tests.networks import examples

from .oracle import assert_equal, by_autograd, by_differences, each_axis, normal, seeds

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True)
class Case:
    x: Array
    options: dict[str, Any]

    def by_torch(self, x: torch.Tensor) -> torch.Tensor:
        linear = self.options["mode"] == "linear"
        return F.interpolate(
            x,
            size=self.options.get("size"),
            scale_factor=self.options.get("scale"),
            mode=LINEAR[x.ndim - 2] if linear else "nearest",
            align_corners=self.options["align_corners"] if linear else None,
        )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    axes = draw(st.integers(1, 3))
    sizes = draw(each_axis(axes, 1, 6 if axes < 3 else 4))
    options: dict[str, Any] = {"mode": draw(st.sampled_from(["nearest", "linear"]))}
    options["align_corners"] = options["mode"] == "linear" and draw(st.booleans())
    if draw(st.booleans()):
        options["size"] = draw(each_axis(axes, 1, 13 if axes < 3 else 7))
    else:
        factors = st.sampled_from([1.0, 1.02, 1.5, 2.0, 2.3, 3.0, 3.7])
        scale = options["scale"] = draw(st.tuples(*[factors] * axes))
        # PyTorch has a short cut for twice the size which forgets a scale that is not exactly 2,
        # and in one and three dimensions only on the way back: its gradient is not that of its y.
        # The same of a size that stays as it is; the linear modes copy it everywhere.
        short = [2] if options["mode"] == "linear" else [1, 2]
        pairs = list(zip(sizes, scale, strict=True))
        assume(not any(int(n * f) == s * n and f != s for n, f in pairs for s in short))
    return Case(normal(draw(seeds), 2, 2, *sizes), options)


@given(cases())
@examples(80)
def test_it_and_its_gradient_equal_pytorch(case: Case) -> None:
    y = upsample(case.x, **case.options)
    assert_equal(y, case.by_torch(torch.from_numpy(case.x)))
    gradient = normal(7, *y.shape)
    (theirs,) = by_autograd(case.by_torch, [case.x], gradient)
    assert_equal(upsample_backward(gradient, case.x, **case.options), theirs)


@given(cases().filter(lambda case: case.x.size < 60))
@examples(10)
def test_the_gradient_equals_central_differences(case: Case) -> None:
    gradient = normal(7, *upsample(case.x, **case.options).shape)
    (slope,) = by_differences(lambda x: upsample(x, **case.options), [case.x.copy()], gradient)
    ours = upsample_backward(gradient, case.x, **case.options)
    np.testing.assert_allclose(ours, slope, atol=1e-6)


@given(st.integers(1, 40), st.integers(1, 90), st.booleans())
def test_every_output_is_a_mean_of_inputs(before: int, after: int, corners: bool) -> None:
    (resize,) = plan_resize([before], after, None)
    for matrix in (nearest_matrix(resize), linear_matrix(resize, corners)):
        assert matrix.shape == (after, before)
        np.testing.assert_allclose(matrix.sum(axis=1), 1)
        assert matrix.min() >= 0


@given(st.integers(1, 60), st.integers(1, 150))
@examples(100)
def test_nearest_looks_at_the_whole_part_of_i_n_over_m(before: int, after: int) -> None:
    """Rounding must not step to the cell before an exact quotient."""
    (resize,) = plan_resize([before], after, None)
    looked_at = nearest_matrix(resize).argmax(axis=1)
    assert looked_at.tolist() == [i * before // after for i in range(after)]


def test_nearest_by_two_repeats_every_cell() -> None:
    x = np.array([[1, 2], [3, 4]])[None, None]
    y = upsample(x, scale=2)[0, 0]
    assert y.tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]


def test_aligned_corners_stay_put() -> None:
    x = normal(0, 1, 1, 3, 4)
    y = upsample(x, size=(8, 9), mode="linear", align_corners=True)
    corners = np.ix_([0], [0], [0, -1], [0, -1])
    assert_equal(y[corners], x[corners])


X = np.zeros((1, 1, 3, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "size None and scale None"),
        ({"size": 4, "scale": 2.0}, "size 4 and scale 2.0"),
        ({"size": 0}, "size 0"),
        ({"scale": 0.2}, "scale 0.2"),
        ({"scale": float("nan")}, "scale nan"),
        ({"scale": (2.0, 2.0, 2.0)}, "for 2 spatial axes"),
        ({"scale": 2, "align_corners": True}, "align_corners with nearest"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadValue) as caught:
        upsample(X, **options)
    assert message in str(caught.value)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean 'linear'"):
        upsample(X, scale=2, mode="bilinear")


def test_a_gradient_of_another_shape_is_refused() -> None:
    with pytest.raises(BadValue, match="gradient of shape"):
        upsample_backward(X, X, scale=2)
