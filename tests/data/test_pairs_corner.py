"""The top left of an image, read by windows, is the top left of the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eyeshot import images
from eyeshot.data.pairs.pair import Corner
from eyeshot.errors import BadValue
from tests.data.pairs import picture


def test_windows_of_a_corner(tmp_path: Path) -> None:
    samples = picture(1, 30, 20, 3)
    images.write(tmp_path / "a.png", samples)
    with images.open_source(tmp_path / "a.png", space=2) as whole:
        corner = Corner(whole, (17, 9))
        assert (corner.shape, corner.dtype, corner.name) == ((3, 17, 9), whole.dtype, whole.name)
        expected = samples.transpose(2, 0, 1)[:, :17, :9]
        assert np.array_equal(corner.read(), expected)
        assert np.array_equal(corner.read((3, 11), (2, 9)), expected[:, 3:11, 2:9])
        with pytest.raises(BadValue, match="window 0:18 of an axis of 17"):
            corner.read((0, 18))
        assert corner.identity() != Corner(whole, (16, 9)).identity()
