"""Balls in a volume: a U-Net of three axes learns to find them, and runs over a larger volume.

The volumes are made here: balls in noise, whose slices are twice as far apart as their pixels. A
3-D U-Net learns from crops (``eyeshot.train(..., dims=3)``), is judged on whole volumes, and then
``eyeshot.run`` takes it over a volume with more slices, a few at a time, with the answer of one
whole pass.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

import eyeshot

APART = 2.0  # pixels from one slice to the next
CONTRAST, NOISE = 60, 30  # gray values


def make_volume(
    size: tuple[int, int, int], random: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A volume (D, H, W) and its mask: balls with a radius of 4 to 7 pixels, in noise."""
    depth, rows, columns = np.meshgrid(*map(np.arange, size), indexing="ij")
    inside = np.zeros(size, bool)
    for _ in range(max(2, int(np.prod(size)) // 6000)):
        z, y, x = (random.uniform(0, n) for n in size)
        apart = ((depth - z) * APART) ** 2 + (rows - y) ** 2 + (columns - x) ** 2
        inside |= apart < random.uniform(4, 7) ** 2
    volume = 100 + CONTRAST * inside + random.normal(0, NOISE, size)
    return volume.clip(0, 255).astype(np.uint8), inside.astype(np.uint8)


def write_volumes(folder: Path, count: int, size: tuple[int, int, int]) -> None:
    """So many volumes and their masks as ``image/*.npy`` and ``label/*.npy``."""
    random = np.random.default_rng(0)
    for name in ("image", "label"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        volume, mask = make_volume(size, random)
        np.save(folder / "image" / f"{number}.npy", volume)
        np.save(folder / "label" / f"{number}.npy", mask)


def main(out: Path, quick: bool = False) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "balls"
        write_volumes(folder, 5, (8, 24, 24) if quick else (16, 48, 48))
        run = eyeshot.train(
            folder,
            task="segment",
            dims=3,
            model_arguments={"base": 4 if quick else 8, "depth": 2, "flat": 1},
            epochs=1 if quick else 6,
            steps=4 if quick else 40,
            batch_size=2,
            out=Path(place) / "run",
            progress=not quick,
        )
        judged = eyeshot.evaluate(run)
    assert isinstance(judged, eyeshot.MaskEvaluation)
    print(f"Dice of the balls in whole held-out volumes: {judged.per_class[1].dice or 0:.1%}")

    volume, truth = make_volume((24, 32, 32) if quick else (48, 96, 96), np.random.default_rng(9))
    scores = eyeshot.run(run, volume, band=4)
    with torch.no_grad():
        samples = torch.from_numpy(volume / np.float32(255))[None, None]
        whole = run.net((samples - run.config.mean[0]) / run.config.std[0])[0].numpy()
    apart = float(np.abs(scores - whole).max() / np.abs(whole).max())
    print(f"over {volume.shape[0]} slices, 4 at a time, and in one pass: {apart:.1e} apart")
    out.mkdir(parents=True, exist_ok=True)
    draw(volume, truth, scores.argmax(0)).savefig(out / "21_balls_in_a_volume.png", dpi=100)
    return {"dice": judged.dice, "apart": apart}


def draw(volume: NDArray[Any], truth: NDArray[Any], said: NDArray[Any]) -> Figure:
    """A slice, and a cut across the slices: volume, truth, answer."""
    figure = Figure(figsize=(9.6, 5.6), layout="constrained")
    depth, height, _ = volume.shape
    for row, (name, cut) in enumerate(
        (("a slice", np.s_[depth // 2]), ("across the slices", np.s_[:, height // 2]))
    ):
        for column, (what, one) in enumerate(
            (("volume", volume), ("truth", truth), ("answer", said))
        ):
            axis = figure.add_subplot(2, 3, 3 * row + column + 1)
            axis.imshow(one[cut], cmap="gray", aspect=APART if row else 1)
            axis.set_title(f"{name}: {what}", fontsize=11)
            axis.set_axis_off()
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out")
    parser.add_argument("--quick", action="store_true", help="a few steps on small volumes")
    given = parser.parse_args()
    main(given.out, given.quick)
