"""Operators of somebody's own, registered with a rule: inspected and streamed as any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import eyeshot
from eyeshot import operators
from eyeshot.axes import Window
from eyeshot.errors import BadValue, Unsupported
from eyeshot.frontends.torch import graph_of
from eyeshot.geometry import Fields
from eyeshot.graph import Family

Function = Callable[..., torch.Tensor]


def made(name: str, function: Function) -> Any:
    """A custom op that computes a function of one map and numbers."""
    op = torch.library.custom_op(f"eyeshottest::{name}", function, mutates_args=())
    op.register_fake(function)
    return op


def blur(x: torch.Tensor, side: int, stride: int) -> torch.Tensor:
    channels = x.shape[1]
    kernel = torch.arange(1, side * side + 1, dtype=x.dtype).reshape(1, 1, side, side)
    kernel = kernel.expand(channels, 1, side, side)
    return F.conv2d(x, kernel, stride=stride, padding=side // 2, groups=channels)


def mirrored_blur(x: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), 5, 1)


def swirl(x: torch.Tensor, gain: float) -> torch.Tensor:
    return torch.sin(x * gain) + x


BLUR, MIRRORED, SWIRL = made("blur", blur), made("mirrored", mirrored_blur), made("swirl", swirl)


class Called(nn.Module):
    """A convolution, an operator of one's own, and a convolution."""

    def __init__(self, op: Any, *args: Any) -> None:
        super().__init__()
        self.op, self.args = op, args
        self.first, self.last = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.last(self.op(self.first(x), *self.args))
        return found


@pytest.fixture(autouse=True)
def table() -> Iterator[None]:
    """What a test registers is gone behind it."""
    before, by_family = dict(operators.OPERATORS), dict(operators._BY_FAMILY)
    yield
    for kept, now in ((before, operators.OPERATORS), (by_family, operators._BY_FAMILY)):
        now.clear()
        now.update(kept)  # type: ignore[arg-type]


def the_law(net: nn.Module, bands: tuple[int, ...] = (1, 3, 8)) -> None:
    """By parts it gives what one whole pass gives."""
    net.eval()
    image = np.random.default_rng(0).random((1, 37, 29), dtype=np.float32)
    with torch.no_grad():
        whole = net(torch.from_numpy(image)[None])[0].numpy()
    for band in bands:
        found = np.asarray(eyeshot.run(net, image, output_format="float32", band=band))
        assert found.shape == whole.shape
        assert np.abs(found - whole).max() <= 1e-5 * np.abs(whole).max()


@pytest.mark.parametrize("side", [3, 5, 6])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_windows_of_ones_own_are_streamed(side: int, stride: int) -> None:
    def windows(arguments: Any) -> Window:
        k, pad = arguments["side"], arguments["side"] // 2
        return Window(k, arguments["stride"], pad, pad)

    eyeshot.register_operator("eyeshottest::blur", windows)
    the_law(Called(BLUR, side, stride))


def test_a_border_of_its_own_is_kept() -> None:
    eyeshot.register_operator("eyeshottest::mirrored", Window(5, 1, 2, 2))
    the_law(Called(MIRRORED))


def test_a_pointwise_operator_of_ones_own_is_streamed() -> None:
    eyeshot.register_operator("eyeshottest::swirl", "pointwise")
    the_law(Called(SWIRL, 0.7))


def gated(x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(gate)


GATED = made("gated", gated)


class Gating(nn.Module):
    """A map beside one number for each of its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        found: torch.Tensor = GATED(x, x.mean((2, 3), keepdim=True))
        return found


def test_a_pointwise_operator_broadcasts() -> None:
    eyeshot.register_operator("eyeshottest::gated", "pointwise")
    the_law(Gating())


def test_its_field_and_its_cost_are_reported() -> None:
    eyeshot.register_operator("eyeshottest::mirrored", Window(5, 1, 2, 2), multiply_adds=25)
    graph = graph_of(Called(MIRRORED).eval(), (1, 20, 20))
    (node,) = [one for one in graph if one.family is Family.CUSTOM]
    assert node.operator == "eyeshottest::mirrored"
    assert operators.effort(graph, node).of(0, 10) == 250
    (last,) = graph.outputs
    assert [axis.largest for axis in Fields(graph).layer(last)] == [3 + 4 + 2] * 2


def _is_the_whole_pass(net: torch.nn.Module, side: int) -> None:
    image = np.random.default_rng(0).random((1, side, side), dtype=np.float32)
    with torch.no_grad():
        whole = net(torch.from_numpy(image)[None])[0].numpy()
    assert np.allclose(eyeshot.run(net, image, band=4), whole, atol=1e-6)


def test_without_a_rule_it_is_called_whole() -> None:
    _is_the_whole_pass(Called(SWIRL, 0.7).eval(), 9)


def test_the_name_of_one_of_torchs_own_gives_it_no_rule() -> None:
    op = made("relu", swirl)
    graph = graph_of(Called(op, 1.0).eval(), (1, 9, 9))
    assert [one.family for one in graph if "relu" in one.operator] == [Family.UNKNOWN]


def test_with_windows_that_do_not_give_its_shape_it_is_called_whole() -> None:
    eyeshot.register_operator("eyeshottest::mirrored", Window(5, 2, 2, 2))
    _is_the_whole_pass(Called(MIRRORED).eval(), 20)


@pytest.mark.parametrize("positions", [Window(3, 1, 1, 1), Window(5, 1, 1, 3), "pointwise"])
def test_a_rule_that_reads_too_little_is_noticed(positions: Any) -> None:
    eyeshot.register_operator("eyeshottest::mirrored", positions)
    with pytest.raises(Unsupported, match="gives other numbers by parts"):
        eyeshot.run(Called(MIRRORED).eval(), np.zeros((1, 30, 30), np.float32))


def weighed(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return x * mask


WEIGHED = made("weighed", weighed)


def test_with_a_tensor_of_a_number_for_each_position_it_is_called_whole() -> None:
    eyeshot.register_operator("eyeshottest::weighed", "pointwise")
    net = Called(WEIGHED)
    net.register_buffer("mask", torch.ones(20, 20))
    net.args = (net.mask,)
    _is_the_whole_pass(net.eval(), 20)


@pytest.mark.parametrize(
    ("name", "positions", "message"),
    [
        ("aten::relu", "pointwise", "library::name"),
        ("relu", "pointwise", "library::name"),
        ("eyeshottest::none", "pointwise", "has no operator"),
        ("eyeshottest::swirl", "sideways", "use 'pointwise'"),
        ("eyeshottest::swirl", Window(3, 1, 3, 0), "let every window hold a position"),
    ],
)
def test_what_cannot_be_registered_is_said(name: str, positions: Any, message: str) -> None:
    with pytest.raises(BadValue, match=message):
        eyeshot.register_operator(name, positions)
