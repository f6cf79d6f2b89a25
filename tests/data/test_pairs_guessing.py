"""Photographs and masks that would be told apart as two classes, with 100 % and no use."""

from __future__ import annotations

from pathlib import Path

import pytest

from eyeshot import images
from eyeshot.data.pairs.layout import masks_among_classes
from eyeshot.errors import BadValue
from eyeshot.training.options import choose_task
from tests.data.pairs import Array, mask, picture


def fill(folder: Path, pattern: str, *arrays: Array) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, array in enumerate(arrays):
        images.write(folder / pattern.replace("#", str(number)), array)


PICTURES = [picture(number, 20, 20) for number in range(5)]
MASKS = [mask(number, 20, 20) for number in range(5)]


@pytest.mark.parametrize(("end", "first"), [("", "a"), ("_seg", "a"), ("", "z")])
def test_two_folders_of_photographs_and_masks_are_asked_about(
    tmp_path: Path, end: str, first: str
) -> None:
    fill(tmp_path / first, "#.png", *PICTURES)
    fill(tmp_path / "m", f"#{end}.png", *MASKS)
    reported = masks_among_classes(tmp_path)
    assert reported is not None
    assert reported.startswith(
        f"{first} and m hold files of the same names, and those in m have few"
    )
    with pytest.raises(BadValue, match="no task was named; add --task segment"):
        choose_task(tmp_path, None)
    assert choose_task(tmp_path, "classify") == "classify"


def test_masks_among_the_pictures_of_a_class_are_asked_about(tmp_path: Path) -> None:
    for name in ("benign", "malignant"):
        fill(tmp_path / name, f"{name} (#).png", *PICTURES)
        fill(tmp_path / name, f"{name} (#)_mask.png", *MASKS)
    reported = masks_among_classes(tmp_path)
    assert (
        reported == "benign holds masks among its pictures (benign (0)_mask.png of benign (0).png)"
    )


@pytest.mark.parametrize("second", [PICTURES[::-1], MASKS[:1] + PICTURES[1:]])
def test_classes_that_are_numbered_alike_are_classes(tmp_path: Path, second: list[Array]) -> None:
    fill(tmp_path / "cat", "#.png", *PICTURES)
    fill(tmp_path / "dog", "#.png", *second)
    assert masks_among_classes(tmp_path) is None


def test_two_classes_of_black_and_white_are_classes(tmp_path: Path) -> None:
    for name in ("ring", "disc"):
        fill(tmp_path / name, "#.png", *MASKS)
    assert masks_among_classes(tmp_path) is None
