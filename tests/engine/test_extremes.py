"""Samples and scores on another scale than was meant: noted, refused, or read as they should be."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import eyeshot
from eyeshot import images
from eyeshot.cli import main
from eyeshot.engine.heights import Extremes
from eyeshot.engine.job import make_job
from eyeshot.errors import BadValue
from eyeshot.runs import Recipe, Run, RunConfig
from tests.engine.law import noise, whole

RNG = np.random.default_rng(0)


class Mean(nn.Module):
    """The mean of a picture's channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(1, keepdim=True)


@pytest.mark.parametrize(
    ("largest", "bits", "dtype"),
    [
        *((200, 8, "u2"), (1023, 10, "u2"), (4095, 12, "u2"), (5000, 14, "u2")),
        *((4095, 12, "i2"), (255, 8, "i8"), (60000, 16, "u4"), (255, 8, "i4")),
    ],
)
def test_samples_of_few_bits_are_noted_and_white_is_the_cure(
    largest: int, bits: int, dtype: str
) -> None:
    picture = RNG.integers(0, largest + 1, (1, 20, 30)).astype(dtype)
    picture[0, 3, 4] = largest
    with pytest.warns(UserWarning, match=f"{bits}-bit samples use --white {2**bits - 1}"):
        eyeshot.run(Mean().eval(), picture)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaled = eyeshot.run(Mean().eval(), picture, white=2**bits - 1)
    np.testing.assert_allclose(scaled, picture / (2**bits - 1), rtol=1e-6)


@pytest.mark.parametrize(
    ("picture", "options"),
    [
        (np.full((1, 9, 9), 40000, np.uint16), {}),
        (np.full((1, 9, 9), 20000, np.int16), {}),
        (np.full((1, 9, 9), 4000, np.uint16), {"raw": True}),
        (np.full((1, 9, 9), 40, np.uint8), {}),
        (np.full((1, 9, 9), 0, np.uint16), {}),
    ],
)
def test_other_samples_are_not(picture: np.ndarray, options: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        eyeshot.run(Mean().eval(), picture, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"white": 0.0}, "--white 0"),
        ({"white": float("inf")}, "--white inf"),
        ({"white": 4095.0, "raw": True}, "--white with --raw"),
    ],
)
def test_a_white_that_cannot_be(options: Any, words: str) -> None:
    with pytest.raises(BadValue, match=words):
        eyeshot.run(Mean().eval(), np.zeros((1, 9, 9), np.uint16), **options)


