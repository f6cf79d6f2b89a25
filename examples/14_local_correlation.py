"""Why small kernels suffice: in a picture, neighbors are alike, and far pixels say little more.

The correlation of a pixel with others is measured by their distance, in a photograph and in the
same pixels shuffled; then how much of a pixel its surroundings tell; then what is left of a
convolutional network's lead over a plain one when the pixels of all digits are shuffled alike.
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
from torch import Tensor, nn

from eyeshot import data, images
from eyeshot.nets import digit_cnn

Map = NDArray[np.float64]
DISTANCES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128]  # pixels
SIZES = [3, 5, 7, 9]  # of the surroundings, which is the size of a kernel


def read_photo() -> Map:
    """matplotlib's portrait of Grace Hopper in gray, 600×512, values from 0 to 1."""
    color = images.read(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    gray: Map = color @ np.array([0.299, 0.587, 0.114]) / 255
    return gray


def shuffle(picture: Map) -> Map:
    """The same pixels, each at a random place."""
    return np.random.default_rng(0).permutation(picture.ravel()).reshape(picture.shape)


def correlate(picture: Map, distance: int) -> float:
    """Pearson's correlation of all pairs of pixels so far apart along a row or a column."""
    beside = picture[:, :-distance].ravel(), picture[:, distance:].ravel()
    below = picture[:-distance].ravel(), picture[distance:].ravel()
    one, other = (np.concatenate(pair) for pair in zip(beside, below, strict=True))
    return float(np.corrcoef(one, other)[0, 1])


def explain_by_surroundings(picture: Map, size: int) -> float:
    """The share of a pixel's variance (R²) that the size² − 1 pixels around it tell, by a sum.

    The best weights are fitted to every other row of places and judged by the rows between.
    """
    patches = np.lib.stride_tricks.sliding_window_view(picture, (size, size))
    flat = patches.reshape(*patches.shape[:2], -1)
    middle = size * size // 2
    around, pixel = np.delete(flat, middle, axis=2), flat[..., middle]
    around = np.concatenate([around, np.ones((*pixel.shape, 1))], axis=2)
    known, asked = np.s_[::2, ::8], np.s_[1::2, ::8]  # every eighth column is plenty
    count = around.shape[2]
    weights = np.linalg.lstsq(around[known].reshape(-1, count), pixel[known].ravel(), rcond=None)[0]
    error = np.var(around[asked] @ weights - pixel[asked])
    return float(1 - error / np.var(pixel[asked]))


def build_plain() -> nn.Sequential:
    """As many hidden units as digit_cnn has, and no kernels: every unit sees all pixels."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def train(net: nn.Sequential, x: Tensor, labels: Tensor, steps: int) -> nn.Sequential:
    """So many steps of Adam on 32 digits each."""
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for step in range(steps):
        chosen = torch.arange(step * 32, (step + 1) * 32) % len(x)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x[chosen]), labels[chosen])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return net.eval()


def compare_on_shuffled_digits(steps: int) -> dict[str, float]:
    """Accuracy of both networks on digits, and on digits whose pixels all changed places alike."""
    digits = data.load("digits")
    order = torch.randperm(784, generator=torch.Generator().manual_seed(0))
    accuracies = {}
    for arrangement in ("in order", "shuffled"):
        x, test = (
            (part.images / 255 - digits.mean[0]) / digits.std[0]
            for part in (digits.train, digits.test)
        )
        if arrangement == "shuffled":
            x, test = (t.flatten(1)[:, order].reshape(t.shape) for t in (x, test))
        for name, build in {"convolutions": digit_cnn, "fully connected": build_plain}.items():
            torch.manual_seed(0)
            net = train(build(), x, digits.train.labels, steps)
            with torch.no_grad():
                right = net(test).argmax(dim=1) == digits.test.labels
            accuracies[f"{name}, {arrangement}"] = right.double().mean().item()
    return accuracies


def main(out: Path, quick: bool = False) -> dict[str, Any]:
    photo = read_photo()
    pictures = {"photograph": photo, "shuffled": shuffle(photo)}
    correlations = {
        name: [correlate(picture, distance) for distance in DISTANCES]
        for name, picture in pictures.items()
    }
    explained = {
        name: [explain_by_surroundings(picture, size) for size in SIZES]
        for name, picture in pictures.items()
    }
    for name in pictures:
        by_distance = zip(DISTANCES, correlations[name], strict=True)
        some = [f"{value:.3f} at {distance}" for distance, value in by_distance]
        print(f"{name}: correlation {', '.join(some[::3])} pixels")
        by_size = zip(SIZES, explained[name], strict=True)
        print("  explained by the pixels around: ", end="")
        print(", ".join(f"{size}×{size} {value:.2%}" for size, value in by_size))
    accuracies = compare_on_shuffled_digits(5 if quick else 250)
    for name, accuracy in accuracies.items():
        print(f"digits, {name:26} {accuracy:.1%} right")
    draw(pictures, correlations, explained, accuracies, out)
    return {"correlations": correlations, "explained": explained, "accuracies": accuracies}


def draw(
    pictures: dict[str, Map],
    correlations: dict[str, list[float]],
    explained: dict[str, list[float]],
    accuracies: dict[str, float],
    out: Path,
) -> None:
    figure = Figure(figsize=(13, 7.4), layout="constrained")
    axes = figure.subplots(2, 3, gridspec_kw={"width_ratios": [1, 1, 1.5]})
    scatter = np.random.default_rng(0).integers(0, photo_size(pictures), (1500, 2))
    for row, (name, picture) in enumerate(pictures.items()):
        axes[row, 0].imshow(picture[60:360, 100:400], cmap="gray", vmin=0, vmax=1)
        axes[row, 0].set_title(name)
        axes[row, 0].axis("off")
        draw_pairs(axes[row, 1], picture, scatter, correlations[name][0])
    for name, style in {"photograph": "o-", "shuffled": "s--"}.items():
        axes[0, 2].plot(DISTANCES, correlations[name], style, label=name)
    axes[0, 2].set(title="correlation by distance", xlabel="pixels", xscale="log", ylim=(-0.1, 1))
    axes[0, 2].set_xticks(
        [1, 2, 4, 8, 16, 32, 64, 128], ["1", "2", "4", "8", "16", "32", "64", "128"]
    )
    axes[0, 2].legend()
    axes[0, 2].grid(alpha=0.3)
    bars = axes[1, 2].barh(
        [name.replace(", ", ",\n") for name in accuracies],
        list(accuracies.values()),
        color=["#2a6fbb", "#a0aec0"] * 2,
    )
    axes[1, 2].bar_label(bars, [f" {value:.1%}" for value in accuracies.values()])
    axes[1, 2].invert_yaxis()
    axes[1, 2].set(title="digits: the network's accuracy", xlim=(0, 1.15), xticks=[])
    axes[1, 2].spines[["top", "right", "bottom"]].set_visible(False)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "14_local_correlation.png", dpi=110)


def photo_size(pictures: dict[str, Map]) -> tuple[int, int]:
    height, width = pictures["photograph"].shape
    return height, width - 1


def draw_pairs(axis: Axes, picture: Map, places: NDArray[np.int64], correlation: float) -> None:
    """A dot for a pixel and the one to its right."""
    rows, columns = places.T
    axis.plot(picture[rows, columns], picture[rows, columns + 1], ".", ms=3, color="#2a6fbb")
    axis.set(title=f"neighbors: correlation {abs(correlation):.2f}", xlabel="a pixel")
    axis.set(ylabel="the next", xlim=(0, 1), ylim=(0, 1), aspect="equal")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out")
    parser.add_argument("--quick", action="store_true", help="fewer steps on the digits")
    given = parser.parse_args()
    main(given.out, given.quick)
