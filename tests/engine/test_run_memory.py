"""What a run holds: no more than was allowed or predicted, and the same whatever the height."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.engine import runner
from tests.engine.law import by_parts, job_of, noise

WIDTH = 256


@dataclass(frozen=True)
class Held:
    """Bytes: before the run, allowed, predicted and measured; and the strips of its plan."""

    before: int
    allowed: int | None
    predicted: int
    measured: int
    strips: int


def held(
    folder: Path, height: int, width: int, spare: int | None = None, band: int | None = None
) -> Held:
    image = folder / f"{height} by {width}.npy"
    samples = np.lib.format.open_memmap(image, "w+", np.uint8, (height, width))
    samples[:] = np.random.default_rng(0).integers(0, 256, (height, width))
    samples.flush()
    process, results = runner.fork(
        runner.measure, image, folder / f"{image.stem}.out.npy", spare, band
    )
    (numbers,) = runner.listen(results)
    process.join()
    return Held(*numbers)


def test_four_times_the_height_takes_the_same_memory(tmp_path: Path) -> None:
    low, high = (held(tmp_path, height, WIDTH, band=64) for height in (1024, 4096))
    assert high.predicted - high.before <= 1.05 * (low.predicted - low.before)
    assert high.measured <= 1.05 * low.measured
    # One map of 8 channels at full size would be 24 MiB larger.
    assert high.measured - high.before <= low.measured - low.before + (12 << 20)


def test_the_prediction_holds_and_is_not_far_off(tmp_path: Path) -> None:
    """Without a limit, gaps between blocks may add a little; with one they may not (below)."""
    one = held(tmp_path, 1024, 768)
    assert one.measured <= 1.05 * one.predicted
    assert one.predicted - one.before <= 3 * (one.measured - one.before)


@pytest.mark.parametrize("spare", [140 << 20, 100 << 20])
def test_what_is_allowed_is_kept(spare: int, tmp_path: Path) -> None:
    one = held(tmp_path, 256, 4096, spare)
    assert one.allowed is not None
    assert one.measured <= one.allowed
    assert one.predicted <= one.allowed


class Called(nn.Module):
    """Operators that are called as the network calls them, with weights and lists among them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Softmax(1), nn.GELU())
        self.norm, self.mix = nn.LayerNorm(4), nn.Linear(4, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layers(x)
        z = self.mix(self.norm(y.movedim(1, -1))).movedim(-1, 1)
        return torch.cat([y, torch.stack([y, y * 2], 1).flatten(1, 2), z], 1)


def test_no_row_waits_for_python_to_look_for_cycles() -> None:
    job = job_of(Called().eval(), noise(1, 64, 24), band=8)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        by_parts(job)
        gc.collect()
        assert not [one for one in gc.garbage if isinstance(one, torch.Tensor)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
