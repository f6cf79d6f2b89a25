from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np

SCRIPT = Path(__file__).parents[2] / "examples" / "04_filter_depth.py"


def test_three_partial_sums_make_one_map(tmp_path: Path) -> None:
    namespace = runpy.run_path(str(SCRIPT))
    found = namespace["main"](tmp_path)
    assert len(found["partial"]) == 3
    assert found["total"].shape == (598, 510)
    assert max(found["differences"].values()) < 1e-5
    row, column = namespace["PLACE"]
    patch = namespace["read_photo"]()[row : row + 3, column : column + 3].transpose(2, 0, 1)
    by_hand = float((patch * namespace["build_filter"]()[0]).sum())
    np.testing.assert_allclose(found["total"][row, column], by_hand, atol=1e-5)
    assert (tmp_path / "04_filter_depth.png").stat().st_size > 50_000
