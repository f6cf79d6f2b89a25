"""Maps become colors and tiles, curves become SVG that parses, pictures become bytes."""

from __future__ import annotations

import base64
import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from eyeshot import pictures
from eyeshot.errors import BadValue, UnknownName
from eyeshot.pictures import (
    Curve,
    color_kernels,
    color_maps,
    curves_svg,
    data_uri,
    draw_shares,
    font_for,
    jpeg_bytes,
    mosaic,
    png_bytes,
    reduce_picture,
)


def test_own_range_makes_each_map_reach_the_brightest_color_and_shared_only_the_largest() -> None:
    maps = np.stack([np.linspace(0, 1, 9).reshape(3, 3), np.linspace(0, 10, 9).reshape(3, 3)])
    own = color_maps(maps)
    np.testing.assert_array_equal(own[0], own[1])
    shared = color_maps(maps, range="shared")
    np.testing.assert_array_equal(shared[1], own[1])
    assert shared[0].max() < own[0].max()


def test_zero_is_white_between_red_and_blue_and_what_is_not_finite_is_green() -> None:
    (tile,) = color_maps(np.array([[[-2.0, 0.0, 2.0, np.nan]]]))
    blue, white, red, green = tile[0].astype(int)
    assert blue[2] > blue[0] + 50
    assert white.min() > 240
    assert red[0] > red[2] + 50
    assert green.tolist() == [0, 200, 0]


def test_a_mosaic_places_every_tile_and_leaves_the_gaps_clear() -> None:
    tiles = [np.full((2, 2, 3), value, np.uint8) for value in (10, 20, 30)]
    drawn = mosaic(tiles, side=4, columns=2, gap=1)
    assert drawn.shape == (9, 9, 4)
    assert drawn[0, 0].tolist() == [10, 10, 10, 255]
    assert drawn[0, 8].tolist() == [20, 20, 20, 255]
    assert drawn[8, 0].tolist() == [30, 30, 30, 255]
    assert drawn[8, 8, 3] == drawn[4, 0, 3] == 0


def test_dead_tiles_are_crossed_out() -> None:
    tiles = [np.zeros((4, 4, 3), np.uint8)] * 2
    drawn = mosaic(tiles, side=40, columns=2, gap=0, dead=np.array([False, True]))
    assert drawn[:, :40, :3].max() == 0
    assert drawn[0, 40, 0] > drawn[20, 41, 0] > 0


def test_lifted_maps_show_small_numbers_beside_large_ones() -> None:
    maps = np.full((1, 20, 20), 1.0)
    maps[0, 0, 0], maps[0, 0, 1] = 100.0, 0.0
    (plain,), (lifted,) = color_maps(maps), color_maps(maps, lifted=True)
    assert lifted[5, 5].sum() > plain[5, 5].sum() + 200
    np.testing.assert_array_equal(lifted[0, 1], plain[0, 1])
    np.testing.assert_array_equal(lifted[0, 0], plain[0, 0])


def test_lifted_maps_keep_their_sign_and_what_is_not_finite() -> None:
    (tile,) = color_maps(np.array([[[-9.0, 0.0, 9.0, np.inf, -0.1]]]), lifted=True)
    blue, white, red, green, faint = tile[0].astype(int)
    assert blue[2] > blue[0] + 50
    assert white.min() > 240
    assert red[0] > red[2] + 50
    assert green.tolist() == [0, 200, 0]
    assert faint[2] > faint[0]


def test_lifted_maps_of_one_range_can_be_compared() -> None:
    maps = np.stack([np.full((3, 3), 1.0), np.full((3, 3), 4.0)])
    one, four = color_maps(maps, range="shared", lifted=True)
    assert one.sum() < four.sum()
    alone, other = color_maps(maps, lifted=True)
    np.testing.assert_array_equal(alone, other)


def test_tiles_carry_their_numbers_in_a_corner_or_beside_their_row() -> None:
    tiles = [np.full((64, 64, 3), 200, np.uint8)] * 3
    plain, numbered = (mosaic(tiles, columns=3, numbers=n) for n in (False, True))
    assert plain.shape == numbered.shape
    for tile in range(3):
        corner = (slice(0, 12), slice(tile * 68, tile * 68 + 8))
        assert (numbered[corner] != plain[corner]).any()
    small = [np.full((2, 2, 3), 200, np.uint8)] * 300
    plain, numbered = (mosaic(small, columns=60, side=12, numbers=n) for n in (False, True))
    margin = numbered.shape[1] - plain.shape[1]
    assert margin > 10
    np.testing.assert_array_equal(numbered[:, margin:], plain)


def test_text_that_no_font_has_is_escaped_and_other_text_is_drawn_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert font_for("a × b", 12)[1] == "a × b"
    monkeypatch.setattr(pictures, "_wide", lambda: None)
    assert font_for("猫.png ×", 12)[1] == r"\u732b.png ×"


def test_chinese_is_drawn_where_a_font_has_it() -> None:
    if pictures._wide() is None:
        pytest.skip("no font with Chinese characters here")
    font, text = font_for("猫.png", 12)
    assert text == "猫.png"
    assert font.getmask("猫").getbbox() != font.getmask("\ufffe").getbbox()


def test_kernels_over_three_channels_are_colors_with_gray_for_zero() -> None:
    kernels = np.zeros((2, 3, 3, 3))
    kernels[0, 0] = 1
    red, gray = color_kernels(kernels)
    assert red[0, 0].tolist() == [255, 128, 128]
    assert gray[0, 0].tolist() == [128, 128, 128]
    assert color_kernels(np.ones((2, 4, 3, 3)))[0].shape == (3, 12, 3)


def test_mistakes() -> None:
    with pytest.raises(UnknownName, match="did you mean 'shared'"):
        color_maps(np.zeros((1, 2, 2)), range="share")
    with pytest.raises(BadValue, match=r"expected \(K, H, W\)"):
        color_maps(np.zeros((2, 2)))
    with pytest.raises(BadValue, match="no tiles"):
        mosaic([])


def test_png_is_lossless_and_the_same_each_time() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 4), np.uint8)
    assert png_bytes(picture) == png_bytes(picture)
    content = base64.b64decode(data_uri(picture).partition(",")[2])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), picture)


def test_curves_keep_their_order_and_leave_out_what_is_not_finite() -> None:
    points = [(1.0, 0.5), (2.0, 0.9), (3.0, float("nan")), (4.0, 0.99)]
    text = curves_svg(
        [Curve("a < b", points, "one")], title="t & u", x_label="x", y_label="y", percent=True
    )
    tree = ElementTree.fromstring(text)
    (line,) = tree.iter("polyline")
    places = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
    assert len(places) == 3
    assert places == sorted(places)
    assert [y for _, y in places] == sorted((y for _, y in places), reverse=True)
    assert "%" in text


@pytest.mark.parametrize(("side", "asked"), [(64, (137, -64)), (4, (137, 137))])
def test_shares_have_the_color_of_their_number_or_of_a_small_square(
    side: int, asked: tuple[int, int]
) -> None:
    """Red less blue is 137 at the full color of what raises, -128 at the other, 0 in gray."""
    shares = np.zeros((4, 4))
    shares[1, 1:3] = [1, -0.5]
    drawn = draw_shares(np.full((4, 4, 3), 90, np.uint8), shares, side=side).astype(int)
    step = side // 4
    seen = drawn[step // 2 :: step, step // 2 :: step]
    tints = (seen[..., 0] - seen[..., 2])[1:3, 1:3]
    np.testing.assert_allclose(tints, [asked, (0, 0)], atol=1)


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
