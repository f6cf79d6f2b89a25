"""Pictures learned from pictures, by the same loop."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

import eyeshot
from eyeshot.data.pairs import load_pairs
from eyeshot.errors import BadValue, UnknownName
from eyeshot.evaluation import RestorationEvaluation
from eyeshot.evaluation.pairs import Likeness
from eyeshot.runs import LAST_WEIGHTS, METRICS, WEIGHTS, Run
from eyeshot.training import Settings, train
from eyeshot.training.optimization import restoration_loss
from eyeshot.training.tasks import Restoration, Targets

from .cells import write_noisy
from .test_segment import Stop, StopAt

TINY: dict[str, int | str] = {"base": 8, "depth": 1}
QUICK: Settings = {"epochs": 2, "steps": 4, "batch_size": 2, "precision": "32-true"}


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_noisy(tmp_path_factory.mktemp("data") / "noisy")


def restore(noisy: Path, out: Path, **changes: Any) -> Run:
    options: dict[str, Any] = {"crop": (40, 40), "model_arguments": TINY, "progress": False}
    return train(noisy, task="restore", out=out, **{**options, **QUICK, **changes})


@pytest.mark.parametrize("loss", ["l1", "mse"])
def test_it_takes_noise_away(loss: str, noisy: Path, tmp_path: Path) -> None:
    run = restore(noisy, tmp_path, loss=loss, epochs=2, steps=50, learning_rate=0.01)
    found = eyeshot.evaluate(run)
    assert isinstance(found, RestorationEvaluation)
    for picture in found.pictures:
        assert picture.psnr > picture.given_psnr + 4
        assert picture.ssim > picture.given_ssim
    with (tmp_path / METRICS).open() as file:
        rows = list(csv.DictReader(file))
    assert max(float(row["validation_psnr"]) for row in rows) == pytest.approx(found.psnr, 1e-4)
    assert run.config.outputs == 1
    assert run.config.classes == ()
    assert run.config.recipe.loss == loss


def test_the_answer_is_a_picture(noisy: Path, tmp_path: Path) -> None:
    run = restore(noisy, tmp_path / "run", epochs=1, steps=60, learning_rate=0.01)
    path = noisy / "image" / "0.png"
    eyeshot.run(run, path, tmp_path / "clean.png", output_format="uint8")
    written = np.array(Image.open(tmp_path / "clean.png")).astype(float)
    expected = np.array(Image.open(noisy / "target" / "0.png")).astype(float)
    given_pixels = np.array(Image.open(path)).astype(float)
    assert np.abs(written - expected).mean() < np.abs(given_pixels - expected).mean()


def test_cut_off_and_resumed(noisy: Path, tmp_path: Path) -> None:
    restore(noisy, tmp_path / "whole")
    for steps in (5,):
        with pytest.raises(Stop):
            restore(
                noisy, tmp_path / "cut", progress=StopAt(steps), checkpoint_seconds=0, force=True
            )
        restore(noisy, tmp_path / "cut", resume=True)
        for name in (WEIGHTS, LAST_WEIGHTS):
            whole, cut = ((tmp_path / run / name).read_bytes() for run in ("whole", "cut"))
            assert whole == cut


def test_the_training_psnr_is_of_valid_pixels_clipped(noisy: Path, tmp_path: Path) -> None:
    task = object.__new__(Restoration)
    outputs = torch.tensor([[[[0.5, 1.4], [9.0, -0.2]]]])
    expected = torch.tensor([[[[0.25, 1.0], [0.0, 0.0]]]])
    valid = torch.tensor([[[True, True], [False, True]]])
    loss = restoration_loss("l1", outputs, expected, valid)
    sums = task.sums(loss, outputs, Targets(expected, valid))
    assert float(sums[0]) == pytest.approx((0.25 + 0.4 + 0.2) / 3)
    assert float(sums[1]) == pytest.approx(10 * np.log10(1 / (0.25**2 / 3)), rel=1e-5)


def test_nothing_leaves_the_device_while_it_learns() -> None:
    """A tensor of the meta device is nowhere: to read a value from it is an error."""
    task = object.__new__(Restoration)
    pictures = torch.empty(2, 1, 4, 4, device="meta")
    targets = Targets(pictures, torch.ones(2, 4, 4, dtype=torch.bool, device="meta"))
    sums = task.sums(torch.zeros((), device="meta"), pictures, targets)
    assert (sums.device.type, sums.shape) == ("meta", (2,))


def test_pictures_are_measured_as_given_once(
    noisy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = mock.Mock(side_effect=Likeness.add)
    monkeypatch.setattr(Likeness, "add", lambda *arguments: add(*arguments))
    run = restore(noisy, tmp_path, epochs=3, steps=1)
    count = len(load_pairs(noisy, task="restore").validation)
    assert add.call_count == count * (3 + 1)
    found = eyeshot.evaluate(run)
    assert isinstance(found, RestorationEvaluation)
    assert 10 < found.pictures[0].given_psnr < 25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_weights": "balanced"}, "class_weights is for the task classify or segment"),
        ({"label_smoothing": 0.1}, "label_smoothing is for the task classify"),
    ],
)
def test_options_of_other_tasks(
    options: dict[str, Any], message: str, noisy: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadValue, match=message):
        restore(noisy, tmp_path / "run", **options)


def test_a_loss_unheard_of(noisy: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"unknown loss 'huber'; .*l1, mse"):
        restore(noisy, tmp_path / "run", loss="huber")
    assert not (tmp_path / "run").exists()
