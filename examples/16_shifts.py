"""Shifts: what moves with the picture (equivariance), and what stays as it is (invariance).

A convolution of stride 1 moves its map as far as the picture moved. After a pool or a stride of 2
that is so on the stride grid alone, for shifts of 2, 4, …; between them the map changes. A score
should not move at all: how far that is so is measured on digits shifted by 0 to 8 pixels, by three
networks that have seen them in the middle alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from eyeshot import data
from eyeshot.nets import digit_cnn

SIDE = 48  # of the canvas: 28 for the digit, and room for a shift of 8 and a kernel's reach
SHIFTS = range(9)
GRAY, BLUE, RED, GREEN = "#718096", "#2a6fbb", "#c4572e", "#2f855a"


def read_canvas(part: data.Examples, mean: float, deviation: float) -> Tensor:
    """Digits amid empty paper, so that a shift loses nothing: (N, 1, 48, 48)."""
    margin = (SIDE - 28) // 2
    canvas = nn.functional.pad(part.images.float() / 255, [margin] * 4)
    return (canvas - mean) / deviation


def shift(x: Tensor, columns: int) -> Tensor:
    """To the right; what comes around is empty."""
    return torch.roll(x, columns, dims=-1)


def build_layers() -> dict[str, tuple[nn.Module, int]]:
    """One step each, with its stride: the first is a convolution, and the others go on from it."""
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU())
    strided = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, stride=2), nn.ReLU())
    return {
        "convolution": (first, 1),
        "convolution, stride 2": (strided, 2),
        "convolution, max-pool 2×2": (nn.Sequential(first, nn.MaxPool2d(2)), 2),
        "convolution, max-pool 4×4": (nn.Sequential(first, nn.MaxPool2d(4)), 4),
    }


@torch.no_grad()
def follow(layer: nn.Module, stride: int, x: Tensor, columns: int) -> float:
    """How much the map of the shifted picture differs from the map, shifted: 0 is equivariance.

    |map(shifted) − shifted map| / |map|; the map moves by columns / stride, rounded down.
    """
    before, after = layer(x), layer(shift(x, columns))
    return float((after - shift(before, columns // stride)).norm() / before.norm())


@torch.no_grad()
def stay(layer: nn.Module, x: Tensor, columns: int) -> float:
    """How much the map of the shifted picture differs from the map as it was: 0 is invariance."""
    before, after = layer(x), layer(shift(x, columns))
    return float((after - before).norm() / before.norm())


def build_nets() -> dict[str, nn.Module]:
    """Three that end in other ways: no kernels at all, a place for each feature, no places."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 64), nn.ReLU(), nn.Linear(64, 10))
    kept = digit_cnn(width=8, size=(SIDE, SIDE), hidden=64)
    pooled = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.AdaptiveMaxPool2d(1)),
        *(nn.Flatten(), nn.Linear(64, 10)),
    )
    return {"fully connected": plain, "pools, then flatten": kept, "global pool": pooled}


def train(net: nn.Module, x: Tensor, labels: Tensor, steps: int) -> nn.Module:
    """So many steps of Adam on 32 digits each."""
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for step in range(steps):
        chosen = torch.arange(step * 32, (step + 1) * 32) % len(x)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x[chosen]), labels[chosen])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return net.eval()


@torch.no_grad()
def judge_shifted(net: nn.Module, x: Tensor, labels: Tensor) -> list[float]:
    """Accuracy on digits that are shifted by each of SHIFTS."""
    return [
        (net(shift(x, columns)).argmax(dim=1) == labels).double().mean().item()
        for columns in SHIFTS
    ]


def main(out: Path, quick: bool = False) -> dict[str, Any]:
    digits = data.load("digits")
    x, test = (
        read_canvas(part, digits.mean[0], digits.std[0]) for part in (digits.train, digits.test)
    )
    shown = (
        test[: 50 if quick else 200] - test.min()
    )  # paper is 0, so that padding with zeros adds no edge
    layers = build_layers()
    follows = {
        name: [follow(layer, stride, shown, columns) for columns in SHIFTS]
        for name, (layer, stride) in layers.items()
    }
    stays = {
        name: [stay(layer, shown, columns) for columns in SHIFTS]
        for name, (layer, _) in layers.items()
    }
    print(f"{'differs from the shifted map by':32} " + " ".join(f"{s:3} px" for s in SHIFTS))
    for name, values in follows.items():
        print(f"{name:32} " + " ".join(f"{value:6.1%}" for value in values))
    print("differs from the map as it was by")
    for name, values in stays.items():
        print(f"{name:32} " + " ".join(f"{value:6.0%}" for value in values))

    accuracies = {}
    print("right")
    for name, net in build_nets().items():
        train(net, x, digits.train.labels, 3 if quick else 400)
        few = slice(100 if quick else 1000)
        accuracies[name] = judge_shifted(net, test[few], digits.test.labels[few])
        print(f"{name:32} " + " ".join(f"{value:6.1%}" for value in accuracies[name]))
    draw(follows, stays, accuracies, out)
    return {"follows": follows, "stays": stays, "accuracies": accuracies}


def draw(
    follows: dict[str, list[float]],
    stays: dict[str, list[float]],
    accuracies: dict[str, list[float]],
    out: Path,
) -> None:
    figure = Figure(figsize=(13, 4.4), layout="constrained")
    moved, kept, right = figure.subplots(1, 3)
    for curves, axis in ((follows, moved), (stays, kept)):
        for (name, values), color in zip(curves.items(), (GRAY, RED, BLUE, GREEN), strict=True):
            axis.plot(SHIFTS, values, "o-", color=color, label=name, lw=2)
    for (name, values), color in zip(accuracies.items(), (GRAY, BLUE, GREEN), strict=True):
        right.plot(SHIFTS, values, "o-", color=color, label=name, lw=2)
    moved.set(title="equivariance: map against shifted map", ylabel="changed by")
    kept.set(title="invariance: map against map as it was", ylabel="changed by")
    right.set(title="digits right, learned at shift 0 alone", ylim=(0, 1))
    moved.legend(loc="upper left", fontsize=9)
    moved.set_ylim(-0.02, 1.35)
    right.legend(loc="lower left")
    for axis in (moved, kept, right):
        axis.set_xlabel("shift in pixels")
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axis.grid(alpha=0.3)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "16_shifts.png", dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out")
    parser.add_argument("--quick", action="store_true", help="a few steps only")
    given = parser.parse_args()
    main(given.out, given.quick)
