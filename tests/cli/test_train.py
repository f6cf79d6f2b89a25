"""``train``, ``evaluate`` and ``predict`` as a person types them; every mistake is one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from eyeshot import runs
from eyeshot.cli import main
from eyeshot.cli.train import parse_size
from eyeshot.errors import BadValue
from eyeshot.runs import CONFIG, WEIGHTS

RNG = np.random.default_rng(0)
QUICK = ["--width", "2", "--depth", "1"]


def draw(path: Path, kind: str) -> None:
    """A gray picture with a bright bar, upright or lying."""
    pixels = RNG.integers(0, 60, (16, 16))
    place = int(RNG.integers(5, 10))
    if kind == "upright":
        pixels[:, place : place + 3] += 150
    else:
        pixels[place : place + 3] += 150
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two classes."""
    folder = tmp_path_factory.mktemp("bars")
    for part, count in (("train", 40), ("test", 10)):
        for kind in ("lying", "upright"):
            for number in range(count):
                draw(folder / part / kind / f"{number}.png", kind)
    return folder


@pytest.fixture(scope="module")
def run(bars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network trained on the bars."""
    out = tmp_path_factory.mktemp("runs") / "bars"
    command = ["train", str(bars), "--epochs", "6", "--batch-size", "10", "--out", str(out)]
    assert main(command) == 0
    return out


def reported(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int) -> str:
    """Standard error of a command that ends with ``code`` and says one line and nothing else."""
    assert main(arguments) == code
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("eyeshot: ")
    assert output.err.count("\n") == 1
    assert "Traceback" not in output.err
    return output.err


def test_train_prints_the_folder_on_standard_output_and_progress_beside_it(
    bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", str(bars), "--epochs", "2", "--seed", "4", *QUICK, "-o", str(out)]) == 0
    output = capsys.readouterr()
    assert output.out == f"{out}\n"
    note, *lines = output.err.splitlines()
    assert note == "16 steps in all may be too few to learn anything: --epochs 13 makes 100"
    assert [line.split("  ")[0] for line in lines[:2]] == ["epoch 1/2", "epoch 2/2"]
    assert all("test accuracy" in line and "images/s" in line for line in lines[:2])
    tree = yaml.safe_load((out / CONFIG).read_text())
    assert tree["recipe"]["seed"] == 4
    assert tree["model_arguments"] == {"width": 2, "depth": 1}
    assert tree["data"] == str(bars.resolve())
    assert tree["classes"] == ["lying", "upright"]


def test_the_default_folder_is_named_after_the_run(
    bars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(bars), "--epochs", "1", "--seed", "2", *QUICK]) == 0
    assert runs.load(f"runs/{bars.name}-digit_cnn-seed2").config.recipe.epochs == 1


def test_the_same_command_with_resume_goes_on(bars: Path, tmp_path: Path) -> None:
    command = ["train", str(bars), "--epochs", "1", *QUICK, "-o", str(tmp_path / "run")]
    assert main([*command, "--resume"]) == 0  # nothing there yet: killed before it began
    before = (tmp_path / "run" / WEIGHTS).read_bytes()
    assert main([*command, "--resume"]) == 0
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == before


def test_evaluate_in_numbers(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["count"] == 20
    assert figures["accuracy"] >= 0.9
    assert sum(map(sum, figures["confusion"])) == 20
    assert [line["name"] for line in figures["per_class"]] == ["lying", "upright"]


def test_evaluate_in_chinese(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EYESHOT_LANG", "zh")
    assert main(["evaluate", str(run)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("准确率 ")
    assert "真实 \\ 预测" in shown


def test_evaluate_for_a_person(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("accuracy ")
    assert " of 20)" in shown
    assert "upright" in shown


def test_evaluate_on_other_pictures(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("lying", "upright"):
        for part in ("train", "test"):
            draw(tmp_path / part / kind / "0.png", kind)
    assert main(["evaluate", str(run), "--data", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 2


def test_evaluate_judges_every_picture_of_a_lawful_folder(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One picture of a class, none of another, color for a run in gray: all lawful."""
    draw(tmp_path / "one" / "upright" / "0.png", "upright")
    assert main(["evaluate", str(run), "--data", str(tmp_path / "one"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["count"], [line["count"] for line in found["per_class"]]) == (1, [0, 1])
    assert any("no picture of lying is among them" in note for note in found["notes"])
    for kind in ("lying", "upright"):
        for number in range(15):
            draw(tmp_path / "thirty" / kind / f"{number}.png", kind)
            path = tmp_path / "thirty" / kind / f"{number}.png"
            Image.open(path).convert("RGB").resize((20, 20)).save(path)
    assert main(["evaluate", str(run), "--data", str(tmp_path / "thirty"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["count"], found["accuracy"] > 0.9) == (30, True)
    assert any("were made gray" in note for note in found["notes"])


def test_evaluate_and_report_say_and_take_the_part(
    run: Path, bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run), "--data", str(bars), "--part", "train", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["count"] == 80
    assert found["notes"][-1].startswith("80 of these 80 pictures were learned from")
    page = tmp_path / "page.html"
    command = ["report", str(run), "--data", str(bars), "--part", "train", "-o", str(page)]
    assert main(command) == 0
    text = page.read_text()
    assert "of 80 held-out pictures right" in text
    assert "pictures to learn from" not in text
    capsys.readouterr()
    assert "part is 'dev'" in reported(capsys, ["evaluate", str(run), "--part", "dev"], 2)


def test_check_of_a_class_folder_lists_problems_and_notes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("lying", "upright"):
        for number in range(5):
            draw(tmp_path / "set" / kind / f"{number}.png", kind)
    assert main(["train", str(tmp_path / "set"), "--check"]) == 0
    output = capsys.readouterr()
    assert "one in 5 of each class was set aside" in output.err
    assert output.err.endswith(": nothing is wrong with it\n")
    bad = [tmp_path / "set" / "lying" / f"{number}.png" for number in (1, 3)]
    for path in bad:
        path.write_bytes(b"")
    assert main(["train", str(tmp_path / "set"), "--check"]) == 2
    output = capsys.readouterr()
    assert [line.split(": ")[0] for line in output.out.splitlines()] == [str(p) for p in bad]
    assert output.err.endswith("2 problems\n")
    out = tmp_path / "run"
    command = ["train", str(tmp_path / "set"), "--skip-damaged", *QUICK, "-o", str(out)]
    assert main([*command, "--epochs", "1"]) == 0
    assert "2 of 10 cannot be read and were left out" in capsys.readouterr().err
    assert main(["evaluate", str(out)]) == 0  # the run knows that it leaves them out
    assert "have changed" not in capsys.readouterr().err


def test_train_prints_what_the_loader_noted_of_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("train", "test"):
        for kind in ("lying", "upright"):
            draw(tmp_path / "set" / part / kind / "0.png", kind)
    copy = tmp_path / "set" / "train" / "lying" / "0.png"
    (tmp_path / "set" / "test" / "lying" / "0.png").write_bytes(copy.read_bytes())
    command = ["train", str(tmp_path / "set"), *QUICK, "--epochs", "1", "-o", str(tmp_path / "run")]
    assert main(command) == 0
    assert "1 held-out picture is a training picture too" in capsys.readouterr().err


def test_predict_answers_nine_of_ten_and_names_the_tenth(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = [tmp_path / f"{number}.png" for number in range(10)]
    for path in pictures:
        draw(path, "upright")
    pictures[4].write_bytes(b"no picture")
    assert main(["predict", str(run), *map(str, pictures)]) == 2
    output = capsys.readouterr()
    assert len(output.out.splitlines()) == 9
    assert [line for line in output.err.splitlines() if line.startswith("eyeshot: ")] == [
        f"eyeshot: {pictures[4]}: not a picture format that Eyeshot reads; "
        "use PNG, JPEG, TIFF, BMP, WebP, .npy or Zarr"
    ]
    assert main(["predict", str(run), *map(str, pictures), "--json"]) == 2
    entries = json.loads(capsys.readouterr().out)
    assert ["error" in entry for entry in entries] == [path == pictures[4] for path in pictures]


def test_predict(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(tmp_path / "a.png", "upright")
    draw(tmp_path / "b.png", "lying")
    pictures = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert main(["predict", str(run), *pictures, "--top", "1", "--json"]) == 0
    predictions = json.loads(capsys.readouterr().out)
    assert [entry["image"] for entry in predictions] == pictures
    assert [entry["top"][0]["class"] for entry in predictions] == ["upright", "lying"]
    assert all(len(entry["top"]) == 1 for entry in predictions)
    assert main(["predict", str(run), pictures[0]]) == 0
    assert capsys.readouterr().out.startswith(f"{pictures[0]}: upright ")
    assert main(["predict", str(run), str(tmp_path), "--top", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == predictions
    (tmp_path / "none").mkdir()
    assert main(["predict", str(run), str(tmp_path / "none")]) == 2
    assert "none: contains no pictures; name a folder with pictures" in capsys.readouterr().err


def test_predict_says_what_it_did_to_the_picture(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "color.png"
    Image.fromarray(RNG.integers(0, 255, (40, 30, 3)).astype(np.uint8)).save(path)
    assert main(["predict", str(run), str(path)]) == 0
    output = capsys.readouterr()
    assert "40×30" in output.err
    assert main(["predict", str(run), str(path), "--json"]) == 0
    assert any("40×30" in note for note in json.loads(capsys.readouterr().out)[0]["notes"])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train", "digitss"], "digitss"),
        (["train", "missing/folder"], "missing/folder: no such folder"),
        (["train", "digits", "--model", "digit_cmm"], "did you mean 'digit_cnn'"),
        (["train", "digits", "--epochs", "0"], "epochs is 0"),
        (["train", "digits", "--lr", "0"], "--lr is 0"),
        (["train", "digits", "--size", "big"], "--size is 'big'"),
        (["train", "digits", "--device", "tpu"], "unknown device 'tpu'"),
        (["train", "digits", "--precision", "64"], "unknown precision '64'"),
        (["evaluate", "missing"], "missing: no such run folder"),
        (["predict", "missing", "x.png"], "missing: no such run folder"),
    ],
)
def test_mistakes_without_a_run(
    arguments: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert named in reported(capsys, arguments, 2)
    assert list(tmp_path.iterdir()) == []


def test_one_class_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(tmp_path / "bars" / "lying" / "1.png", "lying")
    line = reported(capsys, ["train", str(tmp_path / "bars"), "-o", str(tmp_path / "run")], 2)
    assert "class" in line
    assert not (tmp_path / "run").exists()


def test_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert str(tmp_path) in reported(capsys, ["train", str(tmp_path)], 2)


def test_a_run_in_the_way(run: Path, bars: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / WEIGHTS).read_bytes()
    assert "--force" in reported(capsys, ["train", str(bars), "-o", str(run)], 2)
    line = reported(capsys, ["train", str(bars), "--epochs", "7", "--resume", "-o", str(run)], 2)
    assert "--epochs is 7" in line
    assert (run / WEIGHTS).read_bytes() == before


def test_a_loss_that_is_not_a_number_is_a_failure(
    bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", str(bars), "--lr", "1e30", *QUICK, "-o", str(tmp_path / "run")]
    assert main(command) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("eyeshot: the loss is ")
    assert "step" in last


def test_pictures_that_cannot_be_described(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.png").write_text("no picture")
    assert "text.png" in reported(capsys, ["predict", str(run), str(tmp_path / "text.png")], 2)
    assert "none.png" in reported(capsys, ["predict", str(run), str(tmp_path / "none.png")], 2)
    draw(tmp_path / "good.png", "lying")
    line = reported(capsys, ["predict", str(run), str(tmp_path / "good.png"), "--top", "0"], 2)
    assert "top is 0" in line


def test_other_classes_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("cats", "dogs"):
        for part in ("train", "test"):
            draw(tmp_path / part / kind / "0.png", "lying")
    line = reported(capsys, ["evaluate", str(run), "--data", str(tmp_path)], 2)
    assert "cats, dogs" in line
    assert "lying, upright" in line


@pytest.mark.parametrize(("text", "size"), [("64", (64, 64)), ("64x48", (64, 48)), ("3×4", (3, 4))])
def test_sizes(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "3x", "3x4x5", "-3", "3.5", "²"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(BadValue, match="--size"):
        parse_size(text)
