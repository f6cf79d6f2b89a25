"""What is promised of cost: bytes read, chunks held, bytes written, leftovers removed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from eyeshot import images
from eyeshot.errors import BadFile
from eyeshot.images.limits import check_segments
from eyeshot.images.sources.source import GridSource

from .conftest import noise


def test_a_window_of_raw_samples_reads_little_more_than_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = noise((16, 40000))
    np.save(tmp_path / "wide.npy", array)
    read: list[int] = []
    real = os.preadv

    def counted(handle: int, targets: list[memoryview], offset: int) -> int:
        read.append(sum(map(len, targets)))
        return real(handle, targets, offset)

    monkeypatch.setattr(os, "preadv", counted)
    with images.open_source(tmp_path / "wide.npy") as source:
        np.testing.assert_array_equal(source.read((3, 9), (50, 9050))[0], array[3:9, 50:9050])
        assert read == [9000] * 6
        read.clear()
        source.read((3, 9))
        assert read == [6 * 40000], "whole rows are one request"


def test_chunks_held_never_exceed_a_row_of_them(tmp_path: Path) -> None:
    path = tmp_path / "t.tif"
    array = noise((160, 128))
    tifffile.imwrite(path, array, tile=(16, 16), compression="zlib")
    with images.open_source(path) as source:
        assert isinstance(source, GridSource)
        for left, right in [(0, 40), (40, 100), (100, 128)] * 2:
            for top in range(0, 160, 10):
                source.read((top, top + 10), (left, right))
                across = -(-right // 16) - left // 16
                # one row of chunks below the window, and the column that it cuts, beside it
                assert len(source._chunks) <= across + 2
                assert sum(block.nbytes for block in source._chunks.values()) <= source.memory


def test_leftovers_of_a_kill_inside_a_zarr_chunk_are_removed(tmp_path: Path) -> None:
    path, array = tmp_path / "out.zarr", noise((1, 1030, 20))
    with images.open_sink(path, array.shape, np.uint8) as sink:
        sink.write(0, array[:, :512])
    leftover = tmp_path / "out.zarr.part" / "c" / "0" / "1" / "0.abc.partial"
    leftover.parent.mkdir(parents=True, exist_ok=True)
    leftover.write_bytes(b"half a chunk")
    with images.open_sink(path, array.shape, np.uint8, resume=True) as sink:
        assert sink.durable_rows() == 512
        sink.write(512, array[:, 512:])
        sink.finish()
    assert not list(path.rglob("*.partial"))


def test_rows_that_wait_for_their_zarr_chunk_are_not_called_durable(tmp_path: Path) -> None:
    with images.open_sink(tmp_path / "out.zarr", (1, 1030, 20), np.uint8) as sink:
        for top, durable in [(0, 0), (400, 512), (800, 1030)]:
            sink.write(top, noise((1, min(400, 1030 - top), 20)))
            assert sink.durable_rows() == durable


def test_png_rows_are_filtered_where_it_helps(tmp_path: Path) -> None:
    # more than one band of packing, and more than one slab of unpacking
    ramp = np.add.outer(np.arange(700) * 3, np.arange(3000) * 5).astype(np.uint8)
    with images.open_sink(tmp_path / "ramp.png", (1, 700, 3000), np.uint8) as sink:
        sink.write(0, ramp[np.newaxis])
        sink.finish()
    assert (tmp_path / "ramp.png").stat().st_size < ramp.size // 20
    np.testing.assert_array_equal(images.read(tmp_path / "ramp.png"), ramp)
    with images.open_source(tmp_path / "ramp.png") as source:
        np.testing.assert_array_equal(source.read()[0], ramp)


def test_zarr_metadata_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    kept = zarr.create_array(str(path), shape=(64, 64), chunks=(16, 16), dtype="u1")
    kept[...] = noise((64, 64))
    with images.open_source(path) as source:
        source.read((0, 16))
        kept.resize((32, 64))
        with pytest.raises(BadFile, match="changed while it was read"):
            source.read((16, 32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataoffsets": (8,)}, "lists 1 of its 16 tiles"),
        ({"databytecounts": (10**6,) * 16}, "tile 0 lies beyond the end"),
        ({"chunks": (0, 16)}, r"tiles of \(0, 16\)"),
        ({"chunks": (2**15, 2**15)}, "cannot be packed"),
    ],
)
def test_a_page_is_not_taken_at_its_word(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.tif"
    tifffile.imwrite(path, noise((64, 64)), tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        check_segments(page, path.stat().st_size)
        for name, value in change.items():
            vars(page)[name] = value
        with pytest.raises(ValueError, match=message):
            check_segments(page, path.stat().st_size)


def test_a_picture_that_claims_more_than_its_format_packs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sea.jpg"
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(path)
    code = bytearray(path.read_bytes())
    place = code.index(b"\xff\xc0") + 5  # the frame header: height, then width
    code[place : place + 4] = (30000).to_bytes(2, "big") * 2
    path.write_bytes(code)
    with pytest.raises(BadFile, match=r"30000 x 30000 pixels in .* more than its format can pack"):
        images.read(path)


def test_reading_jpeg_leaves_pillows_own_limit_alone(tmp_path: Path) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    images.write(tmp_path / "a.jpg", noise((16, 16)))
    images.read(tmp_path / "a.jpg")
    assert limit == Image.MAX_IMAGE_PIXELS
