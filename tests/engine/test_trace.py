"""A network traced once: its graph is kept, and nothing that may have changed with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

import eyeshot
from eyeshot.engine import networks
from eyeshot.engine.networks import Traced
from eyeshot.errors import BadValue
from eyeshot.frontends import torch as frontend
from tests.engine.law import enliven, noise, whole
from tests.zoo import UNet

IMAGE = noise(1, 32, 24)


class Odd(nn.Module):
    """Weights kept in every way there is, and numbers that are no weights."""

    shift: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.normed = parametrizations.weight_norm(nn.Conv2d(1, 3, 3, padding=1))
        self.plain = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(3)
        self.scale = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1))
        self.register_buffer("shift", torch.ones(3, 1, 1), persistent=False)
        self.loose = torch.full((3, 1, 1), 0.5)
        self.slope = 0.1
        self.bend: Callable[..., torch.Tensor] = nn.functional.leaky_relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.plain(self.normed(x))) * self.scale.exp()
        return self.bend(x + self.shift, self.slope) * self.loose


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The sizes traced, as they are traced."""
    seen: list[tuple[int, ...]] = []
    export = frontend.export

    def count(net: nn.Module, *sizes: tuple[int, ...], **options: Any) -> object:
        seen.extend(tuple(size) for size in sizes)
        return export(net, *sizes, **options)

    monkeypatch.setattr(networks, "export", count)
    return seen


def agrees(traced: Traced, image: torch.Tensor = IMAGE) -> np.ndarray:
    """What it gives, which must be what the network gives now."""
    part: np.ndarray = eyeshot.run(traced, image)
    (truth,) = whole(traced.module, image)
    assert np.abs(part - truth).max() <= 1e-5 * np.abs(truth).max()
    return part


def odd() -> Odd:
    torch.manual_seed(0)
    net = Odd()
    enliven(net, IMAGE[None])
    return net


def test_weights_changed_in_place_give_new_answers(counted: list[tuple[int, ...]]) -> None:
    traced = eyeshot.trace(enliven(UNet(2, 2), IMAGE[None]))
    before = agrees(traced)
    for step in range(3):
        with torch.no_grad():
            for i, parameter in enumerate(traced.module.parameters()):
                parameter.add_(noise(*parameter.shape, seed=step + i), alpha=0.1)
            for buffer in traced.module.buffers():
                if buffer.is_floating_point():
                    buffer.mul_(1.1)
        after = agrees(traced)
        assert np.abs(after - before).max() > 1e-2
        before = after
    assert counted == [(1, 32, 24)]


