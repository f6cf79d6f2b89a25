"""Pairs read by windows: what comes out is what the whole file holds."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from eyeshot import data, images
from eyeshot.data.pairs.pair import open_mask
from eyeshot.errors import BadFile, BadValue
from tests.data.pairs import Array, mask, picture, write_flat, write_pair

SIZE = (37, 29)


def whole(root: Path, task: str = "segment") -> dict[str, tuple[Array, Array]]:
    """Picture and answer of each pair, whole."""
    pairs = data.load_pairs(root, task=task)
    found = {}
    for pair in (*pairs.train, *pairs.validation):
        rows, columns = (0, pair.size[0]), (0, pair.size[1])
        with data.open_pair(pair, pairs) as reader:
            found[pair.name] = (reader.image(rows, columns), reader.target(rows, columns))
    return found


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_depths_and_colors(tmp_path: Path, suffix: str, dtype: type, channels: int) -> None:
    shape = SIZE if channels == 1 else (*SIZE, channels)
    for number in range(2):
        array = picture(number, *shape, dtype=dtype)
        write_pair(tmp_path, str(number), array, mask(number, *SIZE), suffix)
    for name, (image, target) in whole(tmp_path).items():
        array = picture(int(name), *shape, dtype=dtype).reshape(*SIZE, channels)
        expected = array.astype(np.float64) / np.iinfo(dtype).max
        assert image.dtype == np.float32
        assert image == pytest.approx(np.moveaxis(expected, -1, 0), abs=1e-7)
        assert target.dtype == np.int64
        assert np.array_equal(target, mask(int(name), *SIZE) // 255)


def test_floats_are_taken_as_they_are(tmp_path: Path) -> None:
    for number in range(2):
        array = picture(number, *SIZE, dtype=np.float32)
        write_pair(tmp_path, str(number), array, mask(number, *SIZE), ".tif")
    for name, (image, _) in whole(tmp_path).items():
        assert np.array_equal(image[0], picture(int(name), *SIZE, dtype=np.float32))


def test_jpeg_pictures_with_png_masks(tmp_path: Path) -> None:
    for number in range(2):
        write_pair(tmp_path, str(number), picture(number, *SIZE), mask(number, *SIZE))
        (tmp_path / "image" / f"{number}.png").unlink()
        images.write(tmp_path / "image" / f"{number}.jpeg", picture(number, *SIZE, 3))
    for name, (image, _) in whole(tmp_path).items():
        decoded = images.read(tmp_path / "image" / f"{name}.jpeg")
        assert np.array_equal(image, np.moveaxis(decoded.astype(np.float32) / 255, -1, 0))


def _palette_png(path: Path, indices: Array) -> None:
    _with_palette(indices).save(path, format="PNG")


def _palette_png_of_4_bits(path: Path, indices: Array) -> None:
    _with_palette(indices).save(path, format="PNG", bits=4)


def _palette_tiff(path: Path, indices: Array) -> None:
    colors = np.zeros((3, 256), np.uint16)
    colors[:, :4] = [[0, 65535, 0, 9], [0, 0, 65535, 9], [0, 9, 9, 9]]
    tifffile.imwrite(path.with_suffix(".tif"), indices, photometric="palette", colormap=colors)


def _bytes(path: Path, indices: Array) -> None:
    images.write(path, indices)


def _deep_tiff(path: Path, indices: Array) -> None:
    images.write(path.with_suffix(".tif"), indices.astype(np.uint16))


def _long_tiff(path: Path, indices: Array) -> None:
    images.write(path.with_suffix(".tif"), indices.astype(np.int32))


def _bmp(path: Path, indices: Array) -> None:
    Image.fromarray(indices).save(path.with_suffix(".bmp"))


def _with_palette(indices: Array) -> Image.Image:
    colored = Image.fromarray(indices).convert("P")
    colored.putdata(indices.reshape(-1).tolist())
    colored.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 9, 9, 9])
    return colored


@pytest.mark.parametrize(
    "save",
    [_palette_png, _palette_png_of_4_bits, _palette_tiff, _bytes, _deep_tiff, _long_tiff, _bmp],
)
def test_the_numbers_of_masks(tmp_path: Path, save: Callable[[Path, Array], None]) -> None:
    numbers = [mask(number, *SIZE, values=(0, 1, 2, 3)) for number in range(2)]
    for number, array in enumerate(numbers):
        write_pair(tmp_path, str(number), picture(number, *SIZE), array)
        (tmp_path / "label" / f"{number}.png").unlink()
        save(tmp_path / "label" / f"{number}.png", array)
    for name, (_, target) in whole(tmp_path).items():
        assert np.array_equal(target, numbers[int(name)])


def test_a_mask_of_one_bit(tmp_path: Path) -> None:
    for number in range(2):
        write_pair(tmp_path, str(number), picture(number, *SIZE), mask(number, *SIZE))
        bits = Image.fromarray(mask(number, *SIZE)).convert("1")
        bits.save(tmp_path / "label" / f"{number}.png")
    for name, (_, target) in whole(tmp_path).items():
        assert np.array_equal(target, mask(int(name), *SIZE) // 255)


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("windows")
    for number, suffix in enumerate((".png", ".tif", ".npy")):
        write_pair(root, str(number), picture(number, *SIZE, 3), mask(number, *SIZE), suffix)
    return root


@given(st.data())
def test_windows_are_cut_from_the_whole(windows: Path, draws: st.DataObject) -> None:
    pairs = data.load_pairs(windows)
    pair = draws.draw(st.sampled_from((*pairs.train, *pairs.validation)))
    array, classes = picture(int(pair.name), *SIZE, 3), mask(int(pair.name), *SIZE) // 255
    with data.open_pair(pair, pairs) as reader:
        assert reader.size == SIZE
        assert reader.bytes == array.nbytes + classes.size
        for _ in range(3):
            top, left = (draws.draw(st.integers(0, length - 1)) for length in SIZE)
            bottom = draws.draw(st.integers(top + 1, SIZE[0]))
            right = draws.draw(st.integers(left + 1, SIZE[1]))
            image = reader.image((top, bottom), (left, right))
            target = reader.target((top, bottom), (left, right))
            expected = array[top:bottom, left:right].astype(np.float32) / 255
            assert np.array_equal(image, np.moveaxis(expected, -1, 0))
            assert np.array_equal(target, classes[top:bottom, left:right])


def test_a_target_picture_is_scaled_as_the_picture_is(tmp_path: Path) -> None:
    for number in range(2):
        write_pair(tmp_path, str(number), picture(number), picture(9 + number, dtype=np.uint16))
    for name, (_, target) in whole(tmp_path, "restore").items():
        expected = picture(9 + int(name), dtype=np.uint16) / 65535
        assert target.dtype == np.float32
        assert target[0] == pytest.approx(expected, abs=1e-7)


def test_a_window_outside_is_refused(tmp_path: Path) -> None:
    pairs = data.load_pairs(write_flat(tmp_path, 2))
    with (
        data.open_pair(pairs.train[0], pairs) as reader,
        pytest.raises(BadValue, match="stay inside"),
    ):
        reader.image((0, 10), (0, 7))


def test_files_that_change_later_are_named(tmp_path: Path) -> None:
    pairs = data.load_pairs(write_flat(tmp_path, 2))
    pair = pairs.train[0]
    images.write(pair.target, np.full(pair.size, 9, np.uint8))
    with (
        data.open_pair(pair, pairs) as reader,
        pytest.raises(BadFile, match=f"{pair.target}: 9 stands for no class"),
    ):
        reader.target((0, 9), (0, 7))
    images.write(pair.image, np.zeros((*pair.size, 3), np.uint8))
    with pytest.raises(BadFile, match="has 3 channels and had 1 before"):
        data.open_pair(pair, pairs)
    images.write(pair.image, picture(1, 5, 5))
    with pytest.raises(BadFile, match="is 5×5 and was 9×7 before"):
        data.open_pair(pair, pairs)


def test_of_a_tiled_file_the_tiles_of_the_window_are_read(tmp_path: Path) -> None:
    for part, side in (("train", 1024), ("val", 128)):
        for folder in ("image", "label"):
            (tmp_path / part / folder).mkdir(parents=True)
            array = mask(1, side, side)
            path = tmp_path / part / folder / "a.tif"
            tifffile.imwrite(path, array, tile=(128, 128), compression="zlib")
    pairs = data.load_pairs(tmp_path)
    with data.open_pair(pairs.train[0], pairs) as reader:
        reader.image((500, 600), (500, 600))
        reader.target((0, 100), (500, 600))
        assert reader._image.decoded_chunks == 4
        assert reader._target.decoded_chunks == 2


def test_a_folder_is_looked_through_in_little_memory(tmp_path: Path) -> None:
    for part, side in (("train", 8000), ("val", 80)):
        for folder in ("image", "label"):
            (tmp_path / part / folder).mkdir(parents=True)
            array = np.zeros((side, side), np.uint8)
            array[: side // 2] = 255
            np.save(tmp_path / part / folder / "a.npy", array)
    tracemalloc.start()
    try:
        pairs = data.load_pairs(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert pairs.counts == (32_000_000, 32_000_000)
    assert peak < 40_000_000  # and each file holds 64


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_a_mask_saved_gray_in_color_is_the_gray_one(tmp_path: Path, channels: int) -> None:
    for number in range(3):
        array = picture(number, *SIZE)
        write_pair(tmp_path / "gray", str(number), array, mask(number, *SIZE))
        write_pair(tmp_path / "color", str(number), array, mask(number, *SIZE))
        path = tmp_path / "color" / "label" / f"{number}.png"
        saved = Image.open(path).convert("L")
        saved.convert({2: "LA", 3: "RGB", 4: "RGBA"}[channels]).save(path)
    gray, color = whole(tmp_path / "gray"), whole(tmp_path / "color")
    assert all(np.array_equal(gray[name][1], color[name][1]) for name in gray)
    notes = data.load_pairs(tmp_path / "color").notes
    assert any(f"gray saved in {channels} channels" in note for note in notes)


def test_one_colored_or_transparent_pixel_and_it_is_no_gray_mask(tmp_path: Path) -> None:
    for number in range(3):
        write_pair(tmp_path, str(number), picture(number, *SIZE), mask(number, *SIZE))
    path = tmp_path / "label" / "1.png"
    saved = np.asarray(Image.open(path).convert("RGBA")).copy()
    for channel in (1, 3):
        spoilt = saved.copy()
        spoilt[30, 20, channel] ^= 1
        Image.fromarray(spoilt).save(path)
        with pytest.raises(BadFile, match=r"1\.png: is a mask with 4 channels; save it with one"):
            data.load_pairs(tmp_path)


@pytest.mark.parametrize("shape", [(3, 50), (3, 9, 8), (3, 4, 9, 8)])
def test_gray_masks_in_several_channels_of_every_number_of_axes(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    plane = np.arange(np.prod(shape[1:]), dtype=np.uint8).reshape(shape[1:])
    np.save(tmp_path / "mask.npy", np.broadcast_to(plane, shape))
    with open_mask(tmp_path / "mask.npy", colors=False, space=len(shape) - 1) as found:
        np.testing.assert_array_equal(found.read(), plane[np.newaxis])


def test_masks_of_objects_take_a_threshold(tmp_path: Path) -> None:
    """Soft edges of one object are cut as those of a mask of all are."""
    soft = np.arange(256, dtype=np.uint8).reshape(16, 16)
    images.write(tmp_path / "first.png", soft)
    for threshold, least in ((0, 1), (128, 128)):
        with open_mask(tmp_path, colors=False, threshold=threshold) as found:
            np.testing.assert_array_equal(found.read()[0], np.where(soft >= least, 255, 0))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_gray_in_three_channels_reaches_the_same_threshold(tmp_path: Path, kind: type) -> None:
    """0.299 + 0.587 + 0.114 is a little less than 1 in floats: 128 would not reach 128."""
    gray = np.arange(256).reshape(16, 16)
    np.save(tmp_path / "mask.npy", np.stack([gray] * 3).astype(kind))
    for threshold in range(1, 256):
        with open_mask(tmp_path / "mask.npy", colors=False, threshold=threshold) as found:
            np.testing.assert_array_equal(found.read()[0] > 0, gray >= threshold)


def test_a_mask_with_nan_is_not_cut(tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", np.full((8, 8), np.nan, np.float32))
    with (
        open_mask(tmp_path / "mask.npy", colors=False, threshold=1) as found,
        pytest.raises(BadFile, match=r"mask\.npy: holds numbers that are not finite"),
    ):
        found.read()
