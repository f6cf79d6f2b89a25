"""`eyeshot see`: figures, a page, a sheet of maps; mistakes in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eyeshot import nets, runs
from eyeshot.cli import main


@pytest.fixture(scope="module")
def color_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a folder of two color classes, with weights as they were drawn."""
    folder = tmp_path_factory.mktemp("run")
    config = runs.RunConfig(
        model="digit_cnn",
        data="folder",
        fingerprint="none",
        classes=("red", "blue"),
        channels=3,
        size=(12, 16),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        recipe=runs.Recipe(epochs=1, batch_size=2, learning_rate=0.01),
    )
    torch.manual_seed(0)
    net = nets.digit_cnn(in_channels=3, classes=2, size=(12, 16))
    config.save(folder / "config.yaml")
    runs.save_tensors(folder / "model.safetensors", net.state_dict())
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "red.png"
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_figures_of_the_layers(
    color_run: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["see", str(color_run), str(picture), "--json"]) == 0
    out, err = capsys.readouterr()
    message = json.loads(out)
    assert message["input"] == [3, 12, 16]
    assert [layer["name"] for layer in message["layers"]][:3] == ["conv1", "relu1", "pool1"]
    assert "stretched from 20×30 to 12×16" in err
    assert main(["see", str(color_run), str(picture), "--layer", "pool2"]) == 0
    assert "32 x 3 x 4" in capsys.readouterr().out


def test_figures_in_chinese(
    digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.eye(28, dtype=np.uint8) * 255).save(tmp_path / "one.png")
    words = ["see", str(digits_run), str(tmp_path / "one.png"), "--layer", "relu1"]
    assert main([*words, "--lang", "zh"]) == 0
    assert "1 幅图像的特征图，共 1 层：\n" in capsys.readouterr().out
    assert main(words) == 0
    assert "Features of 1 image(s), 1 layers:\n" in capsys.readouterr().out


def test_a_page_and_a_picture(color_run: Path, picture: Path, tmp_path: Path) -> None:
    page, maps = tmp_path / "page.html", tmp_path / "maps.png"
    assert main(["see", str(color_run), str(picture), "-o", str(page)]) == 0
    text = page.read_text()
    assert text.count("<img ") == 10
    assert text.count('src="data:image/png;base64,') == 10
    assert "http" not in text
    shared = ["-o", str(maps), "--range", "shared"]
    assert main(["see", str(color_run), str(picture), *shared]) == 0
    assert np.asarray(Image.open(maps)).std() > 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer", "conv_1"], "did you mean 'conv1'"),
        (["--range", "owns"], "did you mean 'own'"),
        (["-o", "maps.bmp"], "end the name in .png or .html"),
    ],
)
def test_mistakes(
    color_run: Path,
    picture: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["see", str(color_run), str(picture), *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


def test_a_network_that_cannot_be_traced_is_seen_and_that_is_said_in_one_line(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "net.py"
    source.write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv = torch.nn.Conv2d(3, 2, 3)\n"
        "    def forward(self, x):\n"
        "        y = self.conv(x)\n"
        "        return y if y.sum() > 0 else -y\n"
    )
    assert main(["see", f"{source}:Net", str(picture)]) == 0
    out, err = capsys.readouterr()
    assert "conv" in out
    (said,) = [line for line in err.splitlines() if "found by hooks" in line]
    assert "net.py:8" in said
