from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np

SCRIPT = Path(__file__).parents[2] / "examples" / "01_edges.py"


def test_edges(tmp_path: Path) -> None:
    namespace = runpy.run_path(str(SCRIPT))
    found = namespace["main"](tmp_path)
    assert found["maps"]["edge5"].shape == found["maps"]["random"].shape == (596, 508)
    assert max(found["differences"].values()) < 2e-5
    assert found["equivariance"] < 2e-5
    assert found["counts"]["convolution"] == {"weights": 25, "multiply-adds": 25 * 596 * 508}
    full = 600 * 512 * 596 * 508
    assert found["counts"]["fully connected"] == {"weights": full, "multiply-adds": full}
    # The random kernel's weights do not sum to 0, so its map follows brightness; edge5's does not.
    inner = namespace["read_photo"]()[2:-2, 2:-2].ravel()
    follows = {
        name: abs(np.corrcoef(values.ravel(), inner)[0, 1])
        for name, values in found["maps"].items()
    }
    assert follows["edge5"] < 0.5 < follows["random"]
    assert (tmp_path / "01_edges.png").stat().st_size > 50_000
