"""`eyeshot explain` as it is typed: two forms, one command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import eyeshot
from eyeshot import images, runs
from eyeshot.cli import main
from eyeshot.cli.explain import OPERATIONS
from eyeshot.nets import digit_cnn


def test_conv_walks_over_the_tutorial_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "conv"]) == 0
    text = capsys.readouterr().out
    assert "1·1 + 1·0 + 1·1 + 0·0 + 1·1 + 1·0 + 0·1 + 0·0 + 1·1 = 4" in text
    assert "step 9 of 9: output [2, 2]" in text
    assert [line.split() for line in text.splitlines()[-3:]] == [
        ["4", "3", "4"],
        ["2", "4", "3"],
        ["2", "3", "4"],
    ]


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["conv"], [[4, 3, 4], [2, 4, 3], [2, 3, 4]]),
        (["conv", "-i", "1 2 / 3 4", "-k", "1 0 / 0 1", "--bias", "1"], [[6]]),
        (["conv", "-i", "1 2 3", "-k", "1 2", "--flip"], [[4, 7]]),
        (["conv", "-i", "1 2 3", "-k", "1 1 1", "--padding", "same"], [[3, 6, 5]]),
        (["conv", "-i", "1 2 3 4", "-k", "1 1", "--stride", "1,2"], [[3, 7]]),
        (["conv", "-i", "1 2 3 4", "-k", "1 1", "--dilation", "2"], [[4, 6]]),
        (
            ["conv", "-i", "1 2 3", "-k", "1", "--padding", "0,1", "--padding-mode", "circular"],
            [[3, 1, 2, 3, 1]],
        ),
        (["pool"], [[6, 5], [3, 4]]),
        (["pool", "--mode", "avg", "-i", "1 3", "--size", "1,2"], [[2]]),
        (
            ["pool", "--mode", "avg", "-i", "1 3 / 5 7", "--padding", "1", "--exclude-padding"],
            [[1, 3], [5, 7]],
        ),
        (["pool", "-i", "1 2 3", "--size", "1,2", "--ceil"], [[2, 3]]),
        (
            ["transpose", "--padding", "1", "--output-padding", "1"],
            [[4, 6, 8, 4], [8, 10, 12, 6], [12, 14, 16, 8], [6, 7, 8, 4]],
        ),
        (["nearest", "-i", "1 2"], [[1, 1, 2, 2]] * 2),
        (["nearest", "-i", "1 2", "--size", "1,3"], [[1, 1, 2]]),
        (["bilinear", "-i", "1 2", "--scale", "1,2"], [[1, 1.25, 1.75, 2]]),
        (["bilinear", "-i", "1 4", "--scale", "1,2", "--align-corners"], [[1, 2, 3, 4]]),
    ],
)
def test_the_numbers_of_every_operation(
    arguments: list[str], output: list[list[float]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", *arguments, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["operation"] == arguments[0]
    assert np.allclose(data["output"], output)


def test_a_matrix_can_be_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "image.txt"
    file.write_text("1 2\n3 4\n")
    assert main(["explain", "nearest", "--input", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["input"] == [[1, 2], [3, 4]]


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_shows_both_forms(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(["explain", *arguments])
    text = capsys.readouterr().out
    for operation in OPERATIONS:
        assert operation in text
    assert "NET IMAGE" in text
    assert "--layer conv2 --unit 3,10,12" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pol"], "did you mean 'pool'"),
        (["convolution"], "did you mean 'conv'"),
        (["no/run", "seven.png", "--layer", "conv2", "--unit", "1,2,3"], "no/run: no such run"),
        (["conv", "--kernel", "1 2 3 4 5 6"], "a window of 1×6 is larger"),
        (["conv", "--kernel", "1 2 / 3"], "rows of 2, 1 numbers"),
        (["conv", "--kernel", "missing.txt"], "neither a matrix nor a file"),
        (["conv", "--stride", "two"], "--stride 'two'"),
        (["conv", "--stride", "0"], "stride 0"),
        (["conv", "--padding", "sme"], "did you mean 'same'"),
        (["conv", "--padding-mode", "mirror"], "unknown padding mode 'mirror'"),
        (["conv", "--bias", "nan", "--json"], "bias nan"),
        (["pool", "--mode", "mean"], "unknown pooling mode 'mean'"),
        (["pool", "--padding", "2"], "at most half the kernel"),
        (["nearest", "--scale", "big"], "--scale 'big'"),
        (["nearest", "--scale", "0"], "scale 0"),
        (["nearest", "--scale", "2", "--size", "3"], "give one of the two"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1
    assert not captured.out


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as training leaves it, but with fresh weights: what is explained is the sum."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    folder.mkdir()
    torch.manual_seed(0)
    net = digit_cnn()
    runs.RunConfig(
        model="digit_cnn",
        data="digits",
        fingerprint="none",
        classes=tuple("0123456789"),
        channels=1,
        size=(28, 28),
        mean=(0.13,),
        std=(0.31,),
        recipe=runs.Recipe(epochs=1, batch_size=1, learning_rate=0.1),
    ).save(folder / "config.yaml")
    runs.save_tensors(folder / "model.safetensors", net.state_dict())
    return folder


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seven as a person draws it: dark on light, larger than 28×28."""
    picture = np.full((60, 50), 240, np.uint8)
    picture[10:15, 12:38] = 20
    for row in range(15, 50):
        column = 36 - (row - 15) // 2
        picture[row, column - 3 : column + 2] = 20
    path = tmp_path_factory.mktemp("pictures") / "seven.png"
    images.write(path, picture)
    return path


