"""``train``, ``evaluate`` and ``run`` for masks and pictures, as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.training.cells import write_cells, write_noisy

from eyeshot.cli import main
from eyeshot.cli.train import parse_weights
from eyeshot.errors import BadValue
from eyeshot.runs import CONFIG, RunConfig, load

QUICK = [
    *("--epochs", "2", "--steps", "20", "--batch-size", "2", "--crop", "32"),
    *("--base", "4", "--depth", "1", "--precision", "32-true", "--lr", "0.01"),
]
BRIEF = [*QUICK, "--steps", "3"]  # where nothing need be learned


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cells(tmp_path_factory.mktemp("data") / "cells")


@pytest.fixture(scope="module")
def run(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "cells"
    assert main(["train", str(cells), "--task", "segment", *QUICK, "-o", str(out)]) == 0
    return out


@pytest.fixture
def _no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not looked at: it takes longer than the training."""
    monkeypatch.setattr("eyeshot.report.write_report", lambda run: run.path / "report.html")


def reported(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int) -> str:
    """Standard error of a command that ends with ``code`` and says one line and nothing else."""
    assert main(arguments) == code
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("eyeshot: ")
    assert output.err.count("\n") == 1
    return output.err


def test_train_shows_dice_and_gives_figures(
    cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = ["train", str(cells), "--task", "segment", *BRIEF, "--json", "-o", str(out)]
    assert main(command) == 0
    output = capsys.readouterr()
    figures = json.loads(output.out)
    assert figures["run"] == str(out)
    assert figures["last"]["epoch"] == 2
    assert figures["figures"]["validation_dice"] >= figures["last"]["validation_dice"]
    lines = [line for line in output.err.splitlines() if line.startswith("epoch")]
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all("validation Dice" in line and "crops/s" in line for line in lines)
    assert "set aside" in output.err
    assert load(out).config.task == "segment"


@pytest.mark.usefixtures("_no_report")
def test_options_reach_the_run(cells: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [
        *("train", str(cells), "--task", "segment", "--epochs", "1", "--steps", "1", "--crop"),
        *("40x32", "--base", "2", "--depth", "1", "--up", "bilinear", "--norm", "none"),
        *("--augment", "turns, flips", "--class-weights", "1,2.5", "--validation", "2"),
    ]
    assert main([*command, "-o", str(out)]) == 0
    config = RunConfig.read(out / CONFIG)
    assert config.size == (40, 32)
    assert config.model_arguments == {"base": 2, "depth": 1, "up": "bilinear", "norm": "none"}
    assert (config.recipe.augment, config.recipe.class_weights) == ("flips,turns", (1.0, 2.5))
    assert config.validation == 2


def test_evaluate_in_numbers(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["count"] == 1
    assert figures["accuracy"] > 0.8
    assert [one["name"] for one in figures["per_class"]] == ["background", "foreground"]
    assert {"dice", "iou", "boundary_f1"} <= set(figures["per_class"][1])
    assert figures["boundary_tolerance"] == 2


def test_evaluate_for_a_person(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("pixel accuracy ")
    assert "on 1 whole picture\n" in shown
    assert "foreground" in shown
    assert "boundary" in shown


def test_evaluate_on_another_folder_judges_all_of_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_cells(tmp_path / "other", ((40, 40), (33, 50)), seed=50)
    assert main(["evaluate", str(run), "--data", str(other), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert {one["name"] for one in figures["pictures"]} == {"0", "1"}


def test_evaluate_on_other_classes(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_cells(tmp_path / "other")
    (other / "classes.yaml").write_text("sea: 0\nland: 255\n")
    line = reported(capsys, ["evaluate", str(run), "--data", str(other)], 2)
    assert "sea, land" in line
    assert "background, foreground" in line
    assert "channel" not in line  # of these there are as many


def test_evaluate_on_other_channels(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_cells(tmp_path / "other")
    for path in (other / "image").iterdir():
        Image.open(path).convert("RGB").save(path)
    line = reported(capsys, ["evaluate", str(run), "--data", str(other)], 2)
    assert f"has 3 channels, and the network of {run} 1 channel;" in line


def test_a_mask_of_a_new_picture(
    run: Path, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, mask = cells / "image" / "2.png", tmp_path / "mask.png"
    assert main(["run", str(run), str(image), "-o", str(mask), "--as", "argmax"]) == 0
    said = np.array(Image.open(mask))
    truth = np.array(Image.open(cells / "label" / "2.png")) > 127
    assert said.shape == truth.shape == (40, 56)
    assert (said == truth).mean() > 0.8
    capsys.readouterr()
    assert "use eyeshot run" in reported(capsys, ["predict", str(run), str(image)], 2)


def test_restoring(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noisy, out = write_noisy(tmp_path / "noisy"), tmp_path / "run"
    command = ["train", str(noisy), "--task", "restore", "--loss", "mse", *BRIEF, "-o", str(out)]
    assert main(command) == 0
    assert "validation psnr" in capsys.readouterr().err
    assert main(["evaluate", str(out)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("PSNR ")
    assert "PSNR given" in shown


def broken(root: Path) -> Path:
    """A folder with three things wrong."""
    folder = write_cells(root / "broken")
    (folder / "label" / "1.png").unlink()
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(folder / "label" / "3.png")
    (folder / "image" / "4.png").write_bytes(b"no picture")
    return folder


def test_check_lists_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = broken(tmp_path)
    command = ["train", str(folder), "--task", "segment", "--check"]
    assert main(command) == 2
    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert len(lines) == 3
    for name in ("1.png", "3.png", "4.png"):
        assert any(name in line for line in lines)
    assert "3 problems" in output.err
    assert main([*command, "--json"]) == 2
    found = json.loads(capsys.readouterr().out)["problems"]
    assert len(found) == 3
    assert all(one["message"] for one in found)
    # Training names the first of them and stops.
    line = reported(capsys, [*command[:-1], "-o", str(tmp_path / "run")], 2)
    assert ".png" in line
    assert not (tmp_path / "run").exists()


def test_check_of_a_good_folder(cells: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(cells), "--task", "segment", "--check"]) == 0
    output = capsys.readouterr()
    assert output.out == ""
    assert "nothing is wrong" in output.err


@pytest.mark.usefixtures("_no_report")
def test_resume_into_nothing_starts_again_and_says_so(
    cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = ["train", str(cells), "--task", "segment", *BRIEF, "--resume", "-o", str(out)]
    assert main(command) == 0
    begun = capsys.readouterr().err
    assert "nothing to go on with; a new training starts" in begun
    assert "2 epochs of 3 steps, each on 2 crops of 32×32 pixels" in begun
    assert "one picture is all that the network is judged by" in begun
    assert "4 channels" not in begun
    assert main(command) == 0
    again = capsys.readouterr().err
    assert "nothing to go on with" not in again
    assert f"{out}: this training had finished already" in again
    for more, line in [
        (["--base", "8"], f"--base is 8, and the run in {out} was started with 4; resume with"),
        (["--up", "nearest"], f"--up is 'nearest', and the run in {out} was started without it;"),
    ]:
        assert main([*command, *more]) == 2
        assert line in capsys.readouterr().err
    (out / "last" / "state.safetensors").write_bytes(b"broken")
    assert main(command) == 2
    assert "train again with --force" in capsys.readouterr().err


@pytest.mark.usefixtures("_no_report")
def test_what_may_surprise_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Alpha that is learned from, and pictures of which less is judged than there is."""
    folder = tmp_path / "cells"
    for side, shape in (("image", (37, 41, 4)), ("label", (37, 41))):
        (folder / side).mkdir(parents=True)
        for number in range(6):
            drawn = np.random.default_rng(number).integers(0, 2, shape, np.uint8) * 255
            Image.fromarray(drawn).save(folder / side / f"{number}.png")
    out = tmp_path / "run"
    command = ["train", str(folder), "--task", "segment", "--padding", "valid", "--depth", "1"]
    few = ["--epochs", "1", "--steps", "1", "--base", "2", "--validation", "2"]
    assert main([*command, *few, "-o", str(out)]) == 0
    begun = capsys.readouterr().err
    assert "the pictures have 4 channels, and all are learned from" in begun
    assert "answers without 8 pixels at each side, and pictures are judged without them" in begun
    assert "one picture is all" not in begun
    assert main(["evaluate", str(out)]) == 0
    assert "and pictures are judged without them" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train", ""], "the source is ''"),
        (["train", "digits", "--resume", "--force"], "resume and force together"),
        (["train", "digits", "--task", "segmnt"], "did you mean 'segment'"),
        (["train", "digits", "--crop", "64"], "crop is for the task segment or restore"),
        (["train", "digits", "--check"], "--check is for folders, and digits is a built-in"),
        (["train", "digits", "--base", "8"], "unknown argument of digit_cnn 'base'"),
        (["train", "digits", "--padding", "valid"], "padding is 'valid'; use a whole number"),
        (["train", "digits", "--model", "unet"], "not for the task classify"),
        (["train", "nowhere", "--task", "segment"], "nowhere"),
        (["train", "x", "--task", "segment", "--class-weights", "1,b"], "--class-weights is '1,b'"),
        (["train", "x", "--task", "segment", "--crop", "big"], "--crop is 'big'"),
        (["train", "x", "--task", "segment", "--width", "3"], "a unet has --base"),
        (["train", "x", "--task", "segment", "--class-weights", "1"], "a number for each class"),
        (["train", "digits", "--label-smoothing", "2"], "eyeshot: --label-smoothing is 2.0"),
        (["train", "digits", "--lr", "-1"], "eyeshot: --lr is -1.0"),
        (["train", "digits", "--crop", "9"], "eyeshot: --crop is for the task"),
        (
            ["train", "x", "--task", "segment", "--data", "y"],
            "eyeshot: --data is for the task classify",
        ),
    ],
)
def test_mistakes(
    arguments: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert named in reported(capsys, arguments, 2)
    assert list(tmp_path.iterdir()) == []


def test_weights_as_words_and_numbers() -> None:
    assert parse_weights(None) is None
    assert parse_weights("balanced") == "balanced"
    assert parse_weights("1, 2") == [1.0, 2.0]
    with pytest.raises(BadValue):
        parse_weights("1,,2")
