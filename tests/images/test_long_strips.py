"""TIFFs whose last strip holds rows beyond the image: these rows are left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from eyeshot import images
from eyeshot.errors import BadFile

ROWS = np.random.default_rng(0).integers(0, 60000, (64, 33), dtype=np.uint16)


def _write(path: Path, compression: str, rows: int, dtype: str, predictor: bool) -> None:
    """A file of 64 rows of which the header says that the image has 50."""
    tifffile.imwrite(
        path,
        ROWS.astype(dtype),
        photometric="minisblack",
        compression=compression,
        predictor=predictor,
        rowsperstrip=rows,
        metadata=None,
    )
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags["ImageLength"].overwrite(50)  # type: ignore[union-attr]


@pytest.mark.parametrize("dtype", ["u1", "<u2"])
@pytest.mark.parametrize("rows", [16, 64])
@pytest.mark.parametrize(
    ("compression", "predictor"),
    [("none", False), ("zlib", False), ("zlib", True), ("packbits", False), ("lzw", False)],
)
def test_rows_beyond_the_image_are_left_out(
    tmp_path: Path, compression: str, predictor: bool, rows: int, dtype: str
) -> None:
    path = tmp_path / "a.tif"
    _write(path, compression, rows, dtype, predictor)
    np.testing.assert_array_equal(images.read(path), ROWS[:50].astype(dtype))
    np.testing.assert_array_equal(images.read(path), np.asarray(Image.open(path)))


@pytest.mark.parametrize("place", [-1, 9])
def test_a_damaged_strip_is_refused_as_before(tmp_path: Path, place: int) -> None:
    path = tmp_path / "a.tif"
    _write(path, "zlib", 16, "u1", predictor=False)
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        start, count = page.dataoffsets[3], page.databytecounts[3]
    content = bytearray(path.read_bytes())
    content[start + place % count] ^= 255
    path.write_bytes(content)
    with pytest.raises(BadFile, match="strip 3: truncated or damaged"):
        images.read(path)


def test_a_strip_far_longer_than_its_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    zeros = np.zeros((6400, 33), np.uint8)
    tifffile.imwrite(path, zeros, compression="zlib", rowsperstrip=6400, metadata=None)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags["ImageLength"].overwrite(50)  # type: ignore[union-attr]
    with pytest.raises(BadFile, match="strip 0: truncated or damaged"):
        images.read(path)
