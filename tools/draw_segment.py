"""Draw the pictures of ``docs/segment.md``: what is learned from a crop, a mask beside its truth.

Run ``make figures``. The network is taught here and now, which takes about half a minute.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from tools.cells import make_cells

import eyeshot
from eyeshot import data, images
from eyeshot.data.pairs import Crops, Pairs
from eyeshot.nets import unet
from eyeshot.report.pairs import VIEWS, MaskPicture, gather_masks

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "images"
SIDE, CROP, PAIRS = 192, 96, 10
DIM, BLUE = 0.45, (30, 110, 190)
SHOWN = 3  # crops


def write_cells(folder: Path) -> Path:
    """Pictures of cells with the masks of what lies between the membranes."""
    for kind in ("image", "label"):
        (folder / kind).mkdir(parents=True)
    for number in range(PAIRS):
        picture, membrane = make_cells(number, SIDE, 40)
        gray = (picture.clip(0, 1) * 255).astype(np.uint8)
        images.write(folder / "image" / f"{number}.png", gray)
        images.write(folder / "label" / f"{number}.png", (255 - 255 * membrane).astype(np.uint8))
    return folder


def tint(image: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A crop (H, W) in 0 … 1, blue and dim where it is not valid: (H, W, 3)."""
    gray = np.repeat(image[..., None] * 255, 3, axis=2)
    dim = DIM * gray + (1 - DIM) * np.array(BLUE)
    return np.where(valid[..., None], gray, dim).astype(np.uint8)


def crops_of_one(pairs: Pairs) -> tuple[Crops, list[int]]:
    """All crops of an epoch, and which of them are of the first training picture."""
    spec = eyeshot.output_geometry(unet(depth=2, base=4))
    sampler = data.CropSampler(pairs, (CROP, CROP), spec.halo, 0, alignment=spec.alignment)
    crops = sampler.batch(0, 0, sampler.crops)
    places = sorted((place, number) for number, place in enumerate(crops.places) if not place[0])
    return crops, [number for _, number in places]


def draw_valid(pairs: Pairs, out: Path) -> int:
    """The valid parts that tile a picture, and some of its crops; how many valid pixels it has."""
    crops, own = crops_of_one(pairs)
    figure = Figure(figsize=(9.6, 2.75), layout="constrained")
    axes = figure.subplots(1, 1 + SHOWN)
    whole = images.read(pairs.train[0].image)
    axes[0].imshow(whole, cmap="gray", vmin=0, vmax=255)
    axes[0].set_title(f"a picture in {len(own)} valid parts", fontsize=10)
    count = 0
    for number in own:
        _, top, left = crops.places[number]
        rows, columns = (np.flatnonzero(crops.valid[number].numpy().any(axis=a)) for a in (1, 0))
        count += len(rows) * len(columns)
        corner = (left + columns[0] - 0.5, top + rows[0] - 0.5)
        size = (len(columns), len(rows))
        axes[0].add_patch(Rectangle(corner, *size, fill=False, edgecolor="#ff7a18", linewidth=1.6))
    for axis, number in zip(axes[1:], own[:: max(1, len(own) // SHOWN)], strict=False):
        axis.imshow(tint(crops.images[number, 0].numpy(), crops.valid[number].numpy()))
        share = float(crops.valid[number].float().mean())
        axis.set_title(f"a crop, {share:.0%} of it valid", fontsize=10)
    for axis in axes:
        axis.set_axis_off()
    figure.savefig(out / "segment_valid.png", dpi=100)
    return count


def draw_errors(picture: MaskPicture, out: Path) -> None:
    """Picture, truth, prediction and errors, as the report shows them."""
    figure = Figure(figsize=(9.6, 2.75), layout="constrained")
    axes = figure.subplots(1, len(VIEWS))
    for axis, word, view in zip(axes, VIEWS, picture.whole.views, strict=True):
        axis.imshow(view)
        axis.set_title(word, fontsize=10)
        axis.set_axis_off()
    figure.savefig(out / "segment_errors.png", dpi=100)


def main(out: Path = PICTURES, *, epochs: int = 4, steps: int = 30) -> MaskPicture:
    """Draw both into ``out``; the picture whose errors are shown is the worst."""
    with TemporaryDirectory() as place:
        folder = write_cells(Path(place) / "cells")
        draw_valid(data.load_pairs(folder), out)
        run = eyeshot.train(
            folder,
            task="segment",
            model_arguments={"depth": 2, "base": 8},
            crop=(128, 128),
            learning_rate=5e-3,
            epochs=epochs,
            steps=steps,
            batch_size=4,
            average=0.9,
            out=Path(place) / "run",
            progress=False,
        )
        picture = gather_masks(run).pictures[0]
    draw_errors(picture, out)
    return picture


if __name__ == "__main__":
    found = main(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURES)
    print(f"segment_errors.png shows a picture with a mean Dice of {found.score.dice:.3f}")
