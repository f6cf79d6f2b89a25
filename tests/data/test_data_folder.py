"""Folders of classes: both layouts, whatever is wrong with them, and held or streamed the same."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from eyeshot import data, images
from eyeshot.errors import BadFile, BadValue

Picture = NDArray[np.uint8]


def picture(number: int, *shape: int) -> Picture:
    return np.random.default_rng(number).integers(0, 256, shape or (6, 5), np.uint8)


def fill(folder: Path, pictures: Iterable[NDArray[Any]], suffix: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, array in enumerate(pictures):
        images.write(folder / f"{number:03}{suffix}", array)


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """Two classes, 3 to learn from and 2 to test with of each, all different."""
    root = tmp_path / "set"
    for base, (part, count) in enumerate([("train", 3), ("test", 2)]):
        for label, name in enumerate(["cat", "dog"]):
            fill(root / part / name, (picture(100 * base + 10 * label + k) for k in range(count)))
    return root


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """One tree: 10 of one class, 5 of the other."""
    root = tmp_path / "flat"
    fill(root / "a", (picture(k) for k in range(10)))
    fill(root / "b", (picture(50 + k) for k in range(5)))
    return root


def test_the_split_layout_in_the_order_of_names(split: Path) -> None:
    found = data.load(split)
    assert found.classes == ("cat", "dog")
    assert (found.channels, found.size) == (1, (6, 5))
    assert found.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.test.labels.tolist() == [0, 0, 1, 1]
    expected = np.stack([picture(k) for k in (0, 1, 2, 10, 11, 12)])
    assert np.array_equal(found.train.images[:, 0].numpy(), expected)
    assert found.mean == pytest.approx(((expected / 255).mean(),))
    assert found.std == pytest.approx(((expected / 255).std(),))
    assert found.validation is None


def test_val_alone_is_the_test_part_and_is_said(split: Path) -> None:
    (split / "test").rename(split / "val")
    found = data.load(split)
    assert found.test.labels.tolist() == [0, 0, 1, 1]
    assert "there is no test folder: val judges each epoch, and the finished network" in found.notes


def test_val_beside_test_is_a_part_of_its_own(split: Path) -> None:
    for name in ("cat", "dog"):
        fill(split / "val" / name, [picture(len(name) * 77 + ord(name[0]))])
    found = data.load(split)
    assert len(found.test) == 4
    assert found.validation is not None
    assert found.validation.labels.tolist() == [0, 1]
    expected = picture(3 * 77 + ord("c"))
    assert np.array_equal(found.validation.images[0, 0].numpy(), expected)
    assert found.judged == ("validation", found.validation)
    assert "val judges each epoch; test is left for the finished network" in found.notes


def test_a_flat_tree_is_split_by_its_seed(flat: Path) -> None:
    first, again, other = (data.load(flat, seed=seed) for seed in (0, 0, 1))
    assert first.train.labels.tolist() == [0] * 8 + [1] * 4
    assert first.test.labels.tolist() == [0, 0, 1]
    assert torch.equal(first.test.images, again.test.images)
    assert not torch.equal(first.test.images, other.test.images)
    every = torch.cat([first.train.images, first.test.images])
    assert len({one.numpy().tobytes() for one in every}) == 15
    assert any("set aside for testing, by seed 0" in note for note in first.notes)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3)])
def test_streamed_and_held_are_the_same_set(tmp_path: Path, shape: tuple[int, ...]) -> None:
    for label in range(2):
        fill(tmp_path / str(label), (picture(20 * label + k, *shape) for k in range(6)))
    in_memory = data.load(tmp_path)
    streamed = data.load(tmp_path, budget=100)
    assert in_memory.train.in_memory
    assert not streamed.train.in_memory
    assert any("they stay in their files" in note for note in streamed.notes)
    for name in ("classes", "channels", "size", "mean", "std"):
        assert getattr(in_memory, name) == getattr(streamed, name)
    for ours, theirs in ((in_memory.train, streamed.train), (in_memory.test, streamed.test)):
        assert torch.equal(ours.images, theirs.take(range(len(theirs)))[0])
        assert torch.equal(ours.labels, theirs.labels)


@pytest.mark.parametrize("size", [None, (5, 4), (9, 8)])
def test_mixed_pictures_are_held_as_they_are_streamed(
    tmp_path: Path, size: tuple[int, int] | None
) -> None:
    """Of 8 and 16 bits, gray and in color: each step of the conversion rounds."""
    generator = np.random.default_rng(0)
    for label in range(2):
        fill(
            tmp_path / str(label),
            [
                (generator.random(shape) * (2**bits - 1)).astype(f"u{bits // 8}")
                for bits, shape in itertools.product((8, 16), ((7, 6), (7, 6, 3)))
            ],
        )
    in_memory, streamed = (data.load(tmp_path, size=size, budget=budget) for budget in (2**20, 0))
    assert (in_memory.train.in_memory, streamed.train.in_memory) == (True, False)
    assert torch.equal(in_memory.train.images, streamed.train.take(range(len(streamed.train)))[0])
    assert torch.equal(in_memory.test.images, streamed.test.take(range(len(streamed.test)))[0])
    assert in_memory.mean == streamed.mean


def test_the_budget_is_the_bytes_of_all_pictures(flat: Path) -> None:
    need = 15 * 6 * 5
    assert data.load(flat, budget=need).train.in_memory
    assert not data.load(flat, budget=need - 1).train.in_memory


def test_one_color_picture_makes_the_set_one_of_color(split: Path) -> None:
    color = picture(7, 6, 5, 3)
    images.write(split / "train" / "dog" / "001.png", color)
    found = data.load(split)
    assert found.channels == 3
    assert np.array_equal(found.train.images[4].permute(1, 2, 0).numpy(), color)
    gray = picture(0)
    assert np.array_equal(found.train.images[0].numpy(), np.stack([gray] * 3))
    everything = found.train.images.numpy() / 255
    assert found.mean == pytest.approx(everything.mean((0, 2, 3)))
    assert found.std == pytest.approx(everything.std((0, 2, 3)))


def test_color_in_the_test_part_alone_becomes_gray_and_is_said(split: Path) -> None:
    images.write(split / "test" / "dog" / "001.png", np.full((6, 5, 3), (255, 0, 0), np.uint8))
    found = data.load(split)
    assert found.channels == 1
    assert set(found.test.images[3].reshape(-1).tolist()) == {76}  # 0.299 of 255
    assert any(note.startswith("1 held-out picture is in color") for note in found.notes)


def test_sixteen_bits_transparency_and_other_formats(tmp_path: Path) -> None:
    deep = np.array([[0, 257, 65535], [128, 129, 32768]], np.uint16)
    clear = np.zeros((2, 3, 4), np.uint8)
    clear[0, :, 3] = 255
    fill(tmp_path / "train" / "a", [np.zeros((2, 3), np.uint8)], ".tif")
    images.write(tmp_path / "train" / "a" / "deep.png", deep)
    fill(tmp_path / "train" / "b", [picture(1, 2, 3)], ".tiff")
    images.write(tmp_path / "train" / "b" / "clear.png", clear)
    fill(tmp_path / "test" / "a", [picture(2, 2, 3)], ".bmp")
    fill(tmp_path / "test" / "b", [picture(3, 2, 3)], ".jpg")
    found = data.load(tmp_path).train.images
    assert found[1, 0].tolist() == deep.tolist(), "16 bits stay 16 bits"
    assert found[3, 0].tolist() == [[0] * 3, [65535] * 3], "what is transparent is white"


def test_mixed_sizes_are_refused_by_name_and_stretched_on_request(split: Path) -> None:
    wide = split / "train" / "dog" / "002.png"
    images.write(wide, np.full((6, 9), 200, np.uint8))
    with pytest.raises(BadFile) as caught:
        data.load(split)
    first = split / "train" / "cat" / "000.png"
    assert f"{wide}: is 6×9, and {first} is 6×5" in str(caught.value)
    found = data.load(split, size=(8, 7))
    assert found.train.shape == (6, 1, 8, 7)
    assert found.size == (8, 7)
    assert set(found.train.images[5].reshape(-1).tolist()) == {200}
    streamed = data.load(split, size=(8, 7), budget=0)
    assert torch.equal(streamed.train.take(range(6))[0], found.train.images)


def test_a_test_picture_that_was_trained_on_is_reported(split: Path) -> None:
    images.write(split / "test" / "cat" / "001.png", picture(2))
    (note,) = [note for note in data.load(split).notes if "training picture too" in note]
    assert note.startswith("1 held-out")
    assert str(split / "test" / "cat" / "001.png") in note
    assert str(split / "train" / "cat" / "002.png") in note


def test_hidden_files_are_passed_over_and_others_reported(split: Path) -> None:
    (split / ".DS_Store").write_text("x")
    (split / "train" / "cat" / ".hidden.png").write_text("x")
    (split / "train" / "cat" / "notes.txt").write_text("x")
    found = data.load(split)
    assert len(found.train) == 6
    place = split / "train" / "cat"
    assert f"passed over in {place}: 1 that is no picture, first notes.txt" in found.notes


def _truncate(root: Path) -> None:
    path = root / "train" / "dog" / "001.png"
    path.write_bytes(path.read_bytes()[:50])


def _empty(root: Path) -> None:
    (root / "test" / "dog" / "000.png").write_bytes(b"")


def _text(root: Path) -> None:
    (root / "train" / "cat" / "000.png").write_text("this is no picture")


def _remove(root: Path, *parts: str) -> None:
    folder = root.joinpath(*parts)
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def _one_class(root: Path) -> None:
    _remove(root, "train", "dog")
    _remove(root, "test", "dog")


def _without_test(root: Path) -> None:
    _remove(root, "test")


def _extra_class(root: Path) -> None:
    fill(root / "test" / "emu", [picture(1)])


def _empty_class(root: Path) -> None:
    _remove(root, "train", "dog")
    (root / "train" / "dog").mkdir()


def _loose(root: Path) -> None:
    _remove(root, "train")
    _remove(root, "test")
    fill(root, [picture(1), picture(2)])


def _nothing(root: Path) -> None:
    _remove(root, "train")
    _remove(root, "test")


def _idx(root: Path) -> None:
    (root / "train-images-idx3-ubyte.gz").write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, "{root}/train/dog/001.png: "),
        (_empty, "{root}/test/dog/000.png: the file is empty"),
        (_text, "{root}/train/cat/000.png: not a picture"),
        (_one_class, "{root}/train: holds one class only, 'cat'"),
        (_without_test, "{root}: has train but neither test nor val"),
        (_extra_class, "{root}/test: has a class 'emu', which {root}/train has not"),
        (_empty_class, "{root}/train/dog: holds no pictures"),
        (_loose, "{root}: holds 2 pictures but no folders of classes"),
        (_nothing, "{root}: holds no folders of classes"),
        (_idx, "{root}: holds IDX files, not folders of classes; use mnist --data {root}"),
    ],
)
def test_each_mistake_has_its_line(
    split: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(split)
    with pytest.raises(BadFile) as caught:
        data.load(split)
    assert str(caught.value).startswith(message.replace("{root}", str(split)))
    assert "\n" not in str(caught.value)


def test_a_class_that_the_test_part_lacks_is_noted_and_labels_stay_right(split: Path) -> None:
    for part in ("train", "test"):
        fill(split / part / "emu", [picture(900 + len(part))])
    _remove(split, "test", "dog")
    found = data.load(split)
    assert found.classes == ("cat", "dog", "emu")
    assert found.test.labels.tolist() == [0, 0, 2]
    assert f"the test part of {split} has no picture of dog" in found.notes


def test_a_class_of_one_cannot_be_split(flat: Path) -> None:
    fill(flat / "c", [picture(99)])
    with pytest.raises(BadFile, match=r"c: holds 1 picture, and at least 2 are needed"):
        data.load(flat)


def test_a_link_out_of_the_folder_is_refused_and_one_inside_is_not(
    flat: Path, tmp_path: Path
) -> None:
    inside = flat / "a" / "inside.png"
    inside.symlink_to(flat / "b" / "000.png")
    assert len(data.load(flat).train) + len(data.load(flat).test) == 16
    outside = tmp_path / "secret.png"
    images.write(outside, picture(1))
    (flat / "a" / "outside.png").symlink_to(outside)
    with pytest.raises(BadFile, match=r"outside\.png: is a link that leads out of"):
        data.load(flat)


def test_a_linked_class_out_of_the_folder_is_refused(flat: Path, tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", [picture(1), picture(2)])
    (flat / "c").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(BadFile, match="c: is a link that leads out of"):
        data.load(flat)


def test_progress_counts_every_file(flat: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    data.load(flat, progress=lambda *call: calls.append(call))
    assert calls == [("reading pictures", number, 15) for number in range(1, 16)]


def test_floats_outside_0_to_1_name_their_file(split: Path) -> None:
    path = split / "train" / "cat" / "float.tif"
    images.write(path, np.full((6, 5), 3.5, np.float32))
    with pytest.raises(BadFile, match=r"float\.tif: a picture of floats from 3\.5 to 3\.5"):
        data.load(split)
    with pytest.raises(BadValue, match="size is 0×5"):
        data.load(split, size=(0, 5))
    with pytest.raises(BadValue, match="size is 2000000×2000000; use at most 67,108,864 pixels"):
        data.load(split, size=(2_000_000, 2_000_000))


def test_data_is_a_frozen_value(split: Path) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.load(split).name = "other"  # type: ignore[misc]
