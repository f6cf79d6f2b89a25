"""PNG's row filters undone at any width, interlaced and deep, and never a word from libpng."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from eyeshot import images
from eyeshot.errors import BadFile
from eyeshot.images.sources import png_rows
from eyeshot.images.sources.png_rows import SIGNATURE, chunk, unfilter

from .conftest import noise


def paeth(left: int, above: int, corner: int) -> int:
    """As the specification has it (PNG, third edition, section 9.4)."""
    guess = left + above - corner
    off = [abs(guess - left), abs(guess - above), abs(guess - corner)]
    return (left, above, corner)[off.index(min(off))]


def undone(lines: NDArray[np.uint8], pixel: int, above: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Byte by byte."""
    out = [list(map(int, above))]
    for line in lines.tolist():
        row: list[int] = []
        for place, byte in enumerate(line[1:]):
            left = row[place - pixel] if place >= pixel else 0
            corner = out[-1][place - pixel] if place >= pixel else 0
            over = out[-1][place]
            guess = (0, left, over, (left + over) // 2, paeth(left, over, corner))[line[0]]
            row.append((byte + guess) % 256)
        out.append(row)
    return np.array(out[1:], np.uint8)


@pytest.mark.parametrize("pixel", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("widest", [7, 10**6])
def test_filters_are_undone_in_pieces_too(
    pixel: int, widest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(png_rows, "_WIDEST", widest)
    chance = np.random.default_rng(pixel)
    lines = chance.integers(0, 256, (15, 1 + pixel * 20), np.uint8)
    lines[:, 0] = np.arange(15) % 5
    above = chance.integers(0, 256, pixel * 20, np.uint8)
    found = unfilter(lines.tobytes(), 15, pixel, above)
    np.testing.assert_array_equal(found, undone(lines, pixel, above))


def test_a_row_of_more_than_a_million_pixels(tmp_path: Path) -> None:
    array = noise((3, 1_100_000, 3))
    path = tmp_path / "wide.png"
    images.write(path, array)
    with images.open_source(path) as source:
        np.testing.assert_array_equal(source.read(), array.transpose(2, 0, 1))


def _deep(path: Path, array: NDArray[np.uint16], *, interlaced: bool, filtered: int = 0) -> None:
    height, width, channels = array.shape
    color = {2: 4, 3: 2, 4: 6}[channels]
    passes = png_rows._ADAM7 if interlaced else ((0, 0, 1, 1),)
    body = b""
    for top, left, down, right in passes:
        part = array[top::down, left::right]
        for row in part if part.size else ():
            body += bytes([filtered]) + row.astype(">u2").tobytes()
    head = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, int(interlaced))
    content = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
    path.write_bytes(SIGNATURE + content)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("shape", [(9, 13, 3), (1, 1, 4), (3, 2, 2), (16, 8, 4)])
def test_deep_png_as_opencv_reads_it(
    shape: tuple[int, ...], interlaced: bool, tmp_path: Path
) -> None:
    array = noise(shape, np.uint16)
    path = tmp_path / "deep.png"
    _deep(path, array, interlaced=interlaced)
    np.testing.assert_array_equal(images.read(path), array)
    if shape[2] > 2:
        theirs = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert theirs is not None
        order = [2, 1, 0, 3][: shape[2]]
        np.testing.assert_array_equal(np.asarray(theirs)[..., order], array)


@pytest.mark.parametrize("interlaced", [False, True])
def test_what_is_damaged_is_said_by_us_alone(
    interlaced: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "deep.png"
    _deep(path, noise((9, 13, 3), np.uint16), interlaced=interlaced, filtered=7)
    with pytest.raises(BadFile, match="damaged"):
        images.read(path)
    whole = path.read_bytes()
    for place in range(45, len(whole) - 12):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(BadFile):
            images.read(path)
    assert capfd.readouterr().err == ""
