"""Pictures from numbers: a generator learns to write digits, and is looked into.

Two networks learn from each other (``eyeshot.train(..., task="generate")``): one makes pictures
from 64 random numbers, the other learns to tell them from real ones. The picture shows the same
latents after each part of the training, a walk between two latents, and one digit as it grows
through the layers. Pictures are judged by a classifier of digits, since a person sees neither that
a digit is never made nor that pictures are copies.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

import eyeshot
from eyeshot import data, images
from eyeshot.pictures import color_maps, mosaic

ROWS = 6  # of the pictures after each epoch
GROWTH = ("relu1", "relu2", "tanh")


def train(folder: Path, quick: bool) -> tuple[eyeshot.Run, eyeshot.SampleEvaluation]:
    """A generator, and how a classifier of the same digits judges it."""
    digits = data.load("digits")
    if quick:
        parts = (data.Examples.hold(*part.take(range(300))) for part in (digits.train, digits.test))
        digits = replace(digits, train=next(parts), test=next(parts))
    judge = eyeshot.train(
        digits,
        epochs=1 if quick else 8,
        label_smoothing=0.0,
        out=folder / "judge",
        progress=not quick,
    )
    made = eyeshot.train(
        digits,
        task="generate",
        model_arguments={"width": 8 if quick else 32},
        epochs=1 if quick else 120,
        out=folder / "generator",
        progress=not quick,
    )
    return made, eyeshot.evaluate(made, digits, judge=judge, count=200 if quick else 1000)


def strips(run: eyeshot.Run) -> NDArray[np.uint8]:
    """The pictures of 16 latents, a row after each of some epochs."""
    paths = sorted((run.path / "samples").glob("epoch-*.png"))
    chosen = np.unique(np.geomspace(1, len(paths), ROWS).round().astype(int)) - 1
    return np.concatenate([images.read(paths[number]) for number in chosen])


def growth(run: eyeshot.Run) -> dict[str, NDArray[Any]]:
    """The maps of one latent, layer by layer."""
    latent = torch.randn(1, 64, 1, 1, generator=torch.Generator().manual_seed(0))
    maps = eyeshot.see(run.net, latent)
    return {name: mosaic(color_maps(maps[name][:16]), columns=4) for name in GROWTH}


def main(out: Path, quick: bool = False) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        run, judged = train(Path(folder), quick)
        print(f"the judge is sure of {judged.sure:.1%} of made digits,", end=" ")
        print(f"of {judged.held_out_sure:.1%} of real ones")
        shares = ", ".join(f"{name} {share:.1%}" for name, share in judged.shares.items())
        print(f"taken for {shares}: {judged.entropy:.2f} of 3.32 bits")
        print(f"Fréchet distance {judged.frechet:.1f}, of real ones {judged.held_out_frechet:.1f}")
        walk = np.concatenate(list(eyeshot.sample(run, 16, seed=1, walk=True)[..., 0]), axis=1)
        out.mkdir(parents=True, exist_ok=True)
        draw(strips(run), walk, growth(run)).savefig(out / "20_pictures_from_numbers.png", dpi=100)
    return judged.to_dict()


def draw(
    epochs: NDArray[np.uint8], walk: NDArray[np.uint8], layers: dict[str, NDArray[Any]]
) -> Figure:
    figure = Figure(figsize=(9.6, 7.4), layout="constrained")
    grid = figure.add_gridspec(3, 1, height_ratios=(len(epochs) / 28, 1.3, 3.6))
    for place, picture, title in (
        (grid[0], epochs, "the same 16 latents as the training goes on"),
        (grid[1], walk, "a walk from one latent to another"),
    ):
        axis = figure.add_subplot(place)
        axis.imshow(picture, cmap="gray", vmin=0, vmax=255)
        axis.set_title(title, fontsize=11)
        axis.set_axis_off()
    places = grid[2].subgridspec(1, len(layers))
    for column, (name, picture) in enumerate(layers.items()):
        axis = figure.add_subplot(places[0, column])
        axis.imshow(picture)
        axis.set_title(name, fontsize=11)
        axis.set_axis_off()
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out")
    parser.add_argument("--quick", action="store_true", help="a moment's training, for the test")
    said = parser.parse_args()
    main(said.out, said.quick)
