"""Each page has a picture, and what the pictures of the pages show is computed, not claimed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.documents import ROOT
from torch import nn

from eyeshot.images.whole import open_image
from tools import draw_pages

WITHOUT = {"api.md", "index.md"}
"""Lists of names and of pages."""


def test_each_page_has_a_picture() -> None:
    pages = (ROOT / "docs").glob("*.md")
    bare = {page.name for page in pages if "](images/" not in page.read_text()}
    assert bare == WITHOUT
    for name in draw_pages.PAGES:
        assert f"](images/page_{name}.png)" in (ROOT / "docs" / f"{name}.md").read_text()


def test_an_output_reads_what_changes_it() -> None:
    assert (draw_pages.reads(torch.tanh, 6) == np.eye(6, dtype=bool)).all()
    window = draw_pages.reads(lambda x: nn.functional.conv1d(x, torch.ones(1, 1, 3)), 6)
    assert (window == (np.eye(6) + np.eye(6, k=1) + np.eye(6, k=2))[:4].astype(bool)).all()
    assert draw_pages.reads(lambda x: x - x.mean(-1, keepdim=True), 6).all()


@torch.no_grad()
def test_tiles_differ_from_the_pass_exactly_where_the_audit_says() -> None:
    net, x = draw_pages.TwoScales().eval(), torch.rand(1, 1, 176, 176)
    whole = net(x)
    for overlap, share in ((8, 0.0449), (10, 0.0)):
        apart = (draw_pages._tiled(net, x, 64, overlap) - whole).abs().amax(1)
        wrong = float((apart > 1e-5 * whole.abs().max()).float().mean())
        assert wrong == pytest.approx(share, abs=1e-4), overlap


def test_the_floors_are_those_of_the_page() -> None:
    found = draw_pages.floors()
    assert found[0] == ("__main__", "")
    assert ("errors", "one tree of errors") in found
    assert (
        "nets  filters  images  pictures",
        "networks; kernels; pictures in and out; drawing",
    ) in (found)


@pytest.mark.parametrize("name", ["explain", "paddle"])
def test_a_picture_is_drawn(name: str, tmp_path: Path) -> None:
    path = draw_pages.draw(name, tmp_path)
    with open_image(path) as drawn:
        assert drawn.size == tuple(round(100 * side) for side in draw_pages.PAGES[name][1])
        assert len({*drawn.convert("L").tobytes()}) > 5
