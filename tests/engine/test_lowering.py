"""A convolution takes over the sum behind it, and nothing that is not its plain sum."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eyeshot.graph import Family
from eyeshot.operators.pointwise import GATE
from eyeshot.operators.winograd import is_winograd
from tests.engine.law import by_parts, cut, enliven, job_of, largest_difference, noise, whole


class _Sum(nn.Module):
    """Two layers and a way to add their results."""

    def __init__(self, add: Callable[[_Sum, Tensor], Tensor], channels: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.one = nn.Conv2d(channels, channels, 3, padding=1)
        self.other = nn.Conv2d(channels, channels, 1)
        self.deep = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm = nn.BatchNorm2d(channels)
        self.thin = nn.Conv2d(channels, 1, 1)
        self.joined = nn.Conv2d(2 * channels, channels, 3, padding=2, dilation=2)
        self.add = add

    def forward(self, x: Tensor) -> Tensor:
        return self.add(self, F.relu(self.first(x)))


def _in_place(net: _Sum, x: Tensor) -> Tensor:
    y: Tensor = net.one(F.relu(net.other(x)))
    y += x
    return F.relu(y)


FUSED: dict[str, Callable[[_Sum, Tensor], Tensor]] = {
    "a residual": lambda net, x: F.relu(net.one(F.relu(net.other(x))) + x),
    "the layer on the right": lambda net, x: x + net.one(x.exp()),
    "in place": _in_place,
    "two branches": lambda net, x: F.leaky_relu(net.one(x) + net.other(x), 0.1),
    "with limits": lambda net, x: F.relu6(net.other(x.exp()) + x),
    "depthwise": lambda net, x: net.deep(x.exp()) + x,
    "a norm before": lambda net, x: F.relu(net.norm(net.one(x.exp())) + x),
    "a norm behind": lambda net, x: net.norm(net.one(x.exp()) + x),
    "joined channels": lambda net, x: F.relu(net.joined(torch.cat([x, net.one(x)], 1)) + x.exp()),
    "its own input": lambda net, x: net.one(x) + x,
    "a part of its own input": lambda net, x: net.joined(torch.cat([x, y := x.exp()], 1)) + y,
    "one after another": lambda net, x: net.one(y := F.relu(net.other(x) + x.exp())) + x - y,
}
APART: dict[str, Callable[[_Sum, Tensor], Tensor]] = {
    "a factor": lambda net, x: torch.add(net.one(x.exp()), x, alpha=2),
    "a number": lambda net, x: net.one(x) + 1,
    "with itself": lambda net, x: (y := net.one(x)) + y,
    "one channel for all": lambda net, x: net.one(x.exp()) + net.thin(x).exp(),
    "another type": lambda net, x: net.one(x.exp()) + x.to(torch.bfloat16),
    "an activation between": lambda net, x: F.relu(net.one(x)) + x.exp(),
    "read twice": lambda net, x: (y := net.one(x)) * (y + x.exp()),
    "a transposed layer": lambda net, x: F.conv_transpose2d(x, net.other.weight) + x.exp(),
}


@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("name", [*FUSED, *APART])
def test_a_sum_is_that_of_the_whole_pass(name: str, double: bool) -> None:
    image = noise(3, 37, 29, double=double)
    net = _Sum((FUSED | APART)[name]).to(image.dtype)
    enliven(net, image[None])
    job = job_of(net, image)
    sums = [node.params.adds for node in job.graph if node.is_convolution]
    assert any(sums) == (name in FUSED)
    for band, strips in ((5, 1), (8, 3), (64, 1)):
        parts, _ = by_parts(cut(job, band, strips))
        assert largest_difference(parts, whole(net, image)) <= (1e-12 if double else 1e-5)


@pytest.mark.parametrize("name", ["a residual", "joined channels"])
def test_a_sum_behind_a_convolution_by_transforms_is_right(name: str) -> None:
    """128 channels are enough for Winograd's method, dilated or not."""
    image = noise(3, 64, 96)
    net = enliven(_Sum(FUSED[name], 128), image[None])
    job = job_of(net, image)
    assert any(is_winograd(node) and node.params.adds for node in job.graph)
    parts, _ = by_parts(cut(job, 16))
    assert largest_difference(parts, whole(net, image)) <= 1e-5


@pytest.mark.parametrize("shown", [False, True])
def test_joined_channels_are_made_only_if_they_are_asked_for(shown: bool) -> None:
    """A convolution reads its parts where they are, unless the joined map is an output."""

    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(6, 4, 3, padding=1)

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            y = torch.cat([x, x.exp()], 1)
            return (y, self.conv(y)) if shown else (self.conv(y),)

    image = noise(3, 21, 19)
    net = Joined().eval()
    job = job_of(net, image)
    assert any(node.family is Family.CONCATENATE for node in job.graph) == shown
    parts, _ = by_parts(cut(job, 5, 2))
    assert largest_difference(parts, whole(net, image)) <= 1e-5


