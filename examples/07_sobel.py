"""Sobel: change from left to right, from top to bottom, and how strong an edge is.

A difference of neighbors answers to noise as gladly as to edges. Smoothing first costs sharpness
and buys back the edges.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import cbook
from matplotlib.figure import Figure
from numpy.typing import NDArray

import eyeshot
from eyeshot import images
from eyeshot.filters import resolve

Map = NDArray[np.float32]
NOISE, SMOOTHING = 0.12, "gaussian:9"


def read_photo() -> Map:
    """matplotlib's portrait of Grace Hopper in gray, 600×512, values from 0 to 1."""
    color = images.read(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    gray: Map = (color @ np.array([0.299, 0.587, 0.114]) / 255).astype(np.float32)
    return gray


def strength_by_torch(photo: Map) -> Map:
    """Edge strength in plain PyTorch: two output channels, then the length of the two."""
    weight = torch.tensor(np.stack(resolve("sobel").kernels), dtype=torch.float32)[:, None]
    x = torch.nn.functional.pad(torch.from_numpy(photo)[None, None], (1, 1, 1, 1), "replicate")
    with torch.no_grad():
        both = torch.nn.functional.conv2d(x, weight)[0]
    strength: Map = both.square().sum(dim=0).sqrt().numpy()
    return strength


def measure_contrast(strength: Map, edges: NDArray[np.bool_]) -> float:
    """How many times stronger the map is on the true edges than elsewhere."""
    return float(strength[edges].mean() / strength[~edges].mean())


def main(out: Path) -> dict[str, Any]:
    photo = read_photo()
    x, y, strength = (
        eyeshot.filter(photo, name, padding="replicate") for name in ("sobel-x", "sobel-y", "sobel")
    )
    difference = float(np.abs(strength - strength_by_torch(photo)).max())
    print(f"edge strength by Eyeshot and by PyTorch: differ by {difference:.0e}")

    noise = np.random.default_rng(0).normal(0, NOISE, photo.shape).astype(np.float32)
    pictures = {"clean": photo, "noisy": photo + noise}
    for name in ("clean", "noisy"):
        pictures[f"{name}, smoothed"] = eyeshot.filter(
            pictures[name], SMOOTHING, padding="replicate"
        )
    strengths = {
        name: eyeshot.filter(picture, "sobel", padding="replicate")
        for name, picture in pictures.items()
    }
    edges = strength > np.quantile(strength, 0.95)
    contrasts = {name: measure_contrast(values, edges) for name, values in strengths.items()}
    for name, contrast in contrasts.items():
        print(f"{name:16} edges stand out {contrast:4.1f} times")
    draw({"x": x, "y": y}, pictures, strengths, contrasts, out)
    return {"x": x, "y": y, "strength": strength, "difference": difference, "contrasts": contrasts}


def draw(
    slopes: dict[str, Map],
    pictures: dict[str, Map],
    strengths: dict[str, Map],
    contrasts: dict[str, float],
    out: Path,
) -> None:
    figure = Figure(figsize=(13, 8.2), layout="constrained")
    axes = figure.subplots(2, 4)
    axes[0, 0].imshow(pictures["clean"], cmap="gray", vmin=0, vmax=1)
    axes[0, 0].set_title("the photograph")
    titles = {"x": "sobel-x: left to right", "y": "sobel-y: top to bottom"}
    for axis, (name, values) in zip(axes[0, 1:3], slopes.items(), strict=True):
        axis.imshow(values, cmap="RdBu_r", vmin=-1.5, vmax=1.5)
        axis.set_title(titles[name])
    places = {"clean": axes[0, 3], "noisy": axes[1, 1], "noisy, smoothed": axes[1, 3]}
    for name, axis in places.items():
        top = float(np.quantile(strengths[name], 0.99))
        axis.imshow(strengths[name], cmap="gray", vmin=0, vmax=top)
        axis.set_title(f"strength: edges {contrasts[name]:.1f} times the rest")
    for name, axis in {"noisy": axes[1, 0], "noisy, smoothed": axes[1, 2]}.items():
        axis.imshow(pictures[name], cmap="gray", vmin=0, vmax=1)
        axis.set_title(name)
    for axis in axes.flat:
        axis.axis("off")
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "07_sobel.png", dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out")
    main(parser.parse_args().out)
