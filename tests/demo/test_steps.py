"""The demo: each step on a small stage, what it may replace, and what it refuses to pass off."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eyeshot import cli, data, demo, images, predict, runs
from eyeshot.data import Data, Examples
from eyeshot.demo.overview import MARKER, Stage, command, first_digit, open_stage, write_on_paper
from eyeshot.errors import BadFile, BadValue, Failure
from eyeshot.language import VARIABLE


@pytest.fixture
def stage(tmp_path: Path, digits_run: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """As it is after the first step."""
    monkeypatch.chdir(tmp_path)
    ready = open_stage(Path("demo"), say=print)
    shutil.copytree(digits_run, ready.run_folder)
    ready.run, ready.data = runs.load(ready.run_folder), data.load("digits")
    return ready


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Where the new process is not what is tested: its command in this one, and its settings."""
    environments: list[dict[str, str]] = []

    def run(words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        environments.append(options["env"])
        assert words[1:3] == ["-m", "eyeshot"]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = cli.main(words[3:])
        return subprocess.CompletedProcess(words, code, printed.getvalue(), "")

    monkeypatch.setattr(subprocess, "run", run)
    return environments


def test_the_network_predicts_in_a_new_process(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.ask_network(stage)
    output = capsys.readouterr().out
    paths = sorted(stage.pictures.iterdir())
    assert [path.name for path in paths] == [
        "digit-2.png",
        "digit-3.png",
        "digit-5.png",
        "digit-7.png",
        "photo.jpg",
    ]
    for path in paths:
        (answer,) = predict(stage.run, [path])
        name, share = answer.classes[0]
        assert f"{path}: {name}, {share:.1%} sure (" in output
    assert "inverted: dark ink on a light ground" in output
    assert images.read(paths[-1]).shape == (900, 700, 3)


@pytest.mark.usefixtures("beside")
def test_another_network_in_the_folder_is_detected(stage: Stage) -> None:
    tensors, metadata = runs.read_tensors(stage.run_folder / runs.WEIGHTS)
    tensors["fc2.bias"] = tensors["fc2.bias"].sort().values
    runs.save_tensors(stage.run_folder / runs.WEIGHTS, tensors, metadata)
    with pytest.raises(Failure, match="in the new process and"):
        demo.ask_network(stage)


def test_laid_open_and_every_suggestion_works(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    digit = demo.ASKED[-1]
    images.write(stage.pictures / f"digit-{digit}.png", first_digit(stage.data, digit))
    demo.lay_open(stage)
    assert stage.report.stat().st_size > 100_000
    assert stage.overview.stat().st_size < 300_000
    assert min(images.read(stage.overview).shape[:2]) > 600
    commands = [shlex.split(line) for line in stage.suggestions]
    assert {words[1] for words in commands} >= {"see", "explain"}
    for words in commands:
        assert cli.main(words[1:]) == 0, words
    assert "conv2" in capsys.readouterr().out
    assert (stage.folder / "maps.png").is_file()


def test_too_poor_a_network_is_a_failure_with_its_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = data.load("digits")
    few = dataclasses.replace(
        whole,
        train=Examples.hold(*whole.train.take(range(64))),
        test=Examples.hold(*whole.test.take(range(100))),
    )

    def load_few(_name: str) -> Data:
        return few

    monkeypatch.setattr(data, "load", load_few)
    poor = open_stage(tmp_path / "demo", say=print, progress=False, epochs=1)
    with pytest.raises(Failure, match=r"right in \d+\.\d\d% of 100 held-out digits.*98%"):
        demo.train_network(poor)


def test_steps_are_run_in_order_and_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def act(stage: Stage) -> None:
        done.append(stage.folder.name)
        stage.report.write_text("a page")
        stage.suggest("see", "a b")

    monkeypatch.setattr(demo, "STEPS", [demo.Step("One", act), demo.Step("Two", act)])
    lines: list[str] = []
    for _ in range(2):
        assert demo.run_demo(tmp_path / "out", say=lines.append) == tmp_path / "out" / "report.html"
    assert done == ["out"] * 4
    shown = "\n".join(lines)
    assert shown.index("1. One") < shown.index("2. Two") < shown.index("Try next")
    assert "see 'a b'" in shown


def test_only_what_a_demo_made_is_replaced(tmp_path: Path) -> None:
    first = open_stage(tmp_path / "out", say=print)
    first.run_folder.mkdir()
    (first.run_folder / "old").touch()
    first.report.touch()
    (first.folder / "mine.txt").touch()
    again = open_stage(tmp_path / "out", say=print)
    assert not again.run_folder.exists()
    assert not again.report.exists()
    assert sorted(p.name for p in again.folder.iterdir()) == [MARKER, "mine.txt", "pictures"]


def test_the_target_of_a_link_is_not_changed(tmp_path: Path) -> None:
    first = open_stage(tmp_path / "out", say=print)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "weights").touch()
    first.run_folder.symlink_to(precious, target_is_directory=True)
    open_stage(tmp_path / "out", say=print)
    assert (precious / "weights").exists()
    assert not first.run_folder.exists()


def test_a_folder_of_somebody_else_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    assert cli.main(["demo", "--out", str(tmp_path)]) == 2
    assert "not made by a demo" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises((BadFile, BadValue)):
        open_stage(tmp_path / "thesis.txt", say=print)
    assert (tmp_path / "thesis.txt").read_text() == "all of it"


def test_a_step_before_its_time_says_so(tmp_path: Path) -> None:
    empty = open_stage(tmp_path / "out", say=print)
    with pytest.raises(Failure, match="no network yet"):
        demo.lay_open(empty)


def test_the_command_shown_is_one_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    shown = command()
    assert shown.endswith("eyeshot")
    if " -m " not in shown:
        assert os.access(shown, os.X_OK)


def test_a_digit_on_paper_is_dark_on_light_and_the_same_each_time() -> None:
    digit = first_digit(data.load("digits"), 8)
    page = write_on_paper(digit)
    assert page.shape == (900, 700, 3)
    assert page.dtype == np.uint8
    corner, ink = page[:60, :60].mean(), np.quantile(page, 0.005)
    assert corner > 200
    assert ink < 80
    assert (page == write_on_paper(digit)).all()


def test_the_demo_speaks_chinese(
    stage: Stage,
    beside: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(demo, "open_stage", lambda *_, **__: stage)
    title = demo.STEPS[1].title
    lines = []
    for words, carry_out in (([], lambda _: None), (["--lang", "zh"], demo.ask_network)):
        monkeypatch.setattr(demo, "STEPS", [demo.Step(title, carry_out)])
        assert cli.main(["demo", *words]) == 0
        lines.append(capsys.readouterr().out)
    assert "1. Load it in a new process" in lines[0]
    assert "1. 在新的进程里加载它，问它单幅图像里是什么" in lines[1]
    (line,) = [line for line in lines[1].splitlines() if "digit-7.png" in line]
    verdict = "(正确|错误：应为 7)"
    assert re.fullmatch(rf"   demo/pictures/digit-7.png：\d，把握 [\d.]+%（{verdict}）", line)
    assert [one[VARIABLE] for one in beside] == ["zh"]
