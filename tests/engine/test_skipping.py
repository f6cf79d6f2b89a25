"""Blank regions copied, and ``where``: the same output as a run of everything, and less work."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import eyeshot
from eyeshot import images
from eyeshot.axes import Interval
from eyeshot.engine import blank, skipping
from eyeshot.engine.executing import RunReport
from eyeshot.engine.job import Job
from eyeshot.engine.skipping import PolygonWhere, skip
from eyeshot.errors import BadFile, BadValue, Unsupported
from eyeshot.images import open_source
from tests.engine.law import (
    LIMITS,
    Array,
    by_parts,
    cut,
    enliven,
    job_of,
    largest_difference,
    noise,
    whole,
)
from tests.networks import CHANNELS, examples, networks, runs_at
from tests.zoo import SqueezeExcite, UNet

SIDES = {1: st.integers(20, 90), 2: st.integers(20, 50)}


@pytest.fixture
def small_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells of a few positions, so that a small image has many."""
    monkeypatch.setattr(blank, "CELL", 4)
    monkeypatch.setattr(skipping, "CELL", 4)
    monkeypatch.setattr(blank, "_GRAIN", 2)
    monkeypatch.setattr(skipping, "_WORTH", 1e9)


def islands(size: tuple[int, ...], seed: int, double: bool = False) -> torch.Tensor:
    """Two constants, with islands of white noise."""
    rng = np.random.default_rng(seed)
    image = noise(CHANNELS, *[1] * len(size), seed=seed, double=double).repeat(1, *size)
    image[:, int(rng.integers(0, size[0])) :] = noise(1, seed=seed + 1, double=double)
    for _ in range(int(rng.integers(0, 4))):
        where = []
        for n in size:
            lo = int(rng.integers(0, n))
            where.append(slice(lo, lo + int(rng.integers(1, 7))))
        part = image[(slice(None), *where)]
        image[(slice(None), *where)] = noise(*part.shape, seed=int(rng.integers(99)), double=double)
    return image


@pytest.mark.usefixtures("small_cells")
@pytest.mark.parametrize("axes", [1, 2])
def test_random_networks_over_constants_with_islands(axes: int) -> None:
    copied = []

    @examples({1: 8, 2: 16}[axes])
    @given(
        net=networks(axes),
        size=st.tuples(*[SIDES[axes]] * axes),
        seed=st.integers(0, 99),
        double=st.booleans(),
        data=st.data(),
    )
    def holds(
        net: nn.Module, size: tuple[int, ...], seed: int, double: bool, data: st.DataObject
    ) -> None:
        image = islands(size, seed, double)
        net = net.double() if double else net.float()
        truth = runs_at(net, image[None])
        assume(truth is not None)
        assert truth is not None
        assume(truth.isfinite().all())
        try:
            job = job_of(net, image)
        except Unsupported as refused:
            assume("writes in place" not in str(refused))
            raise
        region = tuple(_side(data, n) for n in truth.shape[2:])
        strips = 1 if axes == 1 else data.draw(st.integers(1, 3), label="strips")
        job = skip(cut(job, data.draw(st.integers(1, 9)), strips, region), blank=True)
        copied.append(0.0 if job.skipping is None else job.skipping.blank)
        (part,), _ = by_parts(job)
        inside = truth[0].numpy()[(slice(None), *(slice(side.lo, side.hi) for side in region))]
        scale = max(1e-3, float(truth.abs().max()))
        assert float(np.abs(part - inside).max()) <= LIMITS[image.dtype] * scale

    holds()
    assert any(copied)


def _side(data: st.DataObject, n: int) -> Interval:
    lo = data.draw(st.integers(0, n - 1)) if data.draw(st.booleans()) else 0
    return Interval(lo, data.draw(st.integers(lo + 1, n)) if data.draw(st.booleans()) else n)


@pytest.mark.usefixtures("small_cells")
def test_volumes() -> None:
    net = nn.Sequential(
        *[nn.Conv3d(1, 3, 3, 2, 1), nn.ReLU(), nn.ConvTranspose3d(3, 2, 2, 2)],
        nn.Conv3d(2, 2, 3, padding=1),
    )
    image = torch.full((1, 46, 38, 6), 0.3)
    image[0, 20:23, 18, 2] = noise(3)
    enliven(net, image[None])
    job = skip(job_of(net, image), blank=True)
    assert job.skipping is not None
    assert job.skipping.blank > 0.4
    assert largest_difference(by_parts(job)[0], whole(net, image)) <= 1e-5


