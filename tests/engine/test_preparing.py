"""Samples that cannot be meant are refused, with the place: never answered as if all was well."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import eyeshot
from eyeshot.engine.outputs import Preparation
from eyeshot.errors import BadValue

CPU = torch.device("cpu")


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite_is_named_with_its_place(value: float, tmp_path: Path) -> None:
    picture = np.zeros((1, 40, 30), np.float32)
    picture[0, 27, 4] = value
    with pytest.raises(BadValue, match=r"channel 0 at \(27, 4\)"):
        eyeshot.run(_net(), picture, band=8)
    np.save(tmp_path / "p.npy", picture)
    with pytest.raises(BadValue, match=r"p\.npy: the sample of channel 0 at \(27, 4\)"):
        eyeshot.run(_net(), tmp_path / "p.npy", band=8)


def test_only_what_is_read_is_looked_at() -> None:
    picture = np.zeros((1, 40, 30), np.float32)
    picture[0, 39, 4] = np.nan
    inside = eyeshot.run(_net(), picture, region=((0, 20), (0, 30)), band=8)
    assert np.isfinite(inside).all()


def test_a_camera_refuses_it_too() -> None:
    camera = eyeshot.stream(_net(), width=30)
    rows = np.zeros((1, 5, 30), np.float32)
    rows[0, 2, 3] = np.nan
    with pytest.raises(BadValue, match="is nan"):
        camera.push(rows)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("unit", [True, False, None])
def test_a_run_takes_floats_that_lie_where_it_learned(dtype: Any, unit: bool | None) -> None:
    prepare = Preparation(torch.float32, CPU, mean=(0.5,), std=(0.2,), unit=unit)
    bright = np.full((1, 3, 3), 200, dtype)
    if unit and dtype is np.float32:
        with pytest.raises(BadValue, match="from 200 to 200, and this run learned from 0…1"):
            prepare(bright)
    elif unit is False and dtype is not np.float32:
        with pytest.raises(BadValue, match=r"samples, which are divided .* floats outside 0…1"):
            prepare(bright)
        for prepared in (replace(prepare, raw=True), replace(prepare, white=1000.0)):
            assert prepared(bright).isfinite().all()
    else:
        assert prepare(bright).isfinite().all()
    noisy = np.full((1, 3, 3), 1.2, np.float32)
    assert prepare(noisy).isfinite().all()


@pytest.mark.parametrize(
    ("value", "accepted"), [(-0.9, True), (1.9, True), (-1.1, False), (2.1, False)]
)
def test_floats_may_leave_0_to_1_by_as_much_again(value: float, accepted: bool) -> None:
    """A little outside is a filter's overshoot; further out they are on another scale."""
    samples = np.full((1, 2, 3), value, np.float32)
    prepare = Preparation(torch.float32, CPU, unit=True)
    if accepted:
        np.testing.assert_array_equal(prepare(samples)[0].numpy(), samples)
    else:
        with pytest.raises(BadValue, match="learned from 0…1"):
            prepare(samples)


def test_nothing_is_read_of_nothing() -> None:
    assert Preparation(torch.float32, CPU)(np.zeros((1, 0, 3), np.float32)).shape == (1, 1, 0, 3)


@pytest.mark.parametrize("mean", [(), (0.5, 0.1, 0.2)])
@pytest.mark.parametrize("own", [torch.float32, torch.float16, torch.float64])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_samples_are_the_same_in_memory_that_is_there(
    dtype: Any, own: torch.dtype, mean: tuple[float, ...]
) -> None:
    samples = (np.random.default_rng(0).random((3, 7, 9)) * 200).astype(dtype)
    prepare = Preparation(own, CPU, mean=mean, std=mean, raw=samples.dtype.kind == "f")
    usual = prepare(samples)
    store = torch.zeros(1, 3, 20, 9, dtype=own).to(memory_format=torch.channels_last)
    found = prepare(samples, room=store[:, :, 5:12])
    assert torch.equal(found, usual)
    if own == torch.float32 and not mean:
        assert torch.equal(store[:, :, 5:12], usual)
        assert not store[:, :, :5].any()
        assert not store[:, :, 12:].any()
