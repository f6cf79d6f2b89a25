"""The order of crops: each once an epoch, groups apart, and from the seed alone."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eyeshot.data.pairs import layout
from eyeshot.data.pairs.layout import Batch, Order

groups = st.lists(st.integers(1, 30), min_size=1, max_size=5).map(tuple)
counts = st.integers(1, 9)


def epoch_of(order: Order, epoch: int, count: int, again: int = 0) -> list[Batch]:
    steps = order.steps(count)
    return [order.batch(epoch, again * steps + step, count) for step in range(steps)]


@given(groups, counts, st.integers(0, 99), st.integers(0, 3))
def test_each_crop_comes_once_before_any_comes_again(
    sizes: tuple[int, ...], count: int, epoch: int, again: int
) -> None:
    batches = epoch_of(Order(sizes, 4), epoch, count, again)
    found = Counter((batch.group, item) for batch in batches for item in batch.items)
    expected = {(group, item) for group, size in enumerate(sizes) for item in range(size)}
    assert found == Counter(expected)
    assert {batch.again for batch in batches} == {again}
    # As full as they can be: a group leaves one batch over at the most, and of one crop none.
    assert all(len(batch.items) > 1 for batch in batches if 1 not in (count, sizes[batch.group]))
    assert max(len(batch.items) for batch in batches) <= count + 1
    short = Counter(batch.group for batch in batches if len(batch.items) < count)
    assert all(number == 1 for number in short.values())


def test_epochs_passes_and_seeds_differ() -> None:
    order = Order((40, 20), 0)
    first = epoch_of(order, 0, 4)
    assert first == epoch_of(Order((40, 20), 0), 0, 4)
    assert first != epoch_of(order, 1, 4)
    assert [b.items for b in first] != [b.items for b in epoch_of(order, 0, 4, again=1)]
    assert first != epoch_of(Order((40, 20), 1), 0, 4)
    assert len({batch.group for batch in first[:8]}) == 2  # groups come mixed


def test_of_very_many_each_batch_is_drawn_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MOST_SHUFFLED", 10)
    order = Order((90, 10), 0)
    batches = [order.batch(0, step, 5) for step in range(400)]
    assert all(len(batch.items) == 5 for batch in batches)
    share = sum(batch.group for batch in batches) / len(batches)
    assert share == pytest.approx(0.1, abs=0.06)
    assert {item for batch in batches if batch.group for item in batch.items} == set(range(10))
    assert batches == [order.batch(0, step, 5) for step in range(400)]
