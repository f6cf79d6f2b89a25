"""Whatever is wrong with a folder: one line that names the file, and all of them in a list."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from eyeshot import data, images
from eyeshot.data.pairs.layout import Layout
from eyeshot.errors import BadFile
from tests.data.pairs import mask, picture, write_flat, write_pair

Spoil = Callable[[Path], Path]
"""Spoils a folder and gives the path that ought to be named."""


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    return write_flat(tmp_path / "cells", 5)


def _no_mask(root: Path) -> Path:
    (root / "label" / "02.png").unlink()
    return root / "image" / "02.png"


def _no_image(root: Path) -> Path:
    (root / "image" / "02.png").unlink()
    return root / "label" / "02.png"


def _another_size(root: Path) -> Path:
    images.write(root / "label" / "03.png", mask(1, 9, 8))
    return root / "label" / "03.png"


def _strange_value(root: Path) -> Path:
    array = mask(1)
    array[4, 4:6] = 7
    images.write(root / "label" / "01.png", array)
    return root / "label" / "01.png"


def _all_black(root: Path) -> Path:
    for number in range(5):
        images.write(root / "label" / f"{number:02}.png", np.zeros((9, 7), np.uint8))
    return root / "label"


def _no_masks(root: Path) -> Path:
    for path in (root / "label").iterdir():
        path.unlink()
    return root / "label"


def _colored(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([array, 255 - array, array], 2)


def _colored_mask(root: Path) -> Path:
    images.write(root / "label" / "04.png", _colored(mask(1)))
    return root / "label" / "04.png"


def _one_pair(root: Path) -> Path:
    for number in range(1, 5):
        for side in ("image", "label"):
            (root / side / f"{number:02}.png").unlink()
    return root / "image" / "00.png"


def _truncated_image(root: Path) -> Path:
    path = root / "image" / "01.png"
    images.write(path, picture(1, 60, 50))
    images.write(root / "label" / "01.png", mask(1, 60, 50))
    path.write_bytes(path.read_bytes()[:1500])
    return path


def _truncated_mask(root: Path) -> Path:
    path = root / "label" / "00.png"
    path.write_bytes(path.read_bytes()[:60])
    return path


def _empty_file(root: Path) -> Path:
    (root / "image" / "04.png").write_bytes(b"")
    return root / "image" / "04.png"


def _no_picture(root: Path) -> Path:
    (root / "image" / "04.png").write_text("not a picture at all, but some words")
    return root / "image" / "04.png"


def _one_in_color(root: Path) -> Path:
    images.write(root / "image" / "02.png", picture(2, 9, 7, 3))
    return root / "image" / "02.png"


def _a_stack(root: Path) -> Path:
    (root / "image" / "02.png").unlink()
    np.save(root / "image" / "02.npy", picture(2, 30, 9, 7))
    return root / "image" / "02.npy"


def _bright_floats(root: Path) -> Path:
    (root / "image" / "02.png").unlink()
    images.write(root / "image" / "02.tif", picture(2, dtype=np.float32) * 300)
    return root / "image" / "02.tif"


def _holed_floats(root: Path) -> Path:
    (root / "image" / "02.png").unlink()
    holed = picture(2, dtype=np.float32) / 2
    holed[3, 4] = np.nan
    images.write(root / "image" / "02.tif", holed)
    return root / "image" / "02.tif"


def _signed(root: Path) -> Path:
    (root / "image" / "02.png").unlink()
    images.write(root / "image" / "02.tif", picture(2).astype(np.int16))
    return root / "image" / "02.tif"


def _float_mask(root: Path) -> Path:
    (root / "label" / "02.png").unlink()
    images.write(root / "label" / "02.tif", mask(2).astype(np.float32))
    return root / "label" / "02.tif"


def _jpeg_mask(root: Path) -> Path:
    images.write(root / "label" / "02.jpg", mask(2))
    (root / "label" / "02.png").unlink()
    return root / "label" / "02.jpg"


def _two_of_a_name(root: Path) -> Path:
    images.write(root / "image" / "02.tif", picture(2))
    return root / "image" / "02.tif"


def _link_out(root: Path) -> Path:
    away = root.parent / "away.png"
    (root / "image" / "02.png").rename(away)
    (root / "image" / "02.png").symlink_to(away)
    return root / "image" / "02.png"


def _no_label_folder(root: Path) -> Path:
    (root / "label").rename(root / "answers")
    return root


def _two_label_folders(root: Path) -> Path:
    (root / "mask").mkdir()
    return root


def _no_val(root: Path) -> Path:
    (root / "train").mkdir()
    for side in ("image", "label"):
        (root / side).rename(root / "train" / side)
    return root


def _numbers_among_black_and_white(root: Path) -> Path:
    for number in range(4):
        images.write(root / "label" / f"{number:02}.png", mask(number, values=(0, 1)))
    return root / "label" / "04.png"


def _a_gap(root: Path) -> Path:
    for number in range(5):
        values = (0, 1, 3) if number == 2 else (0, 1)
        images.write(root / "label" / f"{number:02}.png", mask(number, values=values))
    return root / "label" / "02.png"


def _numbered_objects(root: Path) -> Path:
    for number in range(5):
        array = np.zeros((9, 15), np.uint8)
        array[:, :] = np.arange(135).reshape(9, 15) % (90 + number)
        images.write(root / "label" / f"{number:02}.png", array)
        images.write(root / "image" / f"{number:02}.png", picture(number, 9, 15))
    return root / "label" / "04.png"


def _photograph_for_a_mask(root: Path) -> Path:
    (root / "label" / "02.png").unlink()
    images.write(root / "label" / "02.tif", picture(2, 90, 70, dtype=np.uint16))
    images.write(root / "image" / "02.png", picture(2, 90, 70))
    return root / "label" / "02.tif"


def _negative(root: Path) -> Path:
    (root / "label" / "02.png").unlink()
    array = mask(2, values=(0, 1)).astype(np.int16)
    array[0, 0] = -1
    np.save(root / "label" / "02.npy", array)
    return root / "label" / "02.npy"


def _link_to_itself(root: Path) -> Path:
    (root / "image" / "09.png").symlink_to("09.png")
    return root / "image" / "09.png"


def _chunk_from_elsewhere(root: Path) -> Path:
    (root / "image" / "02.png").unlink()
    array = zarr.open_array(root / "image" / "02.zarr", mode="w", shape=(9, 7), dtype="u1")
    array[:] = 7
    chunk = next(p for p in (root / "image" / "02.zarr" / "c").rglob("*") if p.is_file())
    chunk.rename(root.parent / "secret")
    chunk.symlink_to(root.parent / "secret")
    return chunk


CASES: list[tuple[Spoil, str]] = [
    (_negative, "holds -1, and no class is below 0; count classes from 0"),
    (_link_to_itself, "is a link that leads (nowhere|out of)"),
    (_chunk_from_elsewhere, "is a link that leads out of"),
    (_no_mask, "has no mask in .*label; draw .*02.png"),
    (_no_image, "has no image in .*image; add the image"),
    (_another_size, "is 9×8, and .*03.png is 9×7; make both of one size"),
    (_strange_value, r"holds 7 \(2 pixels\), which is none of the classes 0, 255"),
    (_all_black, "the 4 training masks contain only 'background'"),
    (_no_masks, "holds no pictures; put some directly in it"),
    (_colored_mask, "is a mask with 3 channels; .*classes.yaml"),
    (_one_pair, "is the only pair in .*, and at least 2 are needed"),
    (_truncated_image, "the file is damaged; copy it again"),
    (_truncated_mask, "the file is damaged; copy it again|truncated"),
    (_empty_file, "the file is empty"),
    (_no_picture, "not a picture format that Eyeshot reads"),
    (_one_in_color, r"has 3 channels, and 4 of 5 have 1 \(1 is gray, 3 color\)"),
    (_a_stack, "has 30 channels, as a stack of pictures has"),
    (_bright_floats, "holds floats from .*; scale them to 0…1 first"),
    (_holed_floats, "holds numbers that are not finite; fill them"),
    (_signed, "holds int16 samples"),
    (_float_mask, "is a mask of float32; save it in 8 bits"),
    (_jpeg_mask, "a mask cannot be .jpg; save it as PNG"),
    (_two_of_a_name, "has the same name as 02.png"),
    (_link_out, "is a link that leads out of"),
    (_no_label_folder, "has no folder label; make .*label"),
    (_two_label_folders, "has both label and mask"),
    (_no_val, "has train but no val; add val, or name .*train"),
    (_numbers_among_black_and_white, "holds 0 and 255 alone, and .*00.png other numbers"),
    (_a_gap, r"holds 3 \(\d+ pixels\), and no mask holds 2"),
    (_numbered_objects, "holds numbers up to 93: do they number objects, not classes"),
    (_photograph_for_a_mask, "holds more than 4096 values, as no mask does"),
]


@pytest.mark.parametrize(("spoil", "words"), CASES, ids=[spoil.__name__[1:] for spoil, _ in CASES])
def test_one_line_names_the_file(flat: Path, spoil: Spoil, words: str) -> None:
    path = spoil(flat)
    problems = data.check_pairs(flat)
    assert path in [problem.path for problem in problems]
    named = next(problem for problem in problems if problem.path == path)
    with pytest.raises(BadFile, match=words):
        raise named.error()
    for problem in problems:
        line = str(problem)
        assert line.startswith(f"{problem.path}: ")
        assert "\n" not in line
        assert problem.cure
    with pytest.raises(BadFile) as caught:
        data.load_pairs(flat)
    line = str(caught.value)
    assert all(f"{problem.path}: {problem.message}" in line for problem in problems[:4])
    assert ("--skip-damaged" in line) == all(problem.unreadable for problem in problems)
    assert ("--check" in line) == (len(problems) > 1)


def test_a_sound_folder_has_no_problems(flat: Path) -> None:
    assert data.check_pairs(flat) == ()


def test_every_problem_is_listed_at_once(tmp_path: Path) -> None:
    root = write_flat(tmp_path / "cells", 12)
    spoils = (_no_mask, _another_size, _strange_value, _colored_mask, _truncated_mask)
    named = [spoil(root) for spoil in spoils]
    images.write(root / "image" / "07.png", picture(2, 9, 7, 3))
    (root / "image" / "08.png").write_bytes(b"")
    named += [root / "image" / "07.png", root / "image" / "08.png"]
    assert sorted(problem.path for problem in data.check_pairs(root)) == sorted(named)


def test_one_mistake_in_all_masks_is_reported_of_each_and_not_of_the_rest(flat: Path) -> None:
    for number in range(5):
        images.write(flat / "label" / f"{number:02}.png", _colored(mask(1)))
    messages = [problem.message for problem in data.check_pairs(flat)]
    assert messages == ["is a mask with 3 channels"] * 5


def test_what_else_is_wrong_is_listed_beside_a_bad_classes_yaml(flat: Path) -> None:
    (flat / "classes.yaml").write_text("cell: [1, 2")
    named = [flat / "classes.yaml", _another_size(flat), _empty_file(flat)]
    images.write(flat / "label" / "01.png", _colored(mask(1)))  # may be colors
    assert sorted(p.path for p in data.check_pairs(flat)) == sorted(named)


def test_a_validation_part_that_nobody_has_judged(flat: Path) -> None:
    (flat / "classes.yaml").write_text("ground: 0\ncell: 255\nignore: 9\n")
    (aside,) = data.load_pairs(flat).validation
    images.write(aside.target, np.full((9, 7), 9, np.uint8))
    (problem,) = data.check_pairs(flat)
    assert problem.path == aside.target
    assert problem.message == "the 1 masks to judge by hold 'ignore' and nothing else"


def test_a_folder_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    (problem,) = data.check_pairs(tmp_path / "nowhere")
    assert str(problem).startswith(f"{tmp_path / 'nowhere'}: no such folder; ")


def test_problems_of_both_parts_are_listed(tmp_path: Path) -> None:
    named = [_no_mask(write_flat(tmp_path / part, 4)) for part in ("train", "val")]
    assert [problem.path for problem in data.check_pairs(tmp_path)] == named


def test_a_link_within_the_folder_is_followed(flat: Path) -> None:
    kept = flat / "kept"
    kept.mkdir()
    (flat / "image" / "02.png").rename(kept / "02.png")
    (flat / "image" / "02.png").symlink_to(kept / "02.png")
    assert data.check_pairs(flat) == ()


def test_target_pictures_must_match_in_size_and_color(tmp_path: Path) -> None:
    for number in range(4):
        write_pair(tmp_path, str(number), picture(number), picture(50 + number))
    images.write(tmp_path / "label" / "1.png", picture(1, 9, 8))
    images.write(tmp_path / "label" / "2.png", picture(1, 9, 7, 3))
    size, color = data.check_pairs(tmp_path, task="restore")
    assert size.message == f"is 9×8, and {tmp_path / 'image' / '1.png'} is 9×7"
    assert color.message == f"has 3 channels, and {tmp_path / 'image' / '2.png'} has 1"


def test_one_image_to_learn_from_and_one_to_judge_by_are_enough(tmp_path: Path) -> None:
    for part in ("train", "val"):
        write_flat(tmp_path / part, 1)
    assert data.check_pairs(tmp_path) == ()


def test_numbers_of_objects_are_called_that_with_a_cure_that_works(flat: Path) -> None:
    for number in range(5):
        array = (mask(1) > 0).astype(np.uint16) * (7 * number + 3)
        array[0, :2] = 1000 + number
        images.write(flat / "label" / f"{number:02}.png", array)
    (problem,) = data.check_pairs(flat)
    assert "do they number objects?" in problem.message
    assert "--threshold 1" in problem.cure
    assert len(data.load_pairs(flat, layout=Layout(threshold=1)).train) == 4
