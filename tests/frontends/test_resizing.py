"""Which pixels a resize reads, and with which weights: those of torch, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from eyeshot.axes import Identity, Interval, Resize
from eyeshot.frontends.torch import graph_of
from eyeshot.geometry import Fields

TALL = 100_000
FACTORS = (1.02, 1.25, 1.3, 2.3, 2.0, 2.1, 3.0, 3.3, 0.9, 0.5)
SIZES: tuple[Callable[[int], int], ...] = (
    lambda n: 2 * n + 1,
    lambda n: n + 1,
    lambda n: n // 2 + 1,
    lambda n: 3 * n,
)
_MODES = {"linear": "bilinear", "cubic": "bicubic"}


class Interpolate(nn.Module):
    """Resizes of an image two pixels wide, in the type of a weight that has no other use."""

    def __init__(self, dtype: torch.dtype, *options: dict[str, Any]) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.ones((), dtype=dtype))
        self.options = options

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(F.interpolate(x, **one) for one in self.options)


def axes_of(net: nn.Module, size: tuple[int, ...]) -> list[Any]:
    """The axis map of the rows in each of the outputs."""
    graph = graph_of(net, size)
    return [graph.nodes[name].edges[0].axes[0] for name in graph.outputs]


def settings(mode: str, n: int) -> list[dict[str, Any]]:
    """By factor and by size; aligned at the corners too, where the mode knows them."""
    name = _MODES.get(mode, mode)
    by_factor: list[dict[str, Any]] = [{"scale_factor": (f, 1.0), "mode": name} for f in FACTORS]
    by_size: list[dict[str, Any]] = [{"size": (size(n), 2), "mode": name} for size in SIZES]
    if n == TALL:
        by_factor, by_size = by_factor[1:6:2], by_size[:2]
    if mode not in _MODES:
        return by_factor + by_size
    again = {"scale_factor": (1.3, 1.0), "mode": name, "recompute_scale_factor": True}
    aligned = [{**one, "align_corners": True} for one in (by_factor[-1], *by_size)]
    return [*by_factor, *by_size, again, *aligned]


def residues(n: int, dtype: torch.dtype, channels: int) -> torch.Tensor:
    """Four images, each 1 on every fourth row: a weight passes through them as it is."""
    image = torch.zeros(4, channels, n, 2, dtype=dtype)
    for rest in range(4):
        image[rest, :, rest::4] = 1
    return image


def by_residue(axis: Resize, n: int) -> NDArray[Any]:
    """What the axis map makes of those images, (4, outputs)."""
    inputs, weights = axis.weights(np.arange(axis.output_size(n), dtype=np.int64), n)
    return np.stack([np.where(inputs % 4 == rest, weights, 0).sum(1) for rest in range(4)])


@pytest.mark.parametrize("n", [37, TALL])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear", "cubic"])
def test_the_weights_are_those_of_torch(mode: str, dtype: torch.dtype, n: int) -> None:
    net = Interpolate(dtype, *settings(mode, n))
    truths = [one[:, 0, :, 0].detach().numpy() for one in net(residues(n, dtype, 1))]
    for truth, axis in zip(truths, axes_of(net, (1, n, 2)), strict=True):
        if isinstance(axis, Identity):
            np.testing.assert_array_equal(truth[0, ::4], 1)
            assert truth.shape[1] == n
            continue
        assert isinstance(axis, Resize)
        # A cubic weight is a small difference of large terms, and at the border a sum of weights.
        slack = 0 if mode != "cubic" else 5e-7 if dtype == torch.float32 else 2e-15
        np.testing.assert_allclose(by_residue(axis, n), truth, rtol=0, atol=slack)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_types_are_resized_by_the_coordinates_of_float32(half: torch.dtype) -> None:
    net = Interpolate(half, *settings("nearest", 1000)[::3])
    truths = [one[:, 0, :, 0].detach().float().numpy() for one in net(residues(1000, half, 1))]
    for truth, axis in zip(truths, axes_of(net, (1, 1000, 2)), strict=True):
        assert isinstance(axis, Resize)
        np.testing.assert_array_equal(by_residue(axis, 1000), truth)


class ChannelsLast(Interpolate):
    """The same resizes of a map whose channels lie last in memory."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return super().forward(x.contiguous(memory_format=torch.channels_last))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_the_kernel_for_packed_channels_takes_other_pixels(mode: str, dtype: torch.dtype) -> None:
    others = 0
    same = {"scale_factor": (1.0005, 1.0), "mode": mode}  # a copy by one kernel, not by the other
    net = ChannelsLast(dtype, *settings(mode, 1000)[2:6], same)
    truths = [one[:, 0, :, 0].detach().numpy() for one in net(residues(1000, dtype, 4))]
    for truth, axis in zip(truths, axes_of(net, (4, 1000, 2)), strict=True):
        if isinstance(axis, Identity):
            np.testing.assert_array_equal(truth, residues(1000, dtype, 1)[:, 0, :, 0])
            others += 1
            continue
        assert isinstance(axis, Resize)
        np.testing.assert_array_equal(by_residue(axis, 1000), truth)
        others += axis.how.packed
    assert others or mode == "nearest-exact"  # else the two kernels would be one


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_what_is_read_holds_every_weight(mode: str) -> None:
    for dtype in (torch.float32, torch.float64):
        for axis in axes_of(Interpolate(dtype, *settings(mode, 1000)[::2]), (1, 1000, 2)):
            size = axis.output_size(1000)
            for lo, hi in ((0, 1), (1, 3), (size // 3, size // 2), (size - 1, size), (0, size)):
                taps = axis.inputs_of(np.arange(lo, hi, dtype=np.int64), 1000)
                taps = taps[taps >= 0]
                assert axis.input_range_inside(Interval(lo, hi), 1000).covers(
                    Interval(int(taps.min()), int(taps.max()) + 1)
                )


def test_a_pattern_that_rounding_breaks_is_no_pattern() -> None:
    def axis(factor: float, n: int) -> Resize:
        options = {"scale_factor": (factor, 1.0), "mode": "nearest"}
        (found,) = axes_of(Interpolate(torch.float32, options), (1, n, 2))
        assert isinstance(found, Resize)
        return found

    assert axis(2.0, 1000).period == (2, 1)
    assert axis(2.1, 100).period == (21, 10)
    assert axis(2.3, 100).period is None  # output 69 should read input 30, and reads input 29
    inputs, _ = axis(2.3, 100).weights(np.array([69]), 100)
    ramp = torch.arange(100.0).reshape(1, 1, 100, 1).expand(1, 1, 100, 2)
    sampled = F.interpolate(ramp, scale_factor=(2.3, 1.0), mode="nearest")[0, 0, 69, 0]
    assert inputs[0, 0] == int(sampled) == 29


@pytest.mark.parametrize("factor", [2.3, 1.3, 3.0])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic"])
def test_a_field_holds_the_pixels_that_move_the_output(mode: str, factor: float) -> None:
    net = Interpolate(torch.float32, {"scale_factor": factor, "mode": mode})
    image = torch.randn(1, 1, 100, 3, requires_grad=True)
    fields = Fields(graph_of(net, (1, 100, 3)))
    layer = list(fields.graph)[-1].name
    column = net(image)[0][0, 0, :, 1]
    for unit in (0, 1, 34, 55, 69, 80, len(column) - 2, len(column) - 1):
        (gradient,) = torch.autograd.grad(column[unit], image, retain_graph=True)
        rows = torch.nonzero(gradient[0, 0].abs().sum(1) > 1e-5)[:, 0].tolist()
        found = fields.field(layer, (unit, 1))
        assert found.inside is not None
        assert found.box is not None
        assert found.inside[0] == Interval(rows[0], rows[-1] + 1)
        assert found.box[0].covers(found.inside[0])
