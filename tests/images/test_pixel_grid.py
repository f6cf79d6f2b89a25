"""Pixel sizes: read from a file, moved by a network, written for others to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import zarr
from torch import Tensor, nn

import eyeshot
from eyeshot import images
from eyeshot.images.pixel_grid import PixelGrid
from eyeshot.images.sinks.sink import Storage

from .conftest import noise

IMAGE = noise((1, 120, 100))
STRIDE = nn.Conv2d(1, 2, 3, stride=2, padding=1).eval()
VALID = nn.Conv2d(1, 1, 5).eval()


def ome_tiff(
    path: Path, array: Any = IMAGE, axes: str = "CYX", levels: int = 0, **sizes: Any
) -> Path:
    with tifffile.TiffWriter(path, ome=True) as tiff:
        kind: dict[str, Any] = {"photometric": "minisblack", "tile": (32, 32)}
        tiff.write(array, subifds=levels, metadata={"axes": axes, **sizes}, **kind)
        for level in range(1, levels + 1):
            step = 2**level
            tiff.write(array[..., ::step, ::step], subfiletype=1, **kind)
    return path


MICRONS: dict[str, Any] = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}


def transforms(path: Any, level: int = 0) -> tuple[list[float], list[float], list[Any]]:
    scales: Any = zarr.open_group(str(path), mode="r").attrs["ome"]["multiscales"][0]  # type: ignore[index, call-overload]
    scale, move = scales["datasets"][level]["coordinateTransformations"]
    units = [axis.get("unit") for axis in scales["axes"]]
    return scale["scale"], move["translation"], units


def test_a_stride_makes_pixels_larger_and_a_valid_kernel_moves_them(tmp_path: Path) -> None:
    image = ome_tiff(tmp_path / "a.ome.tif", **MICRONS)
    path = eyeshot.run(STRIDE, image, tmp_path / "b.ome.zarr")
    assert transforms(path) == ([1, 1.0, 0.5], [0, 0, 0], [None, "micrometer", "micrometer"])
    path = eyeshot.run(VALID, image, tmp_path / "c.ome.zarr")
    assert transforms(path)[:2] == ([1, 0.5, 0.25], [0, 1.0, 0.5])
    path = eyeshot.run(VALID, image, tmp_path / "d.ome.zarr", region=[(10, 60), (20, 50)])
    assert transforms(path)[:2] == ([1, 0.5, 0.25], [0, 6.0, 5.5])
    again = eyeshot.run(STRIDE, path, tmp_path / "e.ome.zarr")  # from OME-Zarr to OME-Zarr
    assert transforms(again) == (
        [1, 1.0, 0.5], [0, 6.0, 5.5], [None, "micrometer", "micrometer"]
    )  # fmt: skip


def test_levels_of_a_pyramid_have_larger_pixels(tmp_path: Path) -> None:
    array = noise((1, 1201, 1003))
    image = ome_tiff(tmp_path / "a.ome.tif", array, levels=2, **MICRONS)
    for level, factor in enumerate([1, 2, 4]):
        grid = images.open_source(image, level=level).grid
        assert grid == PixelGrid(
            (0.5 * factor, 0.25 * factor),
            ((factor - 1) * 0.25, (factor - 1) * 0.125),
            ("micrometer", "micrometer"),
        )
    identity = nn.Identity().eval()
    path = eyeshot.run(identity, image, tmp_path / "b.ome.zarr")
    for level, factor in enumerate([1, 2]):
        assert (
            images.open_source(path, level=level).grid
            == images.open_source(image, level=level).grid
        ), factor


def test_of_a_picture_without_sizes_the_grid_counts_its_pixels(tmp_path: Path) -> None:
    path = eyeshot.run(STRIDE, IMAGE, tmp_path / "a.ome.zarr")
    assert transforms(path) == ([1, 2, 2], [0, 0, 0], [None, None, None])


class Flipped(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flip(3)


def test_positions_that_have_no_place_bear_no_size(tmp_path: Path) -> None:
    image = ome_tiff(tmp_path / "a.ome.tif", **MICRONS)
    plan = eyeshot.plan(Flipped().eval(), image, tmp_path / "b.ome.zarr")
    assert any("they have no place in the image" in note for note in plan.notes)
    path = eyeshot.run(Flipped().eval(), image, tmp_path / "b.ome.zarr")
    assert transforms(path) == ([1, 1, 1], [0, 0, 0], [None, None, None])


def test_the_plan_says_how_large_pixels_are(tmp_path: Path) -> None:
    image = ome_tiff(tmp_path / "a.ome.tif", **MICRONS)
    plan = eyeshot.plan(STRIDE, image)
    assert any("1 x 0.5 micrometer" in note for note in plan.notes), plan.notes


def test_volumes_stacks_and_other_units(tmp_path: Path) -> None:
    array = noise((7, 40, 30))
    sizes: dict[str, Any] = {"PhysicalSizeZ": 2.0, "PhysicalSizeZUnit": "mm", **MICRONS}
    image = ome_tiff(tmp_path / "a.ome.tif", array, "ZYX", **sizes)
    net = nn.Conv3d(1, 1, (3, 1, 1), stride=(2, 1, 1)).eval()
    path = eyeshot.run(net, image, tmp_path / "b.ome.zarr")
    assert transforms(path) == (
        [1, 4.0, 0.5, 0.25], [0, 2.0, 0, 0], [None, "millimeter", "micrometer", "micrometer"]
    )  # fmt: skip
    path = eyeshot.run(STRIDE, image, tmp_path / "c.ome.zarr", per_slice=True)
    assert transforms(path)[0] == [1, 2.0, 1.0, 0.5]
    assert transforms(path)[2] == [None, "millimeter", "micrometer", "micrometer"]


def test_a_tiff_says_pixels_in_a_centimeter(tmp_path: Path) -> None:
    image = ome_tiff(tmp_path / "a.ome.tif", **MICRONS)
    path = eyeshot.run(STRIDE, image, tmp_path / "b.tif")
    with tifffile.TiffFile(path) as tiff:
        tags = tiff.pages.first.tags
        across, down = tags["XResolution"].value, tags["YResolution"].value
        assert (across[0] / across[1], down[0] / down[1]) == (20000, 10000)
        assert tags["ResolutionUnit"].value == 3
    grid = images.open_source(path).grid
    assert grid is not None
    assert grid.lengths() == pytest.approx((1.0, 0.5))


GEO_KEYS = (1, 1, 0, 3, 1024, 0, 1, 1, 3072, 0, 1, 32632, 3076, 0, 1, 9001)


def geotiff(path: Path, *, point: bool = False, matrix: list[float] | None = None) -> Path:
    keys = list(GEO_KEYS)
    if point:
        keys[3] = 4
        keys += [1025, 0, 1, 2]
    tags: list[Any] = [(34735, "H", len(keys), keys, True)]
    if matrix is None:
        tags += [
            (33550, "d", 3, (10.0, 20.0, 0.0), True),
            (33922, "d", 6, (0.0, 0.0, 0.0, 500_000.0, 5_000_000.0, 0.0), True),
        ]
    else:
        tags.append((34264, "d", 16, matrix, True))
    tifffile.imwrite(path, IMAGE[0], extratags=tags, photometric="minisblack")
    return path


@pytest.mark.parametrize("point", [False, True])
def test_a_geotiff_lies_where_it_should(point: bool, tmp_path: Path) -> None:
    image = geotiff(tmp_path / "a.tif", point=point)
    path = eyeshot.run(STRIDE, image, tmp_path / "b.tif", region=[(5, 50), (10, 50)])
    with tifffile.TiffFile(path) as tiff:
        tags, first = tiff.pages.first.tags, tiff.geotiff_metadata
    assert first is not None
    assert first["ProjectedCSTypeGeoKey"] == 32632
    assert tags[33550].value == (20.0, 40.0, 0.0)
    # The center of the first output is that of the image's pixel at row 10, column 20.
    east, north = 500_000 + 20 * 10, 5_000_000 - 10 * 20
    if not point:  # areas: half an own pixel to the corner, from the center of the image's pixel
        east, north = east + 5 - 10, north - 10 + 20
    assert tags[33922].value == (0, 0, 0, east, north, 0)
    path = eyeshot.run(STRIDE, image, tmp_path / "c.ome.zarr")
    assert transforms(path) == ([1, 40, 20], [0, 0, 0], [None, "meter", "meter"])


def test_a_turned_geotiff_keeps_its_matrix(tmp_path: Path) -> None:
    matrix = [8.0, 6.0, 0, 100.0, 6.0, -8.0, 0, 200.0, *[0.0] * 4, 0, 0, 0, 1.0]
    image = geotiff(tmp_path / "a.tif", matrix=matrix)
    path = eyeshot.run(VALID, image, tmp_path / "b.tif")
    with tifffile.TiffFile(path) as tiff:
        found = tiff.pages.first.tags[34264].value
    assert found[:8] == (8, 6, 0, 100 + 2 * 8 + 2 * 6, 6, -8, 0, 200 + 2 * 6 - 2 * 8)


def test_imagej_and_centimeters_are_read_and_inches_are_not(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, noise((5, 40, 30)), imagej=True, resolution=(4.0, 2.0),
        metadata={"axes": "ZYX", "unit": "um", "spacing": 3.0},
    )  # fmt: skip
    grid = images.open_source(path, space=3).grid
    assert grid == PixelGrid((3.0, 0.5, 0.25), (0, 0, 0), ("micrometer",) * 3)
    tifffile.imwrite(path, IMAGE[0], resolution=(40000, 20000), resolutionunit=3)
    grid = images.open_source(path).grid
    assert grid is not None
    assert grid.lengths() == pytest.approx((0.5, 0.25))
    tifffile.imwrite(path, IMAGE[0], resolution=(72, 72), resolutionunit=2)
    assert images.open_source(path).grid is None


def test_imagej_may_escape_its_unit(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    text = "ImageJ=1.53t\nunit=\\u00B5m\n"
    tifffile.imwrite(path, IMAGE[0], resolution=(4.0, 2.0), description=text, metadata=None)
    grid = images.open_source(path).grid
    assert grid == PixelGrid((0.5, 0.25), (0, 0), ("micrometer",) * 2)


@pytest.mark.parametrize("dots", [10, 28.35, 118.1, 199, 236.2, 472.44, 1889.76, 600 / 2.54])
def test_centimeters_of_prints_and_scans_are_no_size_of_pixels(dots: float, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, IMAGE[0], resolution=(dots, dots), resolutionunit=3)
    assert images.open_source(path).grid is None


@pytest.mark.parametrize("micrometers", [40, 20, 10, 5, 4, 2, 1, 0.5, 0.25, 0.2528])
def test_centimeters_of_microscopes_are_the_size_of_pixels(
    micrometers: float, tmp_path: Path
) -> None:
    path, dots = tmp_path / "a.tif", 1e4 / micrometers
    tifffile.imwrite(path, IMAGE[0], resolution=(dots, dots), resolutionunit=3)
    grid = images.open_source(path).grid
    assert grid is not None
    assert grid.lengths() == pytest.approx((micrometers, micrometers), rel=1e-5)  # of a fraction


def test_slices_of_an_ome_tiff_lie_one_behind_the_other(tmp_path: Path) -> None:
    grid = PixelGrid((2.0, 0.5, 0.25), (3.0, 1.0, 0.0), ("micrometer",) * 3)
    path, array = tmp_path / "a.ome.tif", noise((2, 3, 40, 30))
    with images.open_sink(path, array.shape, array.dtype, storage=Storage(grid=grid)) as sink:
        sink.write(0, array)
        sink.finish()
    with tifffile.TiffFile(path) as tiff:
        planes: Any = tifffile.xml2dict(tiff.ome_metadata or "")["OME"]["Image"]["Pixels"]["Plane"]
    assert [(plane["TheC"], plane["TheZ"], plane["PositionZ"]) for plane in planes] == [
        (channel, number, 3.0 + 2.0 * number) for channel in range(2) for number in range(3)
    ]
    assert {plane["PositionY"] for plane in planes} == {1.0}
    with images.open_source(path, space=3) as source:
        assert source.grid == grid


@pytest.mark.parametrize(
    "change",
    [
        {"PhysicalSizeX": 0.0}, {"PhysicalSizeX": float("inf")}, {"PhysicalSizeXUnit": "pixel"},
        {"PhysicalSizeX": -1.0},
    ],
)  # fmt: skip
def test_sizes_that_cannot_be_meant_are_left_out(change: dict[str, Any], tmp_path: Path) -> None:
    image = ome_tiff(tmp_path / "a.ome.tif", **{**MICRONS, **change})
    assert images.open_source(image).grid is None


@pytest.mark.parametrize(
    "moves",
    [
        [], [{"type": "scale", "scale": [1, 2]}], [{"type": "scale"}], ["scale"],
        [{"type": "scale", "path": "x"}], [{"type": "scale", "scale": [1, "a", 2]}],
        [{"type": "affine", "affine": []}],
    ],
)  # fmt: skip
def test_transformations_that_are_not_understood_are_left_out(moves: Any, tmp_path: Path) -> None:
    path = eyeshot.run(STRIDE, IMAGE, tmp_path / "a.ome.zarr")
    group = zarr.open_group(str(path), mode="r+")
    attributes: Any = group.attrs.asdict()
    attributes["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"] = moves
    group.attrs.update(attributes)
    source = images.open_source(path)
    assert source.grid is None
    assert source.shape == (2, 60, 50)


def test_axes_that_the_user_turns_keep_their_sizes(tmp_path: Path) -> None:
    image = ome_tiff(tmp_path / "a.ome.tif", IMAGE[0], "YX", **MICRONS)
    grid = images.open_source(image, layout="WH").grid
    assert grid is not None
    assert grid.size == (0.25, 0.5)  # what is read as rows are the file's columns


def test_a_net_of_two_inputs_goes_by_the_first(tmp_path: Path) -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return torch.relu(x + y)

    image = ome_tiff(tmp_path / "a.ome.tif", **MICRONS)
    path = eyeshot.run(Two().eval(), [image, np.zeros_like(IMAGE)], tmp_path / "b.ome.zarr")
    assert transforms(path)[0] == [1, 0.5, 0.25]
