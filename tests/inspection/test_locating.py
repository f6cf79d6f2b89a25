"""NET: what can be named is found; what could run code unasked is refused and does not run."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import eyeshot
from eyeshot import runs
from eyeshot.cli import main
from eyeshot.errors import BadFile, BadValue, Unsupported
from eyeshot.frontends.programs import as_module
from eyeshot.frontends.pt2 import read_program
from eyeshot.frontends.torch import from_exported, graph_of
from eyeshot.inspection.locating import locate
from tests import zoo
from tests.runs.test_folders import make_config

NETS = """
import torch
from torch import nn

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        return self.norm(self.conv(x))

class Branches(nn.Module):
    def forward(self, x):
        if x.mean() > 0:
            return x
        return -x

def build():
    return Small()

def needs(channels):
    return Small()

made = Small()
number = 7
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "some_nets.py").write_text(NETS)
    (tmp_path / "broken_nets.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _silent(line: str) -> None:
    """Told that code will run."""


@pytest.mark.parametrize(
    "where", ["some_nets.py:Small", "some_nets.py:build", "some_nets:Small", "some_nets:made"]
)
def test_import_paths_are_found_and_announced(where: str, folder: Path) -> None:
    lines: list[str] = []
    located = locate(where, lines.append)
    assert type(located.net).__name__ == "Small"
    assert lines == [f"importing {where.partition(':')[0]} runs its code"]
    assert located.net is not None
    assert located.net.training == (where == "some_nets:made")  # what exists is left as it is


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nots.py:Small"], "nots.py: no such file"),
        (["some_nots:Small"], "unknown module 'some_nots'; did you mean 'some_nets'?"),
        (["some_nets.py:Smal"], "unknown name in some_nets.py 'Smal'; did you mean 'Small'?"),
        (["some_nets.py:number"], "some_nets.py:number is a int"),
        (["some_nets.py:needs"], "needs arguments (missing a required argument: 'channels')"),
        (["broken_nets.py:Net"], "No module named 'a_module_that_is_not_there'"),
        (["nowhere"], "nowhere: no such folder or file"),
        (["picture.png"], "picture.png: a file that holds no network"),
        (["some_nets.py"], "give its class or function, such as some_nets.py:Small"),
        (["net.pt"], "a pickled file runs whatever code is in it"),
        (["weights.safetensors"], "holds weights and no network"),
        (["net.pt2"], "net.pt2: no such file"),
        (["some_nets.py:Small", "-s", "3x8"], "2 numbers; this network takes channels x height"),
        (["some_nets.py:Small", "-s", "8"], "size 8 has 1 number;"),
        (
            ["some_nets.py:Small", "-s", "3x8xa"],
            "whole numbers with x between them, such as 3x224x224",
        ),
        (["some_nets.py:Small", "-s", "3, 8, 9"], "such as 3x8x9"),
        (["some_nets.py:Small", "-s", "3x8x0"], "give positive numbers"),
        (["some_nets.py:Small", "-s", "3x8x8", "--layer", "cons"], "did you mean 'conv'?"),
        (["some_nets.py:Small", "-s", "3x8x8", "--unit", "1,1"], "--unit without --layer"),
        (["some_nets.py:Small", "--layer", "conv", "-s", "3x8x8", "--unit", "9,0"], "outside"),
        (["some_nets.py:Branches"], "some_nets.py:16, `if x.mean() > 0:`"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = [] if "-s" in arguments else ["--size", "3x8x8"]
    (folder / "picture.png").write_bytes(b"")
    assert main(["inspect", *arguments, *size]) == 2
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if not line.startswith("importing ")]
    assert out == ""
    assert len(lines) == 1
    assert message in lines[0]


def test_the_command_prints_the_table_json_and_page(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["inspect", "some_nets.py:Small", "--size", "3x16x20"]
    assert main(command) == 0
    table = capsys.readouterr().out
    assert "Small on 3×16×20" in table
    assert "height and width: every size from 1 on" in table
    assert main([*command, "--json", "-o", "page.html"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["sizes"] == [[3, 16, 20]]
    assert "<h1>Small" in (folder / "page.html").read_text(encoding="utf-8")
    assert main([*command, "--layer", "conv", "--unit", "0,0"]) == 0
    assert capsys.readouterr().out == (
        "conv, unit (0, 0) sees [-1, 2) × [-1, 2), of which [0, 2) × [0, 2) lies in the picture "
        "(exact)\n"
    )


def test_a_run_folder_knows_its_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = make_config(size=(12, 16))
    config.save(tmp_path / runs.CONFIG)
    runs.save_tensors(tmp_path / runs.WEIGHTS, runs.build_net(config).state_dict())
    assert main(["inspect", str(tmp_path), "--json"]) == 0
    out, err = capsys.readouterr()
    data = json.loads(out)
    assert data["sizes"] == [[1, 12, 16]]
    assert data["accepted_sizes"][0]["words"] == "12 to 15 only"
    assert "runs its code" not in err
    assert main(["inspect", str(tmp_path), "--size", "1x13x16", "--layer", "conv1"]) == 0


class _Several(nn.Module):
    """Parts of a split, one of several outputs, a buffer, a computed constant."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.register_buffer("scale", torch.full((1, 4, 1, 1), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.conv(x).chunk(2, 1)
        largest, _ = torch.max(a, 1, keepdim=True)
        grid = torch.arange(4.0).view(1, 4, 1, 1)
        return torch.cat([a * b.sigmoid() * self.get_buffer("scale") + grid, largest], 1)


def _exported(net: nn.Module, size: tuple[int, ...], path: Path) -> Path:
    torch.export.save(torch.export.export(net.eval(), (torch.zeros(1, *size),)), path)
    return path


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (_Several, (1, 9, 9)),
        (lambda: zoo.UNet(2, 2), (1, 16, 16)),
        (zoo.se_net, (3, 16, 16)),
        (zoo.FPN, (3, 16, 16)),
    ],
    ids=["several", "unet", "squeeze-excite", "pyramid"],
)
def test_an_exported_program_gives_the_graph_of_its_network(
    make: Callable[[], nn.Module], size: tuple[int, ...], tmp_path: Path
) -> None:
    net = make()
    read = from_exported(read_program(_exported(net, size, tmp_path / "net.pt2")))
    traced = graph_of(net, size)
    assert list(read.nodes) == list(traced.nodes)
    for name in traced.nodes:
        assert read.nodes[name] == traced.nodes[name]
    assert read.parameters == traced.parameters
    for name, tensor in traced.tensors.items():
        assert torch.equal(read.tensors[name], tensor)


class _WritesAFile:
    """Unpickled, it would write the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self.path, "opened"))


def _rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes]) -> Path:
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target, "w") as after:
        for name in before.namelist():
            after.writestr(name, change(name, before.read(name)))
    return target