def test_scores_that_are_clipped_are_noted() -> None:
    with pytest.warns(UserWarning, match=r"scores from -.* to .* were clipped to 0…1 for uint8"):
        eyeshot.run(Mean().eval(), 3 * noise(1, 20, 30), output_format="uint8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        eyeshot.run(Mean().eval(), torch.rand(1, 20, 30) * 1.4 - 0.2, output_format="uint8")


class Logarithm(nn.Module):
    """NaN for negative samples."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.log()


@pytest.mark.parametrize("form", ["uint8", "threshold:0.5"])
def test_scores_that_are_nan_are_noted(form: str) -> None:
    with pytest.warns(UserWarning, match="some scores are NaN"):
        eyeshot.run(Logarithm().eval(), noise(1, 20, 30), output_format=form)


def test_scores_of_classes_are_no_bytes() -> None:
    config = RunConfig(
        model="unet",
        data="a folder",
        fingerprint="0" * 16,
        classes=("ground", "cell"),
        channels=1,
        size=(16, 16),
        mean=(0.5,),
        std=(0.2,),
        recipe=Recipe(epochs=1, batch_size=8, learning_rate=0.01),
        task="segment",
    )
    run = Run(Path("run"), config, nn.Conv2d(1, 2, 1).eval())
    with pytest.raises(BadValue, match="uint8 of the scores of 2 classes; use argmax"):
        eyeshot.run(run, noise(1, 16, 16), output_format="uint8")
    assert eyeshot.run(run, noise(1, 16, 16).sigmoid(), output_format="argmax").shape == (1, 16, 16)


def test_two_channels_are_no_png(tmp_path: Path) -> None:
    net = nn.Conv2d(1, 2, 1).eval()
    with pytest.raises(BadValue, match="PNG takes the second for opacity"):
        eyeshot.run(net, noise(1, 9, 9), tmp_path / "a.png", output_format="uint8")
    assert not list(tmp_path.iterdir())
    eyeshot.run(
        nn.Identity().eval(), torch.rand(2, 9, 9), tmp_path / "b.png", output_format="uint8"
    )
    assert images.read(tmp_path / "b.png").shape == (9, 9, 2)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_gray_stored_as_color_is_read_as_one_channel(channels: int) -> None:
    gray = RNG.integers(0, 256, (20, 30, 1), dtype=np.uint8)
    stored = np.repeat(gray, channels, axis=2)
    if channels in (2, 4):
        stored[..., -1] = 255
    net = nn.Conv2d(1, 2, 3).eval()
    np.testing.assert_array_equal(eyeshot.run(net, stored), eyeshot.run(net, gray))
    stored[12, 7, 1] ^= 1
    with pytest.raises(BadValue, match=r"\(12, 7\) is (colored|transparent)"):
        eyeshot.run(net, stored, band=5)


def test_gray_stored_as_color_stays_color_for_a_network_that_takes_both() -> None:
    class Total(nn.Module):
        """A layer of the sum of all channels, however many there are."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.conv(x.sum(1, keepdim=True))
            return y

    gray = RNG.random((1, 20, 30), dtype=np.float32)
    stored = np.repeat(gray, 3, axis=0)
    (truth,) = whole(net := Total().eval(), torch.from_numpy(stored))
    np.testing.assert_allclose(eyeshot.run(net, stored), truth, atol=1e-5)


def test_an_opaque_alpha_channel_is_left_out(tmp_path: Path) -> None:
    colored = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    stored = np.dstack([colored, np.full((20, 30), 255, np.uint8)])
    images.write(tmp_path / "a.png", stored)
    net = nn.Conv2d(3, 2, 3).eval()
    found = eyeshot.run(net, tmp_path / "a.png", band=5)
    np.testing.assert_array_equal(found, eyeshot.run(net, colored, band=5))
    stored[12, 7, 3] = 254
    images.write(tmp_path / "b.png", stored)
    with pytest.raises(BadValue, match=r"\(12, 7\) is transparent"):
        eyeshot.run(net, tmp_path / "b.png", band=5)
    with pytest.raises(BadValue, match="has 4 channels"):  # an array says of no channel what it is
        eyeshot.run(net, stored)
    four = nn.Conv2d(4, 2, 3).eval()
    np.testing.assert_array_equal(eyeshot.run(four, tmp_path / "b.png"), eyeshot.run(four, stored))


def test_the_command_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.py").write_text("from torch import nn\nNet = lambda: nn.AvgPool2d(2)\n")
    images.write(tmp_path / "a.png", RNG.integers(0, 4096, (20, 30)).astype(np.uint16))
    ran = [
        "run",
        f"{tmp_path}/net.py:Net",
        f"{tmp_path}/a.png",
        "-o",
        f"{tmp_path}/a.npy",
        "--json",
    ]
    assert main(ran) == 0
    captured = capsys.readouterr()
    assert "use --white 4095" in captured.err
    assert "use --white 4095" in json.loads(captured.out)["notes"][0]
    assert main([*ran, "--force", "--white", "4095"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == []


def test_what_parts_of_a_run_have_found_adds_up() -> None:
    net = nn.Conv2d(1, 1, 1)
    job = make_job(net.eval(), [images.open_source(np.zeros((1, 8, 8), np.float32))])
    together, (out,) = Extremes(job), job.graph.outputs
    parts = [
        {"largest": {"x": 700}, "scores": {out: [-3.0, 1.0]}, "nan": ["a"], "infinite": ["b"]},
        {"largest": {"x": 90}, "scores": {out: [0.0, 9.0]}, "nan": ["c"], "infinite": ["d"]},
    ]
    for part in parts:
        together.merge(part)
    found = {"largest": {"x": 700}, "scores": {out: [-3.0, 9.0]}}
    assert together.found == {**found, "nan": ["a", "c"], "infinite": ["b", "d"]}
