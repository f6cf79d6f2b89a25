"""The digit network in NumPy: it learns, and it stays beside PyTorch."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import load


def test_both_learn_alike(tmp_path: Path) -> None:
    result = load("09").main(tmp_path, quick=True)
    assert result["numpy"] > 0.85
    assert result["torch"] == pytest.approx(result["numpy"], abs=1e-9)
    assert result["apart"] < 1e-9
    first, last = result["losses"][0], result["losses"][-1]
    assert first[0] == pytest.approx(first[1], abs=1e-12)
    assert last[0] < first[0] / 3
