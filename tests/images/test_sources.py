"""Every source: any window equals the array's, and in order each stored piece is decoded once."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from eyeshot import images
from eyeshot.errors import BadFile, BadValue
from eyeshot.images.sources.source import GridSource
from tests.networks import examples

from .conftest import STORED, Array

Files = dict[str, tuple[Path, Array]]


@st.composite
def windows(draw: st.DrawFn, height: int = 53, width: int = 61) -> list[tuple[int, int]]:
    spans = []
    for length in (height, width):
        lo = draw(st.integers(0, length - 1))
        spans.append((lo, draw(st.integers(lo + 1, length))))
    return spans


@pytest.mark.parametrize("name", STORED)
@examples(12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=st.lists(windows(), min_size=1, max_size=4), keep=st.sampled_from([0, 3]))
def test_any_window_equals_the_array(
    name: str, stored: Files, asked: list[list[tuple[int, int]]], keep: int
) -> None:
    path, array = stored[name]
    with images.open_source(path) as source:
        source.keep_rows = keep
        assert source.shape == array.shape
        assert source.dtype == array.dtype.newbyteorder("=")
        for (y0, y1), (x0, x1) in asked:
            window = source.read((y0, y1), (x0, x1))
            assert window.dtype == source.dtype
            np.testing.assert_array_equal(window, array[:, y0:y1, x0:x1])


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("bands", [[53], [1] * 53, [5] * 10 + [3], [16, 1, 30, 6]])
@pytest.mark.parametrize("cuts", [[0, 61], [0, 7, 32, 61]])
def test_in_order_each_stored_piece_is_decoded_once(
    name: str, stored: Files, bands: list[int], cuts: list[int]
) -> None:
    path, array = stored[name]
    with images.open_source(path) as source:
        top = 0
        for rows in bands:
            for left, right in pairwise(cuts):
                window = source.read((top, top + rows), (left, right))
                np.testing.assert_array_equal(window, array[:, top : top + rows, left:right])
            top += rows
        if isinstance(source, GridSource):
            pairs = zip(source._layout.stored, source._chunk, strict=True)
            assert source.decoded_chunks == math.prod(-(-n // side) for n, side in pairs)
            held = sum(block.nbytes for block in source._chunks.values())
            assert held <= source.memory
        elif path.suffix == ".png":
            assert source.decoded_chunks == 53


def test_rows_asked_for_again_are_not_decoded_again_when_announced(stored: Files) -> None:
    path, array = stored["tiff tiles"]
    with images.open_source(path) as source:
        source.keep_rows = 4
        for top in range(0, 53, 16):
            lo, hi = max(0, top - 4), min(53, top + 16)
            np.testing.assert_array_equal(source.read((lo, hi)), array[:, lo:hi])
        assert source.decoded_chunks == 8


@pytest.mark.parametrize("name", ["npy", "tiff one piece", "tiff tiles", "png gray"])
def test_a_file_that_changes_size_while_it_is_read_is_refused(
    name: str, stored: Files, tmp_path: Path
) -> None:
    original, _ = stored[name]
    path = tmp_path / original.name
    path.write_bytes(original.read_bytes())
    with images.open_source(path) as source:
        source.read((0, 5))
        path.write_bytes(original.read_bytes()[:-900])
        with pytest.raises(BadFile, match=f"{path.name}.*(opened|ends)"):
            source.read((5, 53))


def test_windows_outside_the_image_are_refused() -> None:
    source = images.open_source(np.zeros((5, 6)))
    for window in [((0, 6),), ((2, 2),), ((-1, 3),), ((0, 5), (0, 6), (0, 1))]:
        with pytest.raises(BadValue):
            source.read(*window)


def test_rows_alone_are_read_over_the_whole_width() -> None:
    array = np.arange(60).reshape(3, 4, 5)
    np.testing.assert_array_equal(images.open_source(array).read((1, 3)), array[:, 1:3])
