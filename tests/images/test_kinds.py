"""Pictures as people have them: palettes, one bit, CMYK, turned, interlaced, JPEG tiles."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from eyeshot import images
from eyeshot.errors import BadValue, UnknownName
from eyeshot.images.sources.png_rows import SIGNATURE, chunk

from .conftest import Array, canonical, noise


def both(path: Path) -> Array:
    """The picture as :func:`images.read` gives it, which its windows must equal."""
    whole = images.read(path)
    with images.open_source(path) as source:
        bands = [
            source.read((row, min(row + 7, source.shape[1])))
            for row in range(0, source.shape[1], 7)
        ]
    np.testing.assert_array_equal(np.concatenate(bands, 1), canonical(whole))
    return whole


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("transparent", [False, True])
def test_palette_png(bits: int, transparent: bool, tmp_path: Path) -> None:
    count = 2**bits
    colors, indices = noise((count, 3)), noise((23, 19)) % np.uint16(count)
    image = Image.fromarray(indices.astype(np.uint8))
    image.putpalette(colors.tobytes())
    alpha = bytes([7, 128])
    if transparent:
        image.info["transparency"] = alpha
    image.save(tmp_path / "p.png", bits=bits)
    picture = both(tmp_path / "p.png")
    np.testing.assert_array_equal(picture[..., :3], colors[indices])
    assert picture.shape[2] == (4 if transparent else 3)
    if transparent:
        assert (picture[indices == 0][:, 3] == 7).all()
        assert (picture[indices == 1][:, 3] == 128).all()
        assert (picture[indices > 1][:, 3] == 255).all()


def test_one_bit_png(tmp_path: Path) -> None:
    bits = noise((23, 19)) > 100
    Image.fromarray(bits).save(tmp_path / "b.png")
    np.testing.assert_array_equal(both(tmp_path / "b.png"), bits * np.uint8(255))


def test_interlaced_png_is_decoded_whole(tmp_path: Path) -> None:
    head = struct.pack(">IIBBBBB", 2, 1, 8, 0, 0, 0, 1)
    passes = zlib.compress(b"\0\x0a\0\x14")  # Adam7: the first pixel in pass 1, the second in 6
    code = chunk(b"IHDR", head) + chunk(b"IDAT", passes) + chunk(b"IEND", b"")
    (tmp_path / "i.png").write_bytes(SIGNATURE + code)
    with images.open_source(tmp_path / "i.png") as source:
        assert source.memory == 2
        assert source.read().tolist() == [[[10, 20]]]


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_pictures_are_turned_upright(turn: int, suffix: str, tmp_path: Path) -> None:
    path, array = tmp_path / f"t{suffix}", noise((23, 16, 3))
    image = Image.fromarray(array)
    exif = Image.Exif()
    exif[0x0112] = turn
    if suffix == ".tif":
        tifffile.imwrite(path, array, photometric="rgb", extratags=[(274, 3, 1, turn, True)])
    else:
        image.save(path, exif=exif)
    with Image.open(path) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    np.testing.assert_array_equal(both(path), expected)


def test_cmyk_becomes_color(tmp_path: Path) -> None:
    Image.fromarray(noise((23, 19, 4)), "CMYK").save(tmp_path / "c.jpg")
    assert both(tmp_path / "c.jpg").shape == (23, 19, 3)


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 2)])
def test_jpeg_tiles_in_tiff(subsampling: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "slide.tif"
    smooth = np.add.outer(np.arange(90), np.arange(70))[..., np.newaxis] + np.array([0, 40, 80])
    tifffile.imwrite(
        path,
        smooth.astype(np.uint8),
        photometric="rgb",
        tile=(32, 32),
        compression="jpeg",
        compressionargs={"level": 90},
        subsampling=subsampling,
    )
    np.testing.assert_array_equal(both(path), tifffile.imread(path))
    with images.open_source(path) as source:
        assert source.native_rows == 32


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([[True, False]]), np.uint8),
        (np.array([[-3, 7]], np.int16), np.float32),
        (np.array([[0.5, 1e30]]), np.float32),
        (np.array([[0.5, 0.25]], np.float16), np.float32),
        (np.array([[1, 2]], ">u2"), np.uint16),
    ],
)
def test_other_numbers_become_what_a_picture_holds(
    array: Array, expected: type, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", array)
    picture = images.read(tmp_path / "a.npy")
    assert picture.dtype == expected
    assert picture[0, 0] == (255 if array.dtype == bool else array[0, 0])


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("a.jpg", noise((9, 7), np.uint16)),
        ("a.jpg", noise((9, 7, 4))),
        ("a.png", noise((9, 7), np.float32)),
        ("a.png", noise((9, 7, 5))),
        ("a.png", noise((9,))),
        ("a.bmp", noise((9, 7, 2))),
        ("a.tif", noise((0, 7))),
    ],
)
def test_what_a_kind_cannot_hold_is_refused(name: str, array: Array, tmp_path: Path) -> None:
    with pytest.raises(BadValue, match=name):
        images.write(tmp_path / name, array)
    assert not list(tmp_path.iterdir())


def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"\.tiff"):
        images.write(tmp_path / "a.tix", noise((9, 7)))


def test_true_and_false_are_white_and_black(tmp_path: Path) -> None:
    images.write(tmp_path / "m.png", noise((9, 7)) > 100)
    np.testing.assert_array_equal(
        images.read(tmp_path / "m.png"), (noise((9, 7)) > 100) * np.uint8(255)
    )
