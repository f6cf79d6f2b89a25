"""A run is judged by what it has not learned from, wherever that lies and whatever came between."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.training.cells import write_cells, write_noisy

import eyeshot
from eyeshot.data import Pairs, load_pairs
from eyeshot.errors import BadFile, BadValue
from eyeshot.evaluation import MaskEvaluation, load_test_pairs
from eyeshot.runs import CONFIG, Run, RunConfig
from eyeshot.training import Settings, train

SIZES = ((24, 24),) * 8
QUICK: Settings = {"epochs": 1, "steps": 1, "batch_size": 2, "precision": "32-true"}


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    return write_cells(tmp_path / "cells", SIZES)


def learn(source: Path | Pairs, out: Path) -> Run:
    arguments: dict[str, int | str] = {"base": 2, "depth": 1}
    task = source.task if isinstance(source, Pairs) else "segment"
    return train(source, task=task, out=out, progress=False, model_arguments=arguments, **QUICK)


def names(found: object) -> set[str]:
    assert isinstance(found, MaskEvaluation)
    return {picture.name for picture in found.pictures}


def test_pairs_split_by_another_seed(cells: Path, tmp_path: Path) -> None:
    pairs = load_pairs(cells, validation=3, seed=5)
    default = load_pairs(cells, validation=3)
    assert pairs.validation != default.validation
    evaluation = eyeshot.evaluate(learn(pairs, tmp_path / "run"))
    assert names(evaluation) == {pair.name for pair in pairs.validation}
    assert evaluation.notes == ("5 of 8 pictures were used for training and are left out",)


def test_pairs_that_came_and_went(cells: Path, tmp_path: Path) -> None:
    pairs = load_pairs(cells)
    run = learn(cells, tmp_path / "run")
    gone, left = pairs.validation
    for path in (gone.image, gone.target):
        path.unlink()
    evaluation = eyeshot.evaluate(run)
    assert names(evaluation) == {left.name}
    assert evaluation.notes[-1].startswith("the pictures in ")
    for side in ("image", "label"):
        new = np.array(Image.open(cells / side / f"{left.name}.png"))[::-1]
        Image.fromarray(new).save(cells / side / "new.png")
    assert names(eyeshot.evaluate(run)) == {left.name, "new"}


def test_the_own_folder_by_name_and_a_copy_of_it(cells: Path, tmp_path: Path) -> None:
    run = learn(cells, tmp_path / "run")
    expected = {pair.name for pair in load_pairs(cells).validation}
    assert names(eyeshot.evaluate(run, cells)) == expected
    copy = shutil.copytree(cells, tmp_path / "copy")
    evaluation = eyeshot.evaluate(run, copy)
    assert names(evaluation) == expected
    assert evaluation.notes == ("6 of 8 pictures were used for training and are left out",)


def test_pairs_as_an_argument_are_judged_and_training_pictures_are_noted(
    cells: Path, tmp_path: Path
) -> None:
    run = learn(cells, tmp_path / "run")
    pairs = load_pairs(cells, validation=4, seed=1)
    known = {pair.name for pair in load_pairs(cells).train}
    count = sum(pair.name in known for pair in pairs.validation)
    assert count > 0
    note = eyeshot.evaluate(run, pairs).notes[-1]
    assert note.startswith(f"{count} of these 4 pictures were learned from")


def test_a_picture_in_both_parts_is_noted(tmp_path: Path) -> None:
    cells = write_cells(tmp_path / "cells", SIZES)
    pairs = load_pairs(cells)
    twin, other = pairs.train[0], pairs.validation[0]
    shutil.copy(twin.image, other.image)
    evaluation = eyeshot.evaluate(learn(cells, tmp_path / "run"))
    assert names(evaluation) == {pair.name for pair in pairs.validation}
    assert evaluation.notes[-1].startswith("1 of these 2 pictures were learned from")
    assert not any("have changed" in note for note in evaluation.notes)


def test_a_run_that_does_not_say_what_it_learned(cells: Path, tmp_path: Path) -> None:
    run = learn(cells, tmp_path / "run")
    text = (tmp_path / "run" / CONFIG).read_text()
    old = text[: text.index("legend:")]
    (tmp_path / "run" / CONFIG).write_text(old)
    assert RunConfig.read(tmp_path / "run" / CONFIG).learned_from == frozenset()
    evaluation = eyeshot.evaluate(tmp_path / "run")
    assert names(evaluation) == names(eyeshot.evaluate(run))


def test_one_slice_in_which_a_class_is_missing(cells: Path, tmp_path: Path) -> None:
    run = learn(cells, tmp_path / "run")
    slices = write_cells(tmp_path / "slices", ((24, 24),), seed=9)
    assert names(eyeshot.evaluate(run, slices)) == {"0"}
    Image.fromarray(np.zeros((24, 24), np.uint8)).save(slices / "label" / "0.png")
    evaluation = eyeshot.evaluate(run, slices)
    assert isinstance(evaluation, MaskEvaluation)
    assert [one.pixels for one in evaluation.per_class] == [576, 0]
    Image.fromarray(np.ones((24, 24), np.uint8)).save(slices / "label" / "0.png")
    with pytest.raises(BadFile, match=r"holds 1 .* 0 \(background\), 255 \(foreground\)"):
        eyeshot.evaluate(run, slices)


def test_pairs_of_another_task_are_named_so(cells: Path, tmp_path: Path) -> None:
    run = learn(cells, tmp_path / "run")
    noisy = load_pairs(write_noisy(tmp_path / "noisy"), task="restore")
    with pytest.raises(BadValue, match=r"is for the task restore, and the network of .* segment"):
        eyeshot.evaluate(run, noisy)


def test_a_folder_named_from_here_is_found_from_elsewhere(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = learn(load_pairs("cells"), tmp_path / "run")
    assert run.config.data == str(cells.resolve())
    monkeypatch.chdir("/")
    assert len(load_test_pairs(run).validation) == 2


def test_a_damaged_legend_is_refused(cells: Path, tmp_path: Path) -> None:
    learn(cells, tmp_path / "run")
    path = tmp_path / "run" / CONFIG
    text = path.read_text()
    for before, after, words in (
        ("colors: false", "colors: 0", "colors is 0; it should be bool"),
        ("  - 255\n", "", "the legend is of other classes"),
    ):
        assert text.count(before) == 1
        path.write_text(text.replace(before, after))
        with pytest.raises(BadFile, match=words):
            eyeshot.evaluate(tmp_path / "run")
