"""Digits from edges: as right as from gray values, and the same in any light."""

from __future__ import annotations

import numpy as np
import pytest

from . import load

example = load("18")


def test_edges_do_not_know_ink_from_paper() -> None:
    digit = np.random.default_rng(0).random((2, 28, 28), np.float32)
    edges = example.find_edges(digit)
    assert edges.shape == digit.shape
    assert edges.max(axis=(1, 2)) == pytest.approx([1, 1])
    for write in example.WRITTEN.values():
        np.testing.assert_allclose(example.find_edges(write(digit)), edges, atol=1e-4)


def test_a_network_of_edges_reads_what_one_of_gray_values_cannot() -> None:
    right = example.compare(2000, 120, 400)
    gray, edges = right["gray values"], right["edges"]
    assert gray["as learned"] > 0.8
    assert edges["as learned"] > 0.75
    assert gray["dark on light"] < 0.3
    for written in example.WRITTEN:
        assert edges[written] == pytest.approx(edges["as learned"], abs=0.01)
