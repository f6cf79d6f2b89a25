"""Pooling: fewer numbers, and an answer that minds a small shift less.

The largest cell of a window, or its mean, channel by channel; by Eyeshot and by PyTorch.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eyeshot import data, reference

POOLS = ("none", "max 2×2", "max 4×4", "mean 4×4")


def pool_numbers() -> dict[str, Any]:
    """0 … 31 as two channels of 4×4 under a 3×3 window, padding 1, stride (2, 1)."""
    x = np.arange(32).reshape(1, 2, 4, 4)
    largest = reference.max_pool(x, 3, padding=1, stride=(2, 1))
    mean = reference.avg_pool(x, 3, padding=1, stride=(2, 1), count_include_pad=False)

    tensor = torch.from_numpy(x).double()
    options: dict[str, Any] = {"padding": 1, "stride": (2, 1)}
    np.testing.assert_array_equal(largest, F.max_pool2d(tensor, 3, **options))
    theirs = F.avg_pool2d(tensor, 3, count_include_pad=False, **options)
    np.testing.assert_allclose(mean, theirs)
    return {"x": x, "max": largest, "mean": mean}


def pool_digit(picture: Any, name: str) -> Any:
    if name == "none":
        return picture
    kind, size = name.split()
    pool = reference.max_pool if kind == "max" else reference.avg_pool
    return pool(picture, int(size[0]))


def measure_shift(digits: Any) -> dict[str, float]:
    """How much a shift of one pixel changes the answer: |after − before| / |before|."""
    moved = np.roll(digits, 1, axis=3)  # digits have an empty border, so nothing comes around
    changes = {}
    for name in POOLS:
        before, after = pool_digit(digits, name), pool_digit(moved, name)
        changes[name] = float(np.linalg.norm(after - before) / np.linalg.norm(before))
    return changes


def main(out: Path) -> dict[str, Any]:
    pooled = pool_numbers()
    for channel in (0, 1):
        print(f"channel {channel}, largest of 3×3:")
        print(pooled["max"][0, channel])
    print("channel 0, mean of 3×3, padding not counted:")
    print(pooled["mean"][0, 0])

    digits = (next(data.load("digits").test.batches(200))[0].double() / 255).numpy()
    changes = measure_shift(digits)
    for name, change in changes.items():
        print(f"shifted by one pixel, {name:8}: changed by {change:.0%}")
    draw(pooled, digits[:1], changes, out)
    return {**pooled, "changes": changes}


def draw(pooled: dict[str, Any], digit: Any, changes: dict[str, float], out: Path) -> None:
    figure = Figure(figsize=(11, 8), layout="constrained")
    rows = figure.subplots(3, 4, gridspec_kw={"height_ratios": [1.1, 1, 1]})
    draw_cells(rows[0, 0], pooled["x"][0, 0], "channel 0")
    draw_cells(rows[0, 1], pooled["max"][0, 0], "largest of 3×3")
    draw_cells(rows[0, 2], pooled["x"][0, 1], "channel 1")
    draw_cells(rows[0, 3], pooled["max"][0, 1], "largest of 3×3")
    moved = np.roll(digit, 1, axis=3)
    for column, name in enumerate(POOLS):
        before, after = pool_digit(digit, name), pool_digit(moved, name)
        rows[1, column].imshow(before[0, 0], cmap="gray", vmin=0, vmax=1)
        rows[1, column].set_title(f"pooling: {name}")
        rows[2, column].imshow((after - before)[0, 0], cmap="RdBu_r", vmin=-1, vmax=1)
        rows[2, column].set_title(f"shifted by 1: {changes[name]:.0%} changed")
    for axis in rows.flat:
        axis.axis("off")
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "05_pooling.png", dpi=110)


def draw_cells(axis: Axes, values: Any, title: str) -> None:
    axis.imshow(values, cmap="Blues", vmin=0, vmax=50)
    for (row, column), value in np.ndenumerate(values):
        axis.text(column, row, f"{value}", ha="center", va="center")
    axis.set_title(title)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out")
    main(parser.parse_args().out)