@pytest.mark.usefixtures("small_cells")
def test_a_unit_s_value_depends_on_its_phase() -> None:
    """Up by 3 behind a stride of 2, and a pixel shuffle: no two neighbors are alike."""
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1),
        *[nn.ConvTranspose2d(4, 4, 5, 3), nn.Conv2d(4, 18, 3, padding=1), nn.PixelShuffle(3)],
    )
    image = torch.full((1, 57, 46), 0.3)
    image[0, 30, 20] = 5
    enliven(net, image[None])
    job = skip(job_of(net, image), blank=True)
    assert job.skipping is not None
    assert job.skipping.sides == (9, 9)
    assert job.skipping.blank > 0.2
    parts, _ = by_parts(job)
    assert largest_difference(parts, whole(net, image)) <= 1e-5
    flat = parts[0][0, 36:45, 36:45]
    assert len(np.unique(flat.round(4))) > 9


class WithPositions(nn.Module):
    """A weight for each position: two equal pictures at two places are not the same."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3, padding=1)
        self.embedding = nn.Parameter(noise(1, 2, 40, 40))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.first(x) + self.embedding
        return scores


@pytest.mark.usefixtures("small_cells")
@pytest.mark.parametrize(
    "net",
    [
        WithPositions(),
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.Upsample((97, 101), mode="bilinear")),
        nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), SqueezeExcite(4, 2)),
    ],
    ids=["an embedding", "a resize to a size", "a statistic"],
)
def test_no_two_places_are_alike(net: nn.Module) -> None:
    image = torch.full((1, 40, 40), 0.4)
    job = skip(job_of(net.eval(), image), blank=True)
    assert job.skipping is None
    assert largest_difference(by_parts(job)[0], whole(net, image)) <= 1e-5


def slide(height: int = 700, width: int = 610) -> Array:
    """Glass, and a little tissue."""
    image = np.full((1, height, width), 0.9, np.float32)
    image[:, 290:350, 200:330] = np.random.default_rng(0).random((60, 130), np.float32)
    return image


def unet() -> nn.Module:
    return enliven(UNet(2, 2), noise(1, 1, 16, 16))


def test_a_plan_says_what_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    net, image = nn.Conv2d(1, 8, 9, padding=4).eval(), np.zeros((1, 320, 320), np.float32)
    mask = np.zeros((10, 10), np.uint8)
    mask[:5] = 1
    assert not any("blank" in note for note in eyeshot.plan(net, image).notes)
    asked = eyeshot.plan(net, image, where=mask).notes
    assert [note for note in asked if note.endswith("filled, and not computed")]
    monkeypatch.setattr(skipping, "_LARGE", 1)
    monkeypatch.setattr(skipping, "_DEAR", 1)
    assert any(
        note.startswith("blank regions are found") for note in eyeshot.plan(net, image).notes
    )
    classifier = nn.Sequential(net, nn.AdaptiveAvgPool2d(1)).eval()
    assert not any("blank" in note for note in eyeshot.plan(classifier, image).notes)


def test_blank_cells_are_copied_and_save_their_work(tmp_path: Path) -> None:
    net, image = unet(), slide(704, 608)
    reports: list[RunReport] = []
    full = eyeshot.run(net, image, blank=False, progress=reports.append)
    dear = reports[-1]
    found = eyeshot.run(net, image, blank=True, progress=reports.append)
    assert largest_difference([found], [full]) <= 1e-5
    assert np.array_equal(found[:, 448:512, 384:512], found[:, 512:576, 384:512])
    for out in (tmp_path / "o.zarr", tmp_path / "o.npy"):
        eyeshot.run(net, image, out, blank=True)
        assert np.array_equal(open_source(out).read(), found)
    assert dear.blank == 0
    assert reports[-1].blank > 0.6
    assert reports[-1].multiply_adds < 0.45 * dear.multiply_adds
    plan = skip(job_of(net, torch.from_numpy(image)), blank=True).plan
    assert reports[-1].multiply_adds == plan.multiply_adds


def test_a_run_with_copies_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    net, image = unet(), slide(704, 608)
    path = tmp_path / "image.png"
    Image.fromarray((image[0] * 255).astype(np.uint8)).save(path)
    once, twice = tmp_path / "once.tif", tmp_path / "twice.tif"
    options: dict[str, Any] = {"output_format": "probabilities", "band": 16}

    def stop(report: RunReport) -> None:
        if report.rows > 350:
            raise KeyboardInterrupt

    eyeshot.run(net, path, once, blank=True, **options)
    with pytest.raises(KeyboardInterrupt):
        eyeshot.run(net, path, twice, blank=True, progress=stop, **options)
    eyeshot.run(net, path, twice, resume=True, **options)
    assert once.read_bytes() == twice.read_bytes()


@pytest.mark.parametrize("band", [7, None])
def test_where_by_a_mask_and_only_its_rows_are_read(
    band: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, image = unet(), noise(1, 704, 608).numpy()
    truth = eyeshot.run(net, image)
    mask = np.zeros((11, 19), np.uint8)  # each pixel is 64 × 32 positions
    mask[5, 7:9] = 1
    source = open_source(image, layout="CHW")
    read = []
    within = source.read

    def noted(*window: tuple[int, int]) -> Array:
        read.append(window)
        return within(*window)

    monkeypatch.setattr(source, "read", noted)
    reports: list[RunReport] = []
    found = eyeshot.run(net, source, where=mask, fill=-3, band=band, progress=reports.append)
    inside = np.zeros((704, 608), bool)
    inside[320:384, 224:288] = True
    assert (found[:, ~inside] == -3).all()
    assert np.abs(found - truth)[:, inside].max() <= 1e-5 * np.abs(truth).max()
    assert min(rows[0] for rows, *_ in read) >= 256 - 32
    assert max(rows[1] for rows, *_ in read) <= 384 + 32
    assert reports[-1].outside > 0.9
    assert reports[-1].all_rows == reports[-1].rows == 704


def polygons(*rings: Sequence[Sequence[float]]) -> dict[str, Any]:
    """A feature, as drawing programs export it."""
    return {
        "type": "FeatureCollection",
        "features": [
            {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": list(rings)}}
        ],
    }


def test_where_by_a_polygon_with_a_hole(tmp_path: Path) -> None:
    outer = [[10, 20], [300, 20], [300, 600], [10, 600], [10, 20]]
    hole = [[100, 200], [200, 200], [200, 400], [100, 400], [100, 200]]
    path = tmp_path / "tissue.geojson"
    path.write_text(json.dumps(polygons(outer, hole)))
    net, image = unet(), noise(1, 704, 608).numpy()
    truth = eyeshot.run(net, image)
    found = eyeshot.run(net, image, where=path, fill=float("nan"))
    inside = ~np.isnan(found).all(0)
    assert inside[25:195, 15:295].all()
    assert not inside[205:395, 105:195].any()
    assert not inside[:18].any()
    assert not inside[:, 303:].any()
    assert np.abs(found - truth)[:, inside].max() <= 1e-5 * np.abs(truth).max()


@pytest.mark.parametrize("reach", [0.6, 3, 30])
def test_a_polygon_is_the_same_however_it_is_cut(reach: float, tmp_path: Path) -> None:
    """By bands, strips and a run that is resumed; also if it is far larger than the image."""
    random = np.random.default_rng(0)
    for _ in range(2):
        turns = np.sort(random.uniform(0, 2 * np.pi, 9))
        far = random.uniform(0.2, 1, 9) * 50 * reach
        ring = np.stack([40 + far * np.cos(turns), 30 + far * np.sin(turns)], 1)
        path = tmp_path / "a.geojson"
        path.write_text(json.dumps(polygons(ring.tolist())))
        where = PolygonWhere(path, (60, 80), (60, 80))
        mask = where.inside(Interval(0, 60), Interval(0, 80))
        for step in (1, 7, 16):
            rows = [Interval(at, min(at + step, 60)) for at in range(0, 60, step)]
            columns = [Interval(at, min(at + step, 80)) for at in range(0, 80, step)]
            by_parts = np.block(
                [[where.inside(down, across) for across in columns] for down in rows]
            )
            np.testing.assert_array_equal(by_parts, mask)
        corners = (ring - 0.5).astype(np.float32)
        depth = np.array(
            [[cv2.pointPolygonTest(corners, (x, y), True) for x in range(80)] for y in range(60)]
        )
        assert mask[depth > 1e-3].all()
        assert not mask[depth < -0.71].any()  # half the diagonal of a pixel


def test_pixels_that_an_edge_passes_through_are_inside(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(polygons([[3.2, 5.2], [9.8, 5.2], [9.8, 5.3], [3.2, 5.3]])))
    mask = PolygonWhere(path, (20, 20), (20, 20)).inside(Interval(0, 20), Interval(0, 20))
    truth = np.zeros((20, 20), bool)
    truth[5, 3:10] = True
    np.testing.assert_array_equal(mask, truth)


def test_where_of_a_network_that_mixes_all_positions() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), SqueezeExcite(4, 2)).eval()
    image = noise(1, 300, 280)
    mask = np.zeros((300, 280), bool)
    mask[140:150, 30:200] = True
    found = eyeshot.run(net, image, where=mask)
    (truth,) = whole(net, image)
    assert np.abs(found - truth)[:, mask].max() <= 1e-5 * np.abs(truth).max()
    assert (found[:, ~mask] == 0).all()


def test_where_by_a_mask_with_opacity(tmp_path: Path) -> None:
    net, image = nn.Conv2d(1, 1, 3, padding=1).eval(), noise(1, 32, 24)
    mask = np.zeros((32, 24, 4), np.uint8)
    mask[..., 3] = 255
    mask[:8, :6] = 255  # white and opaque
    mask[20:, 20:] = (255, 255, 255, 0)  # white and transparent
    images.write(tmp_path / "mask.png", mask)
    found = eyeshot.run(net, image, where=tmp_path / "mask.png", fill=float("nan"))
    inside = np.zeros((32, 24), bool)
    inside[:8, :6] = True
    np.testing.assert_array_equal(~np.isnan(found[0]), inside)


class TwoSizes(nn.Module):
    """A map of 64×64 and one of 62×62 for an image of 64×64."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return 2 * x, self.conv(x)


