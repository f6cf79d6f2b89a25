"""Statistics in the middle of a network: held where they fit, and refused otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import eyeshot
from eyeshot.engine.job import Job
from eyeshot.engine.stream import Stream
from eyeshot.errors import BadValue, Unsupported
from eyeshot.frontends.torch import graph_of
from eyeshot.planning import pushes
from eyeshot.planning.holding import maps_held_whole
from tests.engine.law import by_parts, cut, enliven, job_of, largest_difference, noise, whole
from tests.zoo import UNet, resnet


class Gate(nn.Module):
    """Squeeze and excite, with a skip around it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.before = nn.Conv2d(channels, channels, 3, padding=1)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.gate = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.before(x)
        gated: torch.Tensor = x + y * self.gate(self.mean(y)).sigmoid()
        return gated


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    gates = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), Gate(8), nn.MaxPool2d(2), Gate(8))
    return enliven(gates, noise(1, 1, 16, 16))


def rows_held(job: Job) -> dict[str, tuple[int, str]]:
    return {one.name: (one.rows, one.waits_for) for one in job.plan.buffers}


def test_the_plan_says_what_is_held_whole_and_why(net: nn.Module) -> None:
    held = rows_held(job_of(net, noise(1, 64, 12), band=4))
    assert held["1.before"] == (
        64,
        "1.mul (64 rows behind): held whole, until 1.mean has seen every row",
    )
    assert held["0"][0] == 64
    assert held["3.before"][0] == held["2"][0] == 32
    assert "until 3.mean has seen every row" in held["3.before"][1]
    assert "whole" not in held["input"][1]


@pytest.mark.parametrize("band", [1, 5, 64])
def test_what_is_held_is_what_the_plan_says(net: nn.Module, band: int) -> None:
    image = noise(1, 64, 12)
    job = cut(job_of(net, image, band=band), band)
    parts, report = by_parts(job)
    assert largest_difference(parts, whole(net, image)) <= 1e-5
    assert report.multiply_adds == job.plan.multiply_adds


class Early(nn.Module):
    """One output that leaves at once, beside another for which rows are held."""

    def __init__(self, late: nn.Module) -> None:
        super().__init__()
        self.late = late

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x * 2, self.late(x)


class Around(nn.Module):
    """A skip around four convolutions that look far."""

    def __init__(self) -> None:
        super().__init__()
        self.far = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=8, dilation=8) for _ in range(4)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = x + self.far(x)
        return y


@pytest.mark.parametrize("late", [Around, lambda: Gate(1)], ids=["a long skip", "a gate"])
def test_an_early_output_hides_nothing_that_a_late_one_holds(
    late: Callable[[], nn.Module],
) -> None:
    image = noise(1, 200, 12)
    job = job_of(Early(late()).eval(), image, band=4)
    (strip,) = job.plan.strips
    stream = Stream(job.graph, strip.boxes, tuple(job.forms), band=4)
    for rows in pushes(job.graph, strip.boxes, 4):
        side = rows["x"]
        stream.push({"x": image[None, :, side.lo : side.hi]})
    planned = {one.name: one.rows for one in job.plan.buffers}
    held = {name: rows for name, rows in stream.most_rows().items() if name not in job.forms}
    assert job.plan.delay == 4
    assert max(planned.values()) > 30
    assert held == {name: planned[name] for name in held}


def test_maps_are_named_with_the_statistic_they_wait_for(net: nn.Module) -> None:
    graph = graph_of(net, (1, 32, 24))
    found = {(one.source, one.statistic) for one in maps_held_whole(graph)}
    first, second = ("1.mean", "3.mean")
    assert found == {("0", first), ("1.before", first), ("2", second), ("3.before", second)}


@pytest.mark.parametrize("make", [lambda: UNet(2, 2), lambda: resnet(18)])
def test_a_pool_at_the_end_holds_nothing(make: type[nn.Module]) -> None:
    net = make().eval()
    channels = next(net.parameters()).shape[1]
    assert maps_held_whole(graph_of(net, (channels, 64, 64))) == ()


def test_too_much_for_the_memory_allowed_is_refused(net: nn.Module, tmp_path: Path) -> None:
    image = np.zeros((1, 4096, 1024), np.uint8)
    needed = job_of(net, torch.from_numpy(image)).plan.peak
    with pytest.raises(BadValue) as caught:
        eyeshot.run(net, image, tmp_path / "out.npy", memory=needed // 2, band=256)
    assert " cannot hold this network over this image; the least that can is " in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_where_nothing_is_said_of_memory_what_is_free_is_the_limit(
    net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = noise(1, 512, 64)
    job_of(net, image)
    monkeypatch.setattr("eyeshot.engine.job.available", lambda: 1 << 20)
    with pytest.raises(BadValue, match=r"1 MB are free here, too little .*; the least that can"):
        job_of(net, image)
    job_of(UNet(1, 2).eval(), image)  # its memory does not grow with the height


def test_a_camera_is_refused(net: nn.Module) -> None:
    with pytest.raises(Unsupported, match=r"1\.mean .* and a camera's rows have no end; use"):
        eyeshot.stream(net, 24)
