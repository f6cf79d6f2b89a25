"""Edges: a photograph through two 5×5 kernels, one made for edges and one of chance.

A map needs 25 weights whatever the picture's size, since all places share them, and each output is
joined to 25 pixels only. Sharing has a consequence: shift the picture and the map shifts with it.
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
DOWN, RIGHT = 40, 70


def read_photo() -> Map:
    """matplotlib's portrait of Grace Hopper in gray, 600×512, values from 0 to 1."""
    color = images.read(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    gray: Map = (color @ np.array([0.299, 0.587, 0.114]) / 255).astype(np.float32)
    return gray


def filter_three_ways(photo: Map, kernel: Map) -> dict[str, Map]:
    """One kernel without padding, by Eyeshot, by its reference, and by plain PyTorch."""
    x, weight = photo[np.newaxis, np.newaxis], kernel[np.newaxis, np.newaxis].astype(np.float32)
    with torch.no_grad():
        theirs = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(weight))
    return {
        "eyeshot.filter": eyeshot.filter(photo, kernel, padding="valid"),
        "reference": reference.conv(x.astype(np.float64), weight.astype(np.float64))[0, 0],
        "PyTorch": theirs[0, 0].numpy(),
    }


def count_connections(photo: Map, feature_map: Map, kernel: Map) -> dict[str, dict[str, int]]:
    """Weights and multiply-adds of this map, beside a fully connected layer to as many outputs."""
    everything = photo.size * feature_map.size
    return {
        "convolution": {"weights": kernel.size, "multiply-adds": kernel.size * feature_map.size},
        "fully connected": {"weights": everything, "multiply-adds": everything},
    }


def shift(photo: Map) -> Map:
    return np.roll(photo, (DOWN, RIGHT), axis=(0, 1))


def measure_equivariance(photo: Map, kernel: Map) -> float:
    """The largest difference between shift-then-filter and filter-then-shift."""
    one = eyeshot.filter(shift(photo), kernel, padding="circular")
    other = shift(eyeshot.filter(photo, kernel, padding="circular"))
    return float(np.abs(one - other).max())


def main(out: Path) -> dict[str, Any]:
    photo = read_photo()
    (edge5,) = resolve("edge5").kernels
    chance = np.random.default_rng(3).normal(size=(5, 5))
    maps, differences = {}, {}
    for name, kernel in {"edge5": edge5, "random": chance}.items():
        ways = filter_three_ways(photo, kernel)
        maps[name] = ways["eyeshot.filter"]
        differences[name] = max(float(np.abs(maps[name] - way).max()) for way in ways.values())
        shape = f"(1, 1, {photo.shape[0]}, {photo.shape[1]}) -> (1, 1, {maps[name].shape[0]}, "
        print(f"{name:6}  {shape}{maps[name].shape[1]}); ways differ by {differences[name]:.0e}")
    counts = count_connections(photo, maps["edge5"], edge5)
    for layer, count in counts.items():
        print(f"{layer:15}  " + ", ".join(f"{name} {value:,}" for name, value in count.items()))
    moved = measure_equivariance(photo, edge5)
    print(f"shift then filter, or filter then shift: differ by {moved:.0e}")
    draw(photo, {"edge5": edge5, "random": chance}, maps, counts, out)
    return {"maps": maps, "differences": differences, "counts": counts, "equivariance": moved}


def draw(
    photo: Map,
    kernels: dict[str, Map],
    maps: dict[str, Map],
    counts: dict[str, dict[str, int]],
    out: Path,
) -> None:
    figure = Figure(figsize=(12, 9.4), layout="constrained")
    axes = figure.subplots(2, 3)
    show(axes[0, 0], photo, "the photograph")
    for axis, (name, values) in zip(axes[0, 1:], maps.items(), strict=True):
        reach = float(np.percentile(np.abs(values), 98))
        axis.imshow(values, cmap="gray", vmin=-reach, vmax=reach)
        axis.set_title(f"through {name} (gray is 0)")
        axis.axis("off")
        corner = axis.inset_axes((0.02, 0.02, 0.22, 0.22))
        corner.imshow(kernels[name], cmap="RdBu_r", vmin=-2, vmax=2)
        corner.set(xticks=[], yticks=[])
    draw_counts(axes[1, 0], counts)
    show(axes[1, 1], shift(photo), f"shifted {DOWN} down and {RIGHT} right …")
    moved = eyeshot.filter(shift(photo), kernels["edge5"], padding="circular")
    reach = float(np.percentile(np.abs(moved), 98))
    axes[1, 2].imshow(moved, cmap="gray", vmin=-reach, vmax=reach)
    axes[1, 2].set_title("… its map is the map above, shifted")
    axes[1, 2].axis("off")
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "01_edges.png", dpi=110)


def show(axis: Axes, picture: Map, title: str) -> None:
    axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
    axis.set_title(title)
    axis.axis("off")


def draw_counts(axis: Axes, counts: dict[str, dict[str, int]]) -> None:
    labels = [f"{layer}\n{what}" for layer in counts for what in counts[layer]]
    values = [value for count in counts.values() for value in count.values()]
    bars = axis.barh(labels, values, color=["#2a6fbb", "#2a6fbb", "#c4572e", "#c4572e"])
    axis.bar_label(bars, [f" {value:,}" for value in values])
    axis.set_xscale("log")
    axis.set_xlim(1, 1e17)
    axis.set_xticks([1, 1e4, 1e8, 1e12])
    axis.invert_yaxis()
    axis.set_title("one map of 596×508 outputs")
    axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out")
    main(parser.parse_args().out)
