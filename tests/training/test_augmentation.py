"""Pictures changed together with their answers: aligned, repeatable, and nothing invented."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from scipy.ndimage import gaussian_filter
from torch import Tensor

from eyeshot.data import Crops
from eyeshot.errors import UnknownName
from eyeshot.training import augmentation
from eyeshot.training.augmentation import (
    AUGMENTATIONS,
    augment_crops,
    augment_pairs,
    draw_places,
    resample,
)
from tests.networks import examples

Seed = tuple[int, int, int]

seeds = st.tuples(st.integers(0, 9), st.integers(0, 99), st.integers(0, 999))
sizes = st.tuples(st.integers(20, 90), st.integers(20, 90))
some_kinds = st.lists(st.sampled_from(AUGMENTATIONS), unique=True)


def blobs(count: int, size: tuple[int, int], classes: int = 2) -> Tensor:
    """Class numbers (B, H, W) in smooth patches."""
    noise = np.random.default_rng(0).normal(size=(count, *size))
    smooth = gaussian_filter(noise, (0, 6, 6))
    edges = np.quantile(smooth, np.linspace(0, 1, classes + 1)[1:-1])
    return torch.from_numpy(np.digitize(smooth, edges))


def frame(count: int, size: tuple[int, int]) -> Tensor:
    """Valid but for a frame of 5 pixels and a hole."""
    valid = torch.zeros(count, *size, dtype=torch.bool)
    valid[:, 5:-5, 5:-5] = True
    valid[:, 9:12, 8:15] = False
    return valid


def gradients(count: int, size: tuple[int, int]) -> Tensor:
    """Pictures (B, 3, H, W) that go from dark to light, each its own way."""
    rows, columns = torch.meshgrid(*(torch.linspace(0, 1, n) for n in size), indexing="ij")
    mixed = [rows * (k + 1) / 9 + columns * (8 - k) / 9 for k in range(3 * count)]
    return torch.stack(mixed).view(count, 3, *size)


def augment(
    targets: Tensor, kinds: Collection[str], seed: Seed, valid: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Augment images that are equal to their targets."""
    images = targets.float()
    everywhere = torch.ones_like(targets, dtype=torch.bool)
    return augment_pairs(
        images[:, None], targets, everywhere if valid is None else valid, kinds, seed
    )


@given(seeds, sizes)
def test_a_bent_mask_stays_on_its_image(seed: Seed, size: tuple[int, int]) -> None:
    images, targets, valid = augment(blobs(3, size), ("flips", "turns", "elastic"), seed)
    image = images[:, 0]
    # Where four neighbors agree, what lies between them is that class; elsewhere is an edge.
    certain = (image < 1e-5) | (image > 1 - 1e-5)
    assert torch.equal(targets[certain], image[certain].round().long())
    assert certain.float().mean() > 0.6
    assert ((image > 0.5) == targets.bool()).float().mean() > 0.95
    assert valid.all()  # a mirrored pixel has its class


@given(seeds, sizes)
def test_flips_and_turns_move_samples_and_change_none(seed: Seed, size: tuple[int, int]) -> None:
    targets = torch.arange(3 * size[0] * size[1]).view(3, *size)
    moved, labels, valid = augment(targets, ("flips", "turns"), seed, frame(3, size))
    assert torch.equal(moved[:, 0].long(), labels)
    for before, after in zip(targets, labels, strict=True):
        assert torch.equal(after.flatten().sort().values, before.flatten())
    marked = torch.zeros(targets.numel(), dtype=torch.bool)
    marked[targets[frame(3, size)]] = True
    assert torch.equal(valid, marked[labels])


def test_all_eight_positions_of_a_square_come_up() -> None:
    square = torch.arange(9).view(1, 3, 3).expand(200, 3, 3)
    _, found, _ = augment(square, ("flips", "turns"), (0, 0, 0))
    assert len({tuple(one.flatten().tolist()) for one in found}) == 8
    oblong = torch.arange(6).view(1, 2, 3).expand(200, 2, 3)
    _, found, _ = augment(oblong, ("flips", "turns"), (0, 0, 0))
    assert len({tuple(one.flatten().tolist()) for one in found}) == 4


@given(seeds, sizes, some_kinds)
def test_no_class_is_invented_and_shapes_are_kept(
    seed: Seed, size: tuple[int, int], kinds: list[str]
) -> None:
    targets = blobs(2, size, classes=4) * 37
    images, found, valid = augment(targets, kinds, seed)
    assert images.shape == (2, 1, *size)
    assert found.shape == valid.shape == targets.shape
    assert (found.dtype, valid.dtype, images.dtype) == (torch.int64, torch.bool, torch.float32)
    assert set(found.flatten().tolist()) <= set(targets.flatten().tolist())


@given(seeds, sizes)
def test_valid_never_grows(seed: Seed, size: tuple[int, int]) -> None:
    valid = frame(2, size)
    images, _, found = augment_pairs(
        valid[:, None].float(), valid.long(), valid, ("elastic",), seed
    )
    assert not (found & ~valid).any()  # not to where a crop's own end would be seen
    assert not (found & (images[:, 0] < 1e-6)).any()  # not with what was not valid
    assert found.any()


@given(seeds, some_kinds)
def test_the_same_seed_gives_the_same_and_draws_from_nobody_else(
    seed: Seed, kinds: list[str]
) -> None:
    targets = blobs(2, (40, 50))
    first = augment(targets, kinds, seed)
    torch.manual_seed(5)
    np.random.seed(5)
    torch_state, numpy_next = torch.get_rng_state(), np.random.RandomState(5).random()
    again = augment(targets, kinds, seed)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.random.random() == numpy_next


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_each_number_of_the_seed_matters(kind: str) -> None:
    targets = blobs(4, (40, 40))
    found = [augment(targets, (kind,), seed)[0] for seed in [(1, 0, 0), (0, 1, 0), (0, 0, 1)]]
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])
    assert not torch.equal(found[0], found[2])


