"""Samples of a TIFF mean what its tags say: in every page, at every level, turned or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from eyeshot import images
from eyeshot.errors import BadFile

from .conftest import noise

Array = NDArray[Any]
TURN = 274  # the tag Orientation


def _read(path: Path, **options: Any) -> Array:
    with images.open_source(path, **options) as source:
        return source.read().copy()


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(("axes", "count"), [("CYX", 3), ("ZYX", 6)])
def test_every_page_of_a_stack_is_converted(
    axes: str, count: int, compression: Any, tmp_path: Path
) -> None:
    path = tmp_path / "stack.tif"
    options = {"metadata": {"axes": axes}, "compression": compression}
    space = 3 if axes == "ZYX" else 2
    gray = noise((count, 21, 30))
    tifffile.imwrite(path, gray, photometric="miniswhite", **options)
    np.testing.assert_array_equal(_read(path, space=space).reshape(gray.shape), 255 - gray)
    bits = gray > 99
    tifffile.imwrite(path, bits, photometric="minisblack", **options)
    np.testing.assert_array_equal(
        _read(path, space=space).reshape(gray.shape), bits * np.uint8(255)
    )


def test_white_is_zero_is_inverted_in_the_bits_that_there_are(tmp_path: Path) -> None:
    pytest.importorskip("imagecodecs", minversion="2026", reason="older ones only read")
    samples = noise((9, 8), np.uint16) >> 4
    path = tmp_path / "twelve.tif"
    tifffile.imwrite(path, samples, photometric="miniswhite", bitspersample=12)
    np.testing.assert_array_equal(_read(path)[0], 4095 - samples)


@pytest.mark.parametrize("photometric", ["miniswhite", "palette", "minisblack"])
def test_every_level_of_a_pyramid_is_converted(photometric: str, tmp_path: Path) -> None:
    base = noise((64, 48))
    if photometric == "minisblack":
        base = base > 120
    colors = noise((3, 256), np.uint16)
    options: Any = {"photometric": photometric, "tile": (16, 16), "metadata": None}
    if photometric == "palette":
        options["colormap"] = colors
    path = tmp_path / "pyramid.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(base, subifds=2, **options)
        file.write(base[::2, ::2], subfiletype=1, **options)
        file.write(base[::4, ::4], subfiletype=1, **options)
    for level in range(3):
        stored = base[:: 2**level, :: 2**level]
        right = colors[:, stored] if photometric == "palette" else ~stored[np.newaxis]
        if photometric == "minisblack":
            right = stored[np.newaxis] * np.uint8(255)
        np.testing.assert_array_equal(_read(path, level=level), right)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("axes", ["YX", "CYX", "ZYX", "YXS"])
def test_stacks_are_turned_upright_page_by_page(axes: str, turn: int, tmp_path: Path) -> None:
    shape = {"YX": (5, 7), "CYX": (3, 5, 7), "ZYX": (6, 5, 7), "YXS": (5, 7, 3)}[axes]
    samples = noise(shape, np.uint16)
    path = tmp_path / "turned.tif"
    tifffile.imwrite(
        path,
        samples,
        photometric="rgb" if axes == "YXS" else "minisblack",
        metadata={"axes": axes},
        extratags=[(TURN, 3, 1, turn, False)],
    )
    got = _read(path, space=3 if axes == "ZYX" else 2)
    pages = np.moveaxis(samples, -1, 0) if axes == "YXS" else samples.reshape(-1, 5, 7)
    right = [_upright(page, turn) for page in pages]
    np.testing.assert_array_equal(got.reshape(len(pages), *right[0].shape), right)


def _upright(page: Array, turn: int) -> Array:
    """By Pillow's table, over indices that 8 bits hold."""
    methods = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }  # fmt: skip
    numbers = Image.fromarray(np.arange(page.size, dtype=np.uint8).reshape(page.shape))
    moved = numbers.transpose(methods[turn]) if turn in methods else numbers
    upright: Array = page.reshape(-1)[np.asarray(moved)]
    return upright


def test_pages_turned_otherwise_are_read_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "scans.tif"
    pages = noise((2, 5, 7))
    with tifffile.TiffWriter(path) as file:
        for page, turn in zip(pages, (1, 3), strict=True):
            extra = [(TURN, 3, 1, turn, False)]
            file.write(page, metadata=None, photometric="minisblack", extratags=extra)
    with pytest.raises(
        BadFile, match=r"page 1 is with another orientation than page 0; choose one"
    ):
        images.open_source(path)
    np.testing.assert_array_equal(images.read(path, index="I=1"), pages[1, ::-1, ::-1])


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_inks_become_light(planar: str, tmp_path: Path) -> None:
    """(1 - ink)(1 - black), as Pillow makes it of a CMYK JPEG."""
    inks = noise((13, 17, 4))
    inks[0, 0] = 55, 225, 225, 0
    path = tmp_path / "cmyk.tif"
    stored = inks if planar == "contig" else np.moveaxis(inks, -1, 0)
    tifffile.imwrite(path, stored, photometric="separated", planarconfig=planar, tile=(16, 16))
    right = np.asarray(Image.fromarray(inks, "CMYK").convert("RGB")).astype(int)
    got = images.read(path)
    assert tuple(got[0, 0]) == (200, 30, 30)
    assert np.abs(got - right).max() <= 1  # Pillow rounds twice
    assert _read(path).shape == (3, 13, 17)


