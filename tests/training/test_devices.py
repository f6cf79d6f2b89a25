"""Two devices share each batch, and move the weights as one device does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eyeshot.runs import load
from eyeshot.training import Settings, train

from .blobs import blobs

COMMAND = """
import sys
from eyeshot.training import train
from training.blobs import blobs
train(blobs(), out=sys.argv[1], epochs=1, batch_size=24, device="cpu", devices=2,
      precision="32-true")
"""


def test_two_processes_are_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain: Settings = {
        "epochs": 1,
        "batch_size": 24,
        "device": "cpu",
        "devices": 1,
        "precision": "32-true",
    }
    train(blobs(), out=tmp_path / "1", **plain)
    assert capsys.readouterr().err.count("epoch 1/1") == 1
    script = tmp_path / "script.py"
    script.write_text(COMMAND)
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    result = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "2")],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("epoch 1/1") == 1
    one, two = (load(tmp_path / name) for name in "12")
    # Sums in another order, and Adam makes much of small gradients; a step moves a weight by 5e-3.
    for name, tensor in one.net.state_dict().items():
        torch.testing.assert_close(two.net.state_dict()[name], tensor, rtol=0, atol=5e-4)
    rows = [
        (tmp_path / name / "metrics.csv").read_text().splitlines()[1].split(",") for name in "12"
    ]
    assert rows[0][2] == rows[1][2]
    assert two.config.recipe.devices == 2
    assert len(blobs().train) % 24 == 0
