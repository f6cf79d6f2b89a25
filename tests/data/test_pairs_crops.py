"""Crops: the same for the same seed, each pixel as often as any other, and true to the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import eyeshot
from eyeshot import data, images
from eyeshot.data.pairs import layout
from eyeshot.data.pairs.loading import load_pairs
from eyeshot.errors import BadFile, BadValue
from eyeshot.nets import unet
from tests.data.pairs import Array, mask, picture, write_flat, write_pair
from tests.networks import examples


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> data.Pairs:
    """Pictures larger than a crop of 40 both ways, one way, and not at all; two kinds of file."""
    root = tmp_path_factory.mktemp("mixed")
    sizes = [(90, 70), (75, 101), (30, 64), (24, 24), (33, 40), (64, 30)]
    for number, size in enumerate(sizes):
        suffix = ".tif" if number % 2 else ".png"
        target = mask(number, *size, values=(0, 1, 2, 255))
        write_pair(root / "train", str(number), picture(number, *size, 3), target, suffix)
    write_pair(root / "val", "v", picture(9, 20, 20, 3), mask(9, 20, 20))
    (root / "classes.yaml").write_text("a: 0\nb: 1\nc: 2\nignore: 255\n")
    return load_pairs(root)


def exposures(sampler: data.CropSampler, epoch: int, count: int) -> list[Array]:
    """How often each training pixel was valid in an epoch."""
    seen = [np.zeros(pair.size, int) for pair in sampler.pairs.train]
    for step in range(sampler.steps(count)):
        batch = sampler.batch(epoch, step, count)
        height, width = batch.valid.shape[1:]
        for valid, (number, top, left) in zip(batch.valid, batch.places, strict=True):
            seen[number][top : top + height, left : left + width] += valid.numpy()
    return seen


@examples(15)
@given(
    epoch=st.integers(0, 5),
    count=st.integers(1, 7),
    halo=st.integers(0, 12),
    alignment=st.sampled_from([1, 4, 16]),
)
def test_an_epoch_holds_each_judged_pixel_once(
    mixed: data.Pairs, epoch: int, count: int, halo: int, alignment: int
) -> None:
    sampler = data.CropSampler(mixed, (40, 40), halo, 3, alignment=alignment)
    for number, found in enumerate(exposures(sampler, epoch, count)):
        judged = images.read(mixed.train[number].target) != 255
        assert np.array_equal(found, judged.astype(int))


def test_the_valid_share_is_that_of_an_epoch(tmp_path: Path) -> None:
    for number, size in enumerate([(90, 70), (24, 24), (60, 33)]):
        write_pair(tmp_path / "train", str(number), picture(number, *size), mask(number, *size))
    write_flat(tmp_path / "val", 1)
    sampler = data.CropSampler(data.load_pairs(tmp_path), (40, 40), 8, 3)
    batches = [sampler.batch(0, step, 3) for step in range(sampler.steps(3))]
    valid = sum(int(batch.valid.sum()) for batch in batches)
    assert sampler.valid_share == valid / sum(batch.valid.numel() for batch in batches)
    assert data.CropSampler(sampler.pairs, (90, 90), 8, 3).valid_share == 1


def test_beyond_an_epoch_another_one_follows(mixed: data.Pairs) -> None:
    sampler = data.CropSampler(mixed, (40, 40), 8, 3)
    steps = sampler.steps(4)
    first = [sampler.batch(0, step, 4).places for step in range(steps)]
    second = [sampler.batch(0, steps + step, 4).places for step in range(steps)]
    assert sum(map(len, first)) == sum(map(len, second)) == sampler.crops
    assert first != second


@given(st.integers(0, 3), st.integers(0, 60), st.integers(1, 6))
def test_pixels_and_classes_are_those_of_the_files(
    mixed: data.Pairs, epoch: int, step: int, count: int
) -> None:
    batch = data.CropSampler(mixed, (40, 40), 8, 1).batch(epoch, step, count)
    assert 1 <= len(batch) <= count
    assert len(batch) == len(batch.places) == len(batch.targets) == len(batch.valid)
    height, width = batch.images.shape[2:]
    for number, (pair, top, left) in enumerate(batch.places):
        window = slice(top, top + height), slice(left, left + width)
        image = images.read(mixed.train[pair].image)[window].astype(np.float32) / 255
        target = images.read(mixed.train[pair].target)[window]
        assert np.array_equal(batch.images[number].numpy(), np.moveaxis(image, -1, 0))
        assert np.array_equal(batch.targets[number].numpy(), np.where(target == 255, 0, target))
        assert not batch.valid[number].numpy()[target == 255].any()


def same(one: data.Crops, other: data.Crops) -> bool:
    tensors = ("images", "targets", "valid")
    return one.places == other.places and all(
        torch.equal(getattr(one, name), getattr(other, name)) for name in tensors
    )


@pytest.mark.parametrize("budget", [0, 30_000])
def test_held_or_read_by_windows_the_crops_are_the_same(mixed: data.Pairs, budget: int) -> None:
    held = data.CropSampler(mixed, (40, 40), 8, 5)
    windowed = data.CropSampler(mixed, (40, 40), 8, 5, budget=budget)
    for step in range(held.steps(3)):
        assert same(held.batch(2, step, 3), windowed.batch(2, step, 3))
    windowed.close()
    assert same(held.batch(0, 0, 3), windowed.batch(0, 0, 3))


def test_a_step_depends_on_the_seed_and_its_numbers_alone(mixed: data.Pairs) -> None:
    straight = data.CropSampler(mixed, (40, 40), 8, 5)
    found = [straight.batch(1, step, 3) for step in range(9)]
    np.random.seed(1)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    resumed = data.CropSampler(mixed, (40, 40), 8, 5)
    assert all(same(resumed.batch(1, step, 3), found[step]) for step in (8, 2, 5))
    assert torch.equal(torch.get_rng_state(), state)
    other = data.CropSampler(mixed, (40, 40), 8, 6)
    assert [other.batch(1, step, 3).places for step in range(9)] != [b.places for b in found]


def test_of_very_many_crops_each_is_drawn_alone(
    mixed: data.Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "MOST_SHUFFLED", 0)
    sampler = data.CropSampler(mixed, (40, 40), 12, 0)
    large = np.zeros(mixed.train[0].size, int)
    for step in range(600):
        batch = sampler.batch(0, step, 4)
        height, width = batch.valid.shape[1:]
        for valid, (number, top, left) in zip(batch.valid, batch.places, strict=True):
            if number == 0:
                large[top : top + height, left : left + width] += valid.numpy()
    inner, border = large[20:-20, 20:-20], large[:5]
    assert border.mean() == pytest.approx(inner.mean(), rel=0.15)
    assert same(sampler.batch(0, 7, 4), sampler.batch(0, 7, 4))


def test_pictures_not_larger_than_the_crop_are_taken_whole(tmp_path: Path) -> None:
    pairs = data.load_pairs(write_flat(tmp_path, 4))
    sampler = data.CropSampler(pairs, (256, 256), 92, 0, alignment=16)
    batch = sampler.batch(0, 0, 8)
    assert batch.images.shape == (3, 1, 9, 7)
    assert batch.valid.all()
    assert sampler.steps(8) == 1


def test_target_pictures_are_cropped_with_the_pictures(tmp_path: Path) -> None:
    for number in range(3):
        array = picture(number, 50, 60, 3)
        write_pair(tmp_path, str(number), array, 255 - array)
    pairs = data.load_pairs(tmp_path, task="restore")
    batch = data.CropSampler(pairs, (32, 32), 4, 0).batch(0, 1, 5)
    assert batch.targets.shape == batch.images.shape
    assert torch.allclose(batch.targets, 1 - batch.images, atol=1e-6)


def test_numbers_out_of_range(mixed: data.Pairs) -> None:
    with pytest.raises(BadValue, match="crop is 0×4"):
        data.CropSampler(mixed, (0, 4), 0, 0)
    with pytest.raises(BadValue, match="halo is -1"):
        data.CropSampler(mixed, (4, 4), -1, 0)
    with pytest.raises(BadValue, match="at least 25"):
        data.CropSampler(mixed, (24, 24), 12, 0)
    with pytest.raises(BadValue, match="step -1"):
        data.CropSampler(mixed, (40, 40), 8, 0).batch(0, -1, 2)


def test_a_file_that_goes_bad_is_named(tmp_path: Path) -> None:
    pairs = data.load_pairs(write_flat(tmp_path, 2))
    pairs.train[0].image.write_bytes(b"nothing")
    with pytest.raises(BadFile, match=str(pairs.train[0].image)):
        data.CropSampler(pairs, (5, 5), 1, 0).batch(0, 0, 1)


def _agrees_on_valid(net: nn.Module, pairs: data.Pairs, batch: data.Crops) -> bool:
    """Whether ``net`` gives at the valid pixels of the crops what it gives for whole pictures."""
    given = net(batch.images)
    height, width = batch.valid.shape[1:]
    for number, (pair, top, left) in enumerate(batch.places):
        one = pairs.train[pair]
        with data.open_pair(one, pairs) as reader:
            image = reader.image((0, one.size[0]), (0, one.size[1]))
        whole = net(torch.from_numpy(image)[None])[0, :, top : top + height, left : left + width]
        valid = batch.valid[number]
        if not torch.allclose(given[number][:, valid], whole[:, valid], atol=1e-5):
            return False
    return True


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> data.Pairs:
    """Gray pictures of one size, no multiple of any grid."""
    root = tmp_path_factory.mktemp("slices")
    for number in range(3):
        write_pair(root, str(number), picture(number, 150, 107), mask(number, 150, 107))
    return load_pairs(root)


@examples(12)
@given(st.integers(0, 1000), st.integers(0, 40), st.sampled_from(["transpose", "bilinear"]))
def test_a_unet_gives_on_crops_what_it_gives_on_the_whole(
    slices: data.Pairs, seed: int, step: int, up: str
) -> None:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        net = unet(depth=2, base=4, up=up, norm="none").eval()  # type: ignore[arg-type]
        spec = eyeshot.output_geometry(net)
        sampler = data.CropSampler(slices, (70, 66), spec.halo, seed, alignment=spec.alignment)
        assert _agrees_on_valid(net, slices, sampler.batch(0, step, 2))


def test_without_the_halo_they_would_differ(slices: data.Pairs) -> None:
    """The test above can fail: valid parts a little too large do not agree."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        net = unet(depth=2, base=4, norm="none").eval()
        sampler = data.CropSampler(slices, (70, 66), 2, 0, alignment=4)
        agree = [_agrees_on_valid(net, slices, sampler.batch(0, step, 2)) for step in range(6)]
    assert not all(agree)


def test_off_the_grid_they_would_differ(slices: data.Pairs) -> None:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        net = unet(depth=2, base=4, norm="none").eval()
        sampler = data.CropSampler(slices, (70, 66), eyeshot.output_geometry(net).halo, 0)
        agree = [_agrees_on_valid(net, slices, sampler.batch(0, step, 2)) for step in range(6)]
    assert not all(agree)