@pytest.mark.parametrize(
    ("before", "fused"),
    [
        (lambda x: 0.5 * x, True),
        (lambda x: x.clamp(-float("inf"), 1), False),
        (lambda x: x.log(), False),
        (lambda x: x / 2, True),
        (lambda x: x / 0, False),
    ],
)
def test_an_activation_is_fused_if_no_number_can_be_nan(
    before: Callable[[Tensor], Tensor], fused: bool
) -> None:
    """oneDNN's own ReLU makes zero of NaN."""
    net = _Sum(lambda net, x: F.relu(net.one(before(x)) + x))
    job = job_of(enliven(net, noise(1, 3, 16, 16)), noise(3, 16, 16))
    (last,) = (node for node in job.graph if node.is_convolution and node.params.adds)
    assert (last.params.activation == "relu") == fused


@pytest.mark.parametrize("channels", [6, 40])
def test_a_volume_is_that_of_the_whole_pass(channels: int) -> None:
    """Channels lie last in memory; 40 are enough for Winograd's method, with what is compiled."""
    image = noise(2, 21, 30, 38)
    body = nn.Sequential(
        nn.Conv3d(2, channels, 3, padding=1), nn.InstanceNorm3d(channels), nn.LeakyReLU(0.1),
        nn.Conv3d(channels, channels, 3, padding=1), nn.BatchNorm3d(channels), nn.ReLU(),
        nn.MaxPool3d(2), nn.Conv3d(channels, channels, 3, 2, 1), nn.ReLU6(),
        nn.ConvTranspose3d(channels, channels, 2, 2),
        nn.Conv3d(channels, 3, (3, 1, 5), padding="same"),
    )  # fmt: skip
    net = enliven(body, image[None])
    for band, strips in ((2, 1), (5, 2), (21, 1)):
        parts, _ = by_parts(cut(job_of(net, image), band, strips))
        assert largest_difference(parts, whole(net, image)) <= 1e-5


NAN: dict[str, Callable[[_Sum, Tensor], Tensor]] = {
    "before": lambda net, x: F.relu(net.one(x.sub(0.1).log())),
    "added": lambda net, x: F.relu(net.one(x) + x.sub(0.1).sqrt()),
    "with limits": lambda net, x: F.relu6(net.other(x / x)),
    "far before": lambda net, x: F.relu(net.one(F.relu(net.other(x.sub(0.1).log())).exp())),
    "of a constant": lambda net, x: F.relu(net.one(x.masked_fill(x > 1, float("inf")) - x / 0)),
}


@pytest.mark.parametrize("channels", [8, 128])
@pytest.mark.parametrize("name", NAN)
def test_nan_stays_nan(name: str, channels: int) -> None:
    """oneDNN's own ReLU makes zero of it; a zero would be a wrong number without a word."""
    image = noise(3, 24, 32)
    net = enliven(_Sum(NAN[name], channels), image[None])
    truth = whole(net, image)[0]
    (found,), report = by_parts(cut(job_of(net, image), 8))
    assert np.isnan(truth).any()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(truth))
    assert any("infinite or NaN" in note for note in report.notes)


def test_nan_in_a_volume_stays_nan() -> None:
    image = noise(2, 6, 20, 24)
    net = enliven(nn.Sequential(Logarithm(), nn.Conv3d(2, 4, 3, padding=1), nn.ReLU()), image[None])
    truth = whole(net, image)[0]
    (found,), _ = by_parts(cut(job_of(net, image), 2))
    assert np.isnan(truth).any()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(truth))


class Logarithm(nn.Module):
    """NaN where the input is negative."""

    def forward(self, x: Tensor) -> Tensor:
        """log(x + 1)."""
        return x.add(1).log()


