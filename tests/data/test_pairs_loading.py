"""Folders of pictures and masks: both layouts, the split, and what is learned of the pixels."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eyeshot import data, images
from eyeshot.data.pairs.survey import Moments
from eyeshot.errors import BadFile, BadValue, UnknownName
from tests.data.pairs import mask, picture, write_flat, write_pair


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    return write_flat(tmp_path / "cells", 10)


def test_the_shared_membranes(membranes_folder: Path) -> None:
    pairs = data.load_pairs(membranes_folder, validation=4)
    assert (len(pairs.train), len(pairs.validation)) == (20, 4)
    assert pairs.classes == ("background", "foreground")
    assert pairs.channels == 1
    assert {pair.size for pair in pairs.train} == {(512, 512)}
    assert sum(pairs.counts) == 20 * 512 * 512
    held = np.stack([images.read(pair.image) for pair in pairs.train]) / 255
    assert pairs.mean == pytest.approx((held.mean(),), abs=1e-7)
    assert pairs.std == pytest.approx((held.std(),), abs=1e-7)


def test_a_flat_folder_is_split_by_seed_and_name(flat: Path) -> None:
    pairs = data.load_pairs(flat, seed=3)
    names = [f"{number:02}" for number in range(10)]
    mixed = sorted(names, key=lambda name: hashlib.sha256(f"3/{name}".encode()).digest())
    assert [pair.name for pair in pairs.validation] == sorted(mixed[-2:])
    assert [pair.name for pair in pairs.train] == sorted(mixed[:-2])
    assert "2 of 10 pairs were set aside for validation, by seed 3" in pairs.notes
    assert len(data.load_pairs(flat, validation=7).validation) == 7


def test_a_pair_more_moves_few_others(flat: Path) -> None:
    before = data.load_pairs(flat, validation=3)
    write_pair(flat, "new", picture(77), mask(78))
    after = data.load_pairs(flat, validation=3)
    kept = {pair.name for pair in before.validation} & {pair.name for pair in after.validation}
    assert len(kept) >= 2


def test_a_picture_that_is_there_twice_with_other_masks_is_named(flat: Path) -> None:
    shutil.copy(flat / "image" / "00.png", flat / "image" / "again.png")
    shutil.copy(flat / "label" / "00.png", flat / "label" / "again.png")
    assert not any("different answers" in note for note in data.load_pairs(flat).notes)
    shutil.copy(flat / "label" / "01.png", flat / "label" / "again.png")
    (said,) = [note for note in data.load_pairs(flat).notes if "different answers" in note]
    assert said.startswith("1 picture is there twice, with different answers, first ")
    assert str(flat / "label" / "again.png") in said


def test_parts_of_its_own(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("val", 1)):
        write_flat(tmp_path / part, count)
    pairs = data.load_pairs(tmp_path)
    assert [pair.name for pair in pairs.train] == ["00", "01", "02"]
    assert [pair.image for pair in pairs.validation] == [tmp_path / "val" / "image" / "00.png"]
    assert "1 validation picture is a training picture too" in pairs.notes[-1]
    with pytest.raises(BadValue, match="already has parts"):
        data.load_pairs(tmp_path, validation=1)


def test_the_part_test_stands_in_for_val_and_is_said(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_flat(tmp_path / part, 2)
    assert "the best epoch is chosen by test" in data.load_pairs(tmp_path).notes[0]


def test_sizes_may_differ_from_pair_to_pair(flat: Path) -> None:
    write_pair(flat, "wide", picture(50, 4, 30), mask(51, 4, 30))
    pairs = data.load_pairs(flat)
    found = {pair.name: pair.size for pair in (*pairs.train, *pairs.validation)}
    assert found["wide"] == (4, 30)
    assert found["00"] == (9, 7)


def test_depths_may_differ_and_each_is_scaled_by_its_own(tmp_path: Path) -> None:
    dark = np.full((6, 6), 65535 // 5, np.uint16)
    bright = np.full((6, 6), 255 // 5 * 3, np.uint8)
    for name, array in (("a", dark), ("b", bright)):
        write_pair(tmp_path / "train", name, array, mask(1, 6, 6))
    write_pair(tmp_path / "val", "c", np.full((6, 6), 0.5, np.float32), mask(1, 6, 6), ".tif")
    pairs = data.load_pairs(tmp_path)
    assert pairs.mean == pytest.approx((0.4,))
    assert pairs.std == pytest.approx((0.2,))


def test_a_channel_that_never_varies_can_be_divided_by(tmp_path: Path) -> None:
    for number in range(2):
        array = picture(number, 6, 6, 3)
        array[..., 1] = 40
        write_pair(tmp_path, str(number), array, mask(number, 6, 6))
    pairs = data.load_pairs(tmp_path)
    assert pairs.channels == 3
    assert pairs.std[1] == 1.0
    assert pairs.mean[1] == pytest.approx(40 / 255)


def test_counts_are_of_the_training_masks(flat: Path) -> None:
    pairs = data.load_pairs(flat)
    masks = [images.read(pair.target) for pair in pairs.train]
    assert pairs.counts == tuple(sum(int((m == v).sum()) for m in masks) for v in (0, 255))


def test_numbered_masks_with_255_left_out(tmp_path: Path) -> None:
    pairs = data.load_pairs(write_flat(tmp_path, 4, values=(0, 1, 2, 255)))
    assert pairs.classes == ("class 0", "class 1", "class 2")
    assert sum(pairs.counts) < 3 * 9 * 7
    assert "255 in a mask stands for no class and is left out" in pairs.notes


def test_a_class_that_cannot_be_learned_is_said(tmp_path: Path) -> None:
    write_flat(tmp_path / "train", 3)
    write_flat(tmp_path / "val", 1)
    (tmp_path / "classes.yaml").write_text("paper: 0\nink: 255\nred: 7\n")
    pairs = data.load_pairs(tmp_path)
    assert pairs.counts[2] == 0
    assert "no training mask holds 'red': it cannot be learned" in pairs.notes


def test_the_fingerprint_changes_with_a_pixel_and_not_with_the_place(
    flat: Path, tmp_path: Path
) -> None:
    before = data.load_pairs(flat).fingerprint
    moved = flat.rename(tmp_path / "elsewhere")
    assert data.load_pairs(moved).fingerprint == before
    assert data.load_pairs(moved, seed=1).fingerprint != before
    array = images.read(moved / "label" / "05.png")
    array[3, 3] ^= 255
    images.write(moved / "label" / "05.png", array)
    assert data.load_pairs(moved).fingerprint != before


def test_pictures_as_answers(tmp_path: Path) -> None:
    for number in range(5):
        write_pair(tmp_path, str(number), picture(number, 8, 8, 3), picture(9, 8, 8, 3))
    (tmp_path / "label").rename(tmp_path / "target")
    pairs = data.load_pairs(tmp_path, task="restore")
    assert (pairs.classes, pairs.counts, pairs.legend) == ((), (), None)
    assert pairs.channels == 3
    assert len(pairs.train) == 4
    assert data.check_pairs(tmp_path, task="restore") == ()


@pytest.mark.parametrize("names", [("images", "labels"), ("image", "mask"), ("images", "masks")])
def test_other_names_for_the_two_sides(flat: Path, names: tuple[str, str]) -> None:
    expected = data.load_pairs(flat).fingerprint
    for before, after in zip(("image", "label"), names, strict=True):
        (flat / before).rename(flat / after)
    assert data.load_pairs(flat).fingerprint == expected


def test_what_is_hidden_or_no_picture_is_passed_over(flat: Path) -> None:
    (flat / "image" / ".DS_Store").write_bytes(b"x")
    (flat / "image" / "Thumbs.db").write_bytes(b"x")
    (flat / "notes.txt").write_text("x")
    pairs = data.load_pairs(flat)
    assert len(pairs.train) + len(pairs.validation) == 10
    place = flat / "image"
    assert f"passed over in {place}: 1 that is no picture, first Thumbs.db" in pairs.notes


def test_a_wait_is_reported(flat: Path) -> None:
    reported: list[tuple[str, int, int]] = []
    data.load_pairs(flat, progress=lambda *words: reported.append(words))
    assert reported[-1] == ("reading pictures and masks", 10, 10)
    assert len(reported) == 10


def test_arguments_out_of_range(flat: Path) -> None:
    for count in (0, 10, -1):
        with pytest.raises(BadValue, match=f"validation is {count}"):
            data.load_pairs(flat, validation=count)
    with pytest.raises(BadValue, match="seed is -1"):
        data.load_pairs(flat, seed=-1)
    with pytest.raises(UnknownName, match="did you mean 'segment'"):
        data.load_pairs(flat, task="segments")
    with pytest.raises(BadFile, match="no such folder"):
        data.load_pairs(flat / "nowhere")


@given(
    st.lists(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=9), min_size=1, max_size=5)
)
def test_moments_of_parts_are_moments_of_the_whole(parts: list[list[float]]) -> None:
    moments = Moments(1)
    for part in parts:
        moments.add(np.array([part], np.float32))
    whole = np.concatenate(parts)
    assert moments.mean == pytest.approx([whole.mean()], abs=1e-12)
    expected = whole.std() if whole.std() > 1e-9 else 1.0
    assert moments.std == pytest.approx([expected], rel=1e-6, abs=1e-9)


@given(st.integers(0, 2**32 - 1), st.sampled_from([np.uint8, np.uint16, np.uint32]))
def test_moments_of_whole_numbers_are_of_the_scaled_ones(seed: int, dtype: type) -> None:
    samples = picture(seed, 2, 5, 9, dtype=dtype)
    moments = Moments(2)
    moments.add(samples[:, :2])
    moments.add(samples[:, 2:])
    scaled = samples / np.iinfo(dtype).max
    assert moments.mean == pytest.approx(scaled.mean(axis=(1, 2)), rel=1e-6)
    assert moments.std == pytest.approx(scaled.std(axis=(1, 2)), rel=1e-6)
