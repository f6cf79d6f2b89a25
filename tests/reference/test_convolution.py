"""`conv` and `conv_backward`: the definition by plain loops, PyTorch, central differences."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from eyeshot.errors import BadValue, UnknownName
from eyeshot.reference import conv, conv_backward
from eyeshot.reference.padding import Array
from tests.networks import examples

from .oracle import assert_equal, by_autograd, by_differences, each_axis, normal, seeds

TORCH = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")  # PyTorch, of a copy
TORCH_MODE = {"zeros": "constant"}


@dataclass(frozen=True)
class Case:
    x: Array
    weight: Array
    bias: Array
    options: dict[str, Any] = field(default_factory=dict)

    def by_torch(self, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        o = dict(self.options)
        axes = x.ndim - 2
        if o.pop("flip"):
            w = w.flip(tuple(range(2, w.ndim)))
        mode, padding = o.pop("padding_mode"), o.pop("padding")
        if padding == "same" and mode == "zeros":
            return TORCH[axes](x, w, b, padding="same", **o)
        if padding == "same":
            totals = [d * (k - 1) for d, k in zip(o["dilation"], w.shape[2:], strict=True)]
            widths = [(total // 2, total - total // 2) for total in totals]
        else:
            widths = [(0, 0)] * axes if padding == "valid" else [(p, p) for p in padding]
        flat = [n for pair in reversed(widths) for n in pair]
        return TORCH[axes](F.pad(x, flat, mode=TORCH_MODE.get(mode, mode)), w, b, **o)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    axes = draw(st.integers(1, 3))
    kernel = draw(each_axis(axes, 1, 4 if axes < 3 else 3))
    dilation = draw(each_axis(axes, 1, 3))
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    padding: Any = draw(st.one_of(st.sampled_from(["valid", "same"]), each_axis(axes, 0, 3)))
    stride = (1,) * axes if padding == "same" else draw(each_axis(axes, 1, 3))
    most_padded = [
        0 if padding == "valid" else d * (k - 1) + 1 if padding == "same" else padding[axis]
        for axis, (d, k) in enumerate(zip(dilation, kernel, strict=True))
    ]
    least = [
        # enough cells for the window to fit and for the border to be reflected or wrapped
        max(1, d * (k - 1) + 1 - 2 * most, most + 1 if mode != "zeros" else 1)
        for d, k, most in zip(dilation, kernel, most_padded, strict=True)
    ]
    sizes = [low + draw(st.integers(0, 4)) for low in least]
    groups = draw(st.integers(1, 3))
    into, out = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    seed = draw(seeds)
    return Case(
        normal(seed, draw(st.integers(1, 2)), into, *sizes),
        normal(seed + 1, out, into // groups, *kernel),
        normal(seed + 2, out),
        {
            "stride": stride,
            "padding": padding,
            "padding_mode": mode,
            "dilation": dilation,
            "groups": groups,
            "flip": draw(st.booleans()),
        },
    )


@given(cases())
@examples(60)
def test_conv_and_its_gradients_equal_pytorch(case: Case) -> None:
    tensors = [torch.from_numpy(a) for a in (case.x, case.weight, case.bias)]
    y = conv(case.x, case.weight, case.bias, **case.options)
    assert_equal(y, case.by_torch(*tensors))

    gradient = normal(7, *y.shape)
    ours = conv_backward(gradient, case.x, case.weight, **case.options)
    theirs = by_autograd(case.by_torch, (case.x, case.weight, case.bias), gradient)
    for mine, expected in zip(ours, theirs, strict=True):
        assert_equal(mine, expected)


@given(cases().filter(lambda case: case.x.size + case.weight.size < 150))
@examples(15)
def test_gradients_equal_central_differences(case: Case) -> None:
    y = conv(case.x, case.weight, case.bias, **case.options)
    gradient = normal(7, *y.shape)
    ours = conv_backward(gradient, case.x, case.weight, **case.options)
    slopes = by_differences(
        lambda x, w, b: conv(x, w, b, **case.options),
        [case.x.copy(), case.weight.copy(), case.bias.copy()],
        gradient,
    )
    for mine, expected in zip(ours, slopes, strict=True):
        np.testing.assert_allclose(mine, expected, atol=1e-6)


def test_the_definition_by_six_plain_loops() -> None:
    x, w, b = normal(0, 2, 4, 9, 8), normal(1, 6, 2, 3, 2), normal(2, 6)
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (2, 2)])
    expected = np.zeros((2, 6, 4, 10))
    for n, o, i, j in np.ndindex(*expected.shape):
        total = b[o]
        for c, u, v in np.ndindex(2, 3, 2):
            channel = (o // 3) * 2 + c  # six outputs and four inputs in two groups
            total += w[o, c, u, v] * padded[n, channel, 2 * i + 2 * u, j + 2 * v]
        expected[n, o, i, j] = total
    y = conv(x, w, b, stride=(2, 1), padding=(1, 2), dilation=2, groups=2)
    assert_equal(y, expected)


def test_the_tutorial_example_in_whole_numbers() -> None:
    x = [[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]]
    w = [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    y = conv(np.array(x)[None, None], np.array(w)[None, None])
    assert y[0, 0].tolist() == [[4, 3, 4], [2, 4, 3], [2, 3, 4]]


def test_flip_is_convolution_as_numpy_defines_it() -> None:
    x, w = normal(0, 9), normal(1, 4)
    ours = conv(x[None, None], w[None, None], flip=True)[0, 0]
    assert_equal(ours, np.convolve(x, w, mode="valid"))


def test_a_shifted_picture_gives_a_shifted_map() -> None:
    x, w = normal(0, 1, 1, 12, 12), normal(1, 1, 1, 3, 3)
    moved = np.roll(x, (2, 3), axis=(2, 3))
    before = conv(x, w, padding=1, padding_mode="circular")
    after = conv(moved, w, padding=1, padding_mode="circular")
    assert_equal(after, np.roll(before, (2, 3), axis=(2, 3)))


def test_arguments_are_not_changed() -> None:
    x, w = normal(0, 1, 2, 5, 5), normal(1, 2, 2, 3, 3)
    copies = x.copy(), w.copy()
    y = conv(x, w, padding=1)
    conv_backward(np.ones_like(y), x, w, padding=1)
    assert np.array_equal(x, copies[0])
    assert np.array_equal(w, copies[1])


X = np.zeros((1, 4, 6, 6))
W = np.zeros((4, 4, 3, 3))


@pytest.mark.parametrize(
    ("x", "weight", "options", "message"),
    [
        (X, np.zeros((4, 4, 7, 7)), {}, "window of 7×7 is larger than the padded image of 6×6"),
        (X, W, {"dilation": 3}, "window of 7×7"),
        (X, np.zeros((4, 2, 3, 3)), {"groups": 3}, "groups 3 do not divide"),
        (X, np.zeros((3, 2, 3, 3)), {"groups": 2}, "groups 2 do not divide"),
        (X, np.zeros((4, 3, 3, 3)), {}, "takes 3 channels"),
        (X, W, {"groups": 0}, "groups 0"),
        (X, W, {"stride": 0}, "stride 0"),
        (X, W, {"stride": (1, 2, 3)}, "3 numbers for 2 spatial axes"),
        (X, W, {"stride": 1.5}, "stride 1.5"),
        (X, W, {"padding": -1}, "padding -1"),
        (X, W, {"dilation": True}, "dilation True"),
        (X, W, {"padding": "same", "stride": 2}, "'same' with stride (2, 2)"),
        (X, W, {"padding": 6, "padding_mode": "reflect"}, "reflect padding of 6 on an axis of 6"),
        (X, W, {"padding": 7, "padding_mode": "circular"}, "circular padding of 7"),
        (X, W, {"bias": np.zeros(3)}, "bias of shape (3,) for 4"),
        (X, np.zeros((4, 4, 3)), {}, "weight of shape (4, 4, 3)"),
        (np.zeros((4, 6)), W, {}, "has 2 axes"),
        (np.zeros((1, 4, 0, 6)), W, {}, "is empty"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    x: Array, weight: Array, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadValue) as caught:
        conv(x, weight, **options)
    assert message in str(caught.value)
    assert caught.value.cure


def test_unknown_words_are_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean 'same'"):
        conv(X, W, padding="sane")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="did you mean 'reflect'"):
        conv(X, W, padding=1, padding_mode="reflekt")


def test_a_gradient_of_another_shape_is_refused() -> None:
    with pytest.raises(BadValue, match=r"gradient of shape \(1, 4, 6, 6\)"):
        conv_backward(X, X, W)
