"""Sizes computed from the axis maps of one graph: against the network, called at every size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eyeshot.frontends.torch import graph_of
from eyeshot.geometry import Fields
from eyeshot.geometry.sizes import (
    Clash,
    certainly_takes,
    extents,
    leftovers,
    nearest,
    nearest_sizes,
    takes,
)
from eyeshot.graph import Graph

LARGEST = 34


class Skip(nn.Module):
    """A convolution of stride ``s`` and its transpose, joined with the input: multiples only."""

    def __init__(self, stride: int, times: int = 1) -> None:
        super().__init__()
        self.down = nn.Sequential(*[nn.Conv2d(1, 1, stride, stride) for _ in range(times)])
        self.up = nn.Sequential(*[nn.ConvTranspose2d(1, 1, stride, stride) for _ in range(times)])

    def forward(self, x: Tensor) -> Tensor:
        joined: Tensor = x + self.up(self.down(x))
        return joined


class Cropped(Skip):
    """As above, with the input cropped to what the transpose gives: any size, by ``forward``."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(self.down(x))
        cropped: Tensor = x[..., : y.shape[2], : y.shape[3]] + y
        return cropped


def _pools() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 1, 5, stride=2, padding=1),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        nn.AvgPool2d((2, 3)),
    )


FREE: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "skip 2": (lambda: Skip(2), 12),
    "skip 3 twice": (lambda: Skip(3, 2), 18),
    "every size": (lambda: nn.Conv2d(1, 1, 3, padding=1), 7),
    "valid": (lambda: nn.Sequential(nn.Conv2d(1, 1, 7), nn.Conv2d(1, 1, 4, dilation=3)), 20),
    "pools": (_pools, 30),
    "reflected": (lambda: nn.Conv2d(1, 1, 9, padding=4, padding_mode="reflect"), 16),
    "shuffled": (lambda: nn.Sequential(nn.PixelUnshuffle(3), nn.Conv2d(9, 1, 1)), 9),
    "channels reshaped": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 2), nn.Unflatten(1, (2, 2)), nn.Flatten(1, 2)),
        9,
    ),
    "pooled to one": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(2, 1, 1)),
        10,
    ),
}
UNSURE = {"reflected": None, "channels reshaped": None}
"""Padding and reshapes are given as numbers, which a ``forward`` might have computed."""


def _graph(name: str) -> tuple[nn.Module, Graph, int]:
    make, side = FREE[name]
    net = make().eval()
    return net, graph_of(net, (1, side, side)), side


def _runs(net: nn.Module, height: int, width: int) -> torch.Size | None:
    try:
        with torch.no_grad():
            shape: torch.Size = net(torch.zeros(1, 1, height, width)).shape
    except RuntimeError:
        return None
    return shape


@pytest.mark.parametrize("name", FREE)
def test_sizes_are_those_that_the_network_takes(name: str) -> None:
    net, graph, side = _graph(name)
    for axis in (0, 1):
        accepted = {}
        for n in range(1, LARGEST):
            shape = _runs(net, *((n, side) if axis == 0 else (side, n)))
            accepted[n] = shape is not None
            sizes = extents(graph, axis, n)
            if shape is None:
                assert isinstance(sizes, Clash), (axis, n)
            else:
                assert not isinstance(sizes, Clash), (axis, n, sizes)
                assert sizes[graph.outputs[0]] == shape[2 + axis]
            assert takes(graph, axis, n) is accepted[n]
            assert certainly_takes(graph, axis, n) in (accepted[n], UNSURE.get(name, accepted[n]))
        for around in range(1, 20):
            smaller = next((n for n in range(around - 1, 0, -1) if accepted[n]), None)
            larger = next((n for n in range(around + 1, LARGEST) if accepted[n]), None)
            assert nearest(graph, axis, around=around) == (smaller, larger)
        assert nearest_sizes(graph) == [(side, side)]


def test_a_crop_computed_in_forward_is_not_known_at_another_size() -> None:
    graph = graph_of(Cropped(2).eval(), (1, 13, 13))
    assert certainly_takes(graph, 0, 13) is True
    assert {certainly_takes(graph, 0, n) for n in (10, 11, 12, 14)} == {None}


class Sorted(nn.Module):
    """Positions are lost: nothing is known of the fields behind it."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sort(-1).values


def test_of_a_layer_without_fields_the_bounds_are_empty() -> None:
    graph = graph_of(Sorted(), (1, 6, 7))
    lo, hi = Fields(graph).bounds(graph.outputs[0], 0)
    assert lo.shape == hi.shape == (0,)
    assert lo.dtype == hi.dtype == np.dtype(np.int64)
    assert not Fields(graph).layer(graph.outputs[0])


def test_a_window_over_a_single_position_and_its_padding() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1))
    graph = graph_of(net, (1, 1, 5))
    lo, hi = Fields(graph).bounds(graph.outputs[0], 0)
    assert (lo.tolist(), hi.tolist()) == ([0], [1])


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
@pytest.mark.parametrize("padding", [0, 1])
def test_positions_left_unread_at_the_end(kernel: int, stride: int, padding: int) -> None:
    padding = min(padding, kernel // 2)
    net = nn.Conv2d(1, 1, kernel, stride, padding).eval()
    nn.init.ones_(net.weight)
    graph = graph_of(net, (1, 9, 9))
    for n in range(kernel, 15):
        image = torch.zeros(1, 1, n, n, requires_grad=True)
        net(image).sum().backward()
        assert image.grad is not None
        read = image.grad[0, 0].amax(1) > 0
        unread = 0
        while not read[n - 1 - unread]:
            unread += 1
        gap = max(stride - kernel, 0)  # skipped between any two windows, on purpose
        expected = max(unread - gap, 0)
        sizes = extents(graph, 0, n)
        assert not isinstance(sizes, Clash)
        assert sum(leftovers(graph, 0, sizes).values()) == expected, n
        assert takes(graph, 0, n, clean=True) is (expected == 0)
