"""How folders of pictures and masks are laid out in the wild, and what is asked of others."""

from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eyeshot import data, images
from eyeshot.data.pairs import load_judged
from eyeshot.data.pairs.layout import Layout
from eyeshot.data.pairs.listing import guess_task, has_parts, keeps_a_test, list_judged
from eyeshot.errors import BadFile, BadValue
from tests.data.pairs import Array, mask, picture, write_pair


def put(path: Path, array: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gif":
        Image.fromarray(array).save(path)
    else:
        images.write(path, array)


def pair(root: Path, image: str, target: str, count: int = 4, start: int = 0) -> None:
    """Pairs whose names have a number where the patterns have ``#``."""
    for number in range(start, start + count):
        put(root / image.replace("#", str(number)), picture(number))
        put(root / target.replace("#", str(number)), mask(number))


def names(pairs: data.Pairs) -> list[tuple[str, str]]:
    root = Path(pairs.name)
    every = (*pairs.train, *pairs.validation)
    return sorted((str(p.image.relative_to(root)), str(p.target.relative_to(root))) for p in every)


@pytest.mark.parametrize(
    ("image", "target"),
    [
        ("imgs/#.jpg", "masks/#.png"),
        ("images/#.jpg", "labels/#.png"),
        ("Images/#.JPG", "Masks/#.PNG"),
        ("imgs/#.jpg", "masks/#_mask.gif"),
        ("images/#_training.tif", "1st_manual/#_manual1.gif"),
        ("JPEGImages/#.jpg", "SegmentationClass/#.png"),
        ("images/#.png", "groundtruth/#_segmentation.png"),
        ("#_sat.jpg", "#_mask.png"),
        ("patient 1/#.tif", "patient 1/#_mask.tif"),
    ],
)
def test_usual_names_are_recognized(tmp_path: Path, image: str, target: str) -> None:
    pair(tmp_path, image, target)
    pairs = data.load_pairs(tmp_path)
    expected = [(image.replace("#", str(n)), target.replace("#", str(n))) for n in range(4)]
    assert names(pairs) == expected
    for one in (*pairs.train, *pairs.validation):
        with data.open_pair(one, pairs) as reader:
            number = int(one.image.stem.split("_")[0])
            assert np.array_equal(reader.target((0, 9), (0, 7)), mask(number) // 255)


@pytest.mark.parametrize(
    ("image", "target"),
    [
        ("%/images/#.png", "%/masks/#.png"),
        ("images/%/#.png", "masks/%/#.png"),
        ("%/#.png", "%_masks/#.png"),
        ("%/#.png", "%annot/#.png"),
        (
            "leftImg8bit/%/aachen/a_#_leftImg8bit.png",
            "gtFine/%/aachen/a_#_gtFine_labelIds.png",
        ),
    ],
)
def test_parts_outside_and_inside_the_sides(tmp_path: Path, image: str, target: str) -> None:
    for part, count, start in (("train", 3, 0), ("val", 2, 3)):
        pair(tmp_path, image.replace("%", part), target.replace("%", part), count, start)
    pairs = data.load_pairs(tmp_path)
    assert (len(pairs.train), len(pairs.validation)) == (3, 2)
    assert has_parts(tmp_path)
    assert guess_task(tmp_path) == "segment"
    assert len(load_judged(tmp_path, part="train").validation) == 3


def test_cityscapes_takes_the_labels_and_says_what_it_leaves(tmp_path: Path) -> None:
    pair(tmp_path, "leftImg8bit/a/#_leftImg8bit.png", "gtFine/a/#_gtFine_labelIds.png")
    for number in range(4):
        put(tmp_path / "gtFine" / "a" / f"{number}_gtFine_color.png", picture(number, 9, 7, 3))
    pairs = data.load_pairs(tmp_path)
    assert all(one.target.name.endswith("_labelIds.png") for one in pairs.train)
    (note,) = [note for note in pairs.notes if "names are matched" in note]
    assert note == (
        f"{tmp_path / 'gtFine'}: names are matched without _leftImg8bit and _gtFine_labelIds; "
        "4 other files there not used"
    )


def test_drive_learns_vessels_and_not_its_field_of_view(tmp_path: Path) -> None:
    pair(tmp_path, "training/images/#_training.tif", "training/1st_manual/#_manual1.gif")
    pair(tmp_path, "training/images/#_training.tif", "training/mask/#_training_mask.gif")
    pair(tmp_path, "test/images/#_test.tif", "test/mask/#_test_mask.gif", start=4)
    pairs = data.load_pairs(tmp_path)
    assert {one.target.parent.name for one in (*pairs.train, *pairs.validation)} == {"1st_manual"}
    assert any("holds the masks; mask is not used" in note for note in pairs.notes)
    assert any("has no 1st_manual; it is left out" in note for note in pairs.notes)


@pytest.mark.parametrize("name", ["n#.png", "image.png"])
def test_a_mask_for_each_object_is_one_mask(tmp_path: Path, name: str) -> None:
    for number in range(4):
        file = name.replace("#", str(number))
        put(tmp_path / f"n{number}" / "images" / file, picture(number))
        for place in range(2):
            one = np.zeros((9, 7), np.uint8)
            one[3 * place : 3 * place + 2] = 255
            put(tmp_path / f"n{number}" / "masks" / f"{place}.png", one)
    pairs = data.load_pairs(tmp_path)
    assert (len(pairs.train), len(pairs.validation)) == (3, 1)
    assert {one.name for one in (*pairs.train, *pairs.validation)} == {"n0", "n1", "n2", "n3"}
    with data.open_pair(pairs.train[0], pairs) as reader:
        rows = reader.target((0, 9), (0, 7))[:, 0]
    assert rows.tolist() == [1, 1, 0, 1, 1, 0, 0, 0, 0]


def test_two_sites_with_many_pictures_are_no_objects(tmp_path: Path) -> None:
    for site in ("a", "b"):
        pair(tmp_path, f"{site}/images/#.png", f"{site}/masks/#.png")
    with pytest.raises(BadFile, match="has no folder image"):
        data.load_pairs(tmp_path)


def test_voc_pictures_without_masks_are_left_out(tmp_path: Path) -> None:
    pair(tmp_path / "VOC2012", "JPEGImages/#.jpg", "SegmentationClass/#.png")
    put(tmp_path / "VOC2012" / "JPEGImages" / "9.jpg", picture(9))
    pairs = data.load_pairs(tmp_path)
    assert len(pairs.train) + len(pairs.validation) == 4
    assert "1 picture without a mask left out" in pairs.notes


def _with_voc_lists(root: Path, **lists: str) -> Path:
    pair(root, "JPEGImages/#.jpg", "SegmentationClass/#.png")
    folder = root / "ImageSets" / "Segmentation"
    folder.mkdir(parents=True)
    for part, names in lists.items():
        (folder / f"{part}.txt").write_text(names)
    return root


def test_val_judges_each_epoch_and_test_the_finished_network(tmp_path: Path) -> None:
    for part, count, start in (("train", 3, 0), ("val", 2, 3), ("test", 1, 5)):
        for number in range(start, start + count):
            write_pair(tmp_path / part, str(number), picture(number), mask(number))
    pairs = data.load_pairs(tmp_path)
    assert [one.name for one in pairs.validation] == ["3", "4"]
    assert "val judges each epoch; test is left for the finished network" in pairs.notes
    judged = load_judged(tmp_path)
    assert [one.name for one in judged.validation] == ["5"]
    said = f"judged by the test part of {tmp_path} (train or val or all can be chosen)"
    assert said in judged.notes
    assert keeps_a_test(tmp_path, "segment")
    shutil.rmtree(tmp_path / "test")
    assert [one.name for one in load_judged(tmp_path).validation] == ["3", "4"]
    assert not keeps_a_test(tmp_path, "segment")


def test_voc_lists_say_which_pair_is_for_what(tmp_path: Path) -> None:
    root = _with_voc_lists(tmp_path, train="0\n2\n", val="3\n77\n", test="1\n")
    pairs = data.load_pairs(root)
    assert [one.image.stem for one in pairs.train] == ["0", "2"]
    assert [one.image.stem for one in pairs.validation] == ["3"]
    assert any("val.txt: names 2, of which 1 are pairs here" in note for note in pairs.notes)
    with pytest.raises(BadValue, match="already has parts"):
        data.load_pairs(root, validation=1)
    judged = {
        part: [one.name for one in list_judged(root, "segment", lambda _: None, part).validation]
        for part in (None, "train", "val", "test", "all")
    }
    assert judged == {
        None: ["1"],
        "train": ["0", "2"],
        "val": ["3"],
        "test": ["1"],
        "all": ["0", "1", "2", "3"],
    }


def test_a_voc_list_that_names_no_pair_is_a_problem(tmp_path: Path) -> None:
    root = _with_voc_lists(tmp_path, train="0\n1\n", val="other\n")
    assert any("names none of the pairs" in str(one) for one in data.check_pairs(root))


def test_one_voc_list_alone_does_not_split(tmp_path: Path) -> None:
    root = _with_voc_lists(tmp_path, train="0\n1\n")
    assert "1 of 4 pairs was set aside for validation, by seed 0" in data.load_pairs(root).notes


def test_composed_and_decomposed_names_are_one(tmp_path: Path) -> None:
    for number in range(3):
        name = f"Gefäß{number}"
        put(tmp_path / "image" / f"{unicodedata.normalize('NFC', name)}.png", picture(number))
        put(tmp_path / "label" / f"{unicodedata.normalize('NFD', name)}.png", mask(number))
    assert data.check_pairs(tmp_path) == ()


def test_any_names_can_be_named(tmp_path: Path) -> None:
    pair(tmp_path, "brains/#.png", "answers/#-x.png")
    with pytest.raises(BadFile, match="--images and --masks"):
        data.load_pairs(tmp_path)
    layout = Layout("brains", "answers", "-x")
    assert len(names(data.load_pairs(tmp_path, layout=layout))) == 4
    away = Layout(str(tmp_path / "brains"), str(tmp_path / "answers"), "-x")
    assert len(load_judged(tmp_path, layout=away).validation) == 4
    with pytest.raises(BadFile, match=r"nowhere: no such folder; check --masks"):
        data.load_pairs(tmp_path, layout=Layout("brains", "nowhere"))


def soft(number: int) -> Array:
    """A disc with smooth edges."""
    y, x = np.mgrid[:40, :40]
    disc = np.clip(255 * (12 + number - np.hypot(y - 20, x - 20)) / 4, 0, 255)
    return np.asarray(disc, np.uint8)


def test_soft_edges_are_named_and_cut(tmp_path: Path) -> None:
    for number in range(4):
        put(tmp_path / "image" / f"{number}.png", picture(number, 40, 40))
        put(tmp_path / "label" / f"{number}.png", soft(number))
    problems = data.check_pairs(tmp_path)
    assert len(problems) == 4
    assert "soft edges, or a JPEG's noise; cut them with --threshold 128" in str(problems[0])
    pairs = data.load_pairs(tmp_path, layout=Layout(threshold=128))
    with data.open_pair(pairs.train[0], pairs) as reader:
        number = int(pairs.train[0].name)
        assert np.array_equal(reader.target((0, 40), (0, 40)), soft(number) >= 128)
    judged = load_judged(tmp_path, legend=pairs.legend)  # the run's threshold holds
    assert judged.legend == pairs.legend


def test_a_jpeg_mask_is_lawful_once_it_is_cut(tmp_path: Path) -> None:
    for number in range(4):
        put(tmp_path / "image" / f"{number}.png", picture(number, 40, 40))
        color = np.repeat(soft(number)[..., None], 3, 2)
        put(tmp_path / "label" / f"{number}.jpg", color)
    with pytest.raises(BadFile, match=r"a mask cannot be \.jpg; .*--threshold 128"):
        data.load_pairs(tmp_path)
    pairs = data.load_pairs(tmp_path, layout=Layout(threshold=128))
    assert pairs.classes == ("background", "foreground")
    (tmp_path / "classes.yaml").write_text("ground: 0\ncell: 255\n")
    with pytest.raises(BadValue, match=r"threshold is 128, and classes\.yaml names"):
        data.load_pairs(tmp_path, layout=Layout(threshold=128))


def test_black_and_tinted_white_in_three_channels_is_reported_with_a_cure(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path / "image" / f"{number}.png", picture(number))
        put(
            tmp_path / "label" / f"{number}.png",
            mask(number)[..., None] // np.array([1, 1, 2], np.uint8),
        )
    with pytest.raises(BadFile, match=r"3 channels.* two-valued with --threshold 128"):
        data.load_pairs(tmp_path)
    assert data.check_pairs(tmp_path) != ()
    assert len(data.load_pairs(tmp_path, layout=Layout(threshold=128)).train) == 2


def test_ones_among_black_and_white_are_reported_with_a_cure(tmp_path: Path) -> None:
    for number in range(4):
        put(tmp_path / "image" / f"{number}.png", picture(number))
        values = (0, 1) if number == 2 else (0, 255)
        put(tmp_path / "label" / f"{number}.png", mask(number, values=values))
    (problem,) = data.check_pairs(tmp_path)
    assert problem.cure == "repaint it, or make all masks two-valued with --threshold 1"
    pairs = data.load_pairs(tmp_path, layout=Layout(threshold=1))
    assert sum(pairs.counts) == 3 * 63
    assert all(pairs.counts)


def test_of_masks_that_are_not_understood_nothing_else_is_said(tmp_path: Path) -> None:
    from eyeshot.data.pairs.loading import inspect_pairs

    for number in range(4):
        put(tmp_path / "image" / f"{number}.png", picture(number))
        put(tmp_path / "label" / f"{number}.png", mask(number, values=(7, 9)))
    checked = inspect_pairs(tmp_path)
    assert checked.problems
    assert checked.notes == ("1 of 4 pairs was set aside for validation, by seed 0",)


def test_numbers_of_classes_are_not_taken_for_soft_edges(tmp_path: Path) -> None:
    for number in range(4):
        put(tmp_path / "image" / f"{number}.png", picture(number))
        put(tmp_path / "label" / f"{number}.png", mask(number, values=(0, 1, 2, 3, 4, 5, 255)))
    assert data.load_pairs(tmp_path).classes == tuple(f"class {n}" for n in range(6))
