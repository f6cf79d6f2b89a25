"""Pictures that their files turn, and masks that theirs do not; damaged EXIF is noted."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from eyeshot import data, images
from eyeshot.errors import BadFile

from .pairs import mask, picture

TURN = 0x0112


def _photo(
    path: Path, samples: NDArray[np.uint8], turn: int | None, exif: bytes | None = None
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(samples)
    tags = Image.Exif()
    if turn is not None:
        tags[TURN] = turn
    image.save(path, exif=tags.tobytes() if exif is None else exif, quality=95)


def _folder(root: Path, turn: int | None, mask_turn: int | None, shape: tuple[int, int]) -> Path:
    """Pictures stored on their side, and masks of ``shape``."""
    for number in range(6):
        _photo(root / "image" / f"{number}.jpg", picture(number, 10, 16), turn)
        drawn = mask(number, *shape)
        (root / "label").mkdir(exist_ok=True)
        tags = Image.Exif()
        if mask_turn is not None:
            tags[TURN] = mask_turn
        Image.fromarray(drawn).save(root / "label" / f"{number}.png", exif=tags.tobytes())
    return root


@pytest.mark.parametrize(
    ("turn", "mask_turn", "shape"),
    [
        (3, None, (10, 16)),  # drawn on which way up?
        (2, None, (10, 16)),
        (6, None, (10, 16)),  # drawn on the pixels as they lie
        (6, 3, (10, 16)),
        (None, 3, (10, 16)),
    ],
)
def test_a_mask_that_is_not_turned_with_its_picture_is_a_problem(
    turn: int | None, mask_turn: int | None, shape: tuple[int, int], tmp_path: Path
) -> None:
    folder = _folder(tmp_path, turn, mask_turn, shape)
    with pytest.raises(BadFile, match="orientation tag"):
        data.load_pairs(folder)
    found = data.check_pairs(folder)
    assert len(found) == 6
    assert "orientation tag" in found[0].message
    assert "mogrify -auto-orient" in found[0].cure


@pytest.mark.parametrize(
    ("turn", "mask_turn", "shape"),
    [
        (None, None, (10, 16)),
        (1, None, (10, 16)),
        (3, 3, (10, 16)),
        (6, 6, (10, 16)),
        (6, None, (16, 10)),  # drawn on the picture as it is seen
        (5, 1, (16, 10)),
    ],
)
def test_pairs_that_lie_on_one_another_are_loaded(
    turn: int | None, mask_turn: int | None, shape: tuple[int, int], tmp_path: Path
) -> None:
    pairs = data.load_pairs(_folder(tmp_path, turn, mask_turn, shape))
    assert pairs.train[0].size == ((16, 10) if turn and turn >= 5 else (10, 16))


DAMAGED = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\x01\0\0\0"  # ends inside its first tag


def test_damaged_exif_is_noted_by_name_and_warns_nobody(tmp_path: Path) -> None:
    for number in range(6):
        _photo(tmp_path / "image" / f"{number}.jpg", picture(number, 10, 16), None, DAMAGED)
        (tmp_path / "label").mkdir(exist_ok=True)
        images.write(tmp_path / "label" / f"{number}.png", mask(number, 10, 16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = data.load_pairs(tmp_path)
        reported = images.read_picture(tmp_path / "image" / "0.jpg").notes
    assert reported == ("its EXIF is damaged and was ignored, so the picture may be rotated",)
    notes = [note for note in found.notes if "EXIF" in note]
    assert len(notes) == 1
    assert ".jpg: its EXIF is damaged" in notes[0]
    assert notes[0].endswith("and the same of 5 more")
