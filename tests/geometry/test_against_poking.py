"""Geometry against brute force: every input of random networks is poked, one at a time, in
float64, and the units that move are those whose footprint names the input, element for element."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, event, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.networks import CHANNELS, examples, graph_or_reject, make_positive, networks, runs_at
from torch import Tensor, nn

from eyeshot.axes import Interval
from eyeshot.geometry import Fields, footprint, required

SIZES = {1: st.integers(1, 40), 2: st.integers(1, 9), 3: st.integers(1, 4)}


def poked(net: nn.Module, size: tuple[int, ...]) -> NDArray[np.bool_]:
    """(outputs…, inputs…): which output positions move when an input position is poked.

    Inputs and weights are positive, so that no effect can cancel; all channels of a position are
    poked at once, up and then down: a maximum takes no notice of what falls, and a bicubic resize
    has weights below zero.
    """
    generator = torch.Generator().manual_seed(7)
    x = torch.rand(1, CHANNELS, *size, dtype=torch.float64, generator=generator) + 1
    places = list(itertools.product(*(range(n) for n in size)))
    with torch.no_grad():
        still = net(x.clone())
        changed = torch.zeros(len(places), *still.shape[2:], dtype=torch.bool)
        for poke in (2.0**20, -(2.0**20)):
            batch = x.repeat(len(places), *(1 for _ in x.shape[1:]))
            for i in range(len(places)):
                batch[i].reshape(CHANNELS, -1)[:, i] += poke
            changed |= ((net(batch) - still).abs() > 1e-9 * still.abs().max()).any(1)
    return np.moveaxis(
        changed.numpy().reshape(*size, *still.shape[2:]), range(len(size)), range(-len(size), 0)
    )


def without_saturation(net: nn.Module) -> nn.Module:
    """A sigmoid of a large number does not move: another increasing function in its place."""
    for name, child in net.named_children():
        setattr(
            net, name, nn.Softplus() if isinstance(child, nn.Sigmoid) else without_saturation(child)
        )
    return net


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_footprints_are_what_poking_finds(axes: int) -> None:
    @examples({1: 25, 2: 16, 3: 5}[axes])
    @given(net=networks(axes, longest=3), size=st.tuples(*[SIZES[axes]] * axes))
    def holds(net: nn.Module, size: tuple[int, ...]) -> None:
        net = without_saturation(net).double()
        make_positive(net)
        x = torch.ones(1, CHANNELS, *size, dtype=torch.float64)
        assume(runs_at(net, x) is not None)
        truth = poked(net, size)
        graph = graph_or_reject(net, (CHANNELS, *size), dtype=torch.float64)
        event(f"{len(graph)} nodes")
        fields = Fields(graph)
        output = graph.outputs[0]
        for unit in itertools.product(*(range(n) for n in graph[output].extents)):
            mask = footprint(graph, output, unit)
            np.testing.assert_array_equal(mask, truth[unit], err_msg=str(unit))
            field = fields.field(output, unit)
            assert field.inside is not None
            for axis, side in enumerate(field.inside):
                others = tuple(other for other in range(axes) if other != axis)
                places = np.nonzero(mask.any(axis=others))[0]
                hull = Interval(int(places[0]), int(places[-1]) + 1) if len(places) else None
                assert (side or None) == hull

    holds()


@examples(15)
@given(net=networks(2, longest=3), size=st.tuples(SIZES[2], SIZES[2]), data=st.data())
def test_a_region_reads_all_that_its_units_depend_on(
    net: nn.Module, size: tuple[int, int], data: st.DataObject
) -> None:
    assume(runs_at(net, torch.ones(1, CHANNELS, *size)) is not None)
    graph = graph_or_reject(net, (CHANNELS, *size))
    output = graph.outputs[0]
    box = []
    for n in graph[output].extents:
        lo = data.draw(st.integers(0, n - 1))
        box.append(Interval(lo, data.draw(st.integers(lo + 1, n))))
    needed = required(graph, {output: tuple(box)}).get(graph.inputs[0])
    units = itertools.product(*(range(side.lo, side.hi) for side in box))
    masks = [footprint(graph, output, unit) for unit in units]
    read = np.logical_or.reduce(masks)
    if needed is None:
        assert not read.any()
        return
    outside = read.copy()
    outside[tuple(slice(side.lo, side.hi) for side in needed)] = False
    assert not outside.any()


class Beside(nn.Module):
    """A 3 × 3 convolution, with what a function makes of the size of a 7 × 7 convolution's map."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.small = nn.Conv2d(CHANNELS, 2, 3, padding=1)
        self.large = nn.Conv2d(CHANNELS, 2, 7, padding=3)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.small(x), self.large(x))


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: a * torch.ones_like(b),
        lambda a, b: torch.cat([a, torch.zeros_like(b[:, :1])], 1),
        lambda a, b: a + torch.full_like(b, 3.0),
        lambda a, b: torch.cat([a, b.new_zeros(b.shape)], 1),
        lambda a, b: a + torch.empty_like(b).fill_(1.0),
        lambda a, b: a + b.fill_(2.0),
        lambda a, b: a + torch.fill(b, 2.0),
        lambda a, b: a / F.avg_pool2d(torch.ones_like(b), 5, 1, 2),
        lambda a, b: a * torch.ones_like(b.mean((2, 3), keepdim=True)),
        lambda a, b: a.expand(b.shape).type_as(b),
    ],
)
def test_a_map_of_which_only_the_size_is_taken_is_not_seen(
    function: Callable[[Tensor, Tensor], Tensor],
) -> None:
    net, size = Beside(function).double(), (9, 9)
    make_positive(net)
    graph = graph_or_reject(net, (CHANNELS, *size))
    layer, moves = graph.outputs[0], poked(net, size)
    fields = Fields(graph)
    assert [(one.smallest, one.largest) for one in fields.layer(layer)] == [(3, 3), (3, 3)]
    for unit in itertools.product(range(9), repeat=2):
        np.testing.assert_array_equal(footprint(graph, layer, unit), moves[unit])
        rows, columns = np.nonzero(moves[unit])
        inside = (Interval(rows.min(), rows.max() + 1), Interval(columns.min(), columns.max() + 1))
        assert fields.field(layer, unit).inside == inside