def test_a_pickle_inside_an_archive_is_never_opened(tmp_path: Path) -> None:
    proof = tmp_path / "proof.txt"
    evil = io.BytesIO()
    torch.save(_WritesAFile(proof), evil)

    def poison(name: str, content: bytes) -> bytes:
        return evil.getvalue() if "sample_inputs" in name else content

    net = _exported(_Several(), (1, 9, 9), tmp_path / "net.pt2")
    poisoned = _rewritten(net, tmp_path / "evil.pt2", poison)
    assert locate(str(poisoned), _silent).program is not None
    assert not proof.exists()
    # The proof proves something: torch's own loader opens it.
    with pytest.raises((RuntimeError, AssertionError, AttributeError, TypeError)):
        torch.export.load(poisoned)
    assert proof.exists()


def test_pickled_weights_inside_an_archive_are_refused(tmp_path: Path) -> None:
    proof = tmp_path / "proof.txt"

    def poison(name: str, content: bytes) -> bytes:
        if name.endswith("weights_config.json"):
            return content.replace(b'"use_pickle": false', b'"use_pickle": true')
        return pickle.dumps(_WritesAFile(proof)) if "/weight_" in name else content

    net = _exported(_Several(), (1, 9, 9), tmp_path / "net.pt2")
    with pytest.raises(BadFile, match="is pickled, and opening it could run any code"):
        locate(str(_rewritten(net, tmp_path / "evil.pt2", poison)), _silent)
    assert not proof.exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"torch.ops.aten.conv2d.default", b"torch.ops.mine.conv2d.default", "mine.conv2d"),
        (b"torch.ops.aten.sigmoid.default", b"os.system", "os.system"),
        (b"torch.ops.aten.sigmoid.default", b"torch.ops.aten.__class__.default", "__class__"),
        (b"torch.ops.aten.arange.default", b"torch.ops.aten.from_file.default", "from_file"),
    ],
)
def test_operators_that_are_not_pytorch_s_own_are_refused(
    old: bytes, new: bytes, message: str, tmp_path: Path
) -> None:
    def swap(name: str, content: bytes) -> bytes:
        if name.endswith("models/model.json"):
            assert old in content
            return content.replace(old, new)
        return content

    net = _exported(_Several(), (1, 9, 9), tmp_path / "net.pt2")
    with pytest.raises(Unsupported, match=message):
        read_program(_rewritten(net, tmp_path / "other.pt2", swap))


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    net = _exported(_Several(), (1, 9, 9), tmp_path / "net.pt2")
    content = net.read_bytes()
    for end in (0, 10, len(content) // 2, len(content) - 3):
        cut = tmp_path / "cut.pt2"
        cut.write_bytes(content[:end])
        with pytest.raises(BadFile, match=r"cut\.pt2"):
            read_program(cut)
    torch.save({"a": torch.zeros(1)}, tmp_path / "state.pt2")
    with pytest.raises(BadFile, match="no exported program"):
        read_program(tmp_path / "state.pt2")


def test_an_exported_program_keeps_its_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = str(_exported(_Several(), (1, 9, 9), tmp_path / "net.pt2"))
    assert main(["inspect", net, "--layer", "conv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["box"] == [[3, 6], [3, 6]]
    assert main(["inspect", net, "--size", "1x10x9"]) == 2
    assert "was exported for 1x9x9" in capsys.readouterr().err


class _BySize(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        scaled: Tensor = x / x.shape[-1]
        return scaled


def test_a_number_that_is_the_exported_size_is_refused_at_others(tmp_path: Path) -> None:
    net = locate(str(_exported(_BySize(), (1, 24, 24), tmp_path / "net.pt2")), print).program
    assert net is not None
    module, image = as_module(net), torch.rand(1, 1, 24, 24)
    torch.testing.assert_close(module(image), image / 24)
    with pytest.raises(BadValue, match="exported for 1x24x24 only: operator div has that size"):
        eyeshot.run(module, torch.rand(1, 30, 24))
    plain = locate(str(_exported(nn.ReLU(), (1, 24, 24), tmp_path / "relu.pt2")), print).program
    assert plain is not None
    with pytest.warns(UserWarning, match="was exported for 1x24x24 alone"):
        eyeshot.run(as_module(plain), torch.rand(1, 30, 24))
