"""OME-TIFF and OME-Zarr: levels, named axes, channels kept as pages."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from eyeshot import images
from eyeshot.errors import BadFile, BadValue

from .conftest import Array, noise


@pytest.fixture
def levels() -> list[Array]:
    full = noise((3, 120, 100), np.uint16)
    return [full, full[:, ::2, ::2], full[:, ::4, ::4]]


@pytest.mark.parametrize("options", [{"tile": (32, 16), "compression": "zlib"}, {}])
def test_levels_and_channels_of_an_ome_tiff(
    options: dict[str, Any], levels: list[Array], tmp_path: Path
) -> None:
    path = tmp_path / "slide.ome.tif"
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        kind = {"photometric": "minisblack", **options}
        tiff.write(levels[0], subifds=2, metadata={"axes": "CYX"}, **kind)
        for level in levels[1:]:
            tiff.write(level, subfiletype=1, **kind)
    for number, level in enumerate(levels):
        with images.open_source(path, level=number) as source:
            assert "CYX" in source.layout
            np.testing.assert_array_equal(source.read(), level)
            np.testing.assert_array_equal(source.read((7, 25), (3, 20)), level[:, 7:25, 3:20])
    with pytest.raises(BadValue, match="levels 0 to 2"):
        images.open_source(path, level=3)


@pytest.mark.parametrize("version", [2, 3])
def test_levels_of_an_ome_zarr(version: Any, levels: list[Array], tmp_path: Path) -> None:
    path = tmp_path / "slide.zarr"
    group = zarr.create_group(str(path), zarr_format=version)
    names = ["t", "c", "z", "y", "x"]
    axes = [{"name": name} for name in names]
    for number, level in enumerate(levels):
        wide = level[np.newaxis, :, np.newaxis]
        kept = group.create_array(
            str(number), shape=wide.shape, chunks=(1, 1, 1, 32, 32), dtype=wide.dtype
        )
        kept[...] = wide
    scales = [{"axes": axes, "datasets": [{"path": str(n)} for n in range(3)]}]
    group.attrs.update(
        {"ome": {"multiscales": scales}} if version == 3 else {"multiscales": scales}
    )
    for number, level in enumerate(levels):
        with images.open_source(path, level=number, space=2) as source:
            np.testing.assert_array_equal(source.read((5, 21)), level[:, 5:21])
    with pytest.raises(BadValue, match="levels 0 to 2"):
        images.open_source(path, level=7)


def test_zarr_groups_and_named_axes(tmp_path: Path) -> None:
    group = zarr.create_group(str(tmp_path / "g.zarr"))
    array = noise((20, 5, 30))
    named = group.create_array(
        "only", shape=array.shape, dtype=array.dtype, dimension_names=("y", "c", "x")
    )
    named[...] = array
    with images.open_source(tmp_path / "g.zarr" / "only") as source:
        np.testing.assert_array_equal(source.read(), array.transpose(1, 0, 2))
    assert images.open_source(tmp_path / "g.zarr", layout="HCW").shape == (5, 20, 30)
    group.create_array("more", shape=(3, 3), dtype="u1")
    with pytest.raises(BadFile, match="the arrays more, only"):
        images.open_source(tmp_path / "g.zarr")


def test_missing_zarr_chunks_and_tiff_tiles_are_fill_values(tmp_path: Path) -> None:
    kept = zarr.create_array(
        str(tmp_path / "a.zarr"), shape=(64, 64), chunks=(16, 16), dtype="u1", fill_value=7
    )
    kept[:16, :16] = 1
    with images.open_source(tmp_path / "a.zarr") as source:
        assert source.read((0, 32)).sum() == 256 + 7 * (32 * 64 - 256)


def test_a_palette_and_white_is_zero_are_decoded_to_what_they_show(tmp_path: Path) -> None:
    colors = noise((3, 256), np.uint16)
    indices = noise((40, 30))
    tifffile.imwrite(
        tmp_path / "p.tif", indices, photometric="palette", colormap=colors, tile=(16, 16)
    )
    tifffile.imwrite(tmp_path / "w.tif", indices, photometric="miniswhite")
    with images.open_source(tmp_path / "p.tif") as source:
        np.testing.assert_array_equal(source.read(), colors[:, indices])
        assert source.memory >= indices.size * 6
    with images.open_source(tmp_path / "w.tif") as source:
        np.testing.assert_array_equal(source.read()[0], 255 - indices)


def test_tiles_stored_cut_off_at_the_edge_are_read(tmp_path: Path) -> None:
    path, array = tmp_path / "cut.tif", noise((40, 40))
    tifffile.imwrite(path, array, tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages.first.dataoffsets[8]
    code = bytearray(path.read_bytes())
    corner = zlib.compress(array[32:, 32:].tobytes())
    code[offset : offset + len(corner)] = corner
    path.write_bytes(code)
    with images.open_source(path) as source:
        np.testing.assert_array_equal(source.read()[0], array)
