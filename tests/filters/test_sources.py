"""A kernel from a text file or an array: what is taken, and what is refused in one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eyeshot.errors import BadFile, BadValue
from eyeshot.filters import read_kernel, resolve


def test_a_file_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "kernel.txt"
    path.write_text("# a comment\n\n1/4, -2\t3e-1\n 0 +.5 1  # the second row\n")
    (kernel,) = resolve(str(path)).kernels
    assert kernel.tolist() == [[0.25, -2, 0.3], [0, 0.5, 1]]
    assert resolve(path).name == "kernel.txt"


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("1 2 1 / 0 0 0 / -1 -2 -1", [[1, 2, 1], [0, 0, 0], [-1, -2, -1]]),
        ("1/4, .5\t1/4", [[0.25, 0.5, 0.25]]),
        ("-1 / 1e1", [[-1], [10]]),
    ],
)
def test_rows_as_text(text: str, rows: list[list[float]]) -> None:
    (kernel,) = resolve(text).kernels
    assert kernel.tolist() == rows


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("1 2 / 3", "'1 2 / 3', row 2: 1 weights where the first row has 2"),
        ("1 1/0", "'1/0' is not a number"),
        ("1 1e999", "'1e999' is not finite"),
        ("1/2", "1/2: no such file"),  # one word is no row
    ],
)
def test_rows_that_are_refused(text: str, fact: str) -> None:
    with pytest.raises(BadFile, match=fact):
        resolve(text)


def test_a_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "kernel.csv"
    path.write_bytes(b"\xef\xbb\xbf1,2\r\n3,4\r\n")
    assert read_kernel(path).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"1 2\n3\n", "line 2: 1 weights where the first row has 2"),
        (b"1 2\n3 x\n", "line 2: 'x' is not a number"),
        (b"1/0", "'1/0' is not a number"),
        (b"1 nan", "'nan' is not finite"),
        (b"inf", "'inf' is not finite"),
        (b"# nothing\n\n", "holds no weights"),
        (b"", "holds no weights"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "is not text"),
    ],
)
def test_an_error_in_a_file_has_its_name_and_line(
    tmp_path: Path, content: bytes, fact: str
) -> None:
    path = tmp_path / "kernel.txt"
    path.write_bytes(content)
    with pytest.raises(BadFile) as caught:
        resolve(str(path))
    assert str(path) in str(caught.value)
    assert fact in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no such file"):
        resolve(tmp_path / "none.txt")
    with pytest.raises(BadFile, match="folder"):
        resolve(tmp_path)


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.txt"
    with path.open("wb") as file:
        file.truncate(17 * 2**20)
    with pytest.raises(BadFile, match="too large"):
        read_kernel(path)


@pytest.mark.parametrize(
    ("array", "fact"),
    [
        ([1, 2, 3], "1 axes"),
        (np.zeros((3, 3, 3)), "3 axes"),
        (np.zeros((0, 3)), "empty"),
        ([[1, np.nan]], "NaN"),
        ([[1, 2], [3]], "differ in length"),
        ([["a"]], "not numbers"),
        ([[1j]], "not numbers"),
    ],
)
def test_an_array_that_is_no_kernel(array: Any, fact: str) -> None:
    with pytest.raises(BadValue, match=fact):
        resolve(array)


@pytest.mark.parametrize("name", ["mean:", "mean:x", "mean:-3", "mean:3.5", "mean:9999999999"])
def test_a_size_that_is_no_number(name: str) -> None:
    with pytest.raises(BadValue, match="write NAME:SIZE"):
        resolve(name)


def test_an_array_is_copied(tmp_path: Path) -> None:
    array = np.ones((2, 2))
    (kernel,) = resolve(array).kernels
    array[0, 0] = 9
    assert kernel[0, 0] == 1
