"""A ``.pt2`` file is a network in every command and function, with the numbers of its module."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import eyeshot
from eyeshot.cli import main
from eyeshot.inspection.locating import locate_runnable


class _Net(nn.Module):
    """Two scales, a norm, a resize, and a map as the answer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.down, self.last = nn.Conv2d(6, 6, 3, stride=2, padding=1), nn.Conv2d(12, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x)).relu()
        up = nn.functional.interpolate(self.down(x), scale_factor=2, mode="bilinear")
        y: Tensor = self.last(torch.cat([x, up], 1))
        return y


class _Digits(nn.Module):
    """A classifier of 12 x 12 pixels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(100, 10)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(nn.functional.max_pool2d(self.conv(x).relu(), 2).flatten(1))
        return scores


@pytest.fixture(scope="module", params=["open", "fixed"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network exported for every even size, or for one; both run at others."""
    path = tmp_path_factory.mktemp("pt2") / f"{request.param}.pt2"
    sides = {axis: 2 * Dim(f"half{axis}", min=4, max=512) for axis in (2, 3)}
    shapes = (sides,) if request.param == "open" else None
    image = torch.rand(1, 3, 16, 24)
    program = torch.export.export(_Net().eval(), (image,), dynamic_shapes=shapes, strict=False)
    torch.export.save(program, path)
    return path


def _located(file: Path) -> nn.Module:
    """The network of a file, as commands find it."""
    net = locate_runnable(str(file), lambda line: None)
    assert isinstance(net, nn.Module)
    return net


def _picture(path: Path) -> Tensor:
    """A picture of 38 x 44 in a file, and as the network takes it."""
    pixels = np.random.default_rng(0).integers(0, 256, (38, 44, 3), dtype=np.uint8)
    eyeshot.images.write(path, pixels)
    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / 255)


def test_every_function_takes_it(file: Path) -> None:
    net, own, image = _located(file), _Net().eval(), torch.randn(3, 38, 44)
    with torch.no_grad():
        expected = own(image[None])[0].numpy()
        inner = own.first(image[None])[0]
    largest = np.abs(expected).max()
    assert np.abs(eyeshot.run(net, image, band=7) - expected).max() < 1e-5 * largest
    inspection = eyeshot.inspect(net, (3, 38, 44))
    assert inspection.total.parameters == sum(one.numel() for one in own.parameters())
    field = eyeshot.receptive_field(net, (3, 38, 44))
    assert field.seen.box == eyeshot.receptive_field(own, (3, 38, 44)).seen.box
    rows = eyeshot.stream(net, 44, channels=3)
    actual = [rows.push(image[:, top : top + 5].numpy()) for top in range(0, 38, 5)]
    joined = np.concatenate([*actual, rows.finish()], 1)
    assert np.abs(joined - expected).max() < 1e-5 * largest
    seen = eyeshot.see(net, image)
    assert np.abs(np.asarray(seen["first"]) - inner.numpy()).max() < 1e-5
    trace = eyeshot.explain(net, image, layer="first", unit=(2, 5, 7))
    assert abs(trace.total - float(inner[2, 5, 7])) < 1e-5
    assert eyeshot.audit(net, tile=24, overlap=16, size=(3, 48, 48)).remedy is not None


def test_every_command_takes_it(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "picture.png"
    image, own = _picture(picture), _Net().eval()
    with torch.no_grad():
        expected, inner = own(image[None])[0].numpy(), own.first(image[None])[0]
    out = tmp_path / "out.npy"
    assert main(["run", str(file), str(picture), "-o", str(out)]) == 0
    assert np.abs(np.load(out) - expected).max() < 1e-5 * np.abs(expected).max()
    assert main(["inspect", str(file), "--size", "3x38x44", "--json"]) == 0
    capsys.readouterr()
    assert main(["see", str(file), str(picture), "-o", str(tmp_path / "see.png")]) == 0
    assert (tmp_path / "see.png").stat().st_size > 1000
    asked: list[Any] = ["explain", file, picture, "--layer", "first", "--unit", "2,5,7", "--json"]
    capsys.readouterr()
    assert main([str(one) for one in asked]) == 0
    reported = json.loads(capsys.readouterr().out)
    assert abs(reported["total"] - float(inner[2, 5, 7])) < 1e-5


def test_a_classifier_of_it_is_made_dense(tmp_path: Path) -> None:
    own = _Digits().eval()
    program = torch.export.export(own, (torch.rand(1, 1, 12, 12),), strict=False)
    torch.export.save(program, tmp_path / "digits.pt2")
    net = _located(tmp_path / "digits.pt2")
    dense = eyeshot.dense(net, (1, 12, 12))
    image = torch.randn(1, 1, 31, 27)
    with torch.no_grad():
        scores, crop = dense(image), own(image[:, :, 6:18, 8:20])
    assert (scores[0, :, 3, 4] - crop[0]).abs().max() < 1e-5 * crop.abs().max()
