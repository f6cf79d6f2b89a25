"""The pictures of ``docs/segment.md``: valid parts tile a picture, views stand side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tools.draw_segment import BLUE, DIM, SIDE, draw_errors, draw_valid, tint, write_cells

from eyeshot import data, images
from eyeshot.evaluation import PictureScore
from eyeshot.report.pairs import MaskPicture
from eyeshot.report.places import Shot


def test_the_valid_parts_drawn_cover_the_picture_once(tmp_path: Path) -> None:
    pairs = data.load_pairs(write_cells(tmp_path / "cells"))
    assert draw_valid(pairs, tmp_path) == SIDE**2
    assert np.ptp(images.read(tmp_path / "segment_valid.png")) > 100


def test_what_is_not_valid_is_dim_and_blue() -> None:
    painted = tint(np.array([[1.0, 1.0]], np.float32), np.array([[True, False]]))
    assert painted[0, 0].tolist() == [255, 255, 255]
    assert painted[0, 1].tolist() == [int(DIM * 255 + (1 - DIM) * part) for part in BLUE]


def test_the_four_views_are_drawn(tmp_path: Path) -> None:
    views = tuple(np.full((20, 30, 3), shade, np.uint8) for shade in (0, 80, 160, 255))
    shot = Shot(views, (0, 20), (0, 30))
    draw_errors(MaskPicture(PictureScore("a", 0.5, 0.5), (20, 30), shot, ()), tmp_path)
    picture = images.read(tmp_path / "segment_errors.png")
    assert {0, 80, 160, 255} <= set(np.unique(picture[..., 0]))
