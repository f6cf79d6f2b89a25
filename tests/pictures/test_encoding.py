"""Pictures as bytes: exact as PNG, near as JPEG, reduced by averaging."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from eyeshot.pictures import data_uri, jpeg_bytes, png_bytes, reduce_picture


def decode(address: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4)])
def test_png_keeps_every_pixel(shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    address = data_uri(picture)
    assert address.startswith("data:image/png;base64,")
    np.testing.assert_array_equal(decode(address), picture)
    assert png_bytes(picture) == png_bytes(picture.copy())


def test_a_photo_is_a_smaller_jpeg_that_looks_alike() -> None:
    rows, columns = np.mgrid[0:120, 0:160]
    grain = np.random.default_rng(0).integers(0, 8, (120, 160))
    picture = np.stack([rows + grain, columns + grain, 200 - rows + grain], 2).astype(np.uint8)
    address = data_uri(picture, photo=True)
    assert address.startswith("data:image/jpeg;base64,")
    apart = np.abs(decode(address).astype(int) - picture)
    assert apart.mean() < 4
    assert len(jpeg_bytes(picture)) < len(png_bytes(picture)) / 3


def test_reducing_averages_and_keeps_proportions() -> None:
    picture = np.zeros((60, 90, 3), np.uint8)
    picture[::2] = 200
    reduced = reduce_picture(picture, height=20)
    assert reduced.shape == (20, 30, 3)
    assert 66 <= reduced.min() <= reduced.max() <= 134  # three rows: one or two of them lit
    assert reduce_picture(picture[..., 0], height=1).shape == (1, 2)
