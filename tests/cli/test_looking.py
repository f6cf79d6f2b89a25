"""``see`` and ``explain`` on a network of one's own, with its weights, over one axis and two."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from eyeshot import images
from eyeshot.cli import main
from eyeshot.language import scaled

NET = """
import torch
from torch import nn

def net():
    return nn.Sequential(nn.{conv}({channels}, 4, 3, padding=1), nn.ReLU())
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _made(conv: str, channels: int) -> nn.Module:
    """The file, its weights beside it, and the same network."""
    Path("net.py").write_text(NET.format(conv=conv, channels=channels))
    net: nn.Module = nn.Sequential(getattr(nn, conv)(channels, 4, 3, padding=1), nn.ReLU())
    torch.save(net.state_dict(), "w.pt")
    return net


def _explained(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[float, str]:
    asked = ["explain", "net.py:net", *arguments, "--layer", "0", "--json"]
    assert main(asked) == 0
    out, err = capsys.readouterr()
    return json.loads(out)["total"], err


def test_a_picture_is_explained_with_given_weights(capsys: pytest.CaptureFixture[str]) -> None:
    net = _made("Conv2d", 3)
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    images.write(Path("p.png"), picture)
    x = torch.from_numpy(picture / 255).float().permute(2, 0, 1)[None]
    total, err = _explained(capsys, "p.png", "--unit", "1,4,3", "--weights", "w.pt")
    assert total == pytest.approx(float(net[0](x)[0, 1, 4, 3].detach()), abs=1e-5)  # type: ignore[index]
    assert "p.png: uint8 samples, scaled to 0 … 1 and nothing else" in err
    assert "WARNING" not in err
    assert (
        "WARNING: all 112 weights of net.py:net are random"
        in _explained(capsys, "p.png", "--unit", "1,4,3")[1]
    )


def test_a_signal_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    net = _made("Conv1d", 2)
    signal = np.random.default_rng(0).random((2, 50), dtype=np.float32)
    np.save("s.npy", signal)
    total, err = _explained(capsys, "s.npy", "--unit", "3,49", "--weights", "w.pt")
    assert "s.npy: float32 samples, taken as they are" in err
    expected = net[0](torch.from_numpy(signal)[None])[0, 3, 49]  # type: ignore[index]
    assert total == pytest.approx(float(expected.detach()), abs=1e-5)


@pytest.mark.parametrize(("channels", "note"), [(1, "made gray"), (3, "")])
def test_see_shows_every_layer_of_a_network_of_ones_own(
    channels: int, note: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _made("Conv2d", channels)
    images.write(Path("p.png"), np.full((9, 7, 3), 128, np.uint8))
    assert main(["see", "net.py:net", "p.png", "--weights", "w.pt"]) == 0
    out, err = capsys.readouterr()
    assert "relu" in out
    assert "4 x 9 x 7" in out
    assert note in err
    assert main(["see", "net.py:net", "p.png", "--field", "0:4,3", "--weights", "w.pt"]) == 0
    assert "0, unit (4, 3) sees [3, 6) × [2, 5) (exact)" in capsys.readouterr().out


def test_a_name_like_an_operation_is_a_file_where_a_colon_follows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["explain", "conv.py:Net", "p.png", "--layer", "0", "--unit", "0,0,0"]) == 2
    assert "conv.py: no such file" in capsys.readouterr().err


@pytest.mark.parametrize("stored", [2, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_opaque_alpha_channel_is_left_out(
    capsys: pytest.CaptureFixture[str], stored: int, channels: int
) -> None:
    net = _made("Conv2d", channels)
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, stored), dtype=np.uint8)
    picture[..., -1] = 255
    images.write(Path("p.png"), picture)
    samples = picture[..., :-1] / 255
    if channels == 1 and stored == 4:
        samples = samples @ np.array([[0.299], [0.587], [0.114]])
    x = torch.from_numpy(np.broadcast_to(samples, (9, 7, channels)).copy()).float()
    total, err = _explained(capsys, "p.png", "--unit", "1,4,3", "--weights", "w.pt")
    expected = net[0](x.permute(2, 0, 1)[None])[0, 1, 4, 3]  # type: ignore[index]
    assert total == pytest.approx(float(expected.detach()), abs=1e-5)
    assert "p.png: the alpha channel is left out: it is opaque" in err
    picture[3, 4, -1] = 254
    images.write(Path("p.png"), picture)
    assert main(["see", "net.py:net", "p.png"]) == 2
    assert "p.png: the pixel at (3, 4) is transparent" in capsys.readouterr().err


def test_without_a_size_one_with_the_networks_channels_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _made("Conv1d", 5)
    assert main(["inspect", "net.py:net"]) == 2
    assert "such as --size 5x16000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0"),
        (831, "831"),
        (999, "999"),
        (999_600, "1.00 M"),
        (24_500, "24.5 k"),
        (1_017_000, "1.02 M"),
        (9_996_000, "10.0 M"),
        (7_430e9, "7,430 G"),
    ],
)
def test_a_count_has_three_digits_and_a_prefix(count: float, words: str) -> None:
    assert scaled(count) == words
