"""A training that begins with other weights, keeps some of them, and ends before its last epoch."""

from __future__ import annotations

import csv
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import eyeshot
from eyeshot.data import Examples
from eyeshot.errors import BadFile, BadValue, UnknownName
from eyeshot.report import write_report
from eyeshot.runs import METRICS, WEIGHTS, Run, read_tensors, save_tensors
from eyeshot.training import Silence, train
from eyeshot.training.checkpoint import Position

from .blobs import blobs

QUICK: dict[str, Any] = {"model": "small_vgg", "batch_size": 24, "average": 0.0, "progress": False}


class Said(Silence):
    """Keep what is said, and put STOP into a folder after so many steps."""

    def __init__(self, folder: Path | None = None, steps: int = 0) -> None:
        self.lines: list[str] = []
        self.folder, self.left = folder, steps

    def say(self, line: str) -> None:
        self.lines.append(line)

    def step(self, position: Position) -> None:
        self.left -= 1
        if self.folder is not None and self.left == 0:
            (self.folder / "STOP").touch()


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(blobs(), out=tmp_path_factory.mktemp("old") / "run", epochs=1, **QUICK)


def tuned(old: Run | Path, out: Path, said: Said | None = None, **changes: Any) -> Run:
    data = blobs()
    data = replace(data, classes=(*data.classes, "nowhere"))
    start = old if isinstance(old, Path) else old.path
    options: dict[str, Any] = {
        **QUICK,
        "epochs": 1,
        "progress": said or False,
        "start": start,
        **changes,
    }
    return train(data, out=out, **options)


def test_the_head_is_new_and_what_is_frozen_stays(old: Run, tmp_path: Path) -> None:
    said = Said()
    names = [name for name, child in old.net.named_children() if list(child.parameters())]
    first = names[0]
    run = tuned(old, tmp_path / "run", said, freeze=f"{first}, {names[1]}")
    before, after = old.net.state_dict(), run.net.state_dict()
    kept = [name for name in before if torch.equal(before[name], after[name])]
    assert {name.partition(".")[0] for name in kept} >= {first, names[1]}
    others = [n for n, _ in run.net.named_parameters() if n.partition(".")[0] not in names[:2]]
    assert others
    assert not set(others) & set(kept)
    (reported,) = [line for line in said.lines if "taken" in line]
    assert "of another shape, learned from the start" in reported
    assert set(run.config.fresh.split()) == {n for n in before if before[n].shape != after[n].shape}


def test_brought_weights_learn_at_their_own_rate(old: Run, tmp_path: Path) -> None:
    slow = tuned(old, tmp_path / "slow", backbone_rate=1e-9, weight_decay=0.0)
    before, after = dict(old.net.named_parameters()), dict(slow.net.named_parameters())
    fresh = slow.config.fresh.split()
    brought = [name for name in before if name not in fresh]
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in brought)
    assert fresh


def test_weights_of_a_file_and_those_that_fit_nothing(old: Run, tmp_path: Path) -> None:
    torch.save({"state_dict": old.net.state_dict(), "epoch": 3}, tmp_path / "net.pt")
    run = tuned(tmp_path / "net.pt", tmp_path / "run", freeze="conv1")
    assert run.config.start == str(tmp_path / "net.pt")
    save_tensors(tmp_path / "other.safetensors", {"a": torch.zeros(3)})
    with pytest.raises(BadFile, match=r"other.safetensors: nothing in it fits Classifier"):
        tuned(tmp_path / "other.safetensors", tmp_path / "nothing")
    with pytest.raises(UnknownName, match="layer to freeze 'cnv1'; did you mean 'conv1'"):
        tuned(old, tmp_path / "typo", freeze="cnv1")
    with pytest.raises(BadValue, match="nothing is left to learn"):
        tuned(old, tmp_path / "all", freeze="*")
    with pytest.raises(BadValue, match=r"\(backbone_rate\) without weights"):
        train(blobs(), out=tmp_path / "bare", backbone_rate=1e-4, progress=False)


