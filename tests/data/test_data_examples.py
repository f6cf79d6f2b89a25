"""Batches: every example once, in an order that is the seed's alone, from memory and from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eyeshot import images
from eyeshot.data import Examples
from eyeshot.data.examples import FilePictures, count_batches, count_levels, describe_counts
from eyeshot.errors import BadFile, BadValue, Failure
from tests.networks import examples


def numbered(count: int) -> Examples:
    """Pictures whose only pixel is their number, with twice it as the label."""
    numbers = torch.arange(count)
    return Examples.hold(numbers.to(torch.uint8).reshape(-1, 1, 1, 1), 2 * numbers)


def seen(
    examples: Examples,
    size: int,
    *,
    seed: int | None = None,
    epoch: int = 0,
    start: int = 0,
    drop_last: bool = False,
) -> list[list[int]]:
    batches = examples.batches(
        size, shuffle_seed=seed, epoch=epoch, start=start, drop_last=drop_last
    )
    return [labels.tolist() for _, labels in batches]


@examples(40)
@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 2**32), st.integers(0, 100))
def test_every_example_comes_once_with_its_own_label(
    count: int, size: int, seed: int, epoch: int
) -> None:
    found: list[int] = []
    for pictures, labels in numbered(count).batches(size, shuffle_seed=seed, epoch=epoch):
        assert pictures.dtype == torch.uint8
        assert pictures.shape[1:] == (1, 1, 1)
        assert labels.tolist() == (2 * pictures.to(torch.int64)).reshape(-1).tolist()
        assert len(labels) == min(size, count - len(found))
        found += labels.tolist()
    assert sorted(found) == list(range(0, 2 * count, 2))


@examples(40)
@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 60), st.booleans())
def test_starting_later_gives_exactly_the_rest(
    count: int, size: int, start: int, drop_last: bool
) -> None:
    everything = seen(numbered(count), size, seed=3, epoch=1, drop_last=drop_last)
    rest = seen(numbered(count), size, seed=3, epoch=1, start=start, drop_last=drop_last)
    assert rest == everything[start:]
    assert all(len(batch) == size for batch in everything) or not drop_last


def test_seed_and_epoch_make_the_order_and_nothing_else_does() -> None:
    torch.manual_seed(1)
    first = seen(numbered(100), 10, seed=5, epoch=2)
    torch.manual_seed(2)
    assert seen(numbered(100), 10, seed=5, epoch=2) == first
    assert seen(numbered(100), 10, seed=5, epoch=3) != first
    assert seen(numbered(100), 10, seed=6, epoch=2) != first
    assert seen(numbered(100), 100) == [list(range(0, 200, 2))], "no seed, no shuffle"


@pytest.fixture
def files(tmp_path: Path) -> FilePictures:
    random = np.random.default_rng(0)
    paths = tuple(tmp_path / f"{number}.png" for number in range(7))
    for path in paths:
        images.write(path, random.integers(0, 256, (5, 4, 3), np.uint8))
    return FilePictures(paths, channels=3, size=(5, 4), stretch=False)


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_batches_are_those_of_memory(files: FilePictures, workers: int) -> None:
    labels = torch.arange(7)
    streamed = Examples(files, labels)
    held = Examples.hold(files.take(labels), labels)
    assert not streamed.in_memory
    assert held.in_memory
    before = torch.random.get_rng_state()
    ahead = streamed.batches(3, shuffle_seed=4, epoch=1, start=1, workers=workers)
    pairs = list(zip(ahead, held.batches(3, shuffle_seed=4, epoch=1, start=1), strict=True))
    assert [len(ours[1]) for ours, _ in pairs] == [3, 1]
    for ours, theirs in pairs:
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])
    assert torch.equal(torch.random.get_rng_state(), before), "the caller's numbers are untouched"


def test_batches_before_the_start_are_not_decoded(files: FilePictures) -> None:
    files.paths[0].write_bytes(b"no picture any more")
    rest = Examples(files, torch.arange(7)).batches(1, start=1, workers=0)
    assert [labels.item() for _, labels in rest] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_file_is_one_line_from_a_worker_too(files: FilePictures, workers: int) -> None:
    files.paths[4].write_bytes(files.paths[4].read_bytes()[:40])
    with pytest.raises(BadFile) as caught:
        list(Examples(files, torch.arange(7)).batches(2, workers=workers))
    assert str(caught.value).startswith(f"{files.paths[4]}: ")
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_file_whose_size_has_changed_is_named(files: FilePictures) -> None:
    images.write(files.paths[2], np.zeros((6, 4, 3), np.uint8))
    with pytest.raises(BadFile, match=r"2\.png: is 6×4, and was 5×4 before"):
        Examples(files, torch.arange(7)).take([2])


def test_a_worker_that_dies_is_a_failure(files: FilePictures) -> None:
    with pytest.raises(Failure, match="a process that reads pictures ahead died"):
        list(Deadly(files.paths, 3, (5, 4), False).stream([torch.arange(2)], workers=1))


class Deadly(FilePictures):
    """Ends the process that reads it."""

    def take(self, indices: torch.Tensor) -> torch.Tensor:
        import os

        os._exit(1)


def test_streamed_pictures_are_not_to_be_had_all_at_once(files: FilePictures) -> None:
    with pytest.raises(BadValue, match="7 pictures are streamed from their files"):
        _ = Examples(files, torch.arange(7)).images


@pytest.mark.parametrize(("count", "batch_size"), [(10, 1), (10, 3), (3, 1), (9, 4), (8, 4)])
def test_batches_are_as_many_as_counted(count: int, batch_size: int) -> None:
    batches = list(numbered(count).batches(batch_size, least=2))
    assert len(batches) == count_batches(count, batch_size, least=2)


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(BadValue, match=r"batch_size is 0; it must be at least 1"):
        next(numbered(3).batches(0))
    with pytest.raises(BadValue, match=r"start is -1; it must be at least 0"):
        next(numbered(3).batches(1, start=-1))
    pictures = torch.zeros((3, 1, 2, 2), dtype=torch.uint8)
    with pytest.raises(BadValue, match=r"labels of \(2,\) torch.int64; expected \(3,\)"):
        Examples.hold(pictures, torch.arange(2))
    with pytest.raises(BadValue, match=r"pictures of \(3, 1, 2, 2\) torch.float32"):
        Examples.hold(pictures.float(), torch.arange(3))


@examples(25)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_mean_and_deviation_are_numpys(channels: int, count: int, seed: int) -> None:
    pictures = np.random.default_rng(seed).integers(0, 256, (count, channels, 5, 3), np.uint8)
    whole = count_levels(torch.from_numpy(pictures))
    parts = sum(count_levels(torch.from_numpy(picture[None])) for picture in pictures)
    assert np.array_equal(whole, parts)
    mean, std = describe_counts(whole)
    assert mean == pytest.approx((pictures / 255).mean((0, 2, 3)), rel=1e-12)
    assert std == pytest.approx((pictures / 255).std((0, 2, 3)), rel=1e-9)


def test_a_channel_that_never_varies_can_still_be_divided_by() -> None:
    flat = torch.full((2, 1, 3, 3), 51, dtype=torch.uint8)
    mean, std = describe_counts(count_levels(flat))
    assert mean == pytest.approx((0.2,))
    assert std == (1.0,)
