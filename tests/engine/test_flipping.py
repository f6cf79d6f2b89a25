"""Answers averaged over flips, held against a plain loop in PyTorch."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import eyeshot
from eyeshot.errors import BadValue, UnknownName
from eyeshot.planning.holding import names_held_whole
from tests.engine.law import by_parts, cut, job_of

TOLERANCE = 1e-5


def _net(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers).eval()


def _noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _averaged(net: nn.Module, x: torch.Tensor, flips: list[tuple[int, ...]]) -> Any:
    """The plain loop; ``flips`` are dimensions of (1, C, …)."""
    total = net(x[None])
    for dims in flips:
        total = total + net(x[None].flip(dims)).flip(dims)
    return (total / (1 + len(flips)))[0].detach().numpy()


def _same(found: Any, expected: Any) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


def test_all_flips_of_an_image_equal_the_plain_loop(tmp_path: Path) -> None:
    net = _net(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 1), nn.Conv2d(3, 2, 3))
    x, plans = _noise(1, 45, 38), list[eyeshot.Plan]()
    expected = _averaged(net, x, [(2,), (3,), (2, 3)])
    assert np.abs(expected - net(x[None])[0].detach().numpy()).max() > 0.01  # flips do matter
    options: dict[str, Any] = {"memory": "3GB", "band": 7, "planned": plans.append}
    out = tmp_path / "out.npy"
    eyeshot.run(net, x, out, flips="all", **options)
    _same(np.load(out), expected)
    assert "the mean of 4 passes: of the image, and of its flips along h, w, hw" in str(plans[0])


class _WritesIntoItsInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x -= 0.5
        found: torch.Tensor = self.conv(x)
        return found


def test_each_flip_is_one_of_the_image_as_it_was_passed() -> None:
    net, x = _WritesIntoItsInput().eval(), _noise(1, 14, 11)
    passes = [net(x[None].flip(dims)).flip(dims) for dims in ((), (3,))]
    _same(eyeshot.run(net, x, flips="w"), (sum(passes) / 2)[0].detach().numpy())


def test_maps_that_are_held_may_lie_on_disk() -> None:
    net, x = _net(nn.Conv2d(1, 2, 3, padding=1)), _noise(1, 31, 18)
    job = job_of(net, x, flips=["hw", "w"])
    held_whole = names_held_whole(job.graph)
    assert held_whole
    job = cut(job, 5, 1)
    job = replace(job, plan=replace(job.plan, spilled=dict.fromkeys(held_whole, 0)))
    _same(by_parts(job)[0][0], _averaged(net, x, [(2, 3), (3,)]))


def test_all_flips_of_a_volume_equal_the_plain_loop() -> None:
    net = _net(nn.Conv3d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv3d(2, 2, (1, 3, 2)))
    x = _noise(1, 7, 9, 11)
    every = [dims for count in (1, 2, 3) for dims in combinations((2, 3, 4), count)]
    _same(eyeshot.run(net, x, flips="all,d,dh,dw,dhw", band=2), _averaged(net, x, every))


def test_a_trained_run_keeps_its_mean_and_deviation() -> None:
    net = _net(nn.Conv2d(1, 2, 3, padding=1))
    picture = (_noise(1, 20, 17).clamp(-2, 2) * 50 + 120).to(torch.uint8)
    traced = eyeshot.trace(net, mean=[0.4], std=[0.2])
    expected = _averaged(net, (picture / 255 - 0.4) / 0.2, [(2,), (3,), (2, 3)])
    _same(eyeshot.run(traced, picture.numpy(), flips="all"), expected)


def test_scores_are_averaged_and_not_probabilities() -> None:
    net, x = _net(nn.Conv2d(1, 2, 3, padding=1)), _noise(1, 9, 8)
    scores = torch.from_numpy(_averaged(net, x, [(3,)]))
    found = eyeshot.run(net, x, flips="w", output_format="probabilities")
    _same(found, scores.softmax(0).numpy())


def test_an_answer_without_positions_is_averaged_as_it_is() -> None:
    net = _net(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    x = _noise(1, 12, 11)
    turned = [x.flip(dims) for dims in ((1,), (2,), (1, 2))]
    expected = sum(net(one[None])[0] for one in (x, *turned)) / 4
    _same(eyeshot.run(net, x, flips="all"), expected.detach().numpy())


class _Two(nn.Module):
    """Two images in; a map and one score out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> dict[str, torch.Tensor]:
        found = self.conv(torch.cat([a, b], 1))
        return {"map": found, "score": found.mean((2, 3))}


