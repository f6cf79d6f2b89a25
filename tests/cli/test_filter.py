"""``eyeshot filter``: the file it writes, what it says, and every way to ask it wrongly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

import eyeshot
from eyeshot import images
from eyeshot.cli import main
from eyeshot.filters import NAMES


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    images.write(path, np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))
    return path


def run(*arguments: object) -> int:
    return main(["filter", *map(str, arguments)])


def test_it_writes_what_the_function_gives(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.png"
    assert run(photo, "--kernel", "mean:5", "-o", out, "--padding", "reflect") == 0
    expected = eyeshot.filter(images.read(photo), "mean:5", padding="reflect")
    np.testing.assert_array_equal(images.read(out), expected)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    for word in ("out.png", "separable" if "separable" in captured.err else "box", "mirrored"):
        assert word in captured.err


def test_options_reach_the_function(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    assert run(photo, "-k", "sobel-x", "-o", out, "--range", "keep", "--convolve", "-q") == 0
    expected = eyeshot.filter(images.read(photo), "sobel-x", range="keep", convolve=True)
    np.testing.assert_array_equal(images.read(out), expected)


def test_quiet_says_nothing(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(photo, "-k", "mean", "-o", tmp_path / "out.png", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_a_kernel_file(photo: Path, tmp_path: Path) -> None:
    kernel, out = tmp_path / "mine.txt", tmp_path / "out.png"
    kernel.write_text("1/3 1/3 1/3\n")
    assert run(photo, "-k", kernel, "-o", out) == 0
    expected = eyeshot.filter(images.read(photo), [[1 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_array_equal(images.read(out), expected)


def test_list_names_every_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--list") == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()] == list(NAMES)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-k", "sobbel"], "did you mean 'sobel'"),
        (["-k", "mean:99", "--padding", "valid"], "photo.png: kernel 'mean:99' of 99×99"),
        (["-k", "mean", "--padding", "sme"], "did you mean 'same'"),
        (["-k", "mean", "--range", "klip"], "did you mean 'clip'"),
        (["-k", "none.txt"], "none.txt: no such file"),
        (["-k", "sobel-x", "--range", "keep"], "use --range clip or rescale"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    photo: Path,
    tmp_path: Path,
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out.png"
    out.write_bytes(b"old")
    assert run(photo, *arguments, "-o", out) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert out.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.png", "photo.png"]


def test_a_picture_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not a picture")
    assert run(bad, "-k", "mean", "-o", tmp_path / "out.png") == 2
    assert "bad.png" in capsys.readouterr().err
    assert run(tmp_path / "gone.png", "-k", "mean", "-o", tmp_path / "out.png") == 2
    assert "no such file" in capsys.readouterr().err


def test_the_kernel_is_asked_for(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(photo, "-o", "out.png") == 2
    assert "--kernel" in capsys.readouterr().err


def test_opacity_is_what_the_file_says_unless_the_user_says_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = np.random.default_rng(1).integers(0, 256, (20, 30, 4), np.uint8)
    for extra, kept in (("unspecified", False), ("unassalpha", True)):
        source = tmp_path / f"{extra}.tif"
        tifffile.imwrite(source, samples, photometric="rgb", extrasamples=[extra])
        for option, keeps in (
            ([], kept),
            (["--alpha", "keep"], True),
            (["--alpha", "filter"], False),
        ):
            out = tmp_path / "out.tif"
            assert run(source, "-k", "mean:5", "-o", out, "--force", *option) == 0
            right = eyeshot.filter(samples, "mean:5", alpha="keep" if keeps else "filter")
            again = images.read_picture(out)
            np.testing.assert_array_equal(again.samples, right)
            assert again.alpha is keeps
            assert ("alpha kept" in capsys.readouterr().err) is keeps
    assert run(tmp_path / "unspecified.tif", "-k", "mean", "-o", tmp_path / "out.png") == 2
    assert "none of them opacity" in capsys.readouterr().err


def test_a_page_of_a_stack_is_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pages = np.random.default_rng(1).integers(0, 256, (6, 20, 30), np.uint8)
    source, out = tmp_path / "stack.tif", tmp_path / "out.tif"
    tifffile.imwrite(source, pages, metadata={"axes": "ZYX"}, photometric="minisblack")
    assert run(source, "-k", "mean", "-o", out) == 2
    assert "holds 6 pages (axes ZYX)" in capsys.readouterr().err
    assert run(source, "-k", "mean", "-o", out, "--index", "Z=4") == 0
    np.testing.assert_array_equal(images.read(out), eyeshot.filter(pages[4], "mean"))
    with tifffile.TiffWriter(source) as file:
        file.write(pages[0, :5, :5], photometric="minisblack")
        file.write(pages[1], photometric="minisblack")
    capsys.readouterr()
    assert run(source, "-k", "mean", "-o", out, "--force") == 0
    assert "stack.tif: holds 2 images, series 0: 5 x 5 (YX)" in capsys.readouterr().err
    assert run(source, "-k", "mean", "-o", out, "--series", "1", "--force") == 0
    np.testing.assert_array_equal(images.read(out), eyeshot.filter(pages[1], "mean"))
