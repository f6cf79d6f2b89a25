"""The benchmark of memory: its cases can be made, and one row of its table is right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks.memory import cases, networks, table

from eyeshot import images
from eyeshot.errors import Failure


def test_a_budget_that_was_said_to_be_enough_is_enough_and_is_kept(tmp_path: Path) -> None:
    reported = table._measured("filter: npy gray to tif", tmp_path, 0)
    assert reported["measured"] <= reported["budget"]
    assert reported["refusing"] <= reported["budget"]
    assert abs(reported["predicted"] / reported["measured"] - 1) <= 0.1


def test_a_budget_that_is_exceeded_and_a_far_prediction_are_said() -> None:
    assert "EXCEEDED" in str(table.Row("a", budget=100, predicted=100, measured=101))
    assert "FAR OFF" in str(table.Row("a", budget=200, predicted=120, measured=100))
    assert str(table.Row("a", budget=200, predicted=105, measured=100)).endswith("1.05")


def test_one_that_is_exceeded_ends_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    reported = {"budget": 1, "predicted": 2, "measured": 2}
    monkeypatch.setattr(table, "_measured", lambda *_: reported)
    monkeypatch.setattr(table, "write_image", lambda *_: None)
    with pytest.raises(Failure, match="2 of 2 runs"):
        table.main("filter: npy")


def test_every_case_names_a_network_and_each_is_used() -> None:
    assert {case.network for case in cases.CASES.values()} == set(networks.NETWORKS)
    assert len(networks.NETWORKS) >= 15


@pytest.mark.parametrize("source", sorted({case.source for case in cases.CASES.values()}))
def test_every_kind_of_image_is_read(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cases._SHAPES, "color", (24, 40, 3))
    path = cases.write_image(tmp_path, source, "color")
    with images.open_source(path) as opened:
        samples = opened.read()
    assert sorted(samples.shape) == [3, 24, 40]
    if "jpg" not in source:
        expected = np.moveaxis(cases._samples((24, 40, 3)), -1, 0)
        np.testing.assert_array_equal(samples, expected)
