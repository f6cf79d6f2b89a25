"""The plan as the front door gives it: before a run, and to a run that begins."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import eyeshot


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 5), nn.ReLU(), nn.Conv2d(2, 3, 3, padding=1)).eval()


IMAGE = np.random.default_rng(0).random((64, 48), np.float32)


def test_a_plan_says_what_the_run_then_does(net: nn.Module, tmp_path: Path) -> None:
    begun: list[eyeshot.Plan] = []
    reports: list[eyeshot.RunReport] = []
    out = tmp_path / "out.npy"
    planned = eyeshot.plan(net, IMAGE, out, band=8, output_format="argmax")
    assert not out.exists()
    eyeshot.run(
        net,
        IMAGE,
        out,
        band=8,
        output_format="argmax",
        planned=begun.append,
        progress=reports.append,
    )
    (reported,) = begun
    assert (reported.outputs, reported.notes, reported.bands.band) == (
        planned.outputs,
        planned.notes,
        8,
    )
    assert reported.predicted_seconds is None
    assert planned.predicted_seconds is not None
    assert planned.predicted_seconds > 0
    assert reports[-1].rows == reports[-1].all_rows == 60
    assert reports[-1].multiply_adds == planned.bands.multiply_adds
    assert planned.outputs[0].sizes == np.load(out).shape == (1, 60, 44)


def test_a_plan_prints_itself_and_is_plain_data(net: nn.Module) -> None:
    plan = eyeshot.plan(net, IMAGE, region=[(0, 10), (0, 44)])
    text = str(plan)
    assert text.startswith("image        the array: (H, W) read as 1 channel of 64 x 48")
    assert "the answer is 60×44, in the middle of the image's 64×48: 2 pixels less at each" in text
    assert f"{plan.outputs[0].name}, 0:10 x 0:44; 3 x 10 x 44 (features, rows, columns)" in text
    assert "multiply-adds" in text
    data = json.loads(json.dumps(plan.to_dict()))
    assert data["predicted_seconds"] == plan.predicted_seconds
    assert data["multiply_adds"] == plan.bands.multiply_adds
    assert data["images"] == [dict(plan.images[0].facts)]


def test_the_outputs_may_be_left_out_of_account(net: nn.Module) -> None:
    large = np.zeros((2000, 2000), np.float32)
    peak_with_maps = eyeshot.plan(net, large, band=16).bands.peak
    assert peak_with_maps - eyeshot.plan(net, large, [], band=16).bands.peak > 3 * 1900 * 1900 * 4


def test_the_last_report_has_the_notes(net: nn.Module) -> None:
    reports: list[eyeshot.RunReport] = []
    with pytest.warns(UserWarning, match="clipped") as heard:
        eyeshot.run(net, IMAGE * 9, output_format="uint8", progress=reports.append)
    assert reports[-1].notes == tuple(str(one.message) for one in heard)
    assert not any(report.notes for report in reports[:-1])


def test_a_plan_draws_no_random_number(net: nn.Module) -> None:
    before = torch.get_rng_state()
    eyeshot.plan(net, np.zeros((1, 64, 64), np.float32))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_plan_refuses_what_the_run_would(net: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(eyeshot.errors.BadValue, match="least that can"):
        eyeshot.plan(net, IMAGE, memory="1MB")
    with pytest.raises(eyeshot.errors.BadFile, match=r"no\.png"):
        eyeshot.plan(net, tmp_path / "no.png")
