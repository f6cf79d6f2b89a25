"""``eyeshot run``: the file it writes, the plan it prints, and every way to ask it wrongly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from tests.engine.law import noise, whole
from tests.engine.runner import network

from eyeshot import images
from eyeshot.cli import main

NET = """
from tests.engine.runner import network


def build():
    return network()
"""


@pytest.fixture
def net(tmp_path: Path) -> str:
    file = tmp_path / "made.py"
    file.write_text(NET)
    return f"{file}:build"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.npy"
    np.save(path, noise(1, 64, 48).numpy())
    return path


def run(*arguments: object) -> int:
    return main(["run", *map(str, arguments)])


def test_it_writes_the_whole_pass(
    net: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.npy"
    assert run(net, image, "-o", out, "--band", 16) == 0
    (truth,) = whole(network(), noise(1, 64, 48))
    np.testing.assert_allclose(np.load(out), truth, atol=1e-5 * np.abs(truth).max())
    captured = capsys.readouterr()
    assert captured.out == f"{out}\n"
    assert "float32 samples as they are" in captured.err
    assert "bands of 16 rows" in captured.err


def test_a_size_that_is_not_taken_can_be_padded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "made.py"
    file.write_text("from torch import nn\nNet = lambda: nn.PixelUnshuffle(4)\n")
    image, out = tmp_path / "image.npy", tmp_path / "out.npy"
    np.save(image, noise(1, 61, 75).numpy())
    assert run(f"{file}:Net", image, "-o", out, "--pad", "edge") == 0
    assert "padded from 61×75 to 64×76 (edge)" in capsys.readouterr().err
    assert np.load(out).shape == (16, 16, 19)


def test_a_region_in_a_form(net: str, image: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    assert run(net, image, "-o", out, "--as", "argmax", "--region", "8:40,3:21") == 0
    (truth,) = whole(network(), noise(1, 64, 48))
    assert np.array_equal(images.read(out), truth.argmax(0)[8:40, 3:21])


def test_the_figures_as_json(
    net: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.npy"
    assert run(net, image, "-o", out, "--json") == 0
    reported = json.loads(capsys.readouterr().out)
    assert reported["outputs"] == [str(out)]
    assert reported["multiply_adds"] == reported["planned_multiply_adds"] > 0
    assert reported["megapixels"] == pytest.approx(64 * 48 / 1e6)
    assert reported["strips"] == 1


def test_the_plan_and_nothing_else(
    net: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.iterdir())
    assert run(net, image, "--plan", "--band", 8) == 0
    printed = capsys.readouterr().out
    for word in ("8 rows at a time", "1 (1.00)", "peak memory", "waits for", "head"):
        assert word in printed
    assert run(net, image, "--plan", "--json", "--band", 8) == 0
    reported = json.loads(capsys.readouterr().out)
    assert reported["band_rows"] == 8
    assert reported["redundancy"] == 1.0
    assert reported["predicted_seconds"] > 0
    assert sorted(tmp_path.iterdir()) == before


WRONG: dict[str, tuple[list[str], str]] = {
    "no output": ([], "no output; name one with -o, or ask for --plan"),
    "a region in words": (["-o", "OUT", "--region", "all"], "--region all; give rows and columns"),
    "memory in words": (["-o", "OUT", "--memory", "lots"], "lots"),
    "too little memory": (["-o", "OUT", "--memory", "1MB"], "the least that can is"),
    "two outputs": (["-o", "OUT", "-o", "OUT2"], "2 outputs named and the network has 1"),
    "a threshold that is none": (["-o", "OUT", "--as", "threshold:2"], "--as 'threshold:2'; give"),
    "a form unheard of": (["-o", "OUT", "--as", "jpeg"], "output format 'jpeg'"),
    "a layout that is not": (
        ["-o", "OUT", "--layout", "HWC"],
        "first layer takes 1; give another image",
    ),
    "workers and another format": (
        ["-o", "OUT", "--workers", "2"],
        "and a client was given: many workers can write one output only in chunks of their own",
    ),
    "workers twice": (
        ["-o", "OUT.zarr", "--workers", "2", "--scheduler", "tcp://127.0.0.1:1"],
        "--workers with --scheduler; use one of the two",
    ),
    "a scheduler without a port": (
        ["-o", "OUT.zarr", "--scheduler", "somewhere"],
        "--scheduler somewhere: no address; use tcp://host:8786",
    ),
    "a file of no kind": (["-o", "OUT.jpeg"], "output suffix '.jpeg'"),
}


def test_two_images_for_one_input_get_a_cure(
    net: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(net, image, image, "-o", tmp_path / "out.npy") == 2
    said = capsys.readouterr().err.replace("\n", " ")
    assert "2 images (" in said
    assert "the network takes one image; run the command once for each image" in said


@pytest.mark.parametrize("name", WRONG)
def test_asked_wrongly(
    name: str, net: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, reported = WRONG[name]
    before = sorted(tmp_path.iterdir())
    names = ("out.npy", "out2.npy", "out.jpeg", "out.zarr")
    paths = dict(zip(("OUT", "OUT2", "OUT.jpeg", "OUT.zarr"), names, strict=True))
    placed = [str(tmp_path / paths[one]) if one in paths else one for one in arguments]
    assert run(net, image, *placed) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert reported in captured.err.replace("\n", " ")
    assert "Traceback" not in captured.err
    assert sorted(tmp_path.iterdir()) == before


def test_an_output_that_exists_is_kept(
    net: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.npy"
    out.write_bytes(b"dear to somebody")
    assert run(net, image, "-o", out) == 2
    assert "--force" in capsys.readouterr().err
    assert out.read_bytes() == b"dear to somebody"
    assert run(net, image, "-o", out, "--force") == 0
    assert np.load(out).shape == (2, 64, 48)


VALID = """
from eyeshot import nets


