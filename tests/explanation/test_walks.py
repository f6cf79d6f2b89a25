"""Walks over small matrices: every output is its own steps' sum, and the reference's output."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rich.console import Console

from eyeshot import reference as ref
from eyeshot.errors import BadFile, BadValue, UnknownName
from eyeshot.explanation import (
    Walk,
    read_matrix,
    walk_bilinear,
    walk_conv,
    walk_nearest,
    walk_pool,
    walk_transpose,
)
from eyeshot.explanation.traces import Matrix
from tests.networks import examples

small = st.integers(1, 5)
pairs = st.tuples(st.integers(1, 2), st.integers(1, 2))
pads = st.tuples(st.integers(0, 2), st.integers(0, 2))


@st.composite
def matrices(draw: st.DrawFn, most: int = 5) -> Matrix:
    rows, columns = draw(st.integers(1, most)), draw(st.integers(1, most))
    numbers = draw(st.lists(st.integers(-9, 9), min_size=rows * columns, max_size=rows * columns))
    return np.array(numbers, float).reshape(rows, columns)


def batch(matrix: Matrix) -> Matrix:
    return matrix[None, None]


def check(walk: Walk, expected: Any) -> None:
    """The output is the reference's, and each step's writing says what its terms come to."""
    np.testing.assert_allclose(walk.output, expected[0, 0], atol=1e-9)
    for step in walk.steps:
        for term in step.terms:
            assert walk.read[term.at] == term.value
        left, _, right = step.formula.rpartition(" = ")
        counted = eval(left.replace("·", "*"), {"max": lambda *cells: max(cells)})
        assert counted == pytest.approx(float(right), rel=1e-4, abs=1e-4)


@given(matrices(), matrices(3), pairs, pads, pairs, st.booleans(), st.sampled_from([0.0, -1.5]))
@examples(40)
def test_conv(
    image: Matrix,
    kernel: Matrix,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    flip: bool,
    bias: float,
) -> None:
    options: dict[str, Any] = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "flip": flip,
    }
    try:
        expected = ref.conv(batch(image), batch(kernel), np.array([bias]), **options)
    except BadValue as refused:
        with pytest.raises(BadValue, match=re.escape(refused.fact)):
            walk_conv(image, kernel, bias=bias, **options)
        return
    check(walk_conv(image, kernel, bias=bias, **options), expected)


@given(matrices(), st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
@examples(20)
def test_conv_with_every_border(image: Matrix, mode: str) -> None:
    assume(min(image.shape) > 1)
    kernel = np.arange(9.0).reshape(3, 3)
    walk = walk_conv(image, kernel, padding="same", padding_mode=mode)
    check(walk, ref.conv(batch(image), batch(kernel), padding="same", padding_mode=mode))
    assert walk.made.sum() == walk.read.size - image.size


@given(matrices(4), matrices(3), pairs, pads, pairs)
@examples(40)
def test_transpose(
    image: Matrix,
    kernel: Matrix,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> None:
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    try:
        expected = ref.conv_transpose(batch(image), batch(kernel), **options)
    except BadValue:
        with pytest.raises(BadValue):
            walk_transpose(image, kernel, **options)
        return
    check(walk_transpose(image, kernel, **options), expected)


@given(matrices(), pairs, pairs, st.booleans(), st.booleans(), st.booleans())
@examples(40)
def test_pool(
    image: Matrix,
    size: tuple[int, int],
    stride: tuple[int, int],
    pad: bool,
    ceil: bool,
    count_pad: bool,
) -> None:
    assume(all(n >= k for n, k in zip(image.shape, size, strict=True)))
    options: dict[str, Any] = {
        "stride": stride,
        "padding": tuple(k // 2 if pad else 0 for k in size),
        "ceil_mode": ceil,
    }
    check(walk_pool(image, size, **options), ref.max_pool(batch(image), size, **options))
    options["count_include_pad"] = count_pad
    mean = walk_pool(image, size, mode="avg", **options)
    check(mean, ref.avg_pool(batch(image), size, **options))


@given(matrices(4), st.sampled_from([1.0, 1.5, 2.0, 3.0]), st.booleans())
@examples(20)
def test_up_sampling(image: Matrix, scale: float, corners: bool) -> None:
    check(walk_nearest(image, scale=scale), ref.upsample(batch(image), scale=scale))
    linear = walk_bilinear(image, scale=scale, align_corners=corners)
    check(linear, ref.upsample(batch(image), scale=scale, mode="linear", align_corners=corners))
    assert all(1 <= len(step.terms) <= 4 for step in linear.steps)


def test_zeros_are_marked_as_made() -> None:
    walk = walk_transpose(np.array([[0.0, 2.0]]), np.ones((1, 1)), stride=2)
    assert walk.read.tolist() == [[0, 0, 2]]
    assert walk.made.tolist() == [[False, True, False]]  # the first zero was given


def drawn(walk: Walk) -> str:
    console = Console(file=io.StringIO(), width=120, color_system=None)
    console.print(walk)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_the_drawing_brackets_what_is_read_and_writes_every_sum() -> None:
    walk = walk_conv(read_matrix("1 2 3 / 4 5 6"), read_matrix("1 0 / 0 -1"), bias=1)
    text = drawn(walk)
    assert "[1 2]3" in text
    assert " 4[5 6]" in text
    for step in walk.steps:
        assert step.formula in text
    assert "1·1 + 2·0 + 4·0 + 5·(-1) + 1 = -3" in text


def test_dilated_windows_are_bracketed_cell_by_cell() -> None:
    text = drawn(walk_conv(read_matrix("1 2 3"), read_matrix("1 1"), dilation=2))
    assert "[1]2[3]" in text


def test_the_drawing_shows_padding_of_a_pool_as_nothing() -> None:
    assert "[·" not in drawn(walk_pool(read_matrix("5 6 / 7 8"), 3, padding=1, stride=3))


def test_everything_goes_into_json() -> None:
    walk = walk_pool(read_matrix("1 2 / 3 4"), 2, padding=1)
    data = json.loads(json.dumps(walk.to_dict(), allow_nan=False))
    assert data["read"][0] == [None] * 4
    assert data["output"] == [[1, 2], [3, 4]]
    assert data["steps"][0]["formula"] == "max(1) = 1"


def test_a_sum_that_runs_over_is_none_in_json() -> None:
    huge = np.array([[1e308, 1e308]])
    walk = walk_conv(huge, np.array([[9.0, 9.0]]))
    data = json.loads(json.dumps(walk.to_dict(), allow_nan=False))
    assert data["steps"][0]["result"] is None


def test_matrices_are_read_from_text_and_from_files(tmp_path: Path) -> None:
    expected = [[1, 0.5], [-2, 3]]
    assert read_matrix("1 .5 / -2, 3").tolist() == expected
    file = tmp_path / "kernel.txt"
    file.write_text("# mine\n1 1/2\n-2 3\n")
    assert read_matrix(str(file)).tolist() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 / 3", "rows of 2, 1 numbers"),
        ("", "holds no numbers"),
        ("1 x", "neither a matrix nor a file"),
        ("1 nan", "NaN or infinity"),
        (" ".join(["1"] * 65), "is 1×65"),
    ],
)
def test_what_is_no_matrix_is_reported(text: str, message: str) -> None:
    with pytest.raises(BadValue, match=message):
        read_matrix(text)


def test_a_file_that_holds_no_matrix_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "kernel.txt"
    file.write_text("one two\n")
    with pytest.raises(BadFile, match=r"kernel\.txt, line 1"):
        read_matrix(str(file))


def test_what_cannot_be_walked_is_reported() -> None:
    image = np.ones((3, 3))
    with pytest.raises(UnknownName, match="did you mean 'max'"):
        walk_pool(image, mode="mox")
    with pytest.raises(BadValue, match="dilation 2 for average pooling"):
        walk_pool(image, mode="avg", dilation=2)
    with pytest.raises(BadValue, match="takes 1849 steps"):
        walk_nearest(image, size=43)
    with pytest.raises(BadValue, match="outside the image"):
        walk_pool(np.ones((1, 1)), 2, padding=1, dilation=2)
