"""Palettes that differ from file to file: indices are then no classes, and nobody may guess."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from eyeshot import data, images
from eyeshot.data.pairs import load_judged
from eyeshot.data.pairs.pair import read_palette
from eyeshot.errors import BadFile
from tests.data.pairs import mask, picture

RED, BLACK = (255, 0, 0), (0, 0, 0)


def save(path: Path, indices: np.ndarray, *colors: tuple[int, int, int]) -> None:
    """A mask with a palette, as PNG, GIF, BMP or TIFF."""
    if path.suffix == ".tif":
        table = np.zeros((3, 256), np.uint16)
        table[:, : len(colors)] = np.array(colors, np.uint16).T * 257
        tifffile.imwrite(path, indices, photometric="palette", colormap=table)
        return
    made = Image.fromarray(indices, "P")
    made.putpalette([part for color in colors for part in color])
    made.save(path)


def fill(root: Path, inverted: tuple[int, ...], suffix: str = ".png", count: int = 4) -> Path:
    """Pairs of which some have the two colors the other way round, in palette and in indices."""
    for number in range(count):
        (root / "image").mkdir(parents=True, exist_ok=True)
        (root / "label").mkdir(exist_ok=True)
        images.write(root / "image" / f"{number}.png", picture(number))
        indices = mask(number, values=(0, 1))
        path = root / "label" / f"{number}{suffix}"
        if number in inverted:
            save(path, 1 - indices, RED, BLACK)
        else:
            save(path, indices, BLACK, RED)
    return root


@pytest.mark.parametrize("suffix", [".png", ".tif", ".gif", ".bmp"])
def test_palettes_that_differ_are_a_problem_that_asks_for_colors(
    tmp_path: Path, suffix: str
) -> None:
    root = fill(tmp_path, (2,), suffix)
    (problem,) = data.check_pairs(root)
    assert problem.path == root / "label" / f"2{suffix}"
    assert "its palette gives 0 the color [255, 0, 0], and that of" in problem.message
    with pytest.raises(BadFile, match=r"write classes\.yaml with colors"):
        data.load_pairs(root)
    (root / "classes.yaml").write_text("ground: [0, 0, 0]\ncell: [255, 0, 0]\n")
    pairs = data.load_pairs(root)
    for pair in (*pairs.train, *pairs.validation):
        with data.open_pair(pair, pairs) as reader:
            number = int(pair.name)
            assert np.array_equal(reader.target((0, 9), (0, 7)), mask(number, values=(0, 1)))


def test_values_that_the_folder_names_are_believed_and_noted(tmp_path: Path) -> None:
    root = fill(tmp_path, (2,))
    (root / "classes.yaml").write_text("ground: 0\ncell: 1\n")
    assert any("the palettes of 1 masks differ" in note for note in data.load_pairs(root).notes)


def test_alike_palettes_are_kept_and_others_refused_when_judged(tmp_path: Path) -> None:
    pairs = data.load_pairs(fill(tmp_path / "a", ()))
    assert pairs.legend is not None
    assert pairs.legend.palette == (0, 255 << 16)
    other = fill(tmp_path / "b", (0, 1, 2, 3))
    with pytest.raises(BadFile, match="and that of the masks that were learned from"):
        load_judged(other, legend=pairs.legend)
    again = load_judged(fill(tmp_path / "c", (), count=2), legend=pairs.legend)
    assert len(again.validation) == 2


def test_unused_colors_may_differ(tmp_path: Path) -> None:
    root = fill(tmp_path, ())
    save(root / "label" / "1.png", mask(1, values=(0, 1)), BLACK, RED, (9, 9, 9))
    assert data.check_pairs(root) == ()


def test_a_mask_without_a_palette_has_none(tmp_path: Path) -> None:
    images.write(tmp_path / "gray.png", mask(1))
    assert read_palette(tmp_path / "gray.png", [0, 255]) == {}
