"""What each pixel adds to a number: with the rest it is the number, and the rest is the biases'."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import eyeshot
from eyeshot.errors import BadValue, Unsupported
from eyeshot.explanation.attribution import black


class Plain(nn.Module):
    """Weighted sums, ReLUs, maxima, a skip: near each input a weighted sum of it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1)
        self.deep = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6 * 9, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = nn.functional.max_pool2d(x + self.deep(x).relu(), 2)
        answer: Tensor = self.head(nn.functional.adaptive_avg_pool2d(x, 3).flatten(1))
        return answer


@pytest.fixture
def net() -> Plain:
    return Plain().eval()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(2, 12, 14)


@pytest.mark.parametrize("against", [None, 3])
@pytest.mark.parametrize("baseline", [None, [0.5, -0.25]])
def test_the_rest_is_what_the_biases_and_the_baseline_give(
    net: Plain, x: Tensor, against: int | None, baseline: list[float] | None
) -> None:
    """By Euler: Σ x ∂f/∂x + Σ b ∂f/∂b = f, over inputs x and biases b of such a network."""
    found = eyeshot.attribute(net, x, unit=(1,), against=against, baseline=baseline)
    oracle = copy.deepcopy(net).double()
    leaf = x.double()[None].requires_grad_()
    scores = oracle(leaf)[0]
    score = scores[1] - (0 if against is None else scores[against])
    biases = [value for name, value in oracle.named_parameters() if name.endswith("bias")]
    gradient, *rates = torch.autograd.grad(score, [leaf, *biases])
    away = torch.tensor(baseline or [0.0, 0.0], dtype=torch.float64)[:, None, None]
    shares = [(bias * rate).sum() for bias, rate in zip(biases, rates, strict=True)]
    rest = torch.stack([*shares, (gradient[0] * away).sum()]).sum()
    assert found.linear is True
    assert found.margin == pytest.approx(float(score.detach()), abs=1e-5)
    expected = (gradient[0] * (leaf[0] - away)).detach().numpy()
    np.testing.assert_allclose(found.pixels, expected, atol=1e-5)
    assert found.rest == pytest.approx(float(rest.detach()), abs=1e-5)
    assert found.pixels.sum() + found.rest == pytest.approx(found.margin, abs=1e-12)
    assert sum(found.regions().values()) == pytest.approx(found.pixels.sum(), abs=1e-9)


def test_by_default_the_largest_score(net: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        scores = net(x[None])[0]
    found = eyeshot.attribute(net, x)
    assert found.unit == (int(scores.argmax()),)
    assert found.score == pytest.approx(float(scores.max()), abs=1e-6)
    assert found.names == (str(found.unit[0]), "")
    for mode in (torch.no_grad, torch.inference_mode):  # the caller's, in which nothing is recorded
        with mode():
            np.testing.assert_array_equal(eyeshot.attribute(net, x).pixels, found.pixels)


class Scaled(nn.Module):
    """By a mean through which no gradient passes."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x.detach().mean()


@pytest.mark.parametrize(
    ("end", "linear"),
    [
        (nn.LeakyReLU(0.1), True),
        (nn.BatchNorm2d(3).eval(), True),
        (nn.Upsample(scale_factor=2, mode="bilinear"), True),
        (nn.Hardtanh(), True),
        (nn.Sigmoid(), False),
        (nn.GELU(), False),
        (nn.GroupNorm(1, 3), False),
        (nn.Softmax(1), False),
        (nn.LPPool2d(2, 2, stride=1), False),
        (Scaled(), False),
    ],
    ids=lambda one: type(one).__name__,
)
def test_it_says_whether_the_shares_are_exact(end: nn.Module, linear: bool) -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), end, nn.Conv2d(3, 2, 1)).eval()
    found = eyeshot.attribute(net, torch.rand(1, 9, 9), layer="2", unit=(1, 3, 4), against=0)
    assert found.linear is linear
    assert found.pixels.sum() + found.rest == pytest.approx(found.margin, abs=1e-12)
    assert not found.pixels.all() or not linear  # outside its field a unit's shares are 0


def test_a_run_begins_at_black_and_knows_its_classes(digits_run: Path) -> None:
    run = eyeshot.load(digits_run)
    digit = eyeshot.data.load("digits").test
    picture = digit.images[int((digit.labels == 7).int().argmax()), 0].numpy()
    found = eyeshot.attribute(run, picture, unit=(7,), against=9)
    ink = run.prepare(picture)[0][0].numpy() > 0
    assert found.names == ("7", "9")
    assert (found.pixels[~ink] == 0).all()
    assert found.pixels[ink].any()
    with torch.no_grad():
        scores = run.net(run.normalize(run.prepare(picture)[0]))[0]
    assert found.margin == pytest.approx(float(scores[7] - scores[9]), abs=1e-5)
    assert len(black(run)) == 1


def test_the_network_stays_as_it_is(net: nn.Module, x: Tensor) -> None:
    net.train()
    before = copy.deepcopy(net.state_dict())
    eyeshot.attribute(net, x)
    assert net.training
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(one, before[name]) for name, one in net.state_dict().items())


def test_what_cannot_be_divided_is_refused(net: nn.Module, x: Tensor) -> None:
    with pytest.raises(BadValue, match=r"no unit of deep, whose map has shape \(6, 12, 14\)"):
        eyeshot.attribute(net, x, layer="deep")
    with pytest.raises(BadValue, match="unit 4 is outside the map"):
        eyeshot.attribute(net, x, unit=(0,), against=4)
    with pytest.raises(BadValue, match="channel 2 against itself"):
        eyeshot.attribute(net, x, unit=(2,), against=2)
    with pytest.raises(BadValue, match=r"baseline \[1, 2, 3\]; give a number, or one for each"):
        eyeshot.attribute(net, x, baseline=[1, 2, 3])
    with pytest.raises(Unsupported, match="no gradient reaches the input from"):
        eyeshot.attribute(nn.Sequential(nn.Flatten(), Sign()), x, unit=(0,))
    signal = eyeshot.attribute(nn.Conv1d(1, 1, 3), torch.rand(1, 9), layer="conv1d", unit=(0, 2))
    with pytest.raises(BadValue, match="give a picture"):
        signal.regions()


class Sign(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x > 0).float()


def test_it_is_drawn_in_words(net: nn.Module, x: Tensor) -> None:
    found = eyeshot.attribute(net, x, unit=(1,), against=3)
    text = io.StringIO()
    Console(file=text, width=100).print(found)
    verb = "leads" if found.margin > 0 else "is behind"
    assert f"1 {verb} 3 by {abs(found.margin):.4g}" in text.getvalue()
    assert f"{found.rest:+.6g}" in text.getvalue()
    assert "exact: near this picture" in text.getvalue()
    between = eyeshot.attribute(net, x, layer="deep", unit=(1, 2, 3), against=0)
    assert between.names == ("deep [1, 2, 3]", "deep [0, 2, 3]"), "no classes"
    data = found.to_dict()
    assert np.sum(data["map"]) + data["rest"] == pytest.approx(data["margin"], abs=1e-9)
