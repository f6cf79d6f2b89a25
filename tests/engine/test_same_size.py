"""A resize that leaves a size as it is: torch then copies, in some modes, whatever the factor."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.engine.law import by_parts, cut, job_of, largest_difference, noise, whole
from tests.frontends.poking import Apply, check

SIZES = {1: (40,), 2: (40, 23), 3: (9, 40, 8)}
MODES = {
    1: ["nearest", "nearest-exact", "linear"],
    2: ["nearest", "nearest-exact", "bilinear", "bicubic"],
    3: ["nearest", "nearest-exact", "trilinear"],
}
FACTORS: list[Any] = [1.01, 1.02, 1.04, 2.02, 0.999]
CASES = [(axes, mode, factor) for axes in SIZES for mode in MODES[axes] for factor in FACTORS]


def resize(mode: str, factor: Any, corners: bool | None = None) -> nn.Module:
    return Apply(
        lambda x: F.interpolate(x, scale_factor=factor, mode=mode, align_corners=corners)
    ).eval()


@pytest.mark.parametrize(("axes", "mode", "factor"), CASES)
def test_a_size_that_stays_is_run_as_torch_does(axes: int, mode: str, factor: float) -> None:
    net = resize(mode, factor)
    x = noise(2, *SIZES[axes], double=True)
    job = job_of(net, x)
    for band in (1, 7, 64):
        assert largest_difference(by_parts(cut(job, band))[0], whole(net, x)) <= 1e-12


@pytest.mark.parametrize("factor", [1.02, 2.04, (1.02, 2.04), (2.04, 1.0)])
@pytest.mark.parametrize("mode", MODES[2])
def test_its_field_is_what_poking_finds(mode: str, factor: Any) -> None:
    check(resize(mode, factor), 1, 7, 9)


def test_its_field_is_what_poking_finds_over_one_axis() -> None:
    for mode in MODES[1]:
        check(resize(mode, 1.02), 1, 45)


def test_corners_that_are_aligned_make_no_difference_where_the_size_stays() -> None:
    net = resize("bilinear", 1.02, corners=True)
    x = noise(1, 30, 21, double=True)
    parts, _ = by_parts(cut(job_of(net, x), 3))
    torch.testing.assert_close(torch.from_numpy(parts[0]), x)
    check(net, 1, 6, 5)
