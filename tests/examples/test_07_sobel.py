from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np

SCRIPT = Path(__file__).parents[2] / "examples" / "07_sobel.py"


def test_strength_is_made_of_both_slopes_and_smoothing_saves_it(tmp_path: Path) -> None:
    found = runpy.run_path(str(SCRIPT))["main"](tmp_path)
    np.testing.assert_allclose(found["strength"], np.hypot(found["x"], found["y"]), atol=1e-5)
    assert found["difference"] < 1e-5
    contrasts = found["contrasts"]
    assert contrasts["noisy"] < contrasts["noisy, smoothed"] < contrasts["clean"]
    assert (tmp_path / "07_sobel.png").stat().st_size > 50_000
