"""Scribbles: a network of your own learns masks of which only a few lines were drawn.

Nobody has time to paint whole masks. Every training picture here has two strokes, through discs
and through the ground; all other pixels are ``ignore`` and are never learned from. The network is
none of Eyeshot's: ``eyeshot.train(..., net=module)`` asks it what it sees, and cuts crops by that.
The run folder is then opened without its class, and judged by masks that are complete.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

import eyeshot
from eyeshot import images

SIDE, IGNORE = 128, 255
Picture = NDArray[np.uint8]


class Disks(nn.Module):
    """Scores (N, 2, H, W) of pictures (N, 1, H, W): two levels, the coarse one stretched again."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.coarse = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=2, dilation=2),
            nn.ReLU(),
        )
        self.head = nn.Conv2d(3 * width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of a class at every pixel."""
        fine = self.fine(x)
        coarse = functional.interpolate(self.coarse(fine), size=fine.shape[2:], mode="nearest")
        scores: Tensor = self.head(torch.cat([fine, coarse], 1))
        return scores


def draw_disks(random: np.random.Generator, side: int = SIDE) -> tuple[Picture, Picture]:
    """A noisy picture of bright discs, and its whole mask, 0 or 1."""
    rows, columns = np.mgrid[:side, :side]
    mask = np.zeros((side, side), bool)
    for _ in range(side // 16):
        row, column, radius = *random.uniform(0, side, 2), random.uniform(6, 14)
        mask |= (rows - row) ** 2 + (columns - column) ** 2 < radius**2
    picture = random.normal(90, 22, mask.shape) + 60 * mask
    return picture.clip(0, 255).astype(np.uint8), mask.astype(np.uint8)


def scribble(mask: Picture, random: np.random.Generator) -> Picture:
    """What a person draws: two strokes, three pixels wide; the rest of the mask is ``IGNORE``."""
    drawn = np.full_like(mask, IGNORE)
    for _ in range(2):
        row, slope = random.uniform(10, len(mask) - 10), random.uniform(-0.5, 0.5)
        for column in range(mask.shape[1]):
            middle = int(row + slope * (column - mask.shape[1] / 2))
            drawn[max(0, middle - 1) : max(0, middle + 2), column] = mask[
                max(0, middle - 1) : max(0, middle + 2), column
            ]
    return drawn


def write_data(folder: Path, random: np.random.Generator) -> float:
    """Pictures with scribbles to learn from, whole masks to judge by; the share that was drawn."""
    shutil.rmtree(folder, ignore_errors=True)
    shares = []
    for part, count in (("train", 6), ("val", 2)):
        for number in range(count):
            picture, mask = draw_disks(random)
            label = scribble(mask, random) if part == "train" else mask
            shares.append(float((label != IGNORE).mean()))
            for kind, content in (("image", picture), ("label", label)):
                (folder / part / kind).mkdir(parents=True, exist_ok=True)
                images.write(folder / part / kind / f"{number}.png", content)
    (folder / "classes.yaml").write_text("ground: 0\ndisk: 1\nignore: 255\n")
    return float(np.mean(shares[:6]))


def main(out: Path, quick: bool = False) -> dict[str, Any]:
    out.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    share = write_data(out / "scribbles", random)
    print(f"{share:.1%} of the training pixels have a label")
    torch.manual_seed(0)
    eyeshot.train(
        out / "scribbles",
        task="segment",
        net=Disks(),
        out=out / "run",
        epochs=1 if quick else 3,
        steps=4 if quick else 40,
        learning_rate=0.01,
        augment="flips,turns",  # strokes that are bent would lose most of their pixels
        force=True,
    )
    run = eyeshot.load(out / "run")  # from net.pt2: Disks is not asked any more
    found = eyeshot.evaluate(run)
    assert isinstance(found, eyeshot.MaskEvaluation)
    print(f"on whole masks: accuracy {found.accuracy:.1%}, mean Dice {found.dice:.1%}")
    large, truth = draw_disks(random, 512)
    said = np.asarray(eyeshot.run(run, large, output_format="argmax"))[0]
    right = float((said == truth).mean())
    print(f"on a picture sixteen times as large: {right:.1%} right")
    draw(out, large, truth, said)
    return {"share": share, "dice": found.dice, "right": right}


def draw(out: Path, large: Picture, truth: Picture, said: NDArray[Any]) -> None:
    """The scribbles beside their picture, and the network's answer beside the truth."""
    first = out / "scribbles" / "train"
    label = images.read(first / "label" / "0.png")
    panels = [
        ("to learn from", images.read(first / "image" / "0.png"), "gray"),
        ("all that was drawn", np.ma.masked_equal(label, IGNORE), "coolwarm"),
        ("a larger picture", large, "gray"),
        ("the network's answer", said, "coolwarm"),
        ("wrong pixels", said != truth, "magma"),
    ]
    figure = Figure(figsize=(15, 3.4), layout="constrained")
    for axes, (title, panel, colors) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        axes.imshow(panel, cmap=colors, interpolation="nearest")
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    figure.savefig(out / "22_scribbles.png", dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--quick", action="store_true", help="few steps, to see that it runs")
    arguments = parser.parse_args()
    main(arguments.out, arguments.quick)
