"""Damaged, truncated and boastful files: one BadFile each, which names the file and the piece."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from eyeshot import images
from eyeshot.errors import BadFile
from eyeshot.images.sources.png_rows import SIGNATURE, chunk

from .conftest import STORED, Array, noise

Files = dict[str, tuple[Path, Array]]
HUGE = 10**6


def read_all(path: Path) -> Array:
    with images.open_source(path) as source:
        for top in range(0, source.shape[1], 10):
            last = source.read((top, min(top + 10, source.shape[1])))
    return last


@pytest.mark.parametrize("name", [name for name in STORED if "zarr" not in name])
def test_files_cut_short_are_refused(name: str, stored: Files, tmp_path: Path) -> None:
    original, _ = stored[name]
    path = tmp_path / original.name
    code = original.read_bytes()
    for length in [0, 3, 20, 100, len(code) // 3, len(code) // 2, len(code) * 9 // 10]:
        path.write_bytes(code[:length])
        with pytest.raises(BadFile, match=path.name) as caught:
            read_all(path)
        assert "\n" not in str(caught.value)


def test_a_damaged_tile_is_named(tmp_path: Path) -> None:
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, noise((128, 128)), tile=(32, 32), compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        offset, count = tiff.pages.first.dataoffsets[6], tiff.pages.first.databytecounts[6]
    code = bytearray(path.read_bytes())
    code[offset + 2 : offset + count] = b"\xff" * (count - 2)
    path.write_bytes(code)
    with images.open_source(path) as source:
        source.read((0, 32))
        source.read((32, 64), (0, 64))
        with pytest.raises(BadFile, match=r"slide\.tif: tile 6: truncated or damaged"):
            source.read((32, 64))


@pytest.mark.parametrize("version", [2, 3])
def test_a_damaged_chunk_is_named(version: int, tmp_path: Path) -> None:
    path = tmp_path / "slide.zarr"
    kept = zarr.create_array(
        str(path),
        shape=(64, 64),
        chunks=(32, 32),
        dtype="u1",
        zarr_format=version,  # type: ignore[arg-type]
    )
    kept[...] = noise((64, 64))
    piece = path / ("c/1/0" if version == 3 else "1.0")
    piece.write_bytes(piece.read_bytes()[:-200])
    with images.open_source(path) as source:
        source.read((0, 32))
        with pytest.raises(BadFile, match=r"slide\.zarr: chunk 1/0: truncated or damaged"):
            source.read((32, 64))


def test_a_changed_byte_in_a_png_is_noticed(stored: Files, tmp_path: Path) -> None:
    code = bytearray(stored["png color"][0].read_bytes())
    path = tmp_path / "flipped.png"
    for place in range(60, len(code) - 20, 997):
        code[place] ^= 0x10
        path.write_bytes(code)
        with pytest.raises(BadFile, match="checksum"):
            read_all(path)
        code[place] ^= 0x10


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture at all, but some text of some length")
    (tmp_path / "empty.tif").touch()
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "objects.npy", np.array([{}, None]), allow_pickle=True)
    for name in ["text.png", "empty.tif", "folder", "objects.npy", "absent.png"]:
        with pytest.raises(BadFile, match=name):
            images.open_source(tmp_path / name)
        with pytest.raises(BadFile, match=name):
            images.read(tmp_path / name)


def bomb_png(path: Path) -> None:
    head = struct.pack(">IIBBBBB", HUGE, HUGE, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 10**7)
    code = chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    path.write_bytes(SIGNATURE + code)


def bomb_npy(path: Path) -> None:
    np.save(path, noise((9, 7)))
    path.write_bytes(path.read_bytes().replace(b"(9, 7)", b"(10000000, 7000000)"))


def bomb_strip(path: Path) -> None:
    tifffile.imwrite(path, noise((16, 16)), compression="zlib")
    code = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        for tag in (256, 257, 278):  # width, length, rows in a strip
            place = tiff.pages.first.tags[tag].valueoffset
            code[place - 6 : place + 4] = struct.pack("<HII", 4, 1, HUGE)
    path.write_bytes(code)


def bomb_tall(path: Path) -> None:
    """A handful of tiles, and the claim to be 40 million rows high."""
    tifffile.imwrite(path, noise((48, 40)), tile=(16, 16))
    code = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        place = tiff.pages.first.tags[257].valueoffset
    code[place - 6 : place + 4] = struct.pack("<HII", 4, 1, 40 * HUGE)
    path.write_bytes(code)


def bomb_gif(path: Path) -> None:
    Image.fromarray(noise((16, 16))).save(path)
    code = bytearray(path.read_bytes())
    code[6:10] = b"\xff" * 4
    path.write_bytes(code)


BOMBS = {
    "a.png": bomb_png,
    "a.npy": bomb_npy,
    "a.tif": bomb_strip,
    "b.tif": bomb_tall,
    "a.gif": bomb_gif,
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_and_never_allocated(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    BOMBS[name](path)
    tracemalloc.start()
    try:
        with pytest.raises(BadFile, match=name):
            images.read(path)
        with pytest.raises(BadFile, match=name), images.open_source(path) as source:
            source.read((0, 40), (0, 100))
        assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
    finally:
        tracemalloc.stop()


def test_what_claims_much_and_is_stored_in_chunks_is_streamed(tmp_path: Path) -> None:
    path = tmp_path / "sky.zarr"
    zarr.create_array(str(path), shape=(HUGE, HUGE), chunks=(256, 256), dtype="u1", fill_value=3)
    with images.open_source(path) as source:
        assert source.shape == (1, HUGE, HUGE)
        assert (source.read((HUGE - 300, HUGE), (5, 300)) == 3).all()