def test_inks_that_are_no_cmyk_stay_bands(tmp_path: Path) -> None:
    path = tmp_path / "inks.tif"
    inks = noise((5, 6, 4))
    extra = [(332, 3, 1, 2, True)]  # InkSet: not CMYK
    tifffile.imwrite(path, inks, photometric="separated", extratags=extra)
    np.testing.assert_array_equal(_read(path), np.moveaxis(inks, -1, 0))


def test_uncompressed_ycbcr_becomes_rgb(tmp_path: Path) -> None:
    colors = noise((32, 40, 3))
    swapped = cv2.cvtColor(colors, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]]
    path = tmp_path / "ycbcr.tif"
    extra = [(530, 3, 2, (1, 1), True)]  # YCbCrSubSampling: none
    tifffile.imwrite(path, swapped, photometric="ycbcr", compression="zlib", extratags=extra)
    got = images.read(path).astype(int)
    inside = (colors > 8).all(axis=2) & (colors < 247).all(axis=2)
    assert np.abs(got - colors)[inside].max() <= 2  # 8 bits of YCbCr hold no more


@pytest.mark.parametrize("photometric", ["cielab", "icclab"])
def test_lab_is_refused(photometric: str, tmp_path: Path) -> None:
    path = tmp_path / "lab.tif"
    tifffile.imwrite(path, noise((5, 6, 3)), photometric=photometric)
    with pytest.raises(BadFile, match=r"lab\.tif: holds L\*a\*b\* colors; save it as RGB"):
        images.read(path)


@pytest.mark.parametrize(
    ("extra", "alpha"), [("unspecified", False), ("unassalpha", True), ("assocalpha", True)]
)
@pytest.mark.parametrize("channels", [2, 4])
def test_the_tag_says_whether_a_band_is_opacity(
    channels: int, extra: str, alpha: bool, tmp_path: Path
) -> None:
    samples = noise((5, 6, channels), np.uint16)
    path = tmp_path / "bands.tif"
    kind = "minisblack" if channels == 2 else "rgb"
    tifffile.imwrite(path, samples, photometric=kind, planarconfig="contig", extrasamples=[extra])
    picture = images.read_picture(path)
    assert picture.alpha is alpha
    with images.open_source(path) as source:
        assert source.alpha is alpha
    if extra != "assocalpha":
        np.testing.assert_array_equal(picture.samples, samples)


def test_opacity_is_divided_out_of_associated_colors(tmp_path: Path) -> None:
    path = tmp_path / "associated.tif"
    stored = np.array([[[100, 50, 0, 200], [7, 8, 9, 0], [255, 3, 4, 255]]], np.uint8)
    tifffile.imwrite(path, stored, photometric="rgb", extrasamples=["assocalpha"])
    right = [[[128, 64, 0, 200], [0, 0, 0, 0], [255, 3, 4, 255]]]
    np.testing.assert_array_equal(images.read(path), right)
    with images.open_source(path) as source:
        assert "opacity divided out of the colors" in source.layout


def test_a_band_that_is_no_opacity_is_kept_as_one_when_it_is_written(tmp_path: Path) -> None:
    samples = noise((5, 6, 4))
    for alpha in (False, True):
        images.write(tmp_path / "out.tif", samples, alpha=alpha)
        again = images.read_picture(tmp_path / "out.tif")
        assert again.alpha is alpha
        np.testing.assert_array_equal(again.samples, samples)
    images.write(tmp_path / "out.tif", samples[..., :2], alpha=False)
    np.testing.assert_array_equal(images.read(tmp_path / "out.tif"), samples[..., :2])


def test_palettes_of_eight_bits_become_bytes(tmp_path: Path) -> None:
    path = tmp_path / "palette.tif"
    colors = noise((3, 256)).astype(np.uint16) * 257
    samples = noise((5, 6))
    tifffile.imwrite(path, samples, photometric="palette", colormap=colors)
    got = images.read(path)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, np.moveaxis(colors[:, samples] // 257, 0, -1))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_of_gray_whose_white_is_zero_the_opacity_is_not_inverted(
    tmp_path: Path, kind: type[np.uint8 | np.uint16]
) -> None:
    stored = np.random.default_rng(3).integers(0, 256, (9, 11, 2)).astype(kind)
    options: Any = {"photometric": "miniswhite", "planarconfig": "contig", "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", stored, extrasamples=["unassalpha"], **options)
    read = images.read_picture(tmp_path / "a.tif")
    assert read.alpha
    np.testing.assert_array_equal(read.samples[..., 0], np.iinfo(kind).max - stored[..., 0])
    np.testing.assert_array_equal(read.samples[..., 1], stored[..., 1])
    tifffile.imwrite(tmp_path / "b.tif", stored, extrasamples=["assocalpha"], **options)
    with pytest.raises(BadFile, match="white is zero, multiplied by opacity"):
        images.read_picture(tmp_path / "b.tif")
