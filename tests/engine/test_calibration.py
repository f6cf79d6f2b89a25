"""Fixed statistics: those of all positions of all images, in a network that streams."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import eyeshot
from eyeshot.errors import BadValue, Unsupported
from tests.engine.law import noise

Array = np.ndarray[Any, Any]


class Normed(nn.Module):
    """Norms in a row and beside each other, squeeze and excitation, a maximum of all."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.InstanceNorm2d(8, affine=True)
        self.squeeze, self.excite = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)
        self.down, self.group = nn.Conv2d(8, 8, 3, padding=1), nn.GroupNorm(2, 8)
        self.last = nn.Conv2d(16, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.first(x)).relu()
        y = y * self.excite(self.squeeze(y.mean((2, 3), keepdim=True)).relu()).sigmoid()
        found: torch.Tensor = self.last(torch.cat([y, self.group(self.down(y))], 1))
        return found / found.amax((1, 2, 3), keepdim=True)


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    net = Normed().eval()
    nn.init.normal_(net.norm.weight)
    nn.init.normal_(net.norm.bias)
    return net


def image(height: int, scale: float = 1.0) -> Array:
    return noise(3, height, 47).numpy() * np.float32(scale) + np.float32(scale - 1)


def test_with_one_image_it_is_the_original_on_that_image(net: nn.Module) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    one = image(61)
    found = eyeshot.calibrate(net, one)
    assert list(found.statistics) == ["norm.moments", "mean", "group.moments", "amax"]
    assert found.distances[0].largest <= 1e-6
    assert str(found).splitlines()[0] == "fixed statistics: norm, mean, group, amax"
    with torch.no_grad():
        whole = net(torch.from_numpy(one)[None])[0].numpy()
    np.testing.assert_allclose(eyeshot.run(found, one), whole, atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not net.training


def test_with_several_the_statistics_are_those_of_all_positions_together(net: Normed) -> None:
    images = [image(61), image(83, scale=2)]
    found = eyeshot.calibrate(net, images)
    values = {name: value.double() for name, value in found.statistics.items()}
    double = copy.deepcopy(net).double()
    with torch.no_grad():
        maps = [double.first(torch.from_numpy(one)[None].double()) for one in images]
        together = torch.cat([one.flatten(2) for one in maps], 2)
        mean, variance = together.mean(2).flatten(), together.var(2, correction=0).flatten()
        np.testing.assert_allclose(values["norm.moments"][0].flatten(), mean, rtol=1e-5, atol=1e-6)
        scale = (variance + double.norm.eps).rsqrt()
        np.testing.assert_allclose(values["norm.moments"][1].flatten(), scale, rtol=1e-5)
        y = F.batch_norm(together, mean, variance, double.norm.weight, double.norm.bias).relu()
        np.testing.assert_allclose(values["mean"].flatten(), y.mean(2).flatten(), rtol=1e-5)
    assert [one.largest > 1e-3 for one in found.distances] == [True, True]
    originals = [eyeshot.run(net, one) for one in images]
    for one, other, distance in zip(images, originals, found.distances, strict=True):
        apart = np.abs(eyeshot.run(found, one) - other).max()
        assert distance.largest == pytest.approx(apart)
        assert distance.relative == pytest.approx(apart / np.abs(other).max())


@pytest.mark.parametrize("step", [1, 7, 200])
def test_what_it_streams_is_its_whole_pass(net: nn.Module, step: int) -> None:
    found = eyeshot.calibrate(net, [image(61), image(83, scale=2)])
    other = image(67, scale=3)
    whole = eyeshot.run(found, other)
    rows = eyeshot.stream(found, 47, channels=3)
    parts = [rows.push(other[:, top : top + step]) for top in range(0, 67, step)]
    np.testing.assert_allclose(np.concatenate([*parts, rows.finish()], 1), whole, atol=1e-6)
    plan = eyeshot.plan(found, other)
    assert plan.bands.stages == 1
    assert not any("held whole" in one.waits_for for one in plan.bands.buffers)


def test_the_camera_names_it(net: nn.Module) -> None:
    with pytest.raises(Unsupported, match="a camera's rows have no end") as caught:
        eyeshot.stream(net, 47, channels=3)
    assert "eyeshot.calibrate(net, images)" in caught.value.cure


class Spread(nn.Module):
    """A pyramid's last branch: a global mean, spread over the map again (ASPP)."""

    def __init__(self, resized: bool) -> None:
        super().__init__()
        self.pooled, self.last, self.resized = nn.Conv2d(3, 2, 1), nn.Conv2d(5, 2, 1), resized

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.pooled(x.mean((2, 3), keepdim=True))
        size = x.shape[2:]
        y = F.interpolate(y, size=size) if self.resized else y.expand(-1, -1, *size)
        found: torch.Tensor = self.last(torch.cat([x, y], 1))
        return found


@pytest.mark.parametrize("resized", [True, False])
def test_the_camera_names_it_not_where_it_would_refuse_that_network(resized: bool) -> None:
    net = Spread(resized).eval()
    with pytest.raises(Unsupported, match="a camera's rows have no end") as caught:
        eyeshot.stream(net, 47, channels=3)
    assert caught.value.cure == "use eyeshot.run, which knows the height"
    with pytest.raises(Unsupported, match="differs at another height"):
        eyeshot.stream(eyeshot.calibrate(net, image(40)), 47, channels=3)


def test_what_is_another_network_is_refused(net: nn.Module) -> None:
    found, one = eyeshot.calibrate(net, image(40)), image(40)
    with pytest.raises(BadValue, match="flips with a calibrated network"):
        eyeshot.run(found, one, flips="all")
    with pytest.raises(BadValue, match="audit with a calibrated network"):
        eyeshot.audit(found, one, tile=32, overlap=8)


class Summed(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / x.sum((2, 3), keepdim=True)


def test_what_has_no_fixed_form_is_refused(net: nn.Module) -> None:
    one = image(40)
    with pytest.raises(BadValue, match="no image to take statistics from"):
        eyeshot.calibrate(net, [])
    with pytest.raises(BadValue, match="no statistics over positions"):
        eyeshot.calibrate(nn.Conv2d(3, 2, 3).eval(), one)
    with pytest.raises(Unsupported, match=r"sum \(sum\) grows with the number of positions"):
        eyeshot.calibrate(Summed().eval(), [one, one])
    assert eyeshot.calibrate(Summed().eval(), one).distances[0].largest <= 1e-6
    flat = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(2 * 40 * 47, 4)).eval()
    with pytest.raises(Unsupported, match="gives more than one number for all of them"):
        eyeshot.calibrate(flat, one)
    pooled = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1)).eval()
    with pytest.raises(Unsupported, match="follows from statistics alone"):
        eyeshot.calibrate(pooled, one)


