"""Statistics gathered in parts, merged, and given to what is left: the answer of one pass."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from eyeshot import files
from eyeshot.engine import buffers
from eyeshot.engine.blocks import Blocks, Gathering, block_strip, plain_values, stages_of, values_of
from eyeshot.engine.executing import execute, gather
from eyeshot.engine.job import Job
from eyeshot.errors import Unsupported
from eyeshot.images import ArraySink
from tests.engine.law import (
    LIMITS,
    by_parts,
    cut,
    enliven,
    job_of,
    largest_difference,
    noise,
    whole,
)
from tests.networks import examples

_CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_NORM: dict[int, Any] = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_SIZES = {1: (97,), 2: (41, 37), 3: (14, 13, 11)}


class _Scaled(nn.Module):
    """Divided by one statistic of each channel, or of all numbers."""

    def __init__(self, name: str, everything: bool) -> None:
        super().__init__()
        self.name, self.everything = name, everything

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dims = tuple(range(1 if self.everything else 2, x.ndim))
        if self.name == "norm":
            found = torch.linalg.vector_norm(x, dim=dims, keepdim=True)
        elif self.name == "place":
            found = x.argmax().reshape((1,) * x.ndim) / x.numel()
        elif self.name == "extremes":
            found = (x.max() - x.min()).reshape((1,) * x.ndim)
        else:
            found = getattr(x, self.name)(dims, keepdim=True)
        scaled: torch.Tensor = x / (found.abs() + 1)
        return scaled

    def extra_repr(self) -> str:
        return f"{self.name}, {self.everything}"


@st.composite
def _networks(draw: st.DrawFn, axes: int) -> nn.Module:
    layers: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 3))):
        stride = draw(st.integers(1, 2))
        layers.append(_CONV[axes](4, 4, draw(st.integers(1, 3)), stride, padding=1))
        kind = draw(st.sampled_from(["instance", "group", "statistic"]))
        if kind == "instance":
            layers.append(_NORM[axes](4, affine=draw(st.booleans())))
        elif kind == "group":
            layers.append(nn.GroupNorm(draw(st.sampled_from([1, 2, 4])), 4))
        else:
            name = draw(
                st.sampled_from(
                    [
                        *("mean", "sum", "amax", "amin", "var", "std", "norm"),
                        *("place", "extremes", "logsumexp"),
                    ]
                )
            )
            layers.append(_Scaled(name, draw(st.booleans())))
        layers.append(nn.SiLU())
    return nn.Sequential(*layers, _CONV[axes](4, 2, 1))


def _blocks(regions: Any, cuts: int) -> Blocks:
    """Each side in so many parts, as far as it has as many positions; some may be empty."""
    return Blocks(
        {
            name: tuple(
                tuple(side.lo + len(side) * part // cuts for part in range(cuts + 1))
                for side in region
            )
            for name, region in regions.items()
        }
    )


def _by_stages(job: Job, cuts: int) -> list[Any]:
    stages, last = stages_of(job.graph)
    known: dict[str, torch.Tensor] = {}
    for stage in stages:
        blocks, merged = _blocks(stage.regions, cuts), Gathering(job.graph, stage)
        for number in range(len(blocks)):
            part, one = Gathering(job.graph, stage), blocks.regions(number)
            if one:
                gather(_part(job, stage.graph, one, known), part.take)
                merged.merge(json.loads(json.dumps(part.state())))
        known |= values_of(json.loads(json.dumps(plain_values(merged.results()))))
    sinks = {name: ArraySink(job.shape(name), job.forms[name].dtype) for name in job.forms}
    execute(_part(job, last, job.plan.regions, known), sinks)
    return [sink.finish() for sink in sinks.values()]


def _part(job: Job, graph: Any, regions: Any, known: dict[str, torch.Tensor]) -> Job:
    strip = block_strip(graph, regions)
    plan = replace(job.plan, regions=regions, strips=(strip,))
    return replace(job, graph=graph, plan=plan, known=known)


@examples(4)
@given(st.data(), st.integers(1, 3), st.integers(1, 3))
def test_random_networks_by_stages(data: st.DataObject, axes: int, cuts: int) -> None:
    net = data.draw(_networks(axes))
    image = noise(4, *_SIZES[axes], double=True)
    net = enliven(net.double(), image[None])
    job = job_of(net, image, band=data.draw(st.integers(1, 16)))
    truth = whole(net, image)
    assert largest_difference(_by_stages(job, cuts), truth) <= LIMITS[torch.float64]


def test_the_order_is_that_of_the_blocks_and_numbers_travel_exactly() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.InstanceNorm2d(3)).eval()
    job = job_of(net, noise(1, 40, 40))
    (one,), (other,) = _by_stages(job, 3), _by_stages(job, 3)
    assert one.tobytes() == other.tobytes()
    values = {"x": torch.tensor([[0.1, -float("inf")]], dtype=torch.float64)}
    again = values_of(json.loads(json.dumps(plain_values(values))))
    assert torch.equal(again["x"], values["x"])


def test_independent_statistics_share_a_stage() -> None:
    class Both(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * x.mean((2, 3), keepdim=True) + x.amax((2, 3), keepdim=True)

    stages, last = stages_of(job_of(Both().eval(), noise(2, 9, 9)).graph)
    assert [len(stage.statistics) for stage in stages] == [2]
    assert len(last.inputs) == 3


def test_what_is_no_statistic_is_named() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(2 * 81, 3)).eval()
    with pytest.raises(Unsupported, match="in one call, and no worker has them all"):
        stages_of(job_of(net, noise(2, 9, 9)).graph)


@pytest.mark.parametrize("size", [(96, 64), (48, 20, 24)])
def test_memory_of_rows_that_were_read_is_given_back(
    size: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that is still read is lost, and most of each whole value is returned early."""
    monkeypatch.setattr(buffers, "_RETURNED", 1)
    returned: list[int] = []

    def forget(first: int, end: int) -> None:
        returned.append(end - first)
        files.forget(first, end)

    monkeypatch.setattr(buffers, "forget", forget)
    convolution, norm = _CONV[len(size)], _NORM[len(size)]
    layers = [
        layer
        for before in (1, 16, 16)
        for layer in (convolution(before, 16, 3, padding=1), norm(16), nn.ReLU())
    ]
    net, image = nn.Sequential(*layers), noise(1, *size)
    enliven(net, image[None])
    parts, _ = by_parts(cut(job_of(net, image), 8))
    assert largest_difference(parts, whole(net, image)) <= 1e-5
    one = 16 * math.prod(size) * 4
    assert sum(returned) >= 2 * one
    assert max(returned) < one


def test_what_a_layer_prepared_is_freed_when_it_is_done() -> None:
    """The same job runs again, with the same numbers: what it needs is made again."""
    norm, image = nn.InstanceNorm2d(32), noise(1, 70, 64)
    convolutions = [nn.Conv2d(before, 32, 3, padding=1) for before in (1, 32, 32)]
    net = nn.Sequential(convolutions[0], norm, convolutions[1], norm, nn.ReLU(), convolutions[2])
    enliven(net, image[None])
    job = job_of(net, image)
    first, _ = by_parts(job)
    assert not job.prepared.names
    again, _ = by_parts(job)
    assert largest_difference(first, again) == 0
    assert largest_difference(first, whole(net, image)) <= 1e-5
    plain = job_of(nn.Sequential(*convolutions).eval(), image)
    by_parts(plain)
    assert len(plain.prepared.names) == 3
