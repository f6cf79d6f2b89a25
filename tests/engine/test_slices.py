"""A network of pictures over a stack: each slice by itself, written and resumed slice by slice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import zarr
from torch import nn

import eyeshot
from eyeshot.cli import main
from eyeshot.engine import executing
from eyeshot.engine.executing import RunReport, execute
from eyeshot.errors import BadValue
from tests.engine.law import noise, whole

NET = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 5)).eval()


class ChannelsLast(nn.Module):
    """Gives (N, H, W, C)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1)


def test_every_slice_is_a_picture_of_its_own() -> None:
    stack = noise(1, 4, 13, 11)
    found = eyeshot.run(NET, stack, per_slice=True, band=3)
    for place in range(4):
        (truth,) = whole(NET, stack[:, place])
        np.testing.assert_allclose(found[:, place], truth, atol=1e-6)


def test_forms_regions_and_files(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 256, (5, 16, 12), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "in.tif", stack, photometric="minisblack")
    out = tmp_path / "out.zarr"
    region = [(2, 9), (1, 5)]
    eyeshot.run(
        NET, tmp_path / "in.tif", out, per_slice=True, output_format="argmax", region=region
    )
    written = np.asarray(zarr.open_array(out, mode="r")[:]).reshape(5, 7, 4)
    for place in range(5):
        (truth,) = whole(NET, torch.from_numpy(stack[place][None] / np.float32(255)))
        assert np.array_equal(written[place], truth.argmax(0)[2:9, 1:5])


def test_gray_slices_that_are_stored_as_color() -> None:
    gray = np.random.default_rng(0).integers(0, 256, (3, 12, 10, 1), dtype=np.uint8)
    stored = np.repeat(gray, 3, axis=3)
    found = eyeshot.run(NET, stored, per_slice=True, layout="DHWC")
    np.testing.assert_array_equal(found, eyeshot.run(NET, gray, per_slice=True, layout="DHWC"))


def test_a_stack_is_resumed_at_the_slice_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "in.npy", noise(1, 5, 12, 10).numpy())
    source = tmp_path / "in.npy"
    done: list[int] = []

    def interrupted(*arguments: Any, **options: Any) -> RunReport:
        if len(done) == 3:
            raise RuntimeError("the machine stops")
        done.append(1)
        return execute(*arguments, **options)

    monkeypatch.setattr(executing, "execute", interrupted)
    with pytest.raises(RuntimeError, match="the machine stops"):
        eyeshot.run(NET, source, tmp_path / "out.npy", per_slice=True)
    done.clear()
    eyeshot.run(NET, source, tmp_path / "out.npy", per_slice=True, resume=True)
    assert len(done) == 2
    monkeypatch.undo()
    whole_run = eyeshot.run(NET, source, per_slice=True)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), whole_run)


@pytest.mark.parametrize(
    ("net", "image", "words"),
    [
        (NET, [noise(1, 3, 9, 9), noise(1, 3, 9, 9)], "--per-slice with 2 images"),
        (ChannelsLast().eval(), noise(1, 3, 9, 9), "which is not"),
    ],
)
def test_refusals(net: nn.Module, image: object, words: str) -> None:
    with pytest.raises(BadValue, match=words):
        eyeshot.run(net, image, per_slice=True)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.py").write_text("from torch import nn\nNet = lambda: nn.AvgPool2d(2)\n")
    stack = np.random.default_rng(0).integers(0, 256, (4, 8, 6), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "in.tif", stack, photometric="minisblack")
    ran = ["run", f"{tmp_path}/net.py:Net", f"{tmp_path}/in.tif", "-o", f"{tmp_path}/out.npy"]
    assert main([*ran, "--per-slice"]) == 0
    assert "slice by slice, 4 in all" in capsys.readouterr().err
    assert np.load(tmp_path / "out.npy").shape == (1, 4, 4, 3)


def test_the_opaque_alpha_of_a_stack_is_left_out(tmp_path: Path) -> None:
    colored = np.random.default_rng(0).integers(0, 256, (3, 9, 8, 3), dtype=np.uint8)
    stored = np.concatenate([colored, np.full((3, 9, 8, 1), 255, np.uint8)], axis=3)
    for name, stack in (("rgb.tif", colored), ("rgba.tif", stored)):
        extra = ["unassalpha"] if stack.shape[3] == 4 else None
        tifffile.imwrite(
            tmp_path / name, stack, photometric="rgb", extrasamples=extra, metadata={"axes": "ZYXS"}
        )
    net = nn.Conv2d(3, 2, 3).eval()
    expected = eyeshot.run(net, tmp_path / "rgb.tif", per_slice=True)
    np.testing.assert_array_equal(eyeshot.run(net, tmp_path / "rgba.tif", per_slice=True), expected)
