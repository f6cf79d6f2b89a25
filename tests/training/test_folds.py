"""A network for each part of the data, their figures, and the ensemble of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import eyeshot
from eyeshot import cli
from eyeshot.data.pairs import load_pairs
from eyeshot.data.tree import find_files
from eyeshot.errors import BadFile, BadValue
from eyeshot.runs import PROGRAM, WEIGHTS, Run, load
from eyeshot.training import Silence, train
from eyeshot.training.checkpoint import STOP, Position

from .cells import write_cells

QUICK: dict[str, Any] = {"epochs": 1, "steps": 2, "batch_size": 2, "augment": "none"}
TINY = {"base": 2, "depth": 1}
OPTIONS: dict[str, Any] = {
    **QUICK,
    "task": "segment",
    "crop": (32, 32),
    "model_arguments": TINY,
    "progress": False,
}


class Cut(Silence):
    """Ends a training as Ctrl-C does, in its n-th step over all folds."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, position: Position) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cells(tmp_path_factory.mktemp("cells") / "data")


@pytest.fixture(scope="module")
def run(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(cells, out=tmp_path_factory.mktemp("run") / "out", folds=2, **OPTIONS)


def _mean_of_members(runs: list[Run], picture: Any) -> Any:
    return np.mean([eyeshot.run(one, picture) for one in runs], axis=0)


def test_every_pair_is_set_aside_once(cells: Path) -> None:
    parts = [load_pairs(cells, fold=(k, 3)) for k in (1, 2, 3)]
    aside = [pair.name for part in parts for pair in part.validation]
    assert sorted(aside) == [str(n) for n in range(5)]
    assert [len(part.validation) for part in parts] == [2, 2, 1]
    for part in parts:
        assert {p.name for p in part.train} | {p.name for p in part.validation} == set(aside)
        assert not {p.name for p in part.train} & {p.name for p in part.validation}
    with pytest.raises(BadValue, match=r"folds is 6, and .* holds 5 pairs"):
        load_pairs(cells, fold=(1, 6))


def _classes(folder: Path, count: int = 4) -> Path:
    for name, bright in (("dark", 60), ("light", 190)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            noise = np.random.default_rng(number).normal(bright, 20, (12, 12))
            picture = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
            picture.save(folder / name / f"{number}.png")
    return folder


def test_every_picture_of_a_class_is_set_aside_once(tmp_path: Path) -> None:
    folder = _classes(tmp_path / "data")
    trees = [find_files(folder, 0, (k, 3)) for k in (1, 2, 3)]
    held_out = [path for tree in trees for path, _ in tree.test]
    assert sorted(held_out) == sorted(folder.rglob("*.png"))
    assert all(len({label for _, label in tree.test}) == 2 for tree in trees)
    assert all(len(tree.train) + len(tree.test) == 8 for tree in trees)
    with pytest.raises(BadValue, match="folds is 5, and 'dark' has 4 pictures"):
        find_files(folder, 0, (1, 5))


def test_folders_that_have_parts_are_refused(tmp_path: Path) -> None:
    for part in ("train", "val"):
        write_cells(tmp_path / "pairs" / part, ((40, 40),))
        _classes(tmp_path / "classes" / part)
    with pytest.raises(BadValue, match=r"folds is 2, and .* already has parts"):
        load_pairs(tmp_path / "pairs", fold=(1, 2))
    with pytest.raises(BadValue, match=r"folds is 2, and .* already has parts"):
        find_files(tmp_path / "classes", 0, (1, 2))


def test_the_ensemble_is_the_mean_of_the_folds_at_every_size(run: Run) -> None:
    folds = [load(run.path / f"fold-{k}") for k in (1, 2)]
    assert folds[0].config.mean != folds[1].config.mean
    picture = np.random.default_rng(0).integers(0, 256, (57, 43), dtype=np.uint8)
    expected = _mean_of_members(folds, picture)
    found = eyeshot.run(run, picture, band=9)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    assert np.abs(expected - eyeshot.run(folds[0], picture)).max() > 1e-3
    again = load(run.path)
    assert again.finished
    assert again.config.classes == folds[0].config.classes
    assert "members.0.head" in str(eyeshot.inspect(again.net, (1, 64, 64)))


def test_the_summary_is_of_the_epochs_that_are_kept(run: Run) -> None:
    summary = json.loads((run.path / "summary.json").read_text())
    dice = [one["figures"]["validation_dice"] for one in summary["folds"]]
    judged = [eyeshot.evaluate(run.path / f"fold-{k}") for k in (1, 2)]
    assert dice == pytest.approx([one.dice for one in judged], rel=1e-5)  # type: ignore[union-attr]
    assert summary["mean"]["validation_dice"] == pytest.approx(fmean(dice))
    assert summary["deviation"]["validation_dice"] == pytest.approx(stdev(dice))
    assert "learning_rate" not in summary["mean"]


def test_what_it_has_learned_from_does_not_judge_it(run: Run, tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="have learned from all of"):
        eyeshot.evaluate(run)
    found = eyeshot.evaluate(run, write_cells(tmp_path / "new", ((40, 40),), seed=50))
    assert len(found.pictures) == 1  # type: ignore[union-attr]


def test_a_cut_fold_goes_on_and_comes_to_the_same_weights(
    run: Run, cells: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        train(cells, out=out, folds=2, **{**OPTIONS, "progress": Cut(3), "checkpoint_seconds": 0})
    assert not (out / WEIGHTS).exists()
    with pytest.raises(BadValue, match="holds folds already"):
        train(cells, out=out, folds=2, **OPTIONS)
    with pytest.raises(BadValue, match=r"--folds is 3, and the run in .*fold-1 was started with 2"):
        train(cells, out=out, folds=3, resume=True, **OPTIONS)
    train(cells, out=out, folds=2, resume=True, **OPTIONS)
    assert (out / WEIGHTS).read_bytes() == (run.path / WEIGHTS).read_bytes()


def test_a_fold_that_is_stopped_is_given_back(cells: Path, tmp_path: Path) -> None:
    class Stop(Silence):
        def step(self, position: Position) -> None:
            (tmp_path / "out" / "fold-1" / STOP).touch()

    options = {**OPTIONS, "epochs": 2, "progress": Stop()}
    stopped = train(cells, out=tmp_path / "out", folds=2, **options)
    assert stopped.path == tmp_path / "out" / "fold-1"
    assert not stopped.finished


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": 1}, "folds is 1"),
        ({"folds": 2, "validation": 2}, "use one of the two"),
        ({"folds": 2, "devices": 2}, "use one device"),
        ({"folds": 2, "task": "generate", "crop": None}, "judges nothing"),
    ],
)
def test_what_folds_do_not_go_with_is_refused(
    changes: dict[str, Any], message: str, cells: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadValue) as caught:
        train(cells, out=tmp_path / "out", **{**OPTIONS, **changes})
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(cells: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadFile, match=r"holds notes.txt, and no folds"):
        train(cells, out=tmp_path, folds=2, **OPTIONS)


class Own(nn.Module):
    """A network of somebody's own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.conv(x).relu()
        return scores


def test_an_ensemble_of_other_networks_is_a_program(run: Run, cells: Path, tmp_path: Path) -> None:
    options = {key: value for key, value in OPTIONS.items() if key != "model_arguments"}
    own = train(cells, net=Own(), out=tmp_path / "own", **options)
    first = load(run.path / "fold-1")
    before = {name: one.clone() for name, one in first.net.state_dict().items()}
    both = eyeshot.ensemble([own.path, first], tmp_path / "both")
    assert (both.path / PROGRAM).is_file()
    picture = np.random.default_rng(0).integers(0, 256, (46, 38), dtype=np.uint8)
    expected = _mean_of_members([own, first], picture)
    found = eyeshot.run(both, picture, band=9)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    assert all(torch.equal(before[name], one) for name, one in first.net.state_dict().items())
    with pytest.raises(BadValue, match="holds a run already"):
        eyeshot.ensemble([own, first], both.path)
    eyeshot.ensemble([own, first], both.path, force=True)


def test_runs_that_do_not_fit_together_are_refused(run: Run, tmp_path: Path) -> None:
    first = load(run.path / "fold-1")
    other = replace(first, config=replace(first.config, classes=("a", "b"), legend=None))
    with pytest.raises(BadValue, match="differ: classes a, b and"):
        eyeshot.ensemble([first, other], tmp_path / "out")
    with pytest.raises(BadValue, match="an ensemble of 1"):
        eyeshot.ensemble([first], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folds_of_classes_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = _classes(tmp_path / "data"), tmp_path / "out"
    command = ["train", str(folder), "--folds", "2", "-o", str(out), "--epochs", "1", "--json"]
    assert cli.main(command) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["mean"] == json.loads((out / "summary.json").read_text())["mean"]
    assert "fold 2 of 2" in said.err
    assert "test accuracy: " in said.err
    found = eyeshot.predict(load(out), [folder / "dark" / "0.png"])
    assert found[0].classes[0][0] in ("dark", "light")


class Said(Silence):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.parametrize("number", [1, 2])
def test_folds_do_not_start_from_what_has_learned_from_their_pictures(
    cells: Path, run: Run, tmp_path: Path, number: int
) -> None:
    start, copied = run.path / f"fold-{number}", tmp_path / "copied"
    with pytest.raises(BadValue, match=r"fold-\d, which has learned from this data"):
        train(cells, out=tmp_path / "out", folds=2, start=start, **OPTIONS)
    shutil.copytree(cells, copied)
    with pytest.raises(BadValue, match=r"fold-\d, which has learned from \d pictures of this data"):
        train(copied, out=tmp_path / "out", folds=2, start=start, **OPTIONS)
    assert not (tmp_path / "out" / "fold-1").exists()  # no fold was trained before that


def test_folds_that_start_from_unknown_pictures_say_so(
    cells: Path, run: Run, tmp_path: Path
) -> None:
    weights, said = tmp_path / "weights.safetensors", Said()
    weights.write_bytes((run.path / "fold-1" / WEIGHTS).read_bytes())
    options = {**OPTIONS, "progress": said}
    joined = train(cells, out=tmp_path / "out", folds=2, start=weights, **options)
    assert joined.finished
    assert joined.config.start == str(weights)
    assert sum("does not say which pictures its weights learned from" in s for s in said.lines) == 2
