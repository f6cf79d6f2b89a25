"""The benchmark of masks: its loops do the same work, and its figures are those of the library."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.__main__ import main
from tests.conftest import SHARED_DATA
from tests.training.cells import write_cells

from benchmarks import membranes
from eyeshot.data.pairs import load_pairs
from eyeshot.evaluation import MaskEvaluation, evaluate
from eyeshot.runs import load
from eyeshot.training import loop, recipes, train
from eyeshot.training.checkpoint import Position


def test_a_step_is_the_median_without_the_first() -> None:
    clock = membranes.Clock()
    clock.moments = [0.0, 7.0, 8.0, 10.0, 13.0]
    assert clock.seconds == 2.5
    clock.step(Position())
    assert len(clock.moments) == 6


def test_the_loops_take_turns_and_the_ratio_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recipes, "_STEP_PIXELS", 1)
    monkeypatch.setattr(membranes, "STEPS", 2)
    folder = write_cells(tmp_path / "cells", ((32, 32),) * 4)
    lines = membranes.compare_speed(load_pairs(folder), 1)
    assert "a step is 4 crops of 32×32" in capsys.readouterr().out
    assert ["times the plain loop's steps a second" in line for line in lines] == [True, True]


def test_it_is_skipped_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(membranes, "FOLDER", tmp_path / "none")
    membranes.main()
    assert capsys.readouterr().out.startswith("skipped: no membranes in ")


def test_the_last_slices_are_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_cells(tmp_path / "cells", ((32, 32),) * 12)
    monkeypatch.setattr(membranes, "FOLDER", folder)
    for _ in range(2):  # the second call finds them there
        pairs = membranes.adjacent_slices(tmp_path / "parts")
        assert sorted(pair.name for pair in pairs.validation) == ["10", "11", "8", "9"]
        assert len(pairs.train) == 8


def test_a_second_call_goes_on_from_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recipes, "_STEP_PIXELS", 1)
    monkeypatch.setattr(recipes, "_LEAST_STEPS", 2)
    monkeypatch.setattr(membranes, "STEPS", 2)
    monkeypatch.setattr(membranes, "QUICK_EPOCHS", 1)
    monkeypatch.setattr(membranes, "QUICK_ROUNDS", 1)
    monkeypatch.setattr(membranes, "FOLDER", write_cells(tmp_path / "cells", ((32, 32),) * 12))
    kept = ["membranes", "--quick", "--keep", str(tmp_path / "kept")]
    assert main(kept) == 0
    first = capsys.readouterr().out
    monkeypatch.setattr(membranes, "compare_speed", lambda *_: pytest.fail("measured again"))
    monkeypatch.setattr(loop.Training, "train_epoch", lambda _: pytest.fail("trained again"))
    assert main(kept) == 0
    second = capsys.readouterr().out
    for word in ("times the plain loop's", "median of 1 seeds"):
        figures = [line for line in first.splitlines() if word in line]
        assert len(figures) == 2
        assert figures == [line for line in second.splitlines() if word in line]


def test_membranes_are_learned_in_seconds(tmp_path: Path) -> None:
    """A network a hundredth as large, for seconds: better than to call everything a cell."""
    folder = SHARED_DATA / "membranes"
    if not folder.is_dir():
        pytest.skip(f"no membranes in {folder}")
    pairs = load_pairs(folder, validation=2)
    train(
        pairs,
        out=tmp_path / "run",
        progress=False,
        model_arguments={"base": 8, "depth": 2},
        crop=(96, 96),
        batch_size=4,
        epochs=1,
        steps=40,
        learning_rate=0.01,
        precision="32-true",
    )
    found = evaluate(load(tmp_path / "run"), pairs)
    assert isinstance(found, MaskEvaluation)
    cells = found.confusion[1].sum() / found.confusion.sum()
    all_cells = 2 * cells / (1 + cells) / 2  # the mean Dice of one class found, one never
    assert found.dice > all_cells + 0.2
    assert found.accuracy > cells + 0.02
    assert all(one.dice for one in found.per_class)
