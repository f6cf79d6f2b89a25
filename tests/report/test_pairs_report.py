"""The report of masks and of restored pictures: whole, the same each time, true to the run."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eyeshot
from eyeshot import cli, data, filters, images, runs
from eyeshot.data.pairs import PairReader, open_pair
from eyeshot.errors import BadValue
from eyeshot.evaluation import load_test_pairs
from eyeshot.evaluation import passes as passing
from eyeshot.evaluation.pairs import RestoredPicture, psnr_of
from eyeshot.pages import Legend, Matrix, Shares, Strip, Table
from eyeshot.pictures import paint_classes
from eyeshot.report import pairs as pairs_report
from eyeshot.report import render_pairs, write_report
from eyeshot.report.curves import SIZES, smooth
from eyeshot.report.pairs import (
    SHOWN,
    MaskMaterial,
    RestoredMaterial,
    classes_section,
    errors_section,
    filters_section,
    gather_masks,
    gather_restored,
    mask_pictures_section,
    restored_pictures_section,
)
from eyeshot.report.places import measure_light
from eyeshot.runs import METRICS

from .pairs import cells, write_masks, write_run
from .test_report import Page


@pytest.fixture(scope="module")
def masks(masks_run: Path) -> MaskMaterial:
    return gather_masks(runs.load(masks_run))


@pytest.fixture(scope="module")
def pictures(pictures_run: Path) -> RestoredMaterial:
    return gather_restored(runs.load(pictures_run))


@pytest.fixture(scope="module", params=["masks", "pictures"])
def material(request: pytest.FixtureRequest) -> MaskMaterial | RestoredMaterial:
    found: MaskMaterial | RestoredMaterial = request.getfixturevalue(request.param)
    return found


def test_the_page_is_whole_needs_nothing_else_and_is_the_same_again(
    material: MaskMaterial | RestoredMaterial, tmp_path: Path
) -> None:
    text = render_pairs(material)
    page = Page(text)
    assert page.open == []
    assert all(picture["alt"] for picture in page.all("img"))
    assert "http" not in re.sub(r"base64,[^\"]+", "", text)
    assert not page.all("script")
    anchors = {section["id"] for section in page.all("section")}
    assert {link["href"] for link in page.all("a")} == {f"#{anchor}" for anchor in anchors}
    again = write_report(material.run.path, tmp_path / "page.html")
    assert again.read_text() == text


def test_the_figures_are_those_of_evaluate(masks: MaskMaterial) -> None:
    evaluation = eyeshot.evaluate(masks.run)
    assert evaluation.to_dict() == masks.evaluation.to_dict()
    text = render_pairs(masks)
    for figure in (masks.evaluation.dice, masks.evaluation.accuracy, masks.evaluation.boundary_f1):
        assert f"<strong>{figure:.2%}</strong>" in text
    assert "cells &lt;&amp;&gt;" in text


def test_each_class_has_its_figures(masks: MaskMaterial) -> None:
    table, matrix = classes_section(masks).parts
    assert isinstance(table, Table)
    assert isinstance(matrix, Matrix)
    for row, one in zip(table.rows, masks.evaluation.per_class, strict=True):
        assert row[:2] == [one.name, f"{one.pixels:,}"]
        predicted = [one.dice, one.iou, one.recall, one.precision, one.boundary_f1]
        assert row[2:] == ["–" if share is None else f"{share:.1%}" for share in predicted]
    for place, cells_of_class in enumerate(matrix.cells):
        assert sum(share for _, share, _ in cells_of_class) == pytest.approx(1)
        assert [right for _, _, right in cells_of_class].index(True) == place


def test_the_worst_picture_comes_first_and_large_ones_show_parts(masks: MaskMaterial) -> None:
    section = mask_pictures_section(masks)
    legend, *strips = section.parts
    assert isinstance(legend, Legend)
    assert [meaning for _, meaning in legend.colors][-1] == "not judged by anybody"
    dices = [picture.score.dice for picture in masks.pictures]
    assert dices == sorted(dices)
    assert len(dices) == 3
    assert all(isinstance(strip, Strip) and len(strip.views) == 4 for strip in strips)
    for picture in masks.pictures:
        large = max(picture.size) > 400
        assert len(picture.parts) == (2 if large else 0)
        assert picture.whole.factor == (2 if large else 1)
        assert max(picture.whole.views[0].shape[:2]) <= 384


def test_the_shown_mask_is_the_predicted_one(masks: MaskMaterial) -> None:
    for picture in masks.pictures:
        pair = next(p for p in masks.pairs.validation if p.name == picture.score.name)
        predicted = eyeshot.run(masks.run, pair.image, output_format="argmax")[0]
        mask = images.read(pair.target)
        shots = picture.parts if picture.parts else (picture.whole,)
        for shot in shots:
            place = np.s_[slice(*shot.rows), slice(*shot.columns)]
            painted = paint_classes(predicted[place].astype(np.int64), 3)
            np.testing.assert_array_equal(shot.views[2], painted)
            truth = np.where(mask == 255, -1, mask.astype(np.int64))[place]
            np.testing.assert_array_equal(shot.views[1], paint_classes(truth, 3))


def test_wrong_pixels_are_counted_once_in_each_profile(masks: MaskMaterial) -> None:
    table = masks.evaluation.confusion
    for bins in (masks.places.by_edge.bins, masks.places.by_border.bins):
        assert sum(one.judged for one in bins) == table.sum()
        assert sum(one.wrong for one in bins) == table.sum() - table.trace()
    assert masks.places.heat is None  # the pictures have several sizes
    shares = [part for part in errors_section(masks).parts if isinstance(part, Shares)]
    for part in shares:
        assert sum(first for _, first, _, _ in part.rows) == pytest.approx(1)
        assert sum(second for _, _, second, _ in part.rows) == pytest.approx(1)
        assert part.largest == max(max(first, second) for _, first, second, _ in part.rows)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=16))
def test_the_worst_and_the_best_are_shown(scores: list[int]) -> None:
    extremes = pairs_report._Extremes[tuple[int, int]]()
    for number, score in enumerate(scores):
        place = extremes.place(score)
        if place is not None:
            extremes.insert(place, score, (score, number))
    ordered = sorted(scores)
    shown = ordered if len(scores) <= 2 * SHOWN else ordered[:SHOWN] + ordered[-SHOWN:]
    assert [score for score, _ in extremes.pictures] == shown
    assert extremes.pictures == sorted(extremes.pictures)


def test_large_pictures_are_never_read_whole(
    masks_run: Path, masks: MaskMaterial, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = 0
    read = PairReader.image

    def watched(self: PairReader, rows: Any, columns: Any) -> Any:
        nonlocal largest
        largest = max(largest, (rows[1] - rows[0]) * (columns[1] - columns[0]))
        return read(self, rows, columns)

    monkeypatch.setattr(PairReader, "image", watched)
    monkeypatch.setattr(passing, "_WINDOW", 4096)
    material = gather_masks(runs.load(masks_run))
    assert 192 * 192 <= largest < 460 * 500 / 4
    assert render_pairs(material) == render_pairs(masks)


def test_a_network_without_padding_is_shown_where_it_answers(tmp_path: Path) -> None:
    folder = write_masks(tmp_path / "cells", [(61, 75), (61, 75)])
    run = write_run(tmp_path / "run", folder, "segment", padding="valid")
    material = gather_masks(runs.load(run))
    whole = material.pictures[0].whole
    (top, bottom), (left, right) = whole.rows, whole.columns
    off = eyeshot.output_geometry(runs.load(run).net).margin
    assert (top, left) == (off, off)
    assert bottom <= 61 - off
    assert right <= 75 - off
    picture = images.read(material.pairs.validation[0].image)
    shown = next(p for p in material.pictures if p.score.name == material.pairs.validation[0].name)
    np.testing.assert_array_equal(shown.whole.views[0][..., 0], picture[top:bottom, left:right])
    assert material.places.heat is not None
    assert Page(render_pairs(material)).open == []


def test_a_picture_of_few_gray_levels_is_brightened(tmp_path: Path) -> None:
    folder = write_masks(tmp_path / "cells", [(40, 48)])
    path = folder / "val" / "image" / "cell 0.png"
    images.write(path, images.read(path).astype(np.uint16) * 8)  # 11 bits kept in 16
    pairs = data.pairs.load_pairs(folder)
    with open_pair(pairs.validation[0], pairs) as reader:
        light = measure_light(reader)
        shown = light.show(reader.image((0, 40), (0, 48)))
    assert light.high < 0.05
    assert np.ptp(shown) == 255


def test_the_network_stands_beside_filters(pictures: RestoredMaterial) -> None:
    evaluation = eyeshot.evaluate(pictures.run)
    assert evaluation.to_dict() == pictures.evaluation.to_dict()
    (table,) = filters_section(pictures).parts
    assert isinstance(table, Table)
    assert table.total == ["the network", f"{evaluation.psnr:.2f} dB", f"{evaluation.ssim:.4f}"]  # type: ignore[union-attr]
    for classic in pictures.classics:
        name = classic.kernel.partition(":")[0]
        by_size = {size: _psnr_of_filter(pictures, f"{name}:{size}") for size in SIZES}
        best = max(by_size, key=by_size.__getitem__)
        assert classic.kernel == f"{name}:{best}"
        assert classic.psnr == pytest.approx(by_size[best], abs=1e-4)


def _psnr_of_filter(pictures: RestoredMaterial, kernel: str) -> float:
    """By :func:`eyeshot.filter` on whole pictures."""
    found = []
    for pair in pictures.pairs.validation:
        noisy, clean = (images.read(path) / np.float32(255) for path in (pair.image, pair.target))
        smoothed = filters.filter(noisy, kernel, padding="reflect", range="keep")
        found.append(psnr_of(float(np.square(smoothed.clip(0, 1) - clean).mean())))
    return float(np.mean(found))


@given(st.data())
def test_a_filtered_window_is_that_of_the_filtered_picture(
    pictures: RestoredMaterial, drawn: st.DataObject
) -> None:
    pair = pictures.pairs.validation[0]
    kernel = (
        f"{drawn.draw(st.sampled_from(['mean', 'gaussian']))}:{drawn.draw(st.sampled_from(SIZES))}"
    )
    spans = []
    for length in pair.size:
        first = drawn.draw(st.integers(0, length - 1))
        spans.append((first, drawn.draw(st.integers(first + 1, length))))
    whole = filters.filter(
        images.read(pair.image) / np.float32(255), kernel, padding="reflect", range="keep"
    )
    with open_pair(pair, pictures.pairs) as reader:
        part = smooth(reader, kernel, spans[0], spans[1])
    expected = np.moveaxis(whole[slice(*spans[0]), slice(*spans[1])], -1, 0)
    np.testing.assert_allclose(part, expected, atol=1e-5)


def test_restored_pictures_are_shown_beside_what_they_should_be(
    pictures: RestoredMaterial,
) -> None:
    for picture in pictures.pictures:
        pair = next(p for p in pictures.pairs.validation if p.name == picture.score.name)
        (part,) = picture.parts
        place = np.s_[slice(*part.shot.rows), slice(*part.shot.columns)]
        noisy, clean = images.read(pair.image)[place], images.read(pair.target)[place]
        np.testing.assert_array_equal(part.shot.views[0], noisy)
        np.testing.assert_array_equal(part.shot.views[-2], clean)
        error = np.mean(((noisy.astype(float) - clean) / 255) ** 2)
        assert part.psnr[0] == pytest.approx(psnr_of(float(error)), abs=1e-4)
        assert part.shot.views[-1].shape == clean.shape
    strips = restored_pictures_section(pictures).parts
    shown = [len(strip.views) for strip in strips if isinstance(strip, Strip)]
    assert sorted(shown) == [4, 6, 6]  # a small picture is shown once, pixel by pixel
    psnr = [picture.score.psnr for picture in pictures.pictures]
    assert psnr == sorted(psnr)
    assert isinstance(pictures.pictures[0].score, RestoredPicture)


def test_each_level_of_the_network_is_shown(material: MaskMaterial | RestoredMaterial) -> None:
    levels = material.levels
    assert levels is not None
    assert [level.place for level in levels.levels] == [
        "level 0, on the way down",
        "level 1, the deepest",
        "level 0, on the way up",
    ]
    assert levels.levels[0].sees == (5, 5)
    spec = eyeshot.output_geometry(material.run.net)
    assert levels.levels[-1].sees == spec.receptive_field or max(levels.levels[-1].sees) <= max(
        spec.receptive_field
    )
    for level in levels.levels:
        spread = level.maps.std(axis=(1, 2))
        assert (np.diff(spread) <= 0).all()


def test_a_run_without_metrics_says_so(masks: MaskMaterial, tmp_path: Path) -> None:
    bare = replace(masks, run=replace(masks.run, path=tmp_path))
    assert "no metrics.csv" in render_pairs(bare)
    (tmp_path / METRICS).write_text("epoch,loss\n1,2\n")
    with pytest.raises(eyeshot.errors.BadFile, match="not a table"):
        render_pairs(bare)


def test_a_perfect_network_has_nowhere_that_errors_gather(masks: MaskMaterial) -> None:
    perfect = np.diag([10, 20, 30])
    spotless = replace(masks, evaluation=replace(masks.evaluation, confusion=perfect))
    section = errors_section(spotless)
    assert "all 60 judged pixels are right" in section.says
    assert not section.parts


def test_other_pairs_and_data_of_another_task(
    masks_run: Path, digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_masks(tmp_path / "others", [(30, 30)])
    page = tmp_path / "page.html"
    command = ["report", str(masks_run), "--data", str(other), "-o", str(page)]
    assert cli.main(command) == 0
    assert capsys.readouterr().out.strip() == str(page)
    assert "1 whole held-out picture right" in page.read_text()
    pairs = load_test_pairs(runs.load(masks_run), other)
    with pytest.raises(BadValue, match="another task"):
        write_report(digits_run, page, data=pairs)
    with pytest.raises(BadValue, match="another task"):
        write_report(masks_run, page, data=data.load("digits"))


def test_cells_hold_every_class() -> None:
    assert set(np.unique(cells((40, 48), 0)[1])) == {0, 1, 2}
