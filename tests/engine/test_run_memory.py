"""What a run holds: no more than was allowed or predicted, and the same whatever the height."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.engine import runner

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
    process, told = runner.fork(
        runner.measure, image, folder / f"{image.stem}.out.npy", spare, band
    )
    (numbers,) = runner.listen(told)
    process.join()
    return Held(*numbers)


def test_four_times_the_height_takes_the_same_memory(tmp_path: Path) -> None:
    low, high = (held(tmp_path, height, WIDTH, band=64) for height in (1024, 4096))
    assert high.predicted - high.before <= 1.05 * (low.predicted - low.before)
    assert high.measured <= 1.05 * low.measured
    # One map of 8 channels at full size would be 24 MiB larger.
    assert high.measured - high.before <= low.measured - low.before + (12 << 20)


def test_the_prediction_holds_and_is_not_far_off(tmp_path: Path) -> None:
    one = held(tmp_path, 1024, 768)
    assert one.measured <= one.predicted
    assert one.predicted - one.before <= 3 * (one.measured - one.before)


@pytest.mark.parametrize("spare", [140 << 20, 100 << 20])
def test_what_is_allowed_is_kept(spare: int, tmp_path: Path) -> None:
    one = held(tmp_path, 256, 4096, spare)
    assert one.allowed is not None
    assert one.measured <= one.allowed
    assert one.predicted <= one.allowed
