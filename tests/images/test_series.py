"""A file that holds several images says which one it gave, and gives another when asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray
from PIL import Image

from eyeshot import images
from eyeshot.errors import BadFile, BadValue

from .conftest import noise

Array = NDArray[Any]


def _read(path: Path, **options: Any) -> Array:
    with images.open_source(path, **options) as source:
        return source.read().copy()


def test_which_series_was_taken_is_said(tmp_path: Path) -> None:
    path = tmp_path / "two.tif"
    small, large = noise((4, 5)), noise((20, 30), np.uint16)
    with tifffile.TiffWriter(path) as file:
        file.write(small, photometric="minisblack")
        file.write(large, photometric="minisblack")
    with images.open_source(path) as source:
        assert source.notes == (
            "holds 2 images, series 0: 4 x 5 (YX), 1: 20 x 30 (YX); 0 is read, --series N reads N",
        )
        assert source.to_dict()["series"] == 0
        np.testing.assert_array_equal(source.read()[0], small)
    with images.open_source(path, series=1) as source:
        assert source.notes == ()
        assert source.to_dict()["series"] == 1
        np.testing.assert_array_equal(source.read()[0], large)
    np.testing.assert_array_equal(images.read(path, series=1), large)
    with pytest.raises(BadValue, match=r"no series 2; it has series 0 to 1"):
        images.open_source(path, series=2)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kind", ["ome", "imagej", "shaped"])
def test_moments_and_channels_are_chosen(kind: str, compression: Any, tmp_path: Path) -> None:
    stack = noise((3, 2, 2, 9, 11), np.uint16)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(
        path,
        stack,
        ome=kind == "ome" or None,
        imagej=kind == "imagej",
        metadata={"axes": "TZCYX"},
        photometric="minisblack",
        compression=compression,
    )
    with pytest.raises(BadFile, match=r"holds 3 time points .* choose one by --index: T=0 to T=2"):
        images.open_source(path)
    np.testing.assert_array_equal(_read(path, index="T=2, Z=1", space=2), stack[2, 1])
    np.testing.assert_array_equal(_read(path, index={"T": 1, "C": 0})[0], stack[1, :, 0])
    np.testing.assert_array_equal(images.read(path, index="T=1,Z=0,C=1"), stack[1, 0, 1])
    with images.open_source(path, index="T=2,Z=1") as source:
        assert "T=2 of 3, Z=1 of 2" in source.layout
        assert source.to_dict()["index"] == {"T": 2, "Z": 1}
        np.testing.assert_array_equal(source.read((2, 5), (3, 4)), stack[2, 1, :, 2:5, 3:4])


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("T=9", "index T=9; it has T=0 to T=2"),
        ({"T": -1}, "index T=-1; it has T=0 to T=2"),
        ("K=0", "no axis 'K' to choose from: the axes are TYX"),
        ("T", "write AXIS=POSITION"),
        ("T=-1", "write AXIS=POSITION"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(
    index: str | dict[str, int], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "moments.tif"
    tifffile.imwrite(path, noise((3, 5, 7)), metadata={"axes": "TYX"}, photometric="minisblack")
    with pytest.raises(BadValue, match=message):
        images.open_source(path, index=index)


def test_a_layout_can_name_the_axis_that_is_chosen_from(tmp_path: Path) -> None:
    array = noise((4, 3, 5, 7))
    np.save(tmp_path / "stack.npy", array)
    got = _read(tmp_path / "stack.npy", layout="TCHW", index="T=3")
    np.testing.assert_array_equal(got, array[3])
    np.save(tmp_path / "stack.npy", np.asfortranarray(array))
    got = _read(tmp_path / "stack.npy", layout="TCHW", index="T=3")
    np.testing.assert_array_equal(got, array[3])


def test_a_stack_is_no_picture_until_a_page_is_chosen(tmp_path: Path) -> None:
    path = tmp_path / "pages.tif"
    pages = noise((6, 5, 7))
    tifffile.imwrite(path, pages, metadata=None, photometric="minisblack")
    with pytest.raises(BadFile, match=r"holds 6 pages \(axes \w+\), and one picture is read"):
        images.read(path)
    with tifffile.TiffFile(path) as file:
        letter = file.series[0].axes[0]
    np.testing.assert_array_equal(images.read(path, index={letter: 4}), pages[4])


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_pages_of_other_files_are_read_from_them(compression: Any, tmp_path: Path) -> None:
    """An OME-TIFF of one channel a file, as Bio-Formats and Micro-Manager write it."""
    planes = noise((2, 64, 64))
    _write_ome_pair(tmp_path, planes, compression, "")
    for name in ("part0.ome.tif", "part1.ome.tif"):
        np.testing.assert_array_equal(_read(tmp_path / name), planes)
    with images.open_source(tmp_path / "part0.ome.tif") as source:
        before = source.identity()
    _write_ome_pair(tmp_path, planes[::-1], compression, "")
    with images.open_source(tmp_path / "part0.ome.tif") as source:
        assert source.identity() != before


def test_files_outside_the_folder_are_refused(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    _write_ome_pair(inner, noise((2, 64, 64)), None, "../")
    (inner / "part1.ome.tif").rename(tmp_path / "part1.ome.tif")
    with pytest.raises(BadFile, match="a file in another folder"):
        images.open_source(inner / "part0.ome.tif")


def _write_ome_pair(folder: Path, planes: Array, compression: Any, prefix: str) -> None:
    marks = [f"urn:uuid:00000000-0000-0000-0000-00000000000{letter}" for letter in "ab"]
    where = ["part0.ome.tif", f"{prefix}part1.ome.tif"]
    data = "".join(
        f'<TiffData FirstC="{i}" FirstZ="0" FirstT="0" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{where[i]}">{marks[i]}</UUID></TiffData>'
        for i in range(2)
    )
    channels = "".join(f'<Channel ID="Channel:0:{i}" SamplesPerPixel="1"/>' for i in range(2))
    for i, plane in enumerate(planes):
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{marks[i]}"><Image ID="Image:0"><Pixels DimensionOrder="XYCZT" ID="Pixels:0" '
            'SizeC="2" SizeT="1" SizeX="64" SizeY="64" SizeZ="1" Type="uint8">'
            f"{channels}{data}</Pixels></Image></OME>"
        )
        tifffile.imwrite(
            folder / f"part{i}.ome.tif",
            plane,
            description=xml.encode(),
            metadata=None,
            compression=compression,
            tile=(32, 32),
        )


def test_frames_of_a_gif_are_counted_and_chosen(tmp_path: Path) -> None:
    path = tmp_path / "three.gif"
    frames = [Image.new("L", (7, 5), level) for level in (10, 90, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    picture = images.read_picture(path)
    assert picture.notes == ("holds 3 frames; the first is read, --series N reads N",)
    assert picture.samples.reshape(35, -1)[0, 0] == 10
    assert images.read(path, series=2).reshape(35, -1)[0, 0] == 200
    with pytest.raises(BadValue, match="no series 3; it has frames 0 to 2"):
        images.read(path, series=3)


def test_an_animated_png_says_so(tmp_path: Path) -> None:
    path = tmp_path / "two.png"
    frames = [Image.new("L", (7, 5), level) for level in (10, 90)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with images.open_source(path) as source:
        assert source.notes == ("holds 2 frames; the first is read, --series N reads N",)


def test_images_of_a_zarr_collection_are_chosen(tmp_path: Path) -> None:
    root = zarr.open_group(str(tmp_path / "all.zarr"), mode="w", zarr_format=2)
    arrays = [noise((1, 2, 1, 5, 7), np.uint16, seed) for seed in range(2)]
    for number, array in enumerate(arrays):
        group = root.create_group(str(number))
        group.create_array("0", data=array)
        group.attrs["multiscales"] = [{"datasets": [{"path": "0"}]}]
    with images.open_source(tmp_path / "all.zarr", space=2) as source:
        assert source.notes == ("holds 2 images; series 0 is read, --series N reads N",)
        np.testing.assert_array_equal(source.read(), arrays[0][0, :, 0])
    got = _read(tmp_path / "all.zarr", series=1, space=2, index="C=1")
    np.testing.assert_array_equal(got, arrays[1][0, 1])


def test_moments_of_an_ome_zarr_are_chosen(tmp_path: Path) -> None:
    array = noise((3, 2, 5, 7))
    group = zarr.open_group(str(tmp_path / "moments.zarr"), mode="w", zarr_format=2)
    group.create_array("0", data=array, chunks=(2, 1, 3, 4))
    group.attrs["multiscales"] = [
        {"datasets": [{"path": "0"}], "axes": [{"name": n} for n in "tcyx"]}
    ]
    np.testing.assert_array_equal(_read(tmp_path / "moments.zarr", index="T=2"), array[2])


def test_pages_that_are_read_as_channels_are_said(tmp_path: Path) -> None:
    pages, colors = noise((3, 9, 11)), noise((2, 9, 11, 3))
    tifffile.imwrite(tmp_path / "p.tif", pages, photometric="minisblack", metadata=None)
    tifffile.imwrite(tmp_path / "c.tif", colors, photometric="rgb", metadata=None)
    with images.open_source(tmp_path / "p.tif", space=2) as source:
        assert (source.shape, source.pages) == ((3, 9, 11), "I")
        assert source.notes == (
            "its 3 pages (axis I) are read as channels of one picture; --index I=N reads page N",
        )
        assert source.layout.endswith("; --index I=N reads one page")
    with images.open_source(tmp_path / "p.tif", space=2, index="I=2") as source:
        assert (source.shape, source.pages, source.notes) == ((1, 9, 11), "", ())
        np.testing.assert_array_equal(source.read()[0], pages[2])
    with images.open_source(tmp_path / "p.tif", layout="CHW") as source:
        assert source.notes == ()  # as the user says
    with pytest.raises(BadFile, match=r"2 pages \(axes IYXS\), .*; choose .* I=0 to I=1"):
        images.open_source(tmp_path / "c.tif", space=2)
    tifffile.imwrite(tmp_path / "named.tif", pages, ome=True, metadata={"axes": "CYX"})
    with images.open_source(tmp_path / "named.tif", space=2) as source:
        assert (source.shape[0], source.notes) == (3, ())