def test_a_training_step_between_two_calls(counted: list[tuple[int, ...]]) -> None:
    net = enliven(UNet(2, 2), IMAGE[None])
    traced = eyeshot.trace(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    before = agrees(traced)
    net.train()
    net(noise(2, 1, 32, 24)).square().mean().backward()
    optimizer.step()
    with pytest.raises(BadValue, match="training mode"):
        eyeshot.run(traced, IMAGE)
    net.eval()
    assert np.abs(agrees(traced) - before).max() > 1e-4
    assert counted == [(1, 32, 24)]


def _load(net: Odd) -> None:
    net.load_state_dict({name: value * 1.5 for name, value in net.state_dict().items()})


def _weight_norm(net: Odd) -> None:
    net.normed.parametrizations.weight.original0.data.mul_(2)


WEIGHTS: dict[str, Callable[[Odd], object]] = {
    "a state loaded": _load,
    "a normalized weight": _weight_norm,
    "a parameter put in another's place": lambda net: setattr(
        net, "scale", nn.Parameter(torch.zeros(3, 1, 1))
    ),
    "a buffer put in another's place": lambda net: setattr(net, "shift", torch.zeros(3, 1, 1)),
    "a batch norm's variance": lambda net: net.norm.running_var.mul_(3),  # type: ignore[union-attr]
}


def _reflect(net: Odd) -> None:
    net.plain.padding_mode = "reflect"
    net.plain._reversed_padding_repeated_twice = [1, 1, 1, 1]


STRUCTURE: dict[str, Callable[[Odd], object]] = {
    "a layer put in another's place": lambda net: setattr(net, "plain", nn.Conv2d(3, 3, 1)),
    "a layer taken out": lambda net: setattr(net, "norm", nn.Identity()),
    "a setting": lambda net: setattr(net, "slope", 0.7),
    "a whole number that becomes true": lambda net: setattr(net.norm, "affine", 1),
    "a layer's padding mode": _reflect,
    "a function": lambda net: setattr(net, "bend", nn.functional.softplus),
    "a hook": lambda net: net.plain.register_forward_hook(lambda _m, _i, out: out * 2),
    "a pruned weight": lambda net: prune.l1_unstructured(net.plain, "weight", 0.5),  # type: ignore[no-untyped-call]
    "a loose tensor written to": lambda net: net.loose.mul_(2),
    "a loose tensor put in another's place": lambda net: setattr(net, "loose", torch.ones(1)),
    "another weight's shape": lambda net: setattr(
        net, "shift", torch.arange(3 * 32 * 24.0).reshape(3, 32, 24)
    ),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_other_numbers_are_read_without_tracing_again(
    name: str, counted: list[tuple[int, ...]]
) -> None:
    net = odd()
    traced = eyeshot.trace(net)
    agrees(traced)
    WEIGHTS[name](net)
    agrees(traced)
    assert len(counted) == 1


@pytest.mark.parametrize("name", STRUCTURE)
def test_another_structure_is_traced_again(name: str, counted: list[tuple[int, ...]]) -> None:
    net = odd()
    traced = eyeshot.trace(net)
    agrees(traced)
    STRUCTURE[name](net.eval())
    net.eval()
    agrees(traced)
    assert len(counted) >= 2


def test_another_type_of_numbers(counted: list[tuple[int, ...]]) -> None:
    net = enliven(UNet(1, 2), IMAGE[None])
    traced = eyeshot.trace(net)
    agrees(traced)
    net.double()
    part = eyeshot.run(traced, IMAGE.double(), output_format="float64")
    np.testing.assert_allclose(part, whole(net, IMAGE.double())[0], rtol=0, atol=1e-12)
    assert len(counted) == 2


def test_what_cannot_be_looked_into_is_traced_every_time(counted: list[tuple[int, ...]]) -> None:
    class Secret:
        times = 1.0

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.secret = nn.Conv2d(1, 1, 3), Secret()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scaled: torch.Tensor = self.conv(x) * self.secret.times
            return scaled

    net = Net().eval()
    traced = eyeshot.trace(net)
    agrees(traced)
    net.secret.times = 5.0
    agrees(traced)
    assert len(counted) == 2


def test_settings_in_a_plain_record_are_looked_into(counted: list[tuple[int, ...]]) -> None:
    @dataclass
    class Spec:
        times: float
        more: tuple[int, ...] = (1, 2)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.spec = nn.Conv2d(1, 1, 3), Spec(2.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scaled: torch.Tensor = self.conv(x) * self.spec.times
            return scaled

    net = Net().eval()
    traced = eyeshot.trace(net)
    agrees(traced)
    agrees(traced)
    assert len(counted) == 1
    net.spec.times = 5.0
    agrees(traced)
    assert len(counted) == 2


def test_each_size_is_traced_once_and_the_oldest_goes(
    counted: list[tuple[int, ...]],
) -> None:
    traced = eyeshot.trace(nn.Conv2d(1, 2, 3).eval(), keep=2)
    for height in (8, 9, 8, 10, 8, 9):
        agrees(traced, noise(1, height, 7))
    assert [size[1] for size in counted] == [8, 9, 10, 9]
    with pytest.raises(BadValue, match="keep is 0"):
        eyeshot.trace(nn.Conv2d(1, 2, 3), keep=0)


def test_samples_are_prepared_by_the_mean_given() -> None:
    net = nn.Conv2d(2, 1, 3).eval()
    image = (noise(2, 9, 8).abs() * 80).clamp(0, 255).to(torch.uint8)
    mean, std = (0.1, 0.2), (0.3, 0.4)
    shaped = [torch.tensor(one).reshape(2, 1, 1) for one in (mean, std)]
    (truth,) = whole(net, (image / 255 - shaped[0]) / shaped[1])
    part = eyeshot.run(eyeshot.trace(net, mean=mean, std=std), image.numpy(), layout="CHW")
    np.testing.assert_allclose(part, truth, atol=1e-5)
    for wrong_mean, wrong_std in (([0.5], [0.0]), ([0.5], [float("nan")]), ([float("inf")], [1.0])):
        with pytest.raises(BadValue, match=r"^(mean|std) is \["):
            eyeshot.trace(nn.Conv2d(1, 1, 1).eval(), mean=wrong_mean, std=wrong_std)
    with pytest.raises(BadValue, match="2 means and 0 deviations"):
        eyeshot.trace(net, mean=mean)
    with pytest.raises(BadValue, match="2 channels, and there are 3 means"):
        eyeshot.run(eyeshot.trace(net, mean=(0, 0, 0), std=(1, 1, 1)), image, layout="CHW")


def test_no_fingerprint_is_made_for_an_array(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    """It reads every weight, which takes longer than a small picture."""

    def refuse(_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("eyeshot.engine.job.settings_of", refuse)
    net = nn.Conv2d(1, 2, 3).eval()
    agrees(eyeshot.trace(net))
    eyeshot.run(net, IMAGE, np.empty((2, 30, 22), np.float32))
    with pytest.raises(AssertionError):
        eyeshot.run(net, IMAGE, f"{tmp_path}/out.npy")
