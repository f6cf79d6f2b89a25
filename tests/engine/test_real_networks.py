"""The law on networks as people build them: by bands, strips and regions as in one whole pass."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from eyeshot import cost, nets
from eyeshot.axes import Interval
from eyeshot.engine.job import Job
from eyeshot.frontends.torch import graph_of
from eyeshot.geometry import required
from eyeshot.planning.schedule import multiply_adds
from tests.engine.law import (
    LIMITS,
    Array,
    by_parts,
    cut,
    enliven,
    job_of,
    largest_difference,
    noise,
    whole,
)
from tests.zoo import (
    ASPP,
    FPN,
    UNet,
    convnext_tiny,
    densenet121,
    inception_net,
    mobilenet_v2,
    resnet,
    squeezenet,
)

Size = tuple[int, ...]


def headless(net: nn.Sequential, dropped: int = 1) -> nn.Sequential:
    """A classifier without what comes after its last map."""
    return nn.Sequential(*list(net)[:-dropped]).eval()


def digit_maps() -> nn.Sequential:
    classifier = nets.build("digit_cnn")
    return headless(classifier, 4)  # type: ignore[arg-type]


def resnet_maps() -> nn.Sequential:
    net = resnet(18, width=4)
    return nn.Sequential(net.stem, net.maxpool, net.stages).eval()


def deeplab() -> nn.Sequential:
    """Dilations that widen, as DeepLab's backbone has them, and a way up to every pixel."""
    return nn.Sequential(
        *[nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=2, dilation=2)],
        *[nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=4, dilation=4), nn.ReLU()],
        *[nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(6, 3, 1)],
    ).eval()


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Size]] = {
    "digit CNN": (digit_maps, (1, 45, 37)),
    "U-Net, transposed": (lambda: UNet(3, 4, "transpose"), (1, 72, 40)),
    "U-Net, bilinear": (lambda: UNet(3, 4, "bilinear"), (1, 72, 40)),
    "U-Net, shuffled": (lambda: UNet(3, 4, "shuffle"), (1, 72, 40)),
    "ResNet": (resnet_maps, (3, 75, 61)),
    "DenseNet": (lambda: headless(densenet121(4, (2, 2, 2))), (3, 67, 57)),
    "Inception": (lambda: headless(inception_net(4)), (3, 41, 53)),
    "MobileNet": (lambda: headless(mobilenet_v2(8), 12), (3, 77, 69)),
    "SqueezeNet": (lambda: headless(squeezenet(), 4), (3, 91, 65)),
    "FPN": (lambda: FPN(4), (3, 64, 40)),
    "DeepLab": (deeplab, (3, 52, 46)),
    "ASPP": (lambda: ASPP(4), (3, 44, 38)),
    "ConvNeXt": (lambda: headless(convnext_tiny(6, (1, 1, 2)), 4), (3, 61, 79)),
}


@dataclass(frozen=True)
class Case:
    """A network, a picture of noise, the one whole pass, and a run settled."""

    net: nn.Module
    image: torch.Tensor
    truth: list[Array]
    job: Job


@functools.cache
def case(name: str, double: bool = False) -> Case:
    factory, size = NETWORKS[name]
    learned_on = noise(4, size[0], *(2 * n for n in size[1:]), seed=1, double=double)
    net, image = factory(), noise(*size, double=double)
    enliven(net.double() if double else net, learned_on)
    return Case(net, image, whole(net, image), job_of(net, image))


@pytest.mark.parametrize("name", NETWORKS)
def test_by_bands_and_strips(name: str) -> None:
    one = case(name)
    for band, strips in ((1, 1), (7, 3), (None, 2)):
        parts, _ = by_parts(cut(one.job, band, strips))
        assert largest_difference(parts, one.truth) <= LIMITS[one.image.dtype], (band, strips)


@pytest.mark.parametrize("name", ["U-Net, bilinear", "ResNet", "DeepLab", "ConvNeXt"])
def test_in_float64(name: str) -> None:
    one = case(name, double=True)
    parts, _ = by_parts(cut(one.job, 5, 2))
    assert largest_difference(parts, one.truth) <= LIMITS[one.image.dtype]


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "FPN"])
def test_a_region_from_what_it_needs(name: str) -> None:
    one = case(name)
    (truth,) = one.truth
    chance = np.random.default_rng(len(name))
    for _ in range(4):
        lows = [int(chance.integers(0, n)) for n in truth.shape[1:]]
        ends = zip(lows, truth.shape[1:], strict=True)
        region = tuple(Interval(lo, int(chance.integers(lo + 1, n + 1))) for lo, n in ends)
        parts, _ = by_parts(cut(one.job, int(chance.integers(1, 20)), region=region))
        rows, columns = (slice(side.lo, side.hi) for side in region)
        difference = np.abs(parts[0] - truth[:, rows, columns]).max()
        assert difference <= 1e-5 * np.abs(truth).max(), region


@pytest.mark.parametrize("name", NETWORKS)
def test_no_work_is_done_twice(name: str) -> None:
    one = case(name)
    expected = multiply_adds(one.job.graph, required(one.job.graph, one.job.plan.regions))
    assert expected == one.job.plan.multiply_adds
    for band in (1, 7, None):
        _, report = by_parts(cut(one.job, band))
        assert report.multiply_adds == expected
    own = cost.total(cost.costs(graph_of(one.net, one.image.shape)).values()).multiply_adds
    if name.startswith("U-Net") or name == "FPN":  # nothing is left over at the end of a stride
        assert expected == own
    else:
        assert 0.5 * own < expected <= own
