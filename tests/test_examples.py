"""Every script of ``examples/`` runs as a reader runs it, and draws the picture it promises."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from eyeshot import images

FOLDER = Path(__file__).resolve().parents[1] / "examples"
SCRIPTS = sorted(FOLDER.glob("[0-9][0-9]_*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_script_draws_its_picture(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    quick = ["--quick"] if '"--quick"' in script.read_text() else []
    monkeypatch.setattr(sys, "argv", [str(script), "--out", str(out), *quick])
    monkeypatch.syspath_prepend(FOLDER)
    runpy.run_path(str(script), run_name="__main__")

    picture = images.read(out / f"{script.stem}.png")
    assert min(picture.shape[:2]) > 100
    assert np.ptp(picture) > 100  # something stands on the paper


def test_there_are_scripts() -> None:
    assert SCRIPTS
