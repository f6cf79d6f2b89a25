"""Filter depth: a filter over a color picture is three kernels whose sums are added up.

One 3×3×3 filter makes *one* map of an RGB picture. This one looks for upright edges of red: Sobel
on the red channel, less half of it on green and on blue, so that edges of gray cancel out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import cbook
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

import eyeshot
from eyeshot import images, reference
from eyeshot.filters import resolve

Map = NDArray[Any]
CHANNELS = ("red", "green", "blue")
SHARES = (1.0, -0.5, -0.5)
PLACE = (505, 421)  # row and column of one output, on a red stripe of the ribbons


def read_photo() -> Map:
    """matplotlib's portrait of Grace Hopper in color, (600, 512, 3), values from 0 to 1."""
    color = images.read(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    return color.astype(np.float32) / 255


def build_filter() -> Map:
    """(1, 3, 3, 3): one output channel, three input channels, 3×3."""
    (sobel,) = resolve("sobel-x").kernels
    return np.stack([share * sobel for share in SHARES])[np.newaxis].astype(np.float32)


def main(out: Path) -> dict[str, Any]:
    photo, weight = read_photo(), build_filter()
    partial = [eyeshot.filter(photo[..., c], weight[0, c], padding="valid") for c in range(3)]
    total = np.sum(partial, axis=0)

    x = photo.transpose(2, 0, 1)[np.newaxis]
    by_reference = reference.conv(x.astype(np.float64), weight.astype(np.float64))
    with torch.no_grad():
        by_torch = torch.nn.functional.conv2d(torch.tensor(x), torch.from_numpy(weight))
    differences = {
        "reference": float(np.abs(total - by_reference[0, 0]).max()),
        "PyTorch": float(np.abs(total - by_torch[0, 0].numpy()).max()),
    }
    print(f"picture {x.shape}, filter {weight.shape}, map {tuple(by_torch.shape)}")
    print(f"one output, at row {PLACE[0]}, column {PLACE[1]}:")
    for name, values in zip(CHANNELS, partial, strict=True):
        print(f"  {name:6} {values[PLACE]:+.4f}")
    print(f"  total  {total[PLACE]:+.4f}")
    for name, difference in differences.items():
        print(f"sum of the three maps and the one map by {name}: differ by {difference:.0e}")
    draw(photo, weight, partial, total, out)
    return {"partial": partial, "total": total, "differences": differences}


def draw(photo: Map, weight: Map, partial: list[Map], total: Map, out: Path) -> None:
    figure = Figure(figsize=(12, 10.5), layout="constrained")
    axes = figure.subplots(3, 4, gridspec_kw={"width_ratios": [1, 0.62, 1, 1.25]})
    for c, name in enumerate(CHANNELS):
        tinted = np.zeros_like(photo)
        tinted[..., c] = photo[..., c]
        axes[c, 0].imshow(tinted)
        axes[c, 0].set_title(f"{name} channel")
        draw_kernel(axes[c, 1], weight[0, c], "its kernel")
        draw_map(axes[c, 2], partial[c], f"partial sum, {name}")
    axes[0, 3].imshow(photo)
    axes[0, 3].set_title("the picture")
    draw_map(axes[1, 3], total, "total of the three: the one map")
    gray = eyeshot.filter(photo.mean(axis=2), "sobel-x", padding="valid")
    draw_map(axes[2, 3], gray, "to compare: sobel-x of gray")
    for axis in axes.flat:
        axis.axis("off")
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "04_filter_depth.png", dpi=110)


def draw_map(axis: Axes, values: Map, title: str) -> None:
    axis.imshow(values, cmap="RdBu_r", vmin=-1.2, vmax=1.2)
    axis.set_title(title)


def draw_kernel(axis: Axes, kernel: Map, title: str) -> None:
    axis.imshow(kernel, cmap="RdBu_r", vmin=-4, vmax=4)
    for (row, column), value in np.ndenumerate(kernel):
        axis.text(column, row, f"{value + 0:g}", ha="center", va="center")
    axis.set_title(title)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out")
    main(parser.parse_args().out)
