"""A file of one's own: what fails in it is one line, and what it defines by then is taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from eyeshot import runs
from eyeshot.cli import main

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return {result}
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.chdir(tmp_path)

    def file(ending: str = "", *, result: str = "self.conv(x)", name: str = "net.py") -> None:
        Path(name).write_text(NET.format(result=result) + ending)

    return file


def _inspect(capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str, list[str]]:
    code = main(["inspect", "net.py:Net", "--size", "3x8x8", *more])
    out, err = capsys.readouterr()
    return code, out, [line for line in err.splitlines() if "runs its code" not in line]


@pytest.mark.parametrize(
    ("ending", "line"),
    [
        ("x = torch.zeros(1, 5, 8, 8)\nNet()(x)\n", "net.py:14, `Net()(x)`: RuntimeError: "),
        ("print(undefined)\n", "net.py:13, `print(undefined)`: NameError: name 'undefined'"),
        ("import sys\nsys.exit(2)\n", "net.py:14, `sys.exit(2)`: SystemExit: 2"),
    ],
)
def test_a_network_is_used_although_the_last_lines_fail(
    ending: str,
    line: str,
    write: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    write("\n" + ending)
    code, out, lines = _inspect(capsys)
    assert code == 0
    assert "conv2d" in out
    assert len(lines) == 1
    assert lines[0].startswith(line)
    assert lines[0].endswith("; Net is taken as it is at that line")


def test_a_file_that_fails_before_the_network_is_there_names_its_line(
    write: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("net.py").write_text("import torch\nx = tensor(1)\n")
    assert _inspect(capsys) == (
        2,
        "",
        [
            "eyeshot: importing net.py failed: net.py:2, `x = tensor(1)`: NameError: name 'tensor' "
            "is not defined; correct that line"
        ],
    )
    Path("net.py").write_text("class Net(:\n    pass\n")
    code, _, lines = _inspect(capsys)
    assert code == 2
    assert lines[0].startswith("eyeshot: importing net.py failed: net.py:1, `class Net(:`: Syntax")


@pytest.mark.parametrize(
    ("result", "error"),
    [
        ("self.conv(x) + undefined", "NameError: name 'undefined' is not defined"),
        ("self.conv(x).foo()", "AttributeError: 'Tensor' object has no attribute 'foo'"),
    ],
)
@pytest.mark.parametrize("command", ["inspect", "run"])
def test_a_mistake_in_forward_is_one_line_with_its_place(
    command: str,
    result: str,
    error: str,
    write: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(result=result)
    np.save("image.npy", np.zeros((3, 8, 8), np.float32))
    rest = ["--size", "3x8x8"] if command == "inspect" else ["image.npy", "-o", "out.npy"]
    assert main([command, "net.py:Net", *rest]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"eyeshot: Net cannot be traced: net.py:11, `return {result}`: {error};")


def _run(capsys: pytest.CaptureFixture[str], *more: str) -> str:
    assert main(["run", "net.py:Net", "image.npy", "-o", "out.npy", "--force", *more]) == 0
    return capsys.readouterr().err


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_weights_are_loaded_into_a_network_of_ones_own(
    kind: str, write: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    write()
    image = torch.rand(3, 8, 8)
    np.save("image.npy", image.numpy())
    conv = torch.nn.Conv2d(3, 4, 3, padding=1)
    state = {f"conv.{name}": tensor for name, tensor in conv.state_dict().items()}
    if kind == "pt":
        torch.save(state, "w.pt")
    else:
        runs.save_tensors(Path("w.safetensors"), state)
    assert "WARNING" not in _run(capsys, "--weights", f"w.{kind}")
    expected = conv(image[None])[0].detach().numpy()
    assert np.allclose(np.load("out.npy"), expected, atol=1e-6)


def test_random_weights_are_named_loudly(
    write: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("image.npy", np.zeros((3, 8, 8), np.float32))
    write()
    assert "WARNING: all 112 weights of net.py:Net are random numbers: this is an unt" in _run(
        capsys
    )
    # A seed of one's own makes the same random numbers each time.
    Path("net.py").write_text(NET.format(result="self.conv(x)").replace("super", SEEDED))
    assert "WARNING: all 112 weights" in _run(capsys)
    Path("net.py").write_text(NET.format(result="self.conv(x)") + LOADED)
    assert "WARNING: 4 of 112 weights" in _run(capsys)
    Path("net.py").write_text(NET.format(result="x").replace("nn.Conv2d(3, 4, 3, padding=1)", "0"))
    assert "WARNING" not in _run(capsys)
    Path("net.py").write_text(NET.format(result="self.conv(x)") + ONCE)
    assert "NOTE: whether the weights of net.py:Net are random cannot be said: made a second" in (
        _run(capsys)
    )


SEEDED = "torch.manual_seed(0); super"
LOADED = """
class Net(Net):
    def __init__(self):
        super().__init__()
        self.conv.weight.data.fill_(1)
"""
ONCE = """
made = []
class Net(Net):
    def __init__(self):
        assert not made
        made.append(1)
        super().__init__()
"""


def test_weights_for_what_has_its_own_are_refused(
    tmp_path: Path, write: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(tmp_path), "--weights", "w.pt"]) == 2
    assert "a run folder has its own; leave --weights out" in capsys.readouterr().err
    write()
    torch.save({"conv.weight": torch.zeros(4, 3, 3, 3)}, "w.pt")
    code, out, lines = _inspect(capsys, "--weights", "w.pt", "--json")
    assert (code, out) == (2, "")
    assert "w.pt: does not fit Net: 1 missing: 'conv.bias'" in lines[0]
    torch.save({"conv.weight": torch.zeros(4, 3, 3, 3), "conv.bias": torch.zeros(4)}, "w.pt")
    code, out, _ = _inspect(capsys, "--weights", "w.pt", "--json")
    assert code == 0
    assert json.loads(out)["total"]["parameters"] == 112


def test_the_verdict_comes_first_and_is_the_exit_code(
    write: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    write(result="self.conv(self.conv(x))")
    code, out, errors = _inspect(capsys, "-o", "page.html")
    assert (code, errors) == (1, ["page.html: written"])
    lines = [line.rstrip() for line in out.splitlines()]
    assert lines[0].startswith("Net on 3×8×8 does not run at this size: 1 error")
    assert lines.index("Findings") < lines.index("Layers")
    assert "conv#2" in out
    page = Path("page.html").read_text()
    assert "does not run at this size: 1 error" in page
    assert "→ conv#2: in_channels=4" in page  # code is not made to begin with a capital
    write()
    code, out, _ = _inspect(capsys)
    assert code == 0
    assert out.startswith("Net on 3×8×8 runs at this size: ")
