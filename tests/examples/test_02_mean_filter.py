from __future__ import annotations

import runpy
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "examples" / "02_mean_filter.py"


def test_all_ways_give_the_same_pixels(tmp_path: Path) -> None:
    found = runpy.run_path(str(SCRIPT))["main"](tmp_path)
    assert found["picture"].shape == (1133, 1700, 3)
    assert found["differing"] == {"reference": 0, "conv2d": 0, "eyeshot.filter": 0}
    patch = found["picture"][500:505, 600:605].astype(int)
    mean = found["results"]["eyeshot.filter"][502, 602]
    assert (abs(mean - patch.mean(axis=(0, 1))) <= 0.5).all()
    assert (tmp_path / "02_mean_filter.png").stat().st_size > 50_000