def test_stopped_by_a_file_and_resumed_to_the_same_bytes(old: Run, tmp_path: Path) -> None:
    whole = tuned(old, tmp_path / "whole", epochs=2, freeze="conv1", backbone_rate=1e-3)
    said = Said(tmp_path / "cut", steps=2)
    options: dict[str, Any] = {"epochs": 2, "freeze": "conv1", "backbone_rate": 1e-3}
    cut = tuned(old, tmp_path / "cut", said, **options)
    assert not cut.finished
    assert "the training has not finished" in cut.standing
    assert any("stopped by" in line and "--resume" in line for line in said.lines)
    assert not (tmp_path / "cut" / "STOP").exists()
    again = tuned(old, tmp_path / "cut", resume=True, **options)
    assert again.finished
    assert (cut.path / WEIGHTS).read_bytes() == (whole.path / WEIGHTS).read_bytes()


def test_the_best_epoch_is_chosen_by_val_and_judged_by_test(tmp_path: Path) -> None:
    one = blobs()
    wrong = Examples.hold(one.test.images, (one.test.labels + 1) % 3)  # it grows worse and worse
    options = {**QUICK, "epochs": 3, "patience": 9}
    run = train(replace(one, validation=wrong), out=tmp_path / "p", **options)
    rows = list(csv.DictReader((run.path / METRICS).read_text().splitlines()))
    assert "test_accuracy" not in rows[0]
    found = [float(row["validation_accuracy"]) for row in rows]
    assert found[0] > found[-1]
    _, metadata = read_tensors(run.path / WEIGHTS)
    assert metadata == {"epoch": f"{1 + found.index(max(found))} finished"}
    assert run.config.best == "validation_accuracy"
    evaluation = eyeshot.evaluate(run, one)
    assert isinstance(evaluation, eyeshot.Evaluation)
    assert evaluation.labels.tolist() == one.test.labels.tolist()
    assert "held-out accuracy" in write_report(run, data=one).read_text()


def test_patience_from_the_middle_counts_from_there(tmp_path: Path) -> None:
    said = Said(tmp_path / "p", steps=4 * 3)
    options = {**QUICK, "epochs": 30, "learning_rate": 1e-12, "warmup": 0.0}
    train(blobs(), out=tmp_path / "p", **{**options, "progress": said})
    said = Said()
    again = {**options, "progress": said, "resume": True, "patience": 2}
    run = train(blobs(), out=tmp_path / "p", **again)
    assert any("the best is chosen from there on" in line for line in said.lines)
    assert "ended in epoch 5: no better test accuracy for 2 epochs" in said.lines
    _, metadata = read_tensors(run.path / WEIGHTS)
    assert metadata == {"epoch": "3 finished"}


def test_a_run_folder_where_files_would_be_lost_or_read_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(4):
            pixels = np.random.default_rng(number).integers(0, 256, (12, 12), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    with pytest.raises(BadValue, match=r"is inside .*photos, whose folders are read as pictures"):
        train(folder, out=folder / "runs" / "a", progress=False)
    assert not (folder / "runs").exists()
    old = train(folder, out=tmp_path / "old", **QUICK)
    with pytest.raises(BadValue, match="holds the weights to start with, and would be deleted"):
        train(folder, start=old.path, out=old.path, force=True, **QUICK)
    assert (old.path / WEIGHTS).exists()


def test_ended_by_patience_and_by_time(tmp_path: Path) -> None:
    said = Said()
    run = train(
        blobs(),
        out=tmp_path / "p",
        epochs=30,
        patience=2,
        learning_rate=1e-12,
        warmup=0.0,
        **{**QUICK, "progress": said},
    )
    assert len((run.path / METRICS).read_text().splitlines()) == 1 + 3
    assert any("no better test accuracy for 2 epochs" in line for line in said.lines)
    _, metadata = read_tensors(run.path / WEIGHTS)
    assert metadata == {"epoch": "1 finished"}
    assert any("the best epoch is chosen by the test part" in line for line in said.lines)
    started = time.process_time()
    run = train(blobs(), out=tmp_path / "t", epochs=1000, minutes=0.002, **QUICK)
    assert run.finished
    assert time.process_time() - started < 60
    assert eyeshot.evaluate(run, blobs())