class BySize(nn.Module):
    """A statistic more, or another one, in a wide image."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.one, self.two = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.shape[-1] > 64
        if wide and self.kind == "more":
            x = x - x.mean((2, 3), keepdim=True)
        if self.kind == "dims":
            return x - x.mean((1, 2, 3) if wide else (2, 3), keepdim=True)
        if self.kind == "layers" and wide:
            x = self.two(x)
        x = self.one(x)
        return x - (self.one(x) if self.kind == "source" and wide else x).mean((2, 3), keepdim=True)


@pytest.mark.parametrize("kind", ["more", "dims", "layers", "source"])
def test_a_size_with_other_statistics_is_refused(kind: str) -> None:
    net, narrow, wide = BySize(kind).eval(), noise(3, 40, 48).numpy(), noise(3, 40, 80).numpy()
    found = eyeshot.calibrate(net, narrow)
    with pytest.raises(Unsupported, match="at this size"):
        eyeshot.run(found, wide)
    with pytest.raises(Unsupported, match="at this size the network has other statistics"):
        eyeshot.calibrate(net, [narrow, wide])
    assert eyeshot.calibrate(net, wide).distances[0].largest <= 1e-6
    assert eyeshot.run(found, noise(3, 90, 64).numpy()).shape == (3, 90, 64)


class Labels(nn.Module):
    def __init__(self, kind: torch.dtype) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x > x.mean((2, 3), keepdim=True)).to(self.kind)


@pytest.mark.parametrize("kind", [torch.bool, torch.uint8])
def test_the_distance_of_labels_is_that_of_numbers(kind: torch.dtype) -> None:
    """Two images, so that some labels go up and some go down."""
    low, high = noise(1, 30, 40).numpy(), 1 + noise(1, 30, 40).numpy()
    distances = eyeshot.calibrate(Labels(kind).eval(), [low, high]).distances
    assert [(one.largest, one.scale) for one in distances] == [(1.0, 1.0), (1.0, 1.0)]