def test_where_that_cannot_be_taken(tmp_path: Path) -> None:
    net, image = unet(), noise(1, 64, 64)
    for text, fact in (
        ("{", "not GeoJSON"),
        ('{"type": "FeatureCollection", "features": []}', "holds no polygon"),
        (json.dumps(polygons([[900, 900], [990, 900], [990, 990]])), "outside of the image"),
        ('{"type": "Feature", "geometry": null}', "holds no polygon"),
        ('{"type": "Polygon", "coordinates": []}', "holds no polygon"),
        ('{"type": "Point", "coordinates": [3, 4]}', r"a\.geojson: holds a Point, which has no"),
    ):
        path = tmp_path / "a.geojson"
        path.write_text(text)
        with pytest.raises((BadFile, BadValue), match=fact):
            eyeshot.run(net, image, where=path)
    mask = np.zeros((64, 640), bool)
    mask[0, 0] = True  # between two positions
    with pytest.raises(BadValue, match="the mask: nothing of the output"):
        eyeshot.run(net, image, where=mask)
    with pytest.raises(BadValue, match="every pixel is 0"):
        eyeshot.run(net, image, where=np.zeros((4, 4)))
    with pytest.raises(BadValue, match=r"--fill 256, and the samples of .* are uint8"):
        eyeshot.run(net, image, where=np.ones((4, 4)), fill=256, output_format="argmax")
    classifier = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with pytest.raises(BadValue, match="not pictures of one size"):
        eyeshot.run(classifier, image, where=np.ones((4, 4)))
    with pytest.raises(BadValue, match="not pictures of one size"):  # nor where a part is
        eyeshot.run(TwoSizes().eval(), image, where=np.ones((4, 4)), region=[(0, 8), (0, 8)])


