"""Convolutions along one axis as machine code, against the sum of products in float64."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eyeshot.operators import compiled_signals
from eyeshot.operators.compiled_signals import SignalConvolution, uses_it
from eyeshot.operators.pointwise import GATE
from eyeshot.operators.winograd_compiled import is_compiled
from tests.engine.law import by_parts, cut, enliven, job_of, largest_difference, noise, whole

pytestmark = pytest.mark.skipif(not is_compiled(), reason="llvmlite is not installed")

ACTIVATIONS: list[tuple[str | None, tuple[float, ...]]] = [
    (None, ()), ("relu", ()), ("hardtanh", (0.0, 6.0)), (GATE, ()),
]  # fmt: skip


def activated(value: Tensor, activation: str | None, scalars: tuple[float, ...]) -> Tensor:
    """By torch."""
    if activation == GATE:
        one, other = value.chunk(2, 1)
        return one.tanh() * other.sigmoid()
    if activation is None:
        return value
    return value.relu() if activation == "relu" else value.clamp(*scalars)


@pytest.mark.parametrize(("activation", "scalars"), ACTIVATIONS)
@pytest.mark.parametrize(
    ("channels", "outputs", "kernel", "dilation", "size"),
    [
        (1, 2, 1, 1, 1), (3, 4, 2, 5, 40), (8, 16, 2, 64, 500), (5, 22, 3, 1, 333),
        (40, 6, 9, 3, 130), (7, 38, 1, 1, 97),
    ],
)  # fmt: skip
def test_every_position_is_a_sum(
    channels: int,
    outputs: int,
    kernel: int,
    dilation: int,
    size: int,
    activation: str | None,
    scalars: tuple[float, ...],
) -> None:
    value = noise(2, channels, size + dilation * (kernel - 1))
    weight = noise(outputs, channels, kernel, seed=1) / math.sqrt(channels * kernel)
    bias = noise(outputs, seed=2)
    convolve = SignalConvolution(weight, bias, dilation, activation, scalars)
    truth = F.conv1d(value.double(), weight.double(), bias.double(), dilation=dilation)
    added = None if activation == GATE else noise(*truth.shape, seed=3)
    truth = activated(truth if added is None else truth + added, activation, scalars)
    room = torch.full((2, truth.shape[1], size + 9), math.nan)[..., 4 : size + 4]
    found = convolve(value, room, added)
    assert found.data_ptr() == room.data_ptr()
    assert float((found - truth).abs().max()) <= 5e-6
    apart = value.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(convolve(apart, None, added), found)


def test_a_gate_is_exact_for_small_and_large_numbers() -> None:
    """Relative to the number itself, however small it is; torch's own differ by as much."""
    steps = torch.linspace(-1, 1, 2001)
    some = torch.full_like(steps, 0.3)
    pairs = [(steps * size, some) for size in (1e-6, 1e-2, 1.0, 20.0, 500.0)]
    pairs += [(some, steps * size) for size in (1e-3, 5.0, 80.0)]
    gate = SignalConvolution(torch.eye(2)[:, :, None], None, 1, GATE, ())
    for a, b in pairs:
        truth = a.double().tanh() * b.double().sigmoid()
        found = gate(torch.stack([a, b])[None], None, None)[0, 0]
        assert float(((found - truth).abs() - 4e-7 * truth.abs()).max()) <= 0
    far = gate(torch.tensor([[[3.0, 3.0], [-100.0, 100.0]]]), None, None)
    assert float(far[0, 0, 0]) <= 1e-37
    assert float(far[0, 0, 1]) == pytest.approx(math.tanh(3))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_stays_so(bad: float) -> None:
    value = noise(1, 4, 90)
    value[0, 2, 50] = bad
    weight = noise(6, 4, 2, seed=1)
    for activation, scalars in ACTIVATIONS:
        truth = activated(F.conv1d(value, weight, dilation=7), activation, scalars)
        found = SignalConvolution(weight, None, 7, activation, scalars)(value, None, None)
        assert torch.equal(found.isnan(), truth.isnan())
        assert torch.allclose(found, truth, equal_nan=True, atol=1e-5)


def test_a_position_is_the_same_in_every_band_and_on_every_thread() -> None:
    value = noise(1, 6, 900)
    gate = SignalConvolution(noise(10, 6, 3, seed=1), noise(10, seed=2), 4, GATE, ())
    truth, before = gate(value, None, None), torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for first, count in ((0, 5), (3, 1), (111, 640)):
                part = value[..., first : first + count + 8]
                assert torch.equal(gate(part, None, None), truth[..., first : first + count])
    finally:
        torch.set_num_threads(before)


class _Wave(nn.Module):
    """Gated, causal, dilated layers with residual sums."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(2, 6, 3, padding=1)
        self.gates = nn.ModuleList(nn.Conv1d(6, 12, 2, dilation=1 << i) for i in range(6))
        self.mixed = nn.ModuleList(nn.Conv1d(6, 6, 1) for _ in self.gates)
        self.last = nn.Conv1d(6, 3, 5, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for i, (gate, mixed) in enumerate(zip(self.gates, self.mixed, strict=True)):
            up, down = gate(F.pad(x, (1 << i, 0))).chunk(2, 1)
            x = F.relu6(x + mixed(torch.tanh(up) * torch.sigmoid(down)))
        scores: Tensor = self.last(x)
        return scores


def test_a_network_is_that_of_the_whole_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_signals, "LEAST_MULTIPLY_ADDS", 0)
    image = noise(2, 401)
    net = enliven(_Wave(), image[None])
    job = job_of(net, image)
    assert sum(map(uses_it, job.graph)) == 13
    for band in (7, 64, 512):
        parts, _ = by_parts(cut(job, band))
        assert largest_difference(parts, whole(net, image)) <= 1e-5
    plain = job_of(net, image, exact="direct")
    assert not any(map(uses_it, plain.graph))