def build():
    return nets.unet(depth=1, base=2, padding="valid")
"""


@pytest.fixture
def valid(tmp_path: Path) -> str:
    file = tmp_path / "valid.py"
    file.write_text(VALID)
    return f"{file}:build"


def test_an_answer_without_padding_says_where_it_lies(
    valid: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "the answer is 48×32, in the middle of the image's 64×48: 8 pixels less at each side"
    assert run(valid, image, "--plan") == 0
    assert line in capsys.readouterr().out
    assert run(valid, image, "-o", tmp_path / "out.png", "--as", "argmax") == 0
    assert line in capsys.readouterr().err
    assert images.read(tmp_path / "out.png").shape == (48, 32)


def test_an_answer_as_large_as_the_picture_says_nothing_of_it(
    net: str, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(net, image, "--plan") == 0
    assert "the answer is" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("size", "cure"),
    [
        ((65, 49), "the nearest heights are 64 or 66, the nearest widths are 48 or 50"),
        ((64, 9), "the smallest width is 18"),
    ],
)
def test_a_size_that_is_not_taken_without_padding(
    size: tuple[int, int],
    cure: str,
    valid: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "odd.npy"
    np.save(path, np.zeros(size, np.float32))
    assert run(valid, path, "-o", tmp_path / "out.npy") == 2
    reported = capsys.readouterr().err
    assert f"a picture of {size[0]}×{size[1]}: without padding" in reported
    assert cure in reported


def test_an_output_that_cannot_be_is_refused_before_the_network_is_loaded(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there.png"
    there.write_bytes(b"mine")
    for out, reported in [
        (there, f"{there}: exists already; --force"),
        (tmp_path / "no" / "out.png", "no: no such folder"),
        (tmp_path / "out", f"{tmp_path / 'out'}: unknown output suffix ''"),
        (image, "the output is the input itself"),
    ]:
        assert run("nowhere.py:Net", image, "-o", out) == 2
        assert reported in capsys.readouterr().err
    assert run("nowhere.py:Net", image, "-o", there, "--resume") == 2
    assert "exists already, and there is no unfinished run to resume" in capsys.readouterr().err
    assert there.read_bytes() == b"mine"


def test_one_moment_of_a_stack_is_run_over(
    net: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, out = tmp_path / "moments.tif", tmp_path / "out.npy"
    moments = np.random.default_rng(0).random((3, 64, 48), np.float32)
    tifffile.imwrite(image, moments, metadata={"axes": "TYX"}, photometric="minisblack")
    assert run(net, image, "-o", out) == 2
    assert "choose one by --index: T=0 to T=2" in capsys.readouterr().err
    assert run(net, image, "--index", "T=2", "--plan", "--json") == 0
    (described,) = json.loads(capsys.readouterr().out)["images"]
    assert described["index"] == {"T": 2}
    assert described["series"] == described["level"] == 0
    assert "T=2 of 3" in described["layout"]
    assert run(net, image, "-o", out, "--index", "T=2") == 0
    (truth,) = whole(network(), torch.from_numpy(moments[2])[None])
    np.testing.assert_allclose(np.load(out), truth, atol=1e-5 * np.abs(truth).max())
    assert "T=2 of 3" in capsys.readouterr().err


def test_which_of_several_images_is_read_is_said(
    net: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, out = tmp_path / "two.tif", tmp_path / "out.npy"
    with tifffile.TiffWriter(image) as file:
        file.write(np.zeros((64, 48), np.float32), photometric="minisblack")
        file.write(np.ones((32, 48), np.float32), photometric="minisblack")
    assert run(net, image, "-o", out) == 0
    assert "holds 2 images, series 0: 64 x 48 (YX), 1: 32 x 48 (YX)" in capsys.readouterr().err
    assert run(net, image, "--series", "1", "--plan", "--json") == 0
    (described,) = json.loads(capsys.readouterr().out)["images"]
    assert (described["series"], described["shape"]) == (1, [1, 32, 48])
