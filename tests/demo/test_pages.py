"""The demo's page: digits where they are said to be, found there, and judged without favor."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.networks import examples

import eyeshot
from eyeshot import data
from eyeshot.data import Data, Examples
from eyeshot.demo.pages import (
    CELL,
    NEAR,
    NOTHING,
    Marks,
    Page,
    PageRead,
    Readings,
    cells_for,
    cut_crops,
    draw_page,
    find_digits,
    held_out_page,
    mark,
    page_crops,
    read_peaks,
    scatter,
)
from eyeshot.runs import Run


def _few(whole: Data, train: int, test: int) -> Data:
    learned, held_out = (
        Examples.hold(part.images[:count], part.labels[:count])
        for part, count in ((whole.train, train), (whole.test, test))
    )
    return dataclasses.replace(whole, train=learned, test=held_out)


@pytest.fixture(scope="module")
def digits() -> Data:
    return _few(data.load("digits"), 2500, 300)


@pytest.fixture(scope="module")
def reader(digits: Data, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A reader that learned for a second or two."""
    return eyeshot.train(
        page_crops(digits),
        model_arguments={"padding": 0},
        epochs=3,
        batch_size=64,
        shift=0,
        out=tmp_path_factory.mktemp("reader") / "run",
        progress=False,
    )


@pytest.fixture(scope="module")
def read(digits: Data, reader: Run) -> PageRead:
    return find_digits(reader, held_out_page(digits))


@examples(20)
@given(cells=st.integers(1, 6), seed=st.integers(0, 99), data=st.data())
def test_digits_lie_where_the_page_says_and_never_overlap(
    cells: int, seed: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, cells * cells))
    pictures = np.full((count, 28, 28), 9, np.uint8)
    page = scatter(pictures, np.arange(count), cells, seed)
    assert page.pixels.shape == (cells * CELL, cells * CELL)
    assert int((page.pixels == 9).sum()) == count * 28 * 28
    assert (cut_crops(page.pixels, page.corners, 28) == 9).all()
    assert cells_for(count, 1.0) <= cells


def test_crops_beyond_the_page_are_dark_there() -> None:
    crops = cut_crops(np.full((30, 30), 5, np.uint8), np.array([[-3, 0], [10, 10]]), 28)
    assert not crops[0, :3].any()
    assert (crops[0, 3:] == 5).all()
    assert not crops[1, 20:].any()


def test_what_the_reader_learns_from(digits: Data) -> None:
    crops = page_crops(digits)
    assert crops.classes == (*digits.classes, NOTHING)
    count = len(digits.train)
    for part, of in ((crops.train, count - 500), (crops.test, 500)):
        labels = part.labels.numpy()
        assert int((labels < 10).sum()) == 2 * of
        assert 0.3 < (labels == 10).mean() < 0.5
    again = page_crops(digits)
    assert torch.equal(crops.train.images, again.train.images)
    # Blank paper is nothing, and no crop of a digit is blank.
    blank = (crops.train.images.flatten(1) == 0).all(dim=1)
    assert blank.any()
    assert (crops.train.labels[blank] == 10).all()


def _map(page: Page, stride: int, rows: int) -> NDArray[np.float32]:
    """What a perfect reader would give: sure of a digit wherever a crop is near enough to it."""
    grid = np.arange(rows) * stride
    ideal = np.zeros((11, rows, rows), np.float32)
    for (top, left), label in zip(page.corners, page.labels, strict=True):
        near = (np.abs(grid - top) <= NEAR)[:, None] & (np.abs(grid - left) <= NEAR)[None]
        ideal[label][near] = 1
    ideal[10] = 1 - ideal[:10].sum(axis=0)
    return ideal


@examples(25)
@given(seed=st.integers(0, 1000), count=st.integers(1, 36))
def test_a_perfect_map_is_read_perfectly(seed: int, count: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 10, size=count)
    page = scatter(np.ones((count, 28, 28), np.uint8), labels, 6, seed)
    readings = read_peaks(_map(page, 4, (6 * CELL - 28) // 4 + 1), 4, 28)
    marks = mark(readings, page)
    assert (marks.precision, marks.recall, marks.accuracy) == (1.0, 1.0, 1.0)


def test_an_empty_map_has_no_digits() -> None:
    nothing = np.zeros((11, 9, 9), np.float32)
    nothing[10] = 1
    assert len(read_peaks(nothing, 4, 28).labels) == 0


def test_mistakes_are_counted_as_such() -> None:
    page = Page(np.zeros((200, 200), np.uint8), np.array([[0, 0], [0, 90], [90, 0], [90, 90]]),
                np.array([1, 2, 3, 4]), 28)  # fmt: skip
    corners = np.array([[2, 1], [3, 1], [0, 92], [98, 0], [150, 150]])
    marks = mark(Readings(corners, np.array([1, 1, 7, 3, 5])), page)
    # Found, found twice, read wrong, too far off, nowhere; and the last digit is missed.
    assert marks.right.tolist() == [True, False, False, False, False]
    assert marks.false.tolist() == [False, True, False, True, True]
    assert marks.missed.tolist() == [False, False, True, True]
    assert marks.precision == pytest.approx(2 / 5)
    assert (marks.recall, marks.accuracy) == (0.5, 0.25)


def test_nearly_all_digits_are_found_and_read(read: PageRead) -> None:
    """300 digits that were never learned from; chance would find none."""
    assert read.marks.recall > 0.97
    assert read.marks.precision > 0.97
    assert read.marks.accuracy > 0.9


def test_the_stream_gives_what_the_classifier_gives_on_crops(digits: Data, reader: Run) -> None:
    page = held_out_page(digits)
    form = eyeshot.dense(reader)
    scores = eyeshot.run(dataclasses.replace(reader, net=form), page.pixels, band=64)
    places = np.random.default_rng(1).integers(0, scores.shape[1], size=(40, 2))
    crops = torch.from_numpy(cut_crops(page.pixels, places * 4, 28))[:, None]
    with torch.no_grad():
        expected = reader.net(reader.normalize(crops)).numpy()
    assert np.abs(scores[:, places[:, 0], places[:, 1]].T - expected).max() <= 1e-4


def test_the_picture_shows_mistakes_larger_than_the_rest(read: PageRead) -> None:
    none = np.zeros(len(read.readings.labels), bool)
    all_right = Marks(~none, none, np.zeros(len(read.page.labels), bool))
    one_wrong = dataclasses.replace(all_right, right=np.arange(len(none)) != 5)
    red = (210, 30, 30)
    plain, marked = (
        (draw_page(read.page, read.readings, marks) == red).all(axis=2)
        for marks in (all_right, one_wrong)
    )
    assert plain.shape == (1024, 1024 + 24 + 1024)
    assert not plain.any()
    for half in (marked[:, :1024], marked[:, 1048:]):
        assert half.sum() > 100


def test_the_page_is_a_picture_that_can_be_read_from_a_file(
    digits: Data, reader: Run, read: PageRead, tmp_path: Path
) -> None:
    eyeshot.images.write(tmp_path / "page.png", read.page.pixels)
    form = dataclasses.replace(reader, net=eyeshot.dense(reader))
    eyeshot.run(form, tmp_path / "page.png", tmp_path / "digits.npy", output_format="probabilities")
    readings = read_peaks(np.load(tmp_path / "digits.npy"), 4, 28)
    assert np.array_equal(readings.corners, read.readings.corners)
    assert np.array_equal(readings.labels, read.readings.labels)
