"""What the axes of an array are taken for, and that it is stated."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eyeshot import images
from eyeshot.errors import BadFile, BadValue

from .conftest import noise


@pytest.mark.parametrize(
    ("stored", "options", "axes"),
    [
        ((5, 6), {}, "HW"),
        ((5, 6, 3), {}, "HWC"),
        ((3, 5, 6), {}, "CHW"),
        ((3, 5, 4), {}, "HWC"),
        ((3, 5, 4), {"first": True}, "CHW"),
        ((8, 50, 60), {}, "CHW"),
        ((8, 50, 60), {"space": 3}, "DHW"),
        ((50, 60, 8), {"layout": "HWC"}, "HWC"),
        ((1, 3, 50, 60), {"space": 2}, "1CHW"),
        ((2, 9, 50, 60), {}, "CDHW"),
        ((9, 50, 60, 3), {}, "DHWC"),
        ((7,), {}, "L"),
        ((2, 900), {"space": 1}, "CL"),
        ((900, 2), {"space": 1}, "LC"),
        ((900, 800), {"layout": "CL"}, "CL"),
        ((1, 3, 1, 50, 60), {"metadata": "TCZYX"}, "1C1HW"),
        ((3, 9, 50, 60), {"metadata": "CZYX"}, "CDHW"),
        ((50, 60, 3), {"metadata": "YXS"}, "HWC"),
        ((5, 50, 60), {"metadata": "QYX"}, "CHW"),
        ((1, 1, 7), {"metadata": "YXS"}, "HWC"),
    ],
)
def test_axes_are_understood(
    stored: tuple[int, ...], options: dict[str, object], axes: str
) -> None:
    assert images.understand(stored, **options).axes == axes  # type: ignore[arg-type]


def test_what_was_understood_is_stated_and_done() -> None:
    array = noise((5, 6, 3))
    source = images.open_source(array)
    assert source.shape == (3, 5, 6)
    assert source.layout == (
        "(H, W, C) read as 3 channels of 5 x 6: its last axis is at most 4 long"
    )
    np.testing.assert_array_equal(source.read(), array.transpose(2, 0, 1))
    asked = images.open_source(array, layout="CHW")
    assert asked.layout == "(C, H, W) read as 5 channels of 6 x 3: as asked"


def test_a_tensor_has_its_channels_first() -> None:
    tensor = torch.arange(60).reshape(3, 5, 4)
    source = images.open_source(tensor)
    assert source.shape == (3, 5, 4)
    np.testing.assert_array_equal(source.read((1, 3)), tensor.numpy()[:, 1:3])
    with pytest.raises(BadValue, match="bfloat16"):
        images.open_source(tensor.to(torch.bfloat16))


@pytest.mark.parametrize("layout", ["HCW!", "HH", "XY", "C"])
def test_an_unknown_layout_is_refused(layout: str) -> None:
    with pytest.raises(BadValue, match="layout"):
        images.open_source(np.zeros((5, 6, 3)), layout=layout)


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(BadFile, match="5 time points"):
        images.understand((5, 1, 9, 9), metadata="TCYX")
    with pytest.raises(BadFile, match="choose one plane by --index, such as Z=0"):
        images.understand((2, 5, 9, 9), metadata="CZYX", space=2)
    with pytest.raises(BadFile, match="choose one line by --index, such as Y=0"):
        images.understand((9, 9, 3), metadata="YXS", space=1)
    with pytest.raises(BadFile, match="is empty"):
        images.understand((0, 5))
    with pytest.raises(BadFile, match="not an image"):
        images.understand((2, 2, 2, 2, 2, 2))
    with pytest.raises(BadFile, match="not an image with 2 spatial axes"):
        images.understand((4, 3, 9, 9), space=2)
    with pytest.raises(BadValue, match="real numbers"):
        images.open_source(np.zeros((5, 6), complex))


def test_an_arrays_identity_is_its_samples() -> None:
    array = noise((9, 7))
    same = images.open_source(array.copy()).identity()
    assert images.open_source(array).identity() == same
    array[4, 4] ^= 1
    assert images.open_source(array).identity() != same
