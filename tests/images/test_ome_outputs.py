"""OME-Zarr and OME-TIFF: each level against the pyramid of the whole image, made by plain means."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from torch import Tensor, nn

import eyeshot
from eyeshot import images
from eyeshot.errors import BadFile, BadValue
from eyeshot.images.pixel_grid import PixelGrid
from eyeshot.images.sinks import pyramids
from eyeshot.images.sinks.sink import Storage

from .conftest import Array, noise


def put(path: Path, array: Array, storage: Storage, step: int = 300) -> Any:
    """Write ``array`` in two strips of an odd width; the group, of OME-Zarr."""
    middle = array.shape[2] // 3 | 1
    with images.open_sink(path, array.shape, array.dtype, storage=storage) as sink:
        for left, right in ((0, middle), (middle, array.shape[2])):
            for top in range(0, array.shape[1], step) if left < right else ():
                sink.write(top, array[:, top : top + step, left:right], left)
        sink.finish()
    return zarr.open_group(str(path), mode="r") if path.suffix == ".zarr" else None


def smaller(array: Array, shape: tuple[int, ...], *, labels: bool) -> Array:
    """The next level: the sum of each window over the number of its samples."""
    factors = [2 if after < before else 1 for before, after in zip(array.shape, shape, strict=True)]
    if labels:
        return array[tuple(slice(None, None, factor) for factor in factors)]
    sums, counts = array.astype(np.float64), np.ones(array.shape)
    for axis, factor in enumerate(factors):
        starts = np.arange(0, array.shape[axis], factor)
        sums, counts = (np.add.reduceat(one, starts, axis) for one in (sums, counts))
    means = sums / counts
    return (np.round(means) if array.dtype.kind in "iu" else means).astype(array.dtype)


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1, 70, 601), np.uint8),
        ((5, 3, 1030), np.float32),
        ((1, 530, 40), np.float16),
        ((1, 70, 70, 31), np.uint16),
        ((1, 3, 131, 1), np.float64),
    ],
)
def test_each_level_is_that_of_the_whole_image(
    shape: tuple[int, ...], dtype: Any, labels: bool, tmp_path: Path
) -> None:
    now = noise(shape, dtype)
    group = put(tmp_path / "out.ome.zarr", now, Storage(labels=labels))
    scales = group.attrs["ome"]["multiscales"][0]
    assert scales["type"] == ("nearest" if labels else "mean")
    assert len(scales["datasets"]) > 1
    for number, entry in enumerate(scales["datasets"]):
        level = np.asarray(group[entry["path"]])
        if number:
            now = smaller(now, level.shape, labels=labels)
        np.testing.assert_array_equal(level, now)
    space = group[entry["path"]].chunks[1:]
    assert now.shape[1:] == space, "the last level is one chunk"


def test_a_stack_of_few_slices_keeps_them_and_pixels_lie_where_they_are(tmp_path: Path) -> None:
    group = put(tmp_path / "out.ome.zarr", noise((1, 3, 201, 90)), Storage())
    scales = group.attrs["ome"]["multiscales"][0]
    assert [axis["name"] for axis in scales["axes"]] == ["c", "z", "y", "x"]
    assert [group[e["path"]].shape for e in scales["datasets"]] == [
        (1, 3, 201, 90), (1, 3, 101, 45), (1, 3, 51, 23)
    ]  # fmt: skip
    for number, entry in enumerate(scales["datasets"]):
        scale, move = entry["coordinateTransformations"]
        assert scale["scale"] == [1, 1, 2**number, 2**number]
        middle = Fraction(2**number - 1, 2)  # of the pixels that the first one covers
        assert move["translation"] == [0, 0, middle, middle]


@pytest.mark.parametrize("kind", ["labels", "bool"])
def test_picked_samples_lie_where_they_were_picked(kind: str, tmp_path: Path) -> None:
    rows = np.add.outer(np.arange(1201), np.zeros(700, int))[np.newaxis]
    array = rows % 2 == 0 if kind == "bool" else rows.astype(np.uint16)
    group = put(tmp_path / "out.ome.zarr", array, Storage(labels=kind == "labels"))
    datasets = group.attrs["ome"]["multiscales"][0]["datasets"]
    assert len(datasets) == 3
    for entry in datasets:
        scale, move = (one[one["type"]] for one in entry["coordinateTransformations"])
        level = group[entry["path"]][0, :, 0]
        at = [int(scale[1] * row + move[1]) for row in range(len(level))]
        np.testing.assert_array_equal(level, array[0, at, 0])


def test_infinities_of_two_signs_and_the_largest_numbers(tmp_path: Path) -> None:
    array = np.zeros((1, 2, 601), np.float64)
    array[0, :, :4] = [[np.inf, np.inf, 1.7e308, 1.7e308], [-np.inf, 0, 1.7e308, 1.7e308]]
    group = put(tmp_path / "out.ome.zarr", array, Storage())
    assert np.isnan(group["1"][0, 0, 0])
    assert group["1"][0, 0, 1] == 1.7e308


@pytest.mark.parametrize("name", ["out.zarr", "out.ome.zarr"])
@pytest.mark.parametrize("shape", [(2, 1030, 1100), (5, 70, 130, 65)])
def test_shards_hold_the_same_samples_in_fewer_files(
    name: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    array, side = noise(shape), 1024 if len(shape) == 3 else 128
    path, plain = tmp_path / name, tmp_path / f"plain.{name}"
    kept = put(plain, array, Storage()) if "ome" in name else None
    if kept is None:
        with images.open_sink(plain, shape, array.dtype) as sink:
            sink.write(0, array)
            sink.finish()
    with images.open_sink(path, shape, array.dtype, storage=Storage(shard=side)) as sink:
        for top in range(0, shape[1], 100):
            sink.write(top, array[:, top : top + 100])
        sink.finish()
    with images.open_source(path) as source:
        np.testing.assert_array_equal(source.read(), array)
    if kept is not None:
        for level in kept:
            np.testing.assert_array_equal(zarr.open_array(path / level)[...], kept[level][...])
    assert _files(path) < _files(plain)


def _files(folder: Path) -> int:
    return sum(path.is_file() and path.name != "zarr.json" for path in folder.rglob("*"))


def test_a_shard_is_no_smaller_than_a_chunk_and_only_of_zarr(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="a shard of 100 is smaller than a chunk of 512"):
        images.open_sink(tmp_path / "a.zarr", (1, 9, 9), np.uint8, storage=Storage(shard=100))
    with pytest.raises(BadValue, match=r"a\.npy: shards; write \.zarr"):
        images.open_sink(tmp_path / "a.npy", (1, 9, 9), np.uint8, storage=Storage(shard=512))


def test_an_unfinished_run_goes_on_with_its_own_shards(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    with images.open_sink(path, (1, 2000, 9), np.uint8, storage=Storage(shard=512)) as sink:
        sink.write(0, np.ones((1, 600, 9), np.uint8))
    with pytest.raises(BadValue, match="shard was 512 and is 1024"):
        images.open_sink(path, (1, 2000, 9), np.uint8, resume=True, storage=Storage(shard=1024))


def test_levels_that_were_damaged_are_made_again_on_resuming(tmp_path: Path) -> None:
    array, path = noise((1, 2100, 9)), tmp_path / "a.ome.zarr"
    with images.open_sink(path, array.shape, np.uint8) as sink:
        sink.write(0, array[:, :2000])
    chunk = tmp_path / "a.ome.zarr.part" / "1" / "c" / "0" / "0" / "0"
    before = chunk.read_bytes()
    chunk.write_bytes(b"")
    with images.open_sink(path, array.shape, np.uint8, resume=True) as sink:
        assert chunk.read_bytes() == before
        sink.write(sink.durable_rows(), array[:, sink.durable_rows() :])
        sink.finish()
    whole = put(tmp_path / "whole.ome.zarr", array, Storage())
    for level in whole:
        np.testing.assert_array_equal(zarr.open_array(path / level)[...], whole[level][...])


def _net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1)).eval()


@pytest.mark.parametrize(
    ("form", "kind", "window"),
    [
        ("scores", "mean", None),
        ("uint8", "mean", (0, 255)),
        ("probabilities", "mean", (0, 1)),
        ("argmax", "nearest", None),
        ("threshold:0.5", "nearest", None),
    ],
)
def test_a_run_averages_scores_and_picks_labels(
    form: str, kind: str, window: tuple[int, int] | None, tmp_path: Path
) -> None:
    net: nn.Module = nn.Sequential(_net(), nn.Sigmoid() if form == "uint8" else nn.Identity())
    if form == "threshold:0.5":
        net = nn.Conv2d(1, 1, 3)
    net, image = net.eval(), noise((1, 700, 530), np.float32)
    path = eyeshot.run(net, image, tmp_path / "out.ome.zarr", output_format=form)
    group: Any = zarr.open_group(str(path), mode="r")
    ome = group.attrs["ome"]
    assert ome["multiscales"][0]["type"] == kind
    assert ("image-label" in ome) == (kind == "nearest")
    assert ("omero" in ome) == (window is not None)
    if window is not None:
        channels = ome["omero"]["channels"]
        assert [(one["window"]["start"], one["window"]["end"]) for one in channels] == 3 * [window]
        assert [one["color"] for one in channels] == ["FF0000", "00FF00", "0000FF"]
    whole = eyeshot.run(net, image, output_format=form)
    np.testing.assert_array_equal(group["0"][...], whole)
    np.testing.assert_array_equal(
        group["1"][...], smaller(whole, group["1"].shape, labels=kind == "nearest")
    )


def test_strips_bands_and_regions_change_nothing(tmp_path: Path) -> None:
    image, net = noise((1, 900, 1200), np.float32), _net()
    whole = eyeshot.run(net, image, output_format="argmax")
    region = [(33, 880), (1, 1190)]
    path = eyeshot.run(
        net, image, tmp_path / "a.ome.zarr", region=region, output_format="argmax", band=7,
        shard=1024,
    )  # fmt: skip
    group: Any = zarr.open_group(str(path), mode="r")
    now = whole[:, 33:880, 1:1190]
    for level in ("0", "1", "2"):
        if level != "0":
            now = smaller(now, group[level].shape, labels=True)
        np.testing.assert_array_equal(group[level][...], now)


def test_the_plan_counts_what_a_shard_holds(tmp_path: Path) -> None:
    image = np.zeros((1, 4096, 2048), np.float32)
    plain, shards = (
        eyeshot.plan(_net(), image, tmp_path / "a.ome.zarr", shard=shard) for shard in (None, 4096)
    )
    rows = (4096 - 512) * 2048 * 3 * 4
    assert shards.bands.peak - plain.bands.peak > rows


def test_the_network_s_own_order_gives_way_to_that_of_viewers(tmp_path: Path) -> None:
    class Last(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * 2).permute(0, 3, 2, 1)  # (N, W, H, C)

    image = noise((3, 40, 30), np.float32)
    path = eyeshot.run(Last().eval(), image, tmp_path / "a.ome.zarr")
    with images.open_source(path) as source:
        np.testing.assert_array_equal(source.read(), image * 2)


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize(
    ("shape", "dtype", "axes"),
    [
        ((1, 700, 1301), np.uint8, "YX"),
        ((3, 40, 1030), np.uint16, "YXS"),
        ((4, 530, 30), np.uint8, "YXS"),
        ((3, 530, 30), np.float32, "CYX"),
        ((7, 1, 530), np.int32, "CYX"),
        ((1, 5, 40, 530), np.uint8, "ZYX"),
        ((2, 5, 40, 530), np.float32, "CZYX"),
        ((3, 2, 40, 530), np.uint8, "ZYXS"),
        ((1, 1, 1), np.float64, "YX"),
    ],
)
def test_tifffile_reads_each_level(
    shape: tuple[int, ...], dtype: Any, axes: str, labels: bool, tmp_path: Path
) -> None:
    path, now = tmp_path / "out.ome.tif", noise(shape, dtype)
    put(path, now, Storage(labels=labels))
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        assert not tiff.is_bigtiff
        assert len(tiff.series) == 1
        series = tiff.series[0]
        assert series.axes == axes
        assert len(series.levels) == (
            1 if max(shape[-2:]) <= 512 else -(-max(shape[-2:]) // 1024) + 1
        )
        assert all(level.keyframe.is_tiled for level in series.levels)
        for number, level in enumerate(series.levels):
            found = level.asarray()
            found = np.moveaxis(found, -1, 0) if axes.endswith("S") else found
            if number:
                now = smaller(
                    now, (shape[0], *shape[1:-2], *level.keyframe.shape[:2]), labels=labels
                )
            np.testing.assert_array_equal(found, now if shape[0] > 1 else now[0])
    with images.open_source(path, level=number, space=len(shape) - 1) as source:
        np.testing.assert_array_equal(source.read(), now)


def test_an_ome_tiff_says_how_large_its_pixels_are(tmp_path: Path) -> None:
    grid = PixelGrid((2.0, 0.5, 0.25), (4.0, 1.5, 0), ("millimeter", "micrometer", "micrometer"))
    put(tmp_path / "out.ome.tif", noise((2, 3, 40, 530)), Storage(grid=grid))
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as tiff:
        found = tifffile.xml2dict(tiff.ome_metadata or "")["OME"]["Image"]["Pixels"]
    assert (found["PhysicalSizeX"], found["PhysicalSizeXUnit"]) == (0.25, "µm")
    assert (found["PhysicalSizeZ"], found["PhysicalSizeZUnit"]) == (2.0, "mm")
    assert (found["SizeC"], found["SizeZ"]) == (2, 3)
    assert len(found["Plane"]) == 6
    with images.open_source(tmp_path / "out.ome.tif", space=3) as source:
        assert source.grid == grid


def test_a_large_ome_tiff_is_big(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyramids, "_CLASSIC", 1000)
    put(tmp_path / "out.ome.tif", noise((1, 40, 530)), Storage())
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as tiff:
        assert tiff.is_bigtiff


def test_a_kill_while_an_ome_tiff_is_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array, path, whole = noise((1, 600, 530)), tmp_path / "a.ome.tif", tmp_path / "b.ome.tif"
    put(whole, array, Storage())
    real = tifffile.TiffWriter.write

    def killed(self: Any, *args: Any, **options: Any) -> Any:
        if options.get("subfiletype"):
            raise KeyboardInterrupt
        return real(self, *args, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tifffile.TiffWriter, "write", killed)
        put(path, array, Storage())
    assert not path.exists()
    with images.open_sink(path, array.shape, np.uint8, resume=True) as sink:
        assert sink.durable_rows((0, 177)) == 600
        sink.finish()
    assert path.read_bytes() == whole.read_bytes()
    assert {file.name for file in tmp_path.iterdir()} == {path.name, whole.name}


def test_a_folder_is_no_ome_tiff_and_a_file_no_ome_zarr(tmp_path: Path) -> None:
    (tmp_path / "a.ome.tif").mkdir()
    with pytest.raises(BadFile, match="is a folder"):
        images.open_sink(tmp_path / "a.ome.tif", (1, 9, 9), np.uint8, force=True)
    (tmp_path / "a.ome.zarr").write_text("mine")
    with pytest.raises(BadFile, match="not Zarr, so it is never replaced"):
        images.open_sink(tmp_path / "a.ome.zarr", (1, 9, 9), np.uint8, force=True)


def test_an_output_of_another_size_is_replaced_whole(tmp_path: Path) -> None:
    for name in ("a.ome.zarr", "a.ome.tif"):
        put(tmp_path / name, noise((1, 1300, 40)), Storage())
        with images.open_sink(tmp_path / name, (1, 9, 7), np.uint8, force=True) as sink:
            sink.write(0, noise((1, 9, 7)))
            sink.finish()
        assert images.open_source(tmp_path / name).shape == (1, 9, 7)
        with pytest.raises(BadValue, match="it has only level 0"):
            images.open_source(tmp_path / name, level=1)
    assert {file.name for file in tmp_path.iterdir()} == {"a.ome.zarr", "a.ome.tif"}


def test_a_run_into_an_ome_tiff(tmp_path: Path) -> None:
    image = noise((1, 700, 530), np.float32)
    path = eyeshot.run(_net(), image, tmp_path / "out.ome.tif", output_format="argmax")
    whole = eyeshot.run(_net(), image, output_format="argmax")
    with tifffile.TiffFile(path) as tiff:
        assert [level.shape for level in tiff.series[0].levels] == [(700, 530), (350, 265)]
    assert whole.shape == (1, 700, 530)


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("suffix", ["tif", "zarr"])
def test_a_level_that_is_read_back_lies_where_its_samples_do(
    suffix: str, labels: bool, tmp_path: Path
) -> None:
    grid = PixelGrid((0.5, 0.25), (1.5, 0), ("micrometer", "micrometer"))
    path = tmp_path / f"out.ome.{suffix}"
    put(path, noise((1, 1300, 530), np.uint8), Storage(labels=labels, grid=grid))
    for level in (0, 1, 2):
        middle = 0 if labels else (2**level - 1) / 2
        with images.open_source(path, level=level) as source:
            assert source.grid == grid.moved([(2**level, middle)] * 2)
