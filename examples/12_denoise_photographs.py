"""A small U-Net that takes noise out of photographs, beside the mean and the Gaussian filter.

A filter smooths the noise away, and with it everything as fine as the noise. A network that has
seen pairs of noisy and clean pictures learns which fine things are worth keeping: it is trained on
parts of one photograph and judged on parts that it has never seen.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import cbook
from matplotlib.figure import Figure
from numpy.typing import NDArray

import eyeshot
from eyeshot import images
from eyeshot.evaluation.pairs import Likeness
from eyeshot.runs import Run

SIGMA = 25  # deviation of the noise, of 255
PARTS = 4  # the photograph is cut into so many rows, and so many columns
HELD_OUT = [(0, 2), (1, 1), (2, 3), (3, 0)]  # one of each row and of each column
SIZES = (3, 5, 7)


def cut(folder: Path) -> None:
    """The photograph as pairs: ``train`` and ``val``, each with ``image`` and ``target``."""
    clean = images.read(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    noise = np.random.default_rng(0).normal(0, SIGMA, clean.shape)
    noisy = np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)
    height, width = (n // PARTS for n in clean.shape[:2])
    for row in range(PARTS):
        for column in range(PARTS):
            part = "val" if (row, column) in HELD_OUT else "train"
            place = np.s_[row * height : (row + 1) * height, column * width : (column + 1) * width]
            for kind, picture in (("image", noisy), ("target", clean)):
                path = folder / part / kind / f"{row}-{column}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                images.write(path, picture[place])


def restore(run: Run, noisy: NDArray[Any]) -> NDArray[Any]:
    """The network's picture of a noisy one: of any size, though it learned from crops."""
    answer = np.asarray(eyeshot.run(run, noisy, layout="HWC"))
    restored: NDArray[Any] = np.moveaxis(answer, 0, -1).clip(0, 1) * 255
    return np.asarray(np.rint(restored), np.uint8)


def psnr(picture: NDArray[Any], clean: NDArray[Any]) -> float:
    """Decibels: how much larger the range is than the error; 6 dB more are half the error."""
    error = np.mean((picture.astype(float) - clean) ** 2)
    return 10 * math.log10(255**2 / error)


def ssim(picture: NDArray[Any], clean: NDArray[Any]) -> float:
    """1 for the very same picture: light, contrast and structure compared in small windows."""
    likeness = Likeness()
    both = [np.moveaxis(one, -1, 0) / 255 for one in (picture, clean)]
    likeness.add(both[0], both[1], slice(None))
    return likeness.ssim


def main(out: Path, quick: bool = False) -> dict[str, tuple[float, float]]:
    folder = out / "photographs"
    cut(folder)
    run = eyeshot.train(
        folder,
        task="restore",
        # Shallow, since noise has no large shapes: a few pixels around tell it from the picture.
        model_arguments={"depth": 1, "base": 4 if quick else 24, "norm": "none"},
        crop=(64, 64),
        batch_size=8,
        learning_rate=6e-3,
        average=0.9,
        steps=6 if quick else 70,
        epochs=1 if quick else 10,
        out=out / "denoise",
        force=True,
        progress=False,
    )
    names = [f"{row}-{column}.png" for row, column in HELD_OUT]
    noisy = [images.read(folder / "val" / "image" / name) for name in names]
    clean = [images.read(folder / "val" / "target" / name) for name in names]

    tried = {"noisy": noisy}
    for kernel in ("mean", "gaussian"):
        by_size = {
            f"{kernel}:{size}": [
                eyeshot.filter(picture, f"{kernel}:{size}", padding="reflect") for picture in noisy
            ]
            for size in SIZES
        }
        best = max(by_size, key=lambda name: mean_of(psnr, by_size[name], clean))
        tried[best] = by_size[best]
    tried["U-Net"] = [restore(run, picture) for picture in noisy]

    figures = {
        name: (mean_of(psnr, pictures, clean), mean_of(ssim, pictures, clean))
        for name, pictures in tried.items()
    }
    for name, both in figures.items():
        print(f"{name:12} {as_text(both)}")
    draw({**tried, "clean": clean}, figures, out)
    return figures


def mean_of(measure: Any, pictures: list[Any], clean: list[Any]) -> float:
    return float(np.mean([measure(one, other) for one, other in zip(pictures, clean, strict=True)]))


def as_text(figures: tuple[float, float]) -> str:
    return f"PSNR {figures[0]:.2f} dB, SSIM {figures[1]:.3f}"


def draw(
    tried: dict[str, list[NDArray[Any]]], figures: dict[str, tuple[float, float]], out: Path
) -> None:
    rows = (1, 2)  # of the held-out parts, those with most to see
    figure = Figure(figsize=(3 * len(tried), 3.4 * len(rows)), layout="constrained")
    for place, (name, pictures) in enumerate(tried.items()):
        for row, part in enumerate(rows):
            axis = figure.add_subplot(len(rows), len(tried), 1 + row * len(tried) + place)
            axis.imshow(pictures[part])
            axis.set_axis_off()
            if row == 0:
                axis.set_title(f"{name}\n{as_text(figures[name])}" if name in figures else name)
    figure.savefig(out / "12_denoise_photographs.png", dpi=100)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out")
    parser.add_argument("--quick", action="store_true", help="learn for a few seconds only")
    given = parser.parse_args()
    main(given.out, given.quick)
