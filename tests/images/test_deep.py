"""Colors of more than 8 bits are read as they are, and samples of fewer by their share."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from eyeshot import images
from eyeshot.errors import BadFile

from .conftest import noise

Array = NDArray[Any]


@pytest.mark.parametrize("color", [(), (3,)])
@pytest.mark.parametrize("bits", [10, 12])
def test_avif_of_many_bits_keeps_them(bits: int, color: tuple[int, ...], tmp_path: Path) -> None:
    samples = noise((32, 48, *color), np.uint16) >> (16 - bits)
    path = tmp_path / "deep.avif"
    code = imagecodecs.avif_encode(samples, level=100, bitspersample=bits)
    path.write_bytes(bytes(code))
    right = np.rint(samples / (2**bits - 1) * 65535)
    np.testing.assert_array_equal(images.read(path), right)


@pytest.mark.parametrize("channels", [3, 4])
def test_jpeg2000_of_sixteen_bits_keeps_them(channels: int, tmp_path: Path) -> None:
    samples = noise((32, 48, channels), np.uint16)
    path = tmp_path / "deep.jp2"
    code = imagecodecs.jpeg2k_encode(samples, reversible=True, codecformat="jp2")
    path.write_bytes(bytes(code))
    np.testing.assert_array_equal(images.read(path), samples)


@pytest.mark.parametrize("color", [(), (3,)])
@pytest.mark.parametrize("bits", [9, 10, 12, 15, 16])
def test_white_of_jpeg2000_is_white(bits: int, color: tuple[int, ...], tmp_path: Path) -> None:
    """Of 9 bits of gray, Pillow keeps 8; of 10, it shifts 1023 to 65472."""
    samples = noise((32, 48, *color), np.uint16) >> (16 - bits)
    samples[:16] = 2**bits - 1
    path = tmp_path / "deep.j2k"
    code = imagecodecs.jpeg2k_encode(samples, reversible=True, level=0, bitspersample=bits)
    path.write_bytes(bytes(code))
    right = np.rint(samples / (2**bits - 1) * 65535)
    np.testing.assert_array_equal(images.read(path), right)


@pytest.mark.parametrize("top", [255, 1023, 65535])
@pytest.mark.parametrize("kind", ["P5", "P6"])
def test_netpbm_of_any_depth(kind: str, top: int, tmp_path: Path) -> None:
    shape = (5, 7, 3) if kind == "P6" else (5, 7)
    samples = (noise(shape, np.float32) * top).astype(np.uint16)
    path = tmp_path / "any.pnm"
    body = samples.astype(">u2" if top > 255 else "u1").tobytes()
    path.write_bytes(f"{kind} # a comment\n7 5\n{top}\n".encode() + body)
    got = images.read(path)
    assert got.dtype == (np.uint8 if top == 255 else np.uint16)
    np.testing.assert_array_equal(got, np.rint(samples / top * np.iinfo(got.dtype).max))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(BadFile, match=r"any\.pnm: truncated or damaged"):
        images.read(path)


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("bits", [2, 4, 6])
def test_tiff_of_few_bits_fills_the_range_as_a_png_does(
    bits: int, photometric: str, tmp_path: Path
) -> None:
    top = 2**bits - 1
    samples = noise((9, 8)) >> (8 - bits)
    path = tmp_path / "few.tif"
    try:
        tifffile.imwrite(path, samples, photometric=photometric, bitspersample=bits)
    except NotImplementedError:
        pytest.skip("this imagecodecs cannot write such a file")
    stored = top - samples if photometric == "miniswhite" else samples
    np.testing.assert_array_equal(images.read(path), np.rint(stored * (255 / top)))
    with images.open_source(path) as source:
        assert f"{bits} bits made 8" in source.layout


def _png(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, data in chunks:
        parts.append(struct.pack(">I", len(data)) + kind + data)
        parts.append(struct.pack(">I", zlib.crc32(kind + data)))
    return b"".join(parts)


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("kind", ["exif", "xmp"])
def test_a_png_is_turned_wherever_it_says_so(kind: str, place: str, tmp_path: Path) -> None:
    samples = noise((4, 6))
    tags = Image.Exif()
    tags[0x0112] = 6
    xmp = b'<x xmlns:tiff="t"><rdf tiff:Orientation="6"/></x>'
    extra = {
        "exif": (b"eXIf", tags.tobytes().removeprefix(b"Exif\0\0")),
        "xmp": (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
    }[kind]
    head = (b"IHDR", struct.pack(">IIBBBBB", 6, 4, 8, 0, 0, 0, 0))
    pixels = (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in samples)))
    middle = [extra, pixels] if place == "before" else [pixels, extra]
    path = tmp_path / "turned.png"
    path.write_bytes(_png(head, *middle, (b"IEND", b"")))
    right = np.rot90(samples, -1)
    np.testing.assert_array_equal(images.read(path), right)
    with images.open_source(path) as source:
        assert source.turn == 6
        np.testing.assert_array_equal(source.read()[0], right)


def test_palettes_of_one_bit_and_of_halves_of_words(tmp_path: Path) -> None:
    path = tmp_path / "palette.tif"
    two = np.array([[0, 65535], [0, 0], [65535, 0]], np.uint16)
    bits = noise((5, 6)) > 99
    colors = (320, 3, 6, tuple(int(value) for value in two.flat), True)
    tifffile.imwrite(path, bits, photometric="minisblack", extratags=[colors])
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags["PhotometricInterpretation"].overwrite(3)
    np.testing.assert_array_equal(images.read(path), np.moveaxis(two[:, bits * 1] // 257, 0, -1))
    bytes_ = noise((3, 256)).astype(np.uint16)
    samples = noise((5, 6))
    for factor in (1, 256):  # libtiff takes both for 8 bits
        tifffile.imwrite(path, samples, photometric="palette", colormap=bytes_ * factor)
        right = np.moveaxis(bytes_[:, samples], 0, -1)
        np.testing.assert_array_equal(images.read(path), right)
