"""What a notebook shows of a result: a piece that is whole, with the figures of the result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import eyeshot
from eyeshot import runs
from eyeshot.evaluation import Evaluation, pairs
from eyeshot.explanation import Walk, walk_conv, walk_transpose
from tests.pages.test_pages import Outline


@pytest.fixture(scope="module")
def run(digits_run: Path) -> runs.Run:
    return runs.load(digits_run)


def shown(result: object) -> Outline:
    return Outline(result._repr_html_())  # type: ignore[attr-defined]


def test_a_trace_shows_every_partial_sum_and_both_totals() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1)).eval()
    trace = eyeshot.explain(net, torch.rand(3, 6, 6), layer="0", unit=(1, 0, 2))
    text = shown(trace).text
    assert text.count("partial sum") == text.count("×kernel") == 3
    assert text.count("·") == 9, "three padded cells in each patch"
    for number in (*(part.sum for part in trace.parts), trace.total, trace.network_value):
        assert f"{number:.6g}" in text
    assert repr(trace).startswith("UnitTrace('0', unit (1, 0, 2), 3 parts, total ")


def test_many_parts_are_cut_and_their_rest_is_added_up() -> None:
    net = nn.Sequential(nn.Conv2d(40, 1, 1, bias=False)).eval()
    text = shown(eyeshot.explain(net, torch.rand(40, 3, 3), layer="0", unit=(0, 1, 1))).text
    assert text.count("partial sum") == 16
    assert "24 smaller parts add up to" in text


@pytest.mark.parametrize("operation", [walk_conv, walk_transpose])
def test_a_walk_shows_its_matrices_and_every_formula(operation: Callable[..., Walk]) -> None:
    walk = operation(np.arange(9.0).reshape(3, 3), np.array([[1.0, 0.0], [0.0, -1.0]]))
    text = shown(walk).text
    assert all(step.formula in text for step in walk.steps)
    assert "output" in text
    rows, columns = walk.output.shape
    steps = f"{len(walk.steps)} steps, output {rows}×{columns}"
    assert repr(walk) == f"Walk('{walk.operation}', {steps})"


def test_a_run_an_evaluation_and_predictions(run: runs.Run) -> None:
    assert "206,922" in shown(run).text
    assert "digit_cnn" in repr(run)
    evaluation = eyeshot.evaluate(run)
    assert isinstance(evaluation, Evaluation)
    text = shown(evaluation).text
    assert f"{evaluation.accuracy:.2%}" in text
    assert "truth" in text
    blot = np.zeros((28, 28), np.uint8)
    blot[4:24, 12:16] = 255
    predictions = eyeshot.predict(run, [blot, blot])
    for one in (predictions, predictions[0]):
        assert f"{100 * predictions[0].classes[0][1]:.1f} %" in shown(one).text
    assert str(predictions).count("sure") == 2


def test_masks_and_restored_pictures() -> None:
    score = pairs.ClassScore("cell", 7, 0.5, None, 1.0, 0.25, None)
    picture = pairs.PictureScore("a<b>.png", 0.75, 0.5)
    masks = pairs.MaskEvaluation((score, score), (picture,), np.array([[5, 1], [1, 5]]))
    text = shown(masks).text
    assert "50.00%" in text
    assert "a<b>.png" in text
    restored = pairs.RestoredPicture("b.png", 30.123, 0.9, 20.0, 0.5)
    assert "30.12 dB" in shown(pairs.RestorationEvaluation((restored,))).text


@pytest.mark.parametrize("visible", [True, False])
def test_a_receptive_field(visible: bool) -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 5, padding=2), nn.Identity())
    if not visible:
        net.append(nn.Flatten())
    field = eyeshot.receptive_field(net.eval(), (1, 12, 12))
    assert shown(field).text.count("×") >= int(visible)