def test_memory_counts_the_rows_of_cells() -> None:
    net, image = unet(), torch.from_numpy(slide(704, 608))
    job: Job = job_of(net, image)
    skipped = skip(job, blank=True)
    assert skipped.plan.peak > job.plan.peak


def test_narrow_rectangles_have_taller_bands_where_the_memory_is_there() -> None:
    net, image = unet(), torch.from_numpy(slide(704, 608))
    job: Job = skip(job_of(net, image), blank=True)
    assert job.skipping is not None
    assert job.skipping.tall
    columns = job.skipping.cells.shape[1]
    assert job.skipping.taller(columns) == 1 < job.skipping.taller(1)
    low = skip(replace(job_of(net, image), memory=job.plan.peak - 1), blank=True)
    assert low.skipping is not None
    assert not low.skipping.tall
    assert low.skipping.taller(1) == 1
    assert low.plan.peak < job.plan.peak
    assert largest_difference(by_parts(low)[0], by_parts(job)[0]) <= 1e-5


def test_a_pass_of_its_own_must_be_worth_its_setting_up() -> None:
    computed = np.zeros((12, 12), np.bool_)
    computed[2, 3:9] = computed[3, 2:10] = True
    assert len(skipping._rectangles(computed, (0.2, 0.2))) == 2
    assert skipping._rectangles(computed, (0.2, 0.2), 5) == [(2, 4, 2, 10)]


def test_zeros_of_two_signs_are_no_constant() -> None:
    image = np.zeros((1, 64, 64), np.float32)
    image[0, 40, 40] = -0.0
    found = blank.Constants(open_source(image), np.ones((2, 2), np.bool_))
    np.testing.assert_array_equal(found.ids >= 0, [[True, True], [True, False]])


@pytest.mark.parametrize("shape", [(3, 65, 97), (1, 64, 32), (2, 31, 100), (2, 70), (1, 40, 33, 5)])
def test_the_least_and_the_largest_of_squares_cut_at_the_far_sides(shape: tuple[int, ...]) -> None:
    samples = noise(*shape).numpy()
    low = blank._reduced(samples, np.minimum)
    assert low.shape == (shape[0], -(-shape[1] // 32), -(-(*shape, 1)[2] // 32))
    for place in np.ndindex(low.shape):
        parts = (slice(32 * n, 32 * n + 32) for n in place[1 : min(3, len(shape))])
        assert low[place] == samples[(place[0], *parts)].min()
