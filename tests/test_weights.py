"""Weights as people have them: under keys and prefixes, in training checkpoints, pickled whole."""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from eyeshot import runs
from eyeshot.cli import main
from eyeshot.errors import BadFile
from eyeshot.images import write


def make_net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.Linear(2, 3)))


class Whole(nn.Module):
    """A module of one's own, with a buffer that is not saved and one that is."""

    def __init__(self) -> None:
        super().__init__()
        self.body = make_net()
        self.register_buffer("grid", torch.rand(3), persistent=False)
        self.register_buffer("scale", torch.rand(1))
        self.activation = torch.nn.functional.relu  # a function in the pickle
        self.options = argparse.Namespace(width=2)


class Trap:
    """Leaves a file where its pickle is run."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({str(self.mark)!r}, 'w').close()",)


def trained(net: nn.Module | None = None) -> dict[str, Tensor]:
    """A state dict with numbers that no fresh network has."""
    state = (net or make_net()).state_dict()
    return {
        name: torch.arange(one.numel()).reshape(one.shape).to(one.dtype) + 1
        for name, one in state.items()
    }


def prefixed(prefix: str, state: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    return {prefix + name: one for name, one in (state or trained()).items()}


def check(path: Path, net: nn.Module | None = None) -> str:
    """Load, and see that every tensor is the trained one; the line that tells what was taken."""
    net = net or make_net()
    line = runs.load_weights(net, path)
    expected = trained(net)
    assert net.state_dict().keys() == expected.keys()
    assert all(torch.equal(one, expected[name]) for name, one in net.state_dict().items())
    assert "\n" not in line
    return line.removeprefix(f"{path}: ")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin", ".PT"])
def test_a_bare_state_dict(tmp_path: Path, suffix: str) -> None:
    torch.save(trained(), tmp_path / f"w{suffix}")
    assert check(tmp_path / f"w{suffix}") == "9 tensors"


@pytest.mark.parametrize("name", ["w.safetensors", "w.bin", "w.pt"])
def test_safetensors_are_known_by_their_content(tmp_path: Path, name: str) -> None:
    safetensors.torch.save_file(prefixed("module."), tmp_path / name)
    assert check(tmp_path / name) == "9 tensors; 'module.' taken off their names"


@pytest.mark.parametrize(
    "key",
    ["state_dict", "model", "model_state_dict", "net", "params", "params_ema", "network", "best"],
)
def test_a_state_dict_under_a_key(tmp_path: Path, key: str) -> None:
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
    torch.save({"epoch": 3, key: trained(), "optimizer": optimizer}, tmp_path / "w.pt")
    assert check(tmp_path / "w.pt") == f"9 tensors under {key!r}"


@pytest.mark.parametrize("prefix", ["module.", "model.", "net.", "_orig_mod.", "module.model."])
def test_names_that_begin_alike(tmp_path: Path, prefix: str) -> None:
    torch.save({"state_dict": prefixed(prefix)}, tmp_path / "w.ckpt")
    assert check(tmp_path / "w.ckpt") == (
        f"9 tensors under 'state_dict'; {prefix!r} taken off their names"
    )


def test_names_of_a_compiled_part_and_of_a_compiled_network(tmp_path: Path) -> None:
    state = {name.replace("2.0.", "2._orig_mod.0."): one for name, one in trained().items()}
    torch.save(state, tmp_path / "w.pt")
    assert check(tmp_path / "w.pt") == "9 tensors; '_orig_mod.' taken off their names"
    torch.save(trained(), tmp_path / "bare.pt")
    compiled = torch.compile(make_net())
    assert isinstance(compiled, nn.Module)
    assert check(tmp_path / "bare.pt", compiled) == "9 tensors"


def test_a_lightning_checkpoint(tmp_path: Path) -> None:
    state = {**prefixed("model."), "criterion.weight": torch.ones(3)}
    content = {
        "epoch": 4,
        "pytorch-lightning_version": "2.5",
        "state_dict": state,
        "hyper_parameters": defaultdict(
            argparse.Namespace, {"options": argparse.Namespace(lr=0.1)}
        ),
        "best": np.float64(0.5),
        "folder": Path("runs"),
    }
    torch.save(content, tmp_path / "last.ckpt")
    line = check(tmp_path / "last.ckpt")
    assert line.startswith(
        "9 tensors under 'state_dict'; 'model.' taken off their names; 1 left out: "
        "'criterion.weight'; "
    )
    assert "argparse.Namespace" in line
    assert "not made" in line


def test_a_network_whose_own_names_begin_alike(tmp_path: Path) -> None:
    torch.save(trained(), tmp_path / "w.pt")
    around = nn.ModuleDict({"net": make_net()})
    assert check(tmp_path / "w.pt", around) == "9 tensors; 'net.' put before their names"


def test_a_state_dict_for_each_part(tmp_path: Path) -> None:
    parts = nn.ModuleDict({"encoder": make_net(), "decoder": nn.Linear(2, 2)})
    content = {name: trained(part) for name, part in parts.items()}
    torch.save({**content, "optimizer": {"a": torch.ones(2)}}, tmp_path / "w.pt")
    assert check(tmp_path / "w.pt", parts) == "11 tensors"


def test_averaged_weights_are_preferred_and_said(tmp_path: Path) -> None:
    random = {name: one * 0 for name, one in trained().items()}
    torch.save({"params": random, "params_ema": trained()}, tmp_path / "w.pth")
    assert check(tmp_path / "w.pth") == "9 tensors under 'params_ema'; 'params.' would fit too"


def test_two_sets_that_fit_are_not_chosen_from(tmp_path: Path) -> None:
    torch.save({"student": trained(), "teacher": trained()}, tmp_path / "w.pth")
    with pytest.raises(BadFile, match=r"2 sets of weights .* under 'student.', 'teacher.'; save"):
        runs.load_weights(make_net(), tmp_path / "w.pth")
    state = trained()
    torch.save({"model": state, "net": state}, tmp_path / "same.pth")  # one set, under two names
    assert check(tmp_path / "same.pth").startswith("9 tensors under 'model'")


def test_a_file_of_an_old_pytorch_has_no_counters(tmp_path: Path) -> None:
    state = {name: one for name, one in trained().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "w.pt")
    net = make_net()
    assert "num_batches_tracked are 0" in runs.load_weights(net, tmp_path / "w.pt")
    assert torch.equal(net.state_dict()["1.running_var"], state["1.running_var"])
    assert int(net.state_dict()["1.num_batches_tracked"]) == 0


def test_what_does_not_fit_is_listed_and_nothing_is_loaded(tmp_path: Path) -> None:
    state = prefixed("module.")
    state["module.2.0.weight"] = torch.ones(10, 2)
    state["module.3.weight"] = state.pop("module.0.bias")
    torch.save({"model": state}, tmp_path / "w.pt")
    net = make_net()
    before = {name: one.clone() for name, one in net.state_dict().items()}
    with pytest.raises(BadFile) as caught:
        runs.load_weights(net, tmp_path / "w.pt")
    assert str(caught.value) == (
        f"{tmp_path / 'w.pt'} under 'model.module.': does not fit Sequential: 1 missing: '0.bias'; "
        "1 without a place in the network: 'module.3.weight'; 1 of another shape: '2.0.weight' has "
        "shape (10, 2), and the network needs (3, 2); build the network as it was in "
        "training; to load only the parts that fit, use strict=False in your own code"
    )
    assert all(torch.equal(one, before[name]) for name, one in net.state_dict().items())


def test_another_number_of_classes_has_its_cure(tmp_path: Path) -> None:
    state = {**trained(), "2.0.weight": torch.ones(10, 2), "2.0.bias": torch.ones(10)}
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(BadFile, match="build the network with the sizes that the file's shapes"):
        runs.load_weights(make_net(), tmp_path / "w.pt")
    torch.save(nn.LSTM(2, 2).state_dict(), tmp_path / "w.pt")
    with pytest.raises(BadFile, match="this file is for another network"):
        runs.load_weights(make_net(), tmp_path / "w.pt")


def test_a_pickled_module_gives_its_tensors_by_name(tmp_path: Path) -> None:
    net = Whole()
    net.load_state_dict(trained(net))
    torch.save(net, tmp_path / "model.pth")
    line = check(tmp_path / "model.pth", Whole())
    assert line.startswith("10 tensors of a pickled ")
    assert line.endswith("test_weights.Whole, whose code was not run")
    torch.save({"epoch": 1, "ema": nn.DataParallel(net)}, tmp_path / "model.pth")
    assert "'module.' taken off" in check(tmp_path / "model.pth", Whole())


def test_a_class_that_is_gone_is_not_needed(tmp_path: Path) -> None:
    class Gone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = make_net()

    Gone.__module__, Gone.__qualname__ = "__main__", "Gone"
    import __main__

    __main__.Gone = Gone
    net = Gone()
    net.body.load_state_dict(trained())
    try:
        torch.save(net, tmp_path / "model.pt")
    finally:
        del __main__.Gone
    assert check(tmp_path / "model.pt") == (
        "9 tensors of a pickled __main__.Gone, whose code was not run; 'body.' taken off "
        "their names"
    )


def test_no_code_of_a_file_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "was-here"
    allowed = torch.serialization.get_safe_globals()
    torch.save({"net": trained(), "trap": Trap(mark)}, tmp_path / "w.pt")
    assert "builtins.exec" in check(tmp_path / "w.pt")
    net = Whole()
    net.trap = Trap(mark)  # type: ignore[assignment]
    net.load_state_dict(trained(net))
    torch.save(net, tmp_path / "w.pt")
    check(tmp_path / "w.pt", Whole())
    assert not mark.exists()
    assert set(torch.serialization.get_safe_globals()) == set(allowed)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_torchscript_program_has_its_cure(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(make_net()), tmp_path / "w.pt")
    with pytest.raises(BadFile, match=r"a TorchScript program; save torch\.jit\.load"):
        runs.load_weights(make_net(), tmp_path / "w.pt")
    with pytest.raises(BadFile, match="a folder, and no file of weights; name the file in it"):
        runs.load_weights(make_net(), tmp_path)


def test_the_command_line_says_what_was_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text("from torch import nn\n\ndef net():\n    return nn.Conv2d(1, 2, 3)\n")
    torch.save({"state_dict": prefixed("model.", trained(nn.Conv2d(1, 2, 3)))}, "w.ckpt")
    write(Path("p.png"), np.full((9, 8), 90, np.uint8))
    reported = "w.ckpt: 2 tensors under 'state_dict'; 'model.' taken off their names"
    for command in (
        ["inspect", "net.py:net", "--size", "1x9x8"],
        ["see", "net.py:net", "p.png"],
        ["explain", "net.py:net", "p.png", "--layer", "conv2d", "--unit", "0,1,1"],
        ["run", "net.py:net", "p.png", "-o", "out.npy"],
    ):
        assert main([*command, "--weights", "w.ckpt"]) == 0, command
        assert reported in capsys.readouterr().err.replace("\n", " ")
    expected = nn.Conv2d(1, 2, 3)
    expected.load_state_dict(trained(expected))
    x = torch.full((1, 1, 9, 8), 90 / 255)
    torch.testing.assert_close(torch.from_numpy(np.load("out.npy")), expected(x)[0].detach())