def test_a_convolution_that_slides_over_channels_too_adds_nothing() -> None:
    class Bands(nn.Module):
        """Kernels over channels and rows alike, as spectral networks have them."""

        def __init__(self) -> None:
            super().__init__()
            self.slide = nn.Conv3d(1, 1, (1, 3, 3), padding=(1, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.slide(x[:, None])
            return y + F.pad(x[:, None], (0, 0, 0, 0, 1, 1)).exp()

    image = noise(4, 20, 24)
    net = Bands().eval()
    (found,), _ = by_parts(cut(job_of(net, image), 8))
    truth = whole(net, image)[0]
    assert np.abs(found.reshape(truth.shape) - truth).max() <= 1e-5 * np.abs(truth).max()


def test_a_second_pass_finds_the_computations_of_the_first_and_changes_nothing() -> None:
    image = noise(3, 64, 96)
    net = enliven(_Sum(FUSED["one after another"]), image[None])
    job = job_of(net, image, band=8)
    (first,), _ = by_parts(job)
    (second,), _ = by_parts(job)
    assert first.tobytes() == second.tobytes()
    (fresh,), _ = by_parts(job_of(net, image, band=8))
    assert first.tobytes() == fresh.tobytes()


class _Gated(nn.Module):
    """Layers along one axis, the second half of which a gate weighs."""

    def __init__(self, gate: Callable[[_Gated, Tensor], Tensor]) -> None:
        super().__init__()
        self.both = nn.Conv1d(3, 8, 3, dilation=4)
        self.norm = nn.BatchNorm1d(8)
        self.one = nn.Conv1d(3, 4, 3, dilation=4)
        self.other = nn.Conv1d(3, 4, 3, dilation=4, bias=False)
        self.third = nn.Conv1d(3, 4, 3, dilation=4)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(self, F.pad(x, (8, 0)))


def _halves(value: Tensor) -> Tensor:
    a, b = value.chunk(2, 1)
    return a.tanh() * b.sigmoid()


GATES: dict[str, tuple[Callable[[_Gated, Tensor], Tensor], bool]] = {
    "halves": (lambda net, x: _halves(net.both(x)), True),
    "a norm between": (lambda net, x: _halves(net.norm(net.both(x))), True),
    "the halves exchanged": (lambda net, x: _halves(net.both(x).roll(4, 1)), False),
    "the second half first": (
        lambda net, x: (y := net.both(x))[:, :4].sigmoid() * y[:, 4:].tanh(), True
    ),
    "two layers": (lambda net, x: net.third(x).sigmoid() * net.one(x).tanh(), True),
    "one with a bias": (lambda net, x: net.one(x).tanh() * net.other(x).sigmoid(), False),
    "one half twice": (lambda net, x: (y := net.both(x)[:, :4]).tanh() * y.sigmoid(), True),
    "read by others": (lambda net, x: _halves(y := net.both(x)) + y[:, :4].exp(), False),
    "two tangents": (lambda net, x: net.one(x).tanh() * net.third(x).tanh(), False),
    "other inputs": (lambda net, x: net.one(x).tanh() * net.third(x.exp()).sigmoid(), False),
}  # fmt: skip


@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("name", GATES)
def test_a_gate_is_that_of_the_whole_pass(name: str, double: bool) -> None:
    gate, fused = GATES[name]
    image = noise(3, 101, double=double)
    net = _Gated(gate).to(image.dtype)
    enliven(net, image[None])
    job = job_of(net, image)
    assert any(node.params.activation == GATE for node in job.graph) == fused
    for band in (5, 16, 128):
        parts, _ = by_parts(cut(job, band))
        assert largest_difference(parts, whole(net, image)) <= (1e-12 if double else 1e-5)


PADDED: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
    "before": (lambda x: F.pad(x, (2, 0, 3, 1)), True),
    "around": (lambda x: F.pad(x, (1, 1, 1, 1)), True),
    "far": (lambda x: F.pad(x, (9, 0, 0, 11)), True),
    "columns": (lambda x: F.pad(x, (0, 3)), True),
    "a number": (lambda x: F.pad(x, (1, 1, 1, 1), value=0.5), False),
    "mirrored": (lambda x: F.pad(x, (1, 1, 1, 1), "reflect"), False),
    "cropped": (lambda x: F.pad(x, (-1, 1, 1, 1)), False),
    "channels": (lambda x: F.pad(x[:, :2], (0, 0, 0, 0, 0, 1)), False),
    "read twice": (lambda x: (y := F.pad(x, (1, 0, 1, 0)))[..., 1:, 1:] + y[..., 1:, 1:], False),
}


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("name", PADDED)
def test_a_convolution_takes_over_zeros_before_it(name: str, stride: int) -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, stride, padding=(1, 0), dilation=(1, 2))

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.conv(PADDED[name][0](x))
            return result

    image = noise(3, 23, 19)
    net = enliven(Padded(), image[None])
    job = job_of(net, image)
    assert any(node.family is Family.PAD for node in job.graph) != PADDED[name][1]
    for band, strips in ((4, 1), (7, 3), (64, 1)):
        parts, _ = by_parts(cut(job, band, strips))
        assert largest_difference(parts, whole(net, image)) <= 1e-5