def test_one_more_kind_leaves_the_others_alone() -> None:
    targets = blobs(3, (40, 50))
    _, bent, _ = augment(targets, ("elastic",), (1, 2, 3))
    _, both, _ = augment(targets, ("intensity", "elastic"), (1, 2, 3))
    assert torch.equal(bent, both)


def test_nothing_asked_for_changes_nothing_and_what_was_given_stays() -> None:
    targets = blobs(3, (40, 50))
    images, valid = torch.rand(3, 1, 40, 50), frame(3, (40, 50))
    assert augment_pairs(images, targets, valid, (), (0, 0, 0)) == (images, targets, valid)
    kept = images.clone(), targets.clone(), valid.clone()
    augment_pairs(images, targets, valid, AUGMENTATIONS, (0, 0, 0))
    assert all(torch.equal(a, b) for a, b in zip(kept, (images, targets, valid), strict=True))


@given(seeds)
def test_light_changes_the_image_alone(seed: Seed) -> None:
    images = gradients(4, (30, 30))
    targets, valid = blobs(4, (30, 30)), frame(4, (30, 30))
    found, same, also = augment_pairs(images, targets, valid, ("intensity",), seed)
    assert same is targets
    assert also is valid
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    for before, after in zip(images, found, strict=True):
        assert not torch.equal(before, after)
        # Darker stays darker: what is drawn is a curve, and some noise.
        assert np.corrcoef(before.flatten().numpy(), after.flatten().numpy())[0, 1] > 0.95


@given(seeds, some_kinds)
def test_a_target_picture_is_changed_as_its_picture_is(seed: Seed, kinds: list[str]) -> None:
    images, valid = gradients(2, (30, 34)), frame(2, (30, 34))
    found, expected, kept = augment_pairs(images, images.clone(), valid, kinds, seed)
    assert torch.allclose(found, expected, atol=1e-6)  # powers differ in the last bit by place
    assert int(kept.sum()) <= int(valid.sum())
    if "elastic" in kinds or "intensity" in kinds:
        assert not torch.equal(found, images)


def test_crops_keep_their_places() -> None:
    crops = Crops(
        torch.rand(2, 1, 30, 30), blobs(2, (30, 30)), frame(2, (30, 30)), ((0, 1, 2), (3, 4, 5))
    )
    found = augment_crops(crops, AUGMENTATIONS, (0, 0, 0))
    assert found.places == crops.places
    assert not torch.equal(found.images, crops.images)


def test_an_unknown_kind() -> None:
    with pytest.raises(UnknownName, match="did you mean 'elastic'"):
        augment(blobs(1, (9, 9)), ("flips", "elastics"), (0, 0, 0))


@given(st.integers(1, 400))
def test_the_spline_is_that_of_scipy(length: int) -> None:
    weights = augmentation._spline(length).numpy()
    knots = np.arange(-3, weights.shape[1] + 1)
    expected = BSpline.design_matrix(np.arange(length) / augmentation.SPACING, knots, 3).toarray()
    assert weights == pytest.approx(expected, abs=1e-6)


@examples(15)
@given(seeds, st.tuples(st.integers(60, 300), st.integers(60, 300)))
def test_nothing_folds(seed: Seed, size: tuple[int, int]) -> None:
    places = draw_places(2, size, np.random.default_rng(seed)).double()
    down, across = places[:, :, 1:, :-1] - places[:, :, :-1, :-1], places.diff(dim=3)[:, :, :-1]
    turned = down[:, 0] * across[:, 1] - down[:, 1] * across[:, 0]
    assert float(turned.min()) > 0.1


@given(seeds)
def test_without_rubber_it_is_a_turn_and_a_change_of_scale(seed: Seed) -> None:
    shift = augmentation.SHIFT
    augmentation.SHIFT = 0.0
    try:
        places = draw_places(1, (21, 31), np.random.default_rng(seed))[0].double().numpy()
    finally:
        augmentation.SHIFT = shift
    assert places[:, 10, 15] == pytest.approx([10, 15], abs=1e-5)
    matrix = np.stack([places[:, 11, 15] - places[:, 10, 15], places[:, 10, 16] - [10, 15]], 1)
    scale = np.sqrt(np.linalg.det(matrix))
    assert matrix.T @ matrix == pytest.approx(np.eye(2) * scale**2, abs=1e-4)
    assert 1 / augmentation.SCALE - 1e-4 < scale < augmentation.SCALE + 1e-4
    assert abs(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))) < augmentation.ANGLE + 1e-3


@given(st.integers(-12, 12), st.integers(-12, 12), st.booleans())
def test_beyond_the_border_is_the_mirror_image(down: int, right: int, smooth: bool) -> None:
    picture = np.random.default_rng(3).random((20, 26)).astype(np.float32)
    rows, columns = np.mgrid[down : 20 + down, right : 26 + right].astype(np.float32)
    places = torch.from_numpy(np.stack([rows, columns]))[None]
    found = resample(torch.from_numpy(picture)[None, None], places, smooth=smooth)[0, 0]
    mirrored: NDArray[np.float32] = np.pad(picture, 12, mode="reflect")
    expected = mirrored[12 + down : 32 + down, 12 + right : 38 + right]
    assert found.numpy() == pytest.approx(expected, abs=1e-4)