def test_several_images_and_answers() -> None:
    net, a, b = _Two().eval(), _noise(1, 8, 9), _noise(1, 8, 9) + 1
    plain, turned = net(a[None], b[None]), net(a[None].flip(2), b[None].flip(2))
    expected = [(plain["map"] + turned["map"].flip(2)) / 2, (plain["score"] + turned["score"]) / 2]
    for found, one in zip(eyeshot.run(net, [a, b], flips="h"), expected, strict=True):
        _same(found, one[0].detach().numpy())


def test_a_padded_image_is_flipped_before_it_is_padded() -> None:
    net = _net(nn.Conv2d(1, 1, 3, padding=1), nn.PixelUnshuffle(2), nn.PixelShuffle(2))
    x = _noise(1, 7, 8)
    expected = (
        eyeshot.run(net, x, pad="edge") + eyeshot.run(net, x.flip(1), pad="edge")[:, ::-1]
    ) / 2
    _same(eyeshot.run(net, x, pad="edge", flips="h"), expected)


HALVES = [
    (lambda: nn.Conv2d(1, 1, 3, stride=2, padding=1), 9, 8, 7),
    (lambda: nn.MaxPool2d(2), 8, 9, 8),
    (lambda: nn.AvgPool2d(2, ceil_mode=True), 8, 9, 10),
]


@pytest.mark.parametrize(("layer", "fine", "off", "better"), HALVES)
def test_a_stride_is_refused_where_its_outputs_would_lie_elsewhere(
    layer: Any, fine: int, off: int, better: int
) -> None:
    net = _net(layer(), nn.Conv2d(1, 1, 1))
    x = _noise(1, fine, fine)
    _same(eyeshot.run(net, x, flips="all"), _averaged(net, x, [(2,), (3,), (2, 3)]))
    with pytest.raises(BadValue, match="lie 1 pixels beside") as caught:
        eyeshot.run(net, _noise(1, fine, off), flips="all")
    assert f"to a width of {better}" in caught.value.cure
    eyeshot.run(net, _noise(1, off, better), flips="w")  # the height is not asked for


def test_larger_answers_lie_where_they_did() -> None:
    x = _noise(1, 7, 6)
    for net in (
        _net(nn.Conv2d(1, 4, 3, padding=1), nn.PixelShuffle(2)),
        _net(nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1)),
    ):
        _same(eyeshot.run(net, x, flips="all"), _averaged(net, x, [(2,), (3,), (2, 3)]))
    leaning = _net(nn.ConvTranspose2d(1, 1, 3, stride=2, padding=1, output_padding=1))
    with pytest.raises(BadValue, match="lie 1/2 pixels beside"):
        eyeshot.run(leaning, x, flips="w")


def test_what_has_no_mean_is_refused() -> None:
    class Classes(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.argmax(1, keepdim=True)

    with pytest.raises(BadValue, match="int64, which has no mean"):
        eyeshot.run(Classes().eval(), _noise(2, 6, 5), flips="h")


@pytest.mark.parametrize("flips", ["", "hh", "h,,w", []])
def test_flips_that_are_none_are_refused(flips: Any) -> None:
    with pytest.raises(BadValue, match="flips"):
        eyeshot.run(_net(nn.Conv2d(1, 1, 1)), _noise(1, 4, 4), flips=flips)


def test_an_axis_that_there_is_not_is_refused() -> None:
    with pytest.raises(UnknownName, match="axis of flips 'd'"):
        eyeshot.run(_net(nn.Conv2d(1, 1, 1)), _noise(1, 4, 4), flips="d")
    found = eyeshot.run(_net(nn.Conv1d(1, 1, 3)), _noise(1, 9), flips="all")
    assert found.shape == (1, 7)


def test_the_network_stays_as_it_was() -> None:
    net = _net(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    eyeshot.run(net, _noise(1, 9, 8), flips="all")
    assert not net.training
    assert list(net._modules) == ["0", "1"]
    assert all(torch.equal(before[name], one) for name, one in net.state_dict().items())
