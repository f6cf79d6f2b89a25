"""A person's own picture, as the network was trained: photos of digits, and any other picture."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from eyeshot import data
from eyeshot.data import pixels
from eyeshot.data.pixels import is_light
from eyeshot.errors import BadValue
from tests.networks import examples

Picture = NDArray[Any]


def prepare(picture: Picture) -> tuple[pixels.Samples, list[str]]:
    return data.prepare_picture(picture, channels=1, size=(28, 28), digit=True)


@pytest.fixture(scope="module")
def digits() -> data.Data:
    return data.load("digits")


def photograph(digit: Picture, random: np.random.Generator, shadow: bool = False) -> Picture:
    """A digit of MNIST as ink on paper: (H, W, 3), dark on light, under uneven light.

    Enlarged to 90–260 pixels with sharp edges, turned by up to 10°, anywhere on the page, on paper
    and with ink of many colors, the light falling off to one side, with grain; and, on request,
    the straight edge of a shadow across the page.
    """
    side = int(random.integers(90, 260))
    stroke = cv2.resize(digit / 255, (side, side), interpolation=cv2.INTER_CUBIC)
    stroke = cv2.GaussianBlur(stroke, (0, 0), side / 80)
    stroke = np.clip((stroke - 0.38) / 0.24, 0, 1)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), random.uniform(-10, 10), 1)
    height, width = (int(side * random.uniform(1.1, 3)) for _ in range(2))
    top, left = random.integers(0, height - side + 1), random.integers(0, width - side + 1)
    ink = np.zeros((height, width, 1))
    ink[top : top + side, left : left + side, 0] = cv2.warpAffine(stroke, turn, (side, side))
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    angle = random.uniform(0, 2 * np.pi)
    across = np.cos(angle) * x + np.sin(angle) * y
    across = (across - across.min()) / (across.max() - across.min())
    light = random.uniform(0.75, 1) * (1 - random.uniform(0, 0.55) * across)
    if shadow:
        light *= np.where(across > random.uniform(0.3, 0.7), 0.6, 1)
    paper = np.array([1, random.uniform(0.92, 1), random.uniform(0.8, 1)])
    page = (1 - ink) * paper + ink * random.uniform(0.05, 0.45, 3)
    grain = random.normal(0, random.uniform(1, 8), (height, width, 1))
    photo: Picture = np.clip(page * light[..., None] * 255 + grain, 0, 255).astype(np.uint8)
    return photo


class Neighbors:
    """The digit whose three nearest neighbors, by cosine of blurred pixels, say so."""

    def __init__(self, train: data.Examples) -> None:
        self._known = self._describe(train.images[:, 0].numpy())
        self._labels = train.labels.numpy()

    @staticmethod
    def _describe(pictures: Picture) -> NDArray[np.float32]:
        blurred = np.stack([cv2.GaussianBlur(p / np.float32(255), (0, 0), 0.8) for p in pictures])
        flat = blurred.reshape(len(blurred), -1)
        norms = np.linalg.norm(flat, axis=1, keepdims=True)
        return np.asarray(flat / np.maximum(norms, 1e-9), np.float32)

    def accuracy(self, pictures: Picture, labels: Picture) -> float:
        nearest = np.argsort(-self._describe(pictures) @ self._known.T, axis=1)[:, :3]
        votes = np.stack([np.bincount(self._labels[row], minlength=10) for row in nearest])
        return float((votes.argmax(1) == labels).mean())


@pytest.fixture(scope="module")
def neighbors(digits: data.Data) -> Neighbors:
    return Neighbors(digits.train)


@pytest.mark.parametrize(("shadow", "least", "loss"), [(False, 0.93, 0.02), (True, 0.9, 0.06)])
def test_200_photos_are_read_almost_as_well_as_the_originals(
    digits: data.Data, neighbors: Neighbors, shadow: bool, least: float, loss: float
) -> None:
    originals, labels = digits.test.images[:200, 0].numpy(), digits.test.labels[:200].numpy()
    random = np.random.default_rng(1)
    prepared = np.stack([prepare(photograph(one, random, shadow))[0][0] for one in originals])
    found = neighbors.accuracy(prepared, labels)
    assert found >= least
    assert found >= neighbors.accuracy(originals, labels) - loss


def test_a_digit_as_mnist_holds_it_is_left_as_it_is(digits: data.Data) -> None:
    for original in digits.test.images[:100].numpy():
        prepared, notes = prepare(original[0])
        assert np.array_equal(prepared, original)
        assert notes == []


def test_a_negative_of_mnist_comes_back_nearly_as_it_was(
    digits: data.Data, neighbors: Neighbors
) -> None:
    originals, labels = digits.test.images[:200, 0].numpy(), digits.test.labels[:200].numpy()
    prepared = np.stack([prepare(255 - one)[0][0] for one in originals])
    difference = np.abs(prepared.astype(int) - originals.astype(int)).mean(axis=(1, 2))
    assert np.median(difference) < 8
    assert neighbors.accuracy(prepared, labels) >= neighbors.accuracy(originals, labels) - 0.02


def test_chalk_on_a_board_is_read_too(digits: data.Data) -> None:
    photo = photograph(digits.test.images[0, 0].numpy(), np.random.default_rng(3))
    light, notes = prepare(photo)
    dark, other_notes = prepare(255 - photo)
    assert "inverted: dark ink on a light ground" in notes
    assert "inverted: dark ink on a light ground" not in other_notes
    assert np.abs(light.astype(int) - dark.astype(int)).mean() < 8


def bar(width: int, height: int, page: tuple[int, int] = (300, 400)) -> Picture:
    """An upright dark bar on white paper, off the middle."""
    picture = np.full(page, 250, np.uint8)
    picture[40 : 40 + height, 250 : 250 + width] = 20
    return picture


def test_the_ink_fills_the_box_and_its_mass_lies_in_the_middle() -> None:
    (prepared,), notes = prepare(bar(30, 200))
    rows, columns = np.flatnonzero(prepared.any(1)), np.flatnonzero(prepared.any(0))
    assert (rows[0], rows[-1]) == (4, 23)
    assert len(columns) == 3
    assert prepared.max() == 255
    weights = prepared / prepared.sum()
    assert (weights.sum(1) * np.arange(28)).sum() == pytest.approx(14, abs=0.51)
    assert (weights.sum(0) * np.arange(28)).sum() == pytest.approx(14, abs=0.51)
    assert any(note.startswith("cropped to the ink, 200×30 of 300×400") for note in notes)
    assert "scaled to 20×3 and centered by its mass in 28×28" in notes


def test_a_thin_pen_is_thickened_and_said() -> None:
    (prepared,), notes = prepare(bar(2, 200))
    assert any(note.startswith("strokes of 0.4 pixels thickened") for note in notes)
    assert prepared[14].astype(int).sum() > 1.2 * 255, "not a gray ghost"


def test_dirt_and_the_edge_of_the_table_are_left_out() -> None:
    picture = bar(30, 200)
    clean, _ = prepare(picture)
    picture[:, :25] = 30  # the table
    picture[250:255, 100:105] = 40  # a crumb
    prepared, notes = prepare(picture)
    assert "left out what comes in from the edge: 1 marks" in notes
    assert "left out 1 specks" in notes
    assert np.abs(prepared.astype(int) - clean.astype(int)).max() < 40


def test_two_strokes_are_one_digit_and_said() -> None:
    picture = bar(30, 200)
    picture[30:60, 180:240] = 20
    assert "took 2 separate marks for one digit" in prepare(picture)[1]


@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("shape", [(28, 28), (300, 200), (40, 40, 3), (1, 1)])
def test_a_page_of_one_shade_is_refused(shape: tuple[int, ...], value: int) -> None:
    with pytest.raises(BadValue, match="the page is blank"):
        prepare(np.full(shape, value, np.uint8))


def test_shading_and_grain_alone_are_no_digit() -> None:
    light = np.linspace(120, 240, 300)[None, :] + np.zeros((200, 1))
    page = light + np.random.default_rng(0).normal(0, 3, (200, 300))
    with pytest.raises(BadValue, match="the page is blank: its darkest mark differs"):
        prepare(page.astype(np.uint8))


def test_a_very_large_photo_gives_the_same_digit(digits: data.Data) -> None:
    photo = photograph(digits.test.images[4, 0].numpy(), np.random.default_rng(5))
    small, _ = prepare(photo)
    times = 3000 // max(photo.shape) + 1
    large, notes = prepare(photo.repeat(times, axis=0).repeat(times, axis=1))
    assert any(note.startswith("reduced from") for note in notes)
    assert np.abs(small.astype(int) - large.astype(int)).mean() < 6


def test_which_way_round_is_reported_for_every_digit(digits: data.Data) -> None:
    planes = digits.test.images[:500, 0].numpy() / np.float32(255)
    assert not any(is_light(plane) for plane in planes)
    assert all(is_light(1 - plane) for plane in planes)


def test_a_network_of_another_size_gets_the_digit_stretched() -> None:
    prepared, notes = data.prepare_picture(bar(30, 200), channels=3, size=(32, 40), digit=True)
    assert prepared.shape == (3, 32, 40)
    assert notes[-1] == "stretched from 28×28 to 32×40"
    assert np.array_equal(prepared[0], prepared[2])


@pytest.mark.parametrize(
    ("picture", "channels", "notes"),
    [
        (np.zeros((6, 8), np.uint8), 1, []),
        (np.zeros((6, 8), np.uint8), 3, ["gray repeated in three channels"]),
        (np.zeros((6, 8, 3), np.uint8), 1, ["made gray"]),
        (np.zeros((6, 8, 3), np.uint8), 3, []),
        (np.zeros((6, 8), np.uint16), 1, []),
        (np.zeros((6, 8, 2), np.uint8), 1, ["transparent pixels made white"]),
        (
            np.zeros((3, 8, 4), np.float32),
            1,
            [
                "float32 rounded to 16 bits",
                "transparent pixels made white",
                "made gray",
                "stretched from 3×8 to 6×8",
            ],
        ),
    ],
)
def test_other_networks_get_the_picture_and_each_step_is_reported(
    picture: Picture, channels: int, notes: list[str]
) -> None:
    prepared, message = data.prepare_picture(picture, channels=channels, size=(6, 8), digit=False)
    assert prepared.shape == (channels, 6, 8)
    assert prepared.dtype == (np.uint8 if picture.dtype == np.uint8 else np.uint16)
    assert message == notes


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((2, 2, 5), np.uint8), r"a picture of shape \(2, 2, 5\)"),
        (np.zeros((0, 2), np.uint8), r"a picture of shape \(0, 2\)"),
        (np.zeros(4, np.uint8), r"a picture of shape \(4,\)"),
        (np.zeros((2, 2), np.int64), "a picture of int64"),
        (np.full((2, 2), 255.0), "a picture of floats from 255 to 255; scale them"),
        (np.full((2, 2), np.nan), "a picture of floats, 4 of them NaN or infinite; replace them"),
    ],
)
def test_what_is_no_picture_is_refused(picture: Picture, message: str) -> None:
    with pytest.raises(BadValue, match=message):
        data.prepare_picture(picture, channels=1, size=(2, 2), digit=False)


def test_channels_and_size_must_make_sense() -> None:
    gray = np.zeros((2, 2), np.uint8)
    with pytest.raises(BadValue, match="channels is 2"):
        data.prepare_picture(gray, channels=2, size=(2, 2), digit=False)
    with pytest.raises(BadValue, match="size is 2×0"):
        data.prepare_picture(gray, channels=1, size=(2, 0), digit=False)


@examples(40)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_shrinking_by_a_whole_factor_is_the_mean_of_each_block(
    height: int, width: int, down: int, across: int, color: bool
) -> None:
    shape = (height * down, width * across, 3)[: 3 if color else 2]
    picture = np.random.default_rng(height * width).integers(0, 256, shape, np.uint8)
    blocks = picture.reshape(height, down, width, across, -1).mean((1, 3))
    resized = pixels.resize(picture, (height, width))
    assert resized.shape == (height, width, *shape[2:])
    assert np.abs(resized.reshape(height, width, -1) - blocks).max() <= 1


@examples(25)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 20), st.integers(1, 20))
def test_one_shade_stays_one_shade_at_any_size(h: int, w: int, height: int, width: int) -> None:
    resized = pixels.resize(np.full((h, w, 1), 77, np.uint8), (height, width))
    assert resized.shape == (height, width, 1)
    assert (resized == 77).all()


def test_sixteen_bits_go_to_the_nearest_of_eight() -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(pixels.to_bytes(every), np.rint(every / 257).astype(np.uint8))