@pytest.mark.parametrize(
    ("layer", "unit"), [("conv1", "3,0,27"), ("conv2", "3,10,12"), ("pool2", "0,6,6"), ("fc2", "7")]
)
def test_a_unit_inside_a_run(
    run_folder: Path, seven: Path, layer: str, unit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["explain", str(run_folder), str(seven), "--layer", layer, "--unit", unit]
    assert main([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    data = json.loads(captured.out)
    assert data["layer"] == layer
    assert data["total"] == pytest.approx(data["network_value"], abs=1e-5)
    total = sum(part["sum"] for part in data["parts"]) + (data["bias"] or 0)
    assert data["total"] == pytest.approx(total, abs=1e-9)
    assert str(seven) in captured.err  # what was done to the picture

    assert main(arguments) == 0
    assert f"{data['total']:.6f}" in capsys.readouterr().out


def test_options_may_stand_before_the_run(
    run_folder: Path, seven: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--layer", "fc2", "--unit", "7", "--json", str(run_folder), str(seven)]
    assert main(["explain", *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["layer"] == "fc2"


@pytest.mark.parametrize(
    ("layer", "unit", "message"),
    [
        ("conv3", "0,0,0", "unknown layer 'conv3'; did you mean 'conv2'"),
        ("conv2", "0,14,0", "has shape (32, 14, 14)"),
        ("conv2", "3", "has, of shape (32, 14, 14); give channel,row,column"),
        ("conv2", "a,b", "--unit 'a,b'"),
        ("x", "0,0,0", "'x' is input, which has no sum to show"),
    ],
)
def test_mistakes_about_a_run_are_one_line(
    run_folder: Path,
    seven: Path,
    layer: str,
    unit: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["explain", str(run_folder), str(seven), "--layer", layer, "--unit", unit]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert not captured.out


@pytest.mark.parametrize("operation", ["nearest", "bilinear"])
def test_a_walk_that_nobody_reads_is_refused_before_it_is_laid_out(
    operation: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", operation, "--scale", "1e9"]) == 2
    assert "takes 4000000000000000000 steps" in capsys.readouterr().err


def test_pixels_of_a_score_in_words_as_json_and_as_a_picture(
    run_folder: Path, seven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "why.png"
    arguments = ["explain", str(run_folder), str(seven), "--pixels", "--unit", "7"]
    assert main([*arguments, "--against", "9", "-o", str(out)]) == 0
    assert "7 " in capsys.readouterr().out
    drawn = images.read(out)
    assert drawn.shape == (616, 616, 3)
    pixels = drawn.reshape(-1, 3)
    assert (np.ptp(pixels.astype(int), axis=1) > 50).any(), "strokes in colors"
    assert main([*arguments, "--against", "9", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    expected = eyeshot.attribute(run_folder, seven, unit=(7,), against=9)
    assert data == expected.to_dict()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--against", "9"), "--against without --pixels"),
        (("--pixels", "--against", "cat"), "unknown class 'cat'"),
        (("--pixels", "-o", "why.jpg"), "end the name in .png"),
        (("--pixels", "--layer", "conv1"), "no unit of conv1"),
        (("--pixels", "-o", "taken.png"), "taken.png: exists already; --force replaces it"),
    ],
)
def test_pixels_that_cannot_be_shown(
    run_folder: Path,
    seven: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    error: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken.png").write_text("mine")
    assert main(["explain", str(run_folder), str(seven), *arguments]) == 2
    assert Path("taken.png").read_text() == "mine"
    assert error in capsys.readouterr().err
