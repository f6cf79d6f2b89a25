"""One page of a stack, chosen by the same options in every command that reads one picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from eyeshot import images, nets, runs
from eyeshot.cli import main

COMMANDS = (
    ["predict", "run", "{}"],
    ["see", "run", "{}"],
    ["explain", "run", "{}", "--layer", "conv1", "--unit", "1,3,3"],
    ["see", "net.py:net", "{}"],
    ["explain", "net.py:net", "{}", "--layer", "conv2d", "--unit", "1,3,3"],
)
NET = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Conv2d({channels}, 4, 3)
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of gray pictures, a network of one's own, and stacks of three gray pages."""
    monkeypatch.chdir(tmp_path)
    config = runs.RunConfig(
        model="digit_cnn",
        data="folder",
        fingerprint="none",
        classes=("light", "dark"),
        channels=1,
        size=(12, 16),
        mean=(0.5,),
        std=(0.25,),
        recipe=runs.Recipe(epochs=1, batch_size=2, learning_rate=0.01),
    )
    torch.manual_seed(0)
    net = nets.digit_cnn(in_channels=1, classes=2, size=(12, 16))
    Path("run").mkdir()
    config.save(Path("run/config.yaml"))
    runs.save_tensors(Path("run/model.safetensors"), net.state_dict())
    Path("net.py").write_text(NET.format(channels=1))
    pages = np.random.default_rng(0).integers(0, 256, (3, 12, 16), np.uint8)
    tifffile.imwrite("stack.tif", pages, photometric="minisblack", metadata=None)
    frames = [Image.fromarray(page) for page in pages]
    frames[0].save("frames.png", save_all=True, append_images=frames[1:])
    images.write(Path("page.png"), pages[2])


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_chosen_page_is_as_if_it_were_alone(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    answers = []
    for file, *chosen in (
        ["page.png"],
        ["stack.tif", "--index", "I=2"],
        ["frames.png", "--series", "2"],
    ):
        asked = [file if word == "{}" else word for word in command]
        assert main([*asked, *chosen, "--json"]) == 0, capsys.readouterr().err
        answers.append(json.loads(capsys.readouterr().out.replace(file, "FILE")))
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_of_a_stack_without_a_choice_it_is_said_how_to_choose(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.replace("{}", "stack.tif") for word in command]) == 2
    reported = capsys.readouterr().err
    assert "stack.tif: " in reported
    assert "choose one by --index, I=0 to I=2" in reported.replace("\n", " ")
    assert main([word.replace("{}", "frames.png") for word in command]) == 0
    assert (
        "frames.png: holds 3 frames; the first is read, --series N reads N"
        in capsys.readouterr().err
    )


def test_pages_may_be_the_channels_of_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    Path("net.py").write_text(NET.format(channels=3))
    assert main(["see", "net.py:net", "stack.tif"]) == 0
    assert (
        "stack.tif: its 3 pages (axis I) are read as channels of one picture; --index I=N reads "
        "page N" in capsys.readouterr().err
    )


def test_folders_have_no_such_option_and_say_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    page = images.read(Path("page.png"))
    for name in ("light", "dark"):
        Path("data", name).mkdir(parents=True)
        for number in range(3):
            images.write(Path("data", name, f"{number}.png"), page + np.uint8(number))
    Path("frames.png").rename("data/dark/frames.png")
    assert main(["train", "data", "--check"]) == 0
    assert "frames.png: holds 3 frames; the first is read\n" in capsys.readouterr().err
    Path("stack.tif").rename("data/light/stack.tif")
    assert main(["train", "data", "--check"]) == 2
    assert (
        "data/light/stack.tif: holds 3 pages (axes IYX), and one picture is read; store the page "
        "in a separate file, such as with eyeshot filter FILE -k identity --index "
        "I=0 -o PAGE.png" in capsys.readouterr().out
    )
    assert main(["evaluate", "run", "--data", "data"]) == 2
    assert "-k identity --index I=0" in capsys.readouterr().err.replace("\n", " ")
    stack = ["filter", "data/light/stack.tif", "-k", "identity", "--index", "I=2", "-o", "p.png"]
    assert main(stack) == 0
    np.testing.assert_array_equal(images.read(Path("p.png")), page)
