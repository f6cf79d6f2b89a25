"""Writes into parts of tensors: every name of the memory has the new numbers, and its field."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import eyeshot
from eyeshot.axes import NO_INPUT, AxisMap, Interval, Placed, Spared
from eyeshot.errors import EyeshotError, Unsupported
from tests.engine.law import noise
from tests.frontends.poking import Apply, check

Function = Callable[..., Any]


def slice_of_channels(y: torch.Tensor, m: nn.Module) -> torch.Tensor:
    y[:, :2] = m(y[:, :2])
    return y


def fine_grid(y: torch.Tensor, m: nn.Module) -> torch.Tensor:
    fine = y.new_zeros(1, 4, 2 * y.shape[2], 2 * y.shape[3])
    fine[:, :, ::2, ::2] = y
    fine[:, :, 1::2, 1::2] = -y
    return fine


def one_channel(y: torch.Tensor, m: nn.Module) -> torch.Tensor:
    y = y.clone()
    y[:, 0] *= 2
    return y


def halves(y: torch.Tensor, m: nn.Module) -> torch.Tensor:
    a, b = y.chunk(2, 1)
    return torch.cat([F.relu_(a), b, y], 1)


def one_row(y: torch.Tensor, m: nn.Module) -> torch.Tensor:
    y[:, :, 0] = 0
    return y


def swapped(y: torch.Tensor, m: nn.Module) -> torch.Tensor:
    o = torch.zeros_like(y)
    o[:, :2], o[:, 2:] = y[:, 2:], y[:, :2]
    return o


def differences(y: torch.Tensor, m: nn.Module) -> torch.Tensor:
    y = y.clone()
    y[:, :, 1:] -= y[:, :, :-1].clone()
    return y


def shifted(y: torch.Tensor, m: nn.Module) -> torch.Tensor:
    o = torch.zeros_like(y)
    o[:, :1, :, 1:] = y[:, :1, :, :-1]
    o[:, 1:2, :, :-1] = y[:, 1:2, :, 1:]
    o[:, 2:] = y[:, 2:]
    return o


def by_mask(y: torch.Tensor, m: nn.Module) -> torch.Tensor:
    y = y.clone()
    y[y > 0.2] = 0
    return y


def by_list(y: torch.Tensor, m: nn.Module) -> torch.Tensor:
    y[:, [0, 2]] = m(y[:, [3, 1]])
    return y


def through_views(y: torch.Tensor, m: nn.Module) -> torch.Tensor:
    turned = y.transpose(2, 3)
    turned.view(1, 2, 2, *turned.shape[2:])[:, 0].mul_(3)
    return turned[:, 1:] + y.mT[:, 1:]


def given_back(y: torch.Tensor, m: nn.Module) -> torch.Tensor:
    return y + F.relu_(F.dropout(y, 0.5, False))


def a_copy_is_left_alone(y: torch.Tensor, m: nn.Module) -> torch.Tensor:
    turned = y.transpose(2, 3).contiguous()
    turned.relu_()
    return y + turned.transpose(2, 3)


def constants(y: torch.Tensor, m: nn.Module) -> torch.Tensor:
    weights = torch.ones(1, 1, y.shape[2], y.shape[3])
    weights[:, :, ::2] = 3
    first, _ = weights.chunk(2, 3)
    first += 1
    F.dropout(weights, 0.5, False)[:, :, 0] = 0
    return y * weights


def overwritten(y: torch.Tensor, m: nn.Module) -> torch.Tensor:
    old = y[:, :1]
    y.fill_(0.5)
    y[:, 1:] = m(y[:, 1:3])[:, :1] * 2
    return torch.cat([y + old, y], 1)


WRITES: dict[str, Function] = {
    one.__name__: one
    for one in (
        *(slice_of_channels, fine_grid, one_channel, halves, one_row, swapped, differences),
        *(shifted, by_mask, by_list, through_views, given_back, a_copy_is_left_alone, constants),
    )
}


def net_of(function: Function) -> nn.Module:
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(2, 2, (3, 1), padding=(1, 0))
    return Apply(lambda x, a, b: function(a(x), b), first, second).double().eval()


@pytest.mark.parametrize("name", WRITES)
def test_what_was_written_is_what_is_run(name: str) -> None:
    net, x = net_of(WRITES[name]), noise(3, 11, 8, double=True)
    with torch.no_grad():
        truth = net(x[None])[0].numpy()
    for band in (1, 4, 50):
        np.testing.assert_allclose(eyeshot.run(net, x, band=band), truth, atol=1e-12)
    region = [(2, 7), (1, 5)]
    part = eyeshot.run(net, x, band=2, region=region)
    np.testing.assert_allclose(part, truth[:, 2:7, 1:5], atol=1e-12)


ALONE: dict[str, Function] = {
    "every other row": lambda x: (o := x.clone(), o[:, :, ::2].copy_(x[:, :, 1::2]))[0],
    "a row exchanged": lambda x: (o := 2 * x, o[:, :, 1].copy_(x[:, :, 3]))[0],
    "columns in the middle": lambda x: (o := 2 * x, o[..., 1:3].copy_(x[..., 3:5]))[0],
    "a fine grid": lambda x: (o := x.new_zeros(1, 1, 8, 5), o[:, :, 1::2].copy_(x))[0],
    "a corner": lambda x: (o := 2 * x, o[:, :, :2, :3].copy_(x[:, :, 2:, 2:]))[0],
}


@pytest.mark.parametrize("name", ALONE)
def test_its_field_is_what_poking_finds(name: str) -> None:
    check(Apply(ALONE[name]).eval(), 1, 4, 5)


class Grid(nn.Module):
    """Writes into a buffer of its own before it reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.grid: torch.Tensor
        self.register_buffer("grid", torch.zeros(1, 1, 11, 8, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.grid[:, :, ::2] = 1
        return x * self.grid


def test_what_the_network_holds_is_not_written_to() -> None:
    net, x = Grid().eval(), noise(3, 11, 8, double=True)
    given = eyeshot.run(net, x)
    assert not net.grid.any()
    with torch.no_grad():
        np.testing.assert_allclose(given, net(x[None])[0].numpy(), atol=1e-12)


def test_random_numbers_written_in_place_are_refused() -> None:
    def function(y: torch.Tensor, m: nn.Module) -> torch.Tensor:
        return y + torch.zeros(1, 4, 1, 1, dtype=torch.float64).normal_()

    def beside(y: torch.Tensor, m: nn.Module) -> torch.Tensor:
        chance = torch.zeros(1, 4, 1, 1, dtype=torch.float64)
        chance[:, :2].normal_()
        return y + chance

    for one in (function, beside):
        with pytest.raises(Unsupported, match="random"):
            eyeshot.run(net_of(one), noise(3, 11, 8, double=True))


def test_an_output_that_does_not_depend_on_the_input_is_given_as_it_is(tmp_path: Path) -> None:
    scale = torch.tensor([2.0])
    net = net_of(lambda y, m: (scale * 3, y, torch.arange(3.0), y + 1, scale))
    x = noise(3, 11, 8, double=True)
    with torch.no_grad():
        expected = net(x[None])
    first, found, places, other, last = eyeshot.run(net, x)
    for one, place in ((first, 0), (places, 2), (last, 4)):
        np.testing.assert_array_equal(one, expected[place].numpy())
    np.testing.assert_allclose(found, expected[1][0].numpy(), atol=1e-12)
    np.testing.assert_allclose(other, expected[3][0].numpy(), atol=1e-12)
    outs = [tmp_path / "a.npy", tmp_path / "b.npy"]
    assert eyeshot.run(net, x, outs)[1::2] == outs
    last[:] = 7
    assert scale.item() == 2
    with pytest.raises(Unsupported, match="tensor 1 and 3 and 5 does not depend on its input"):
        eyeshot.stream(net, 8, channels=3)
    with pytest.raises(Unsupported, match="tensor 1 and 3 and 5 does not depend on its input"):
        eyeshot.run(net, x, flips="w")


_VIEWS: list[Function] = [
    lambda t, r: t.narrow(d := r.randrange(t.ndim), 0, max(1, t.shape[d] - 1)),
    lambda t, r: t[:, :, r.randrange(2) :: 2] if t.ndim > 2 else t,
    lambda t, r: t.select(d := r.randrange(1, t.ndim), r.randrange(t.shape[d])),
    lambda t, r: t.transpose(-1, -2),
    lambda t, r: t.unflatten(1, (2, -1)) if t.shape[1] % 2 == 0 else t,
    lambda t, r: t.chunk(2, d)[-1] if t.shape[d := r.randrange(1, t.ndim)] > 1 else t,
    lambda t, r: t.unsqueeze(r.randrange(t.ndim)),
    lambda t, r: F.dropout(t, 0.5, False),
]
_CHANGES: list[Function] = [
    lambda t: t.mul_(0.5),
    lambda t: t.add_(1.0),
    lambda t: t.fill_(0.25),
    lambda t: t.relu_(),
    lambda t: t.masked_fill_(t > 0.1, 0.0),
    lambda t: t.copy_(t.cos()),
]


def program(y: torch.Tensor, seed: int) -> torch.Tensor:
    """Views of views, written to and kept."""
    r = random.Random(seed)
    names = [y, 1.5 * y, torch.zeros_like(y)]
    for _ in range(r.randint(2, 6)):
        view = r.choice(names)
        for _ in range(r.randint(0, 3)):
            view = r.choice(_VIEWS)(view, r)
        if r.random() < 0.3:
            names.append(view)
        else:
            r.choice(_CHANGES)(view)
    kept = [one for one in names if one.shape == y.shape]
    return torch.cat(kept, 1)


@pytest.mark.parametrize("first", range(0, 60, 12))
def test_random_programs_of_views_and_writes(first: int) -> None:
    run = 0
    for seed in range(first, first + 12):
        net = net_of(lambda y, m, seed=seed: program(y, seed))
        x = noise(3, 7, 6, double=True)
        with torch.no_grad():
            truth = net(x[None])[0].numpy()
        try:
            given = eyeshot.run(net, x, band=1 + seed % 3)
        except EyeshotError as refused:
            if "in place" in str(refused):
                raise
            continue
        np.testing.assert_allclose(given, truth, atol=1e-12, err_msg=str(seed))
        run += 1
    assert run > 6


MAPS = st.one_of(
    st.builds(Placed, st.integers(0, 4), st.integers(1, 3), st.just(20)),
    st.builds(Spared, st.integers(0, 5), st.integers(1, 3), st.integers(1, 4)),
)


@given(MAPS, st.integers(0, 19), st.integers(1, 20), st.integers(0, 20))
def test_maps_of_writes_agree_with_themselves(
    axis: AxisMap, lo: int, length: int, known: int
) -> None:
    n = 5 if isinstance(axis, Placed) else 20
    expected = Interval(lo, min(lo + length, axis.output_size(n)))
    outputs = np.arange(axis.output_size(n), dtype=np.int64)
    taps = axis.inputs_of(outputs, n)[:, 0]
    inside = taps[expected.lo : expected.hi]
    inside = inside[inside != NO_INPUT]
    reads = axis.input_range_inside(expected, n)
    assert all(tap in reads for tap in inside)
    assert not len(inside) or (reads.lo == inside.min() and reads.hi == inside.max() + 1)
    known = min(known, n)
    ready = axis.ready(known, n)
    assert all(tap < known for tap in taps[:ready] if tap != NO_INPUT)
    assert ready == axis.output_size(n) or known < n
    assert axis.period is not None
    left = axis.first_needed(lo)
    assert all(tap >= left for tap in taps[lo:] if tap != NO_INPUT)
