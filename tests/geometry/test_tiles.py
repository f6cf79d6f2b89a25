"""Tiles against the whole: what geometry calls the same is the same, to rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, event, given
from hypothesis import strategies as st
from tests.networks import CHANNELS, examples, graph_or_reject, networks, runs_at
from torch import nn

from eyeshot.frontends.torch import graph_of
from eyeshot.geometry.tiles import AxisTiles, Comparison, cover


class Sorted(nn.Module):
    """Positions are lost in it, and a convolution follows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.conv(x.sort(-1).values)
        return found


def test_behind_an_operator_without_a_rule_nothing_is_the_same() -> None:
    graph = graph_of(Sorted().eval(), (1, 8, 9))
    assert Comparison(graph, graph).output(0, 0).lost


@pytest.mark.parametrize("axes", [1, 2])
def test_what_is_called_the_same_is_the_same(axes: int) -> None:
    @examples({1: 14, 2: 10}[axes])
    @given(
        net=networks(axes, longest=3),
        size=st.tuples(*[st.integers(20, 40)] * axes),
        tile=st.tuples(*[st.integers(10, 20)] * axes),
        start=st.tuples(*[st.integers(0, 20)] * axes),
    )
    def holds(
        net: nn.Module, size: tuple[int, ...], tile: tuple[int, ...], start: tuple[int, ...]
    ) -> None:
        start = tuple(min(s, n - t) for s, n, t in zip(start, size, tile, strict=True))
        net = net.double()
        x = torch.randn(1, CHANNELS, *size, dtype=torch.float64)
        window = x
        for dim, (first, count) in enumerate(zip(start, tile, strict=True), 2):
            window = window.narrow(dim, first, count)
        whole, part = runs_at(net, x), runs_at(net, window)
        assume(whole is not None and part is not None)
        assert whole is not None
        assert part is not None
        graphs = [graph_or_reject(net, (CHANNELS, *n), dtype=x.dtype) for n in (size, tile)]
        both = Comparison(*graphs)
        translations = [both.output(axis, s) for axis, s in enumerate(start)]
        if both.differs or any(one.lost for one in translations):
            event("nothing is the same")
            return
        event("something is the same")
        mine, theirs = part[0].numpy(), whole[0].numpy()
        for axis, one in enumerate(translations, 1):
            places = np.nonzero(one.same)[0]
            mine = mine.take(places, axis)
            theirs = theirs.take(places + (one.offset or 0), axis)
        assert np.abs(mine - theirs).max() <= 1e-9 * np.abs(theirs).max()

    holds()


def test_the_last_tile_is_moved_back_into_the_image() -> None:
    assert AxisTiles.lay(100, 40, 10).starts == (0, 30, 60)
    assert AxisTiles.lay(101, 40, 10).starts == (0, 30, 60, 61)
    assert AxisTiles.lay(30, 40, 10).starts == (0,)
    assert AxisTiles.lay(30, 40, 10).tile == 30


def test_a_margin_as_wide_as_the_padding_reaches_is_wrong() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 5, padding=2)).eval()
    both = Comparison(*(graph_or_reject(net, (1, *n)) for n in ((60, 60), (20, 60))))
    same = both.output(0, 20).same
    assert np.nonzero(same)[0].tolist() == list(range(3, 17))
    assert both.output(0, 0).same[:3].all(), "the image's own border is the tile's too"
    assert both.output(1, 0).same.all()


def test_units_that_no_tile_gives_are_wrong() -> None:
    net = nn.Sequential(nn.Conv1d(1, 1, 5)).eval()
    both = Comparison(*(graph_or_reject(net, (1, n)) for n in (36, 20)))
    tiles = AxisTiles.lay(36, 20, 4)
    covered = cover(tiles, [both.output(0, start) for start in tiles.starts], 32)
    assert covered.cropped.all()
    tiles = AxisTiles.lay(36, 20, 3)
    assert tiles.starts == (0, 16)
    apart = AxisTiles(40, 20, 0, (0, 20))
    both = Comparison(*(graph_or_reject(net, (1, n)) for n in (40, 20)))
    covered = cover(apart, [both.output(0, start) for start in apart.starts], 36)
    assert np.nonzero(~covered.blended)[0].tolist() == [16, 17, 18, 19]


class _ByWidth(nn.Module):
    """A function that is another one for narrow images."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.one, self.other = (nn.Parameter(torch.randn(2, CHANNELS, 3, 3)) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        width = x.shape[-1]
        y = nn.functional.conv2d(x, self.one, padding=1)
        if self.kind == "scale":
            return y / width
        if self.kind == "slope":
            return nn.functional.leaky_relu(y, 0.1 if width > 30 else 0.5)
        if self.kind == "bound":
            return y.clamp(max=width / 30)
        if self.kind == "weights":
            return nn.functional.conv2d(x, self.one if width > 30 else self.other, padding=1)
        if self.kind == "pad value":
            return nn.functional.pad(y, (1, 1, 1, 1), value=float(width))
        if self.kind == "resize":
            mode = "nearest" if width > 30 else "bilinear"
            return nn.functional.interpolate(y, scale_factor=2.0, mode=mode)
        return nn.functional.interpolate(y[..., : width // 2 * 2], scale_factor=2.0)


@pytest.mark.parametrize(
    "kind", ["scale", "slope", "bound", "weights", "pad value", "resize", "the same"]
)
def test_a_function_that_follows_the_size_is_another_one(kind: str) -> None:
    net = _ByWidth(kind).eval()
    graphs = [graph_or_reject(net, (CHANNELS, n, n)) for n in (40, 20)]
    assert bool(Comparison(*graphs).differs) == (kind != "the same")
