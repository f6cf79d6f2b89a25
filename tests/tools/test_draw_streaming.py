"""The figures of ``docs/streaming.md`` show what its loops do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tools.draw_streaming import (
    FORGOTTEN,
    HEIGHT,
    HELD,
    LAYERS,
    NOT_YET,
    TILE,
    TWICE,
    draw_ways,
    skips_of,
    stream_half_way,
    tiles_half_way,
    unet_plan,
    whole_half_way,
)

from eyeshot import images


def test_a_stream_holds_three_rows_a_layer_and_computes_none_too_early() -> None:
    state = stream_half_way()
    assert list((state == HELD).sum(axis=0)) == [3] * LAYERS + [1]
    for place in range(1, LAYERS + 1):
        newest = int(np.flatnonzero(state[:, place] == HELD).max())
        assert state[newest + 1, place - 1] == HELD, "the row below is read"
        assert state[newest + 1, place] == NOT_YET


def test_a_tile_computes_its_halo_again() -> None:
    state = tiles_half_way()
    again = (state == TWICE).sum(axis=0)
    assert list(again) == [0, *(2 * (LAYERS - place) for place in range(1, LAYERS + 1))]
    assert (state[TILE : 2 * TILE, LAYERS] == HELD).all()


def test_the_whole_pass_holds_a_map_and_what_is_being_made_of_it() -> None:
    state = whole_half_way()
    assert (state[:, 2] == HELD).all()
    assert (state[:, 3] == HELD).sum() == HEIGHT // 2
    assert set(state[:, 4]) == {NOT_YET}
    assert set(state[:, 1]) == {FORGOTTEN}


def test_the_skips_of_a_u_net_are_found() -> None:
    plan = unet_plan(64)
    assert len(skips_of(plan)) == 4
    rows = {buffer.name: buffer.rows for buffer in plan.buffers}
    held = [rows[name] for name in skips_of(plan)]
    assert held == sorted(held, reverse=True)


def test_a_figure_is_a_picture_of_its_size(tmp_path: Path) -> None:
    draw_ways(tmp_path / "ways.png")
    assert images.read(tmp_path / "ways.png").shape[:2] == (420, 960)
