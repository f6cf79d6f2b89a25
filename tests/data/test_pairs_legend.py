"""What samples of masks stand for: classes.yaml read and refused, and class numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eyeshot import data, images
from eyeshot.data.pairs.pair import read_legend
from eyeshot.errors import BadFile, BadValue
from tests.data.pairs import mask, picture, write_flat, write_pair


def write(folder: Path, text: str) -> Path:
    (folder / "classes.yaml").write_text(text, encoding="utf-8")
    return folder


def test_values(tmp_path: Path) -> None:
    legend = read_legend(write(tmp_path, "paper: 0\nZelle: 128\nignore: 255\n"))
    assert legend == data.Legend(("paper", "Zelle"), (0, 128), False, 255)


def test_colors(tmp_path: Path) -> None:
    legend = read_legend(write(tmp_path, "paper: [0, 0, 0]\nink: [255, 16, 1]\n"))
    assert legend == data.Legend(("paper", "ink"), (0, 0xFF1001), True, None)
    assert legend.spell(0xFF1001) == "[255, 16, 1]"


def test_no_file(tmp_path: Path) -> None:
    assert read_legend(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no names of classes"),
        ("- paper\n- ink\n", "holds no names of classes"),
        ("paper: 0\n", "names 1 classes; name two or more"),
        ("paper: 0\nignore: 255\n", "names 1 classes"),
        ("paper: 0\nink: [1, 2, 3]\n", "mixes values and colors"),
        ("paper: 0\nink: 0\n", "'paper' and 'ink' have one value"),
        ("paper: 0\nink: 1\nignore: 1\n", "'ink' and 'ignore' have one value"),
        ("paper: 0\nink: 1\nink: 2\n", "names 'ink' twice"),
        ("paper: 0\nink: -1\n", "'ink' is -1; give a value from 0 to 65535"),
        ("paper: 0\nink: 65536\n", "'ink' is 65536"),
        ("paper: 0\nink: 0.5\n", "'ink' is 0.5"),
        ("paper: 0\nink: true\n", "'ink' is True"),
        ("paper: 0\nink: black\n", "'ink' is 'black'"),
        ("paper: [0, 0, 0]\nink: [1, 2]\n", r"'ink' is \[1, 2\]"),
        ("paper: [0, 0, 0]\nink: [1, 2, 256]\n", r"'ink' is \[1, 2, 256\]"),
        ("0: paper\n1: ink\n", "0 is no name of a class; the name comes first"),
        ("no: 0\nyes: 1\n", "False is no name of a class; .*quotes"),
        ("paper: [0, 0\n", "not YAML"),
        ("!!python/object/apply:os.system ['true']\n", "not YAML"),
        ("? {a: 1}\n: 2\n", "not YAML"),
    ],
)
def test_whatever_else_is_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BadFile, match=words) as caught:
        read_legend(write(tmp_path, text))
    assert str(caught.value).startswith(f"{tmp_path / 'classes.yaml'}: ")
    assert "\n" not in str(caught.value)


def test_the_list_of_problems_names_a_bad_legend(tmp_path: Path) -> None:
    root = write(write_flat(tmp_path, 4), "paper: 0\nink: black\n")
    assert [problem.path for problem in data.check_pairs(root)] == [root / "classes.yaml"]


@given(st.data())
def test_every_class_is_named_by_its_code(draws: st.DataObject) -> None:
    colors = draws.draw(st.booleans())
    most = 2**24 - 1 if colors else 2**16 - 1
    codes = draws.draw(st.lists(st.integers(0, most), min_size=3, max_size=9, unique=True))
    names = tuple(f"c{number}" for number in range(len(codes) - 1))
    legend = data.Legend(names, tuple(codes[1:]), colors, codes[0])
    numbers = draws.draw(st.lists(st.integers(-1, len(names) - 1), min_size=1, max_size=20))
    drawn = np.array([codes[number + 1] for number in numbers])[None]
    if colors:
        samples = np.stack([drawn >> 16, drawn >> 8 & 255, drawn & 255]).astype(np.uint8)
    else:
        samples = drawn[None].astype(np.uint16)
    assert legend.number(samples).tolist() == [numbers]


def test_a_code_of_no_class_is_refused() -> None:
    legend = data.Legend(("paper", "ink"), (0, 255))
    with pytest.raises(BadValue, match="7 stands for no class"):
        legend.number(np.array([[[0, 255, 7]]], np.uint8))


def test_masks_in_colors(tmp_path: Path) -> None:
    colors = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255], [9, 9, 9]], np.uint8)
    numbers = [mask(number, values=(0, 1, 2, 3)) for number in range(4)]
    for number, array in enumerate(numbers):
        write_pair(tmp_path, str(number), picture(number), colors[array])
    write(tmp_path, "paper: [0, 0, 0]\nred: [255, 0, 0]\nblue: [0, 0, 255]\nignore: [9, 9, 9]\n")
    pairs = data.load_pairs(tmp_path)
    assert pairs.classes == ("paper", "red", "blue")
    for pair in pairs.train:
        with data.open_pair(pair, pairs) as reader:
            found = reader.target((0, 9), (0, 7))
        expected = numbers[int(pair.name)].astype(int)
        assert np.array_equal(found, np.where(expected == 3, data.IGNORED, expected))
    red = sum(int((numbers[int(pair.name)] == 1).sum()) for pair in pairs.train)
    assert pairs.counts[1] == red


def test_gray_masks_and_opacity_among_colors(tmp_path: Path) -> None:
    black_and_white = mask(1)
    opaque = np.full((9, 7, 4), 255, np.uint8)
    opaque[..., :3] = black_and_white[..., None]
    write_pair(tmp_path, "gray", picture(1), black_and_white)
    write_pair(tmp_path, "opaque", picture(2), opaque)
    write(tmp_path, "paper: [0, 0, 0]\nink: [255, 255, 255]\n")
    pairs = data.load_pairs(tmp_path, validation=1)
    for pair in (*pairs.train, *pairs.validation):
        with data.open_pair(pair, pairs) as reader:
            assert np.array_equal(reader.target((0, 9), (0, 7)), black_and_white // 255)


def test_a_color_that_is_not_named(tmp_path: Path) -> None:
    for number in range(3):
        write_pair(tmp_path, str(number), picture(number), np.repeat(mask(1)[..., None], 3, 2))
    array = np.repeat(mask(1)[..., None], 3, 2)
    array[2, 2] = (255, 0, 3)
    images.write(tmp_path / "label" / "1.png", array)
    write(tmp_path, "paper: [0, 0, 0]\nink: [255, 255, 255]\n")
    (problem,) = data.check_pairs(tmp_path)
    expected = r"[255, 0, 3] (1 pixels), which is none of the classes [0, 0, 0], [255, 255, 255]"
    assert problem.message == f"holds {expected}"


def test_a_legend_decides_over_the_customs(tmp_path: Path) -> None:
    root = write_flat(tmp_path, 4, values=(3, 255))
    write(root, "low: 3\nhigh: 255\n")
    assert data.load_pairs(root).classes == ("low", "high")
