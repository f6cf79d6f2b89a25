"""Ways down: what is kept of the waves that fit, and what comes back of those that do not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from . import load

example = load("17")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = example.main(Path(tmp_path_factory.mktemp("ways")))
    return found


def test_every_second_pixel_keeps_all_and_loses_nothing(results: dict[str, Any]) -> None:
    assert results["1×1, stride 2"]["kept"] == pytest.approx(1, abs=1e-4)
    assert results["1×1, stride 2"]["fine"] == pytest.approx(1, abs=1e-4)


def test_the_order_of_aliases(results: dict[str, Any]) -> None:
    fine = {name: result["fine"] for name, result in results.items()}
    assert fine["1×1, stride 2"] > fine["max-pool 2×2"] > fine["average 2×2"]
    assert fine["average 2×2"] > 10 * fine["blur-pool"]
    assert fine["dilated 3×3"] < 1e-6  # nothing was taken away
    assert results["dilated 3×3"]["map"].shape == (128, 128)
    assert results["blur-pool"]["map"].shape == (64, 64)


@pytest.mark.parametrize("cycles", [70, 100, 120])
def test_mean_and_blur_are_as_the_formula_of_their_kernel(cycles: int) -> None:
    """A kernel's answer to a wave is |Σ w e^(iωk)|²: cos²(ω/2) of a mean, cos⁸(ω/2) of the blur."""
    half = math.pi * cycles / example.SIDE
    for name, power in {"average 2×2": 2, "blur-pool": 8}.items():
        kept, alias = example.measure_wave(example.WAYS[name], cycles)
        assert kept == 0
        assert alias == pytest.approx(math.cos(half) ** power, abs=1e-5)


def test_a_wave_that_fits_is_no_alias_unless_the_maximum_bends_it() -> None:
    for name, way in example.WAYS.items():
        _, alias = example.measure_wave(way, 40)
        assert (alias > 0.01) == (name == "max-pool 2×2")


def test_the_rings_are_finest_at_the_border() -> None:
    rings = example.draw_rings()[0, 0].numpy()
    assert rings.shape == (128, 128)
    row = np.abs(np.diff(rings[64]))
    assert row[:4].mean() > 0.8 > 0.1 > row[63:65].mean()
