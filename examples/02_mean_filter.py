"""A mean filter over a color picture of 1133×1700, three ways, to the same pixels.

Each output is the average of the 5×5 pixels around it, in each of the three channels by itself:
by the definition in NumPy, by PyTorch's ``conv2d``, and by ``eyeshot.filter``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from matplotlib import cbook
from matplotlib.figure import Figure
from numpy.typing import NDArray

import eyeshot
from eyeshot import images, reference

Picture = NDArray[np.uint8]
HEIGHT, WIDTH, SIZE = 1133, 1700, 5


def read_noisy_photo() -> Picture:
    """Part of matplotlib's portrait of Grace Hopper, enlarged, with the grain of a poor camera."""
    color = images.read(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    part = color[30 : 30 + 512 * HEIGHT // WIDTH]
    large = cv2.resize(part, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    grain = np.random.default_rng(0).normal(0, 30, large.shape)
    grainy: Picture = np.clip(np.rint(large + grain), 0, 255).astype(np.uint8)
    return grainy


def by_reference(picture: Picture) -> Picture:
    """The definition: every channel a picture of its own, so that none mixes with another."""
    planes = picture.transpose(2, 0, 1)[:, np.newaxis].astype(np.float64)
    weight = np.full((1, 1, SIZE, SIZE), 1 / SIZE**2)
    means = reference.conv(planes, weight, padding="same")
    return np.rint(means[:, 0].transpose(1, 2, 0)).astype(np.uint8)


def by_conv2d(picture: Picture) -> Picture:
    """Plain PyTorch, one channel after another."""
    weight = torch.full((1, 1, SIZE, SIZE), 1 / SIZE**2)
    means = []
    for channel in range(3):
        plane = torch.from_numpy(picture[..., channel].astype(np.float32))[None, None]
        means.append(torch.nn.functional.conv2d(plane, weight, padding="same")[0, 0])
    return torch.stack(means, dim=-1).round().byte().numpy()


def by_eyeshot(picture: Picture) -> Picture:
    return eyeshot.filter(picture, f"mean:{SIZE}")


def main(out: Path) -> dict[str, Any]:
    picture = read_noisy_photo()
    ways: dict[str, Callable[[Picture], Picture]] = {
        "reference": by_reference,
        "conv2d": by_conv2d,
        "eyeshot.filter": by_eyeshot,
    }
    results = {}
    for name, way in ways.items():
        way(picture[:SIZE])  # what is loaded on first use is loaded now
        start = time.perf_counter()
        results[name] = way(picture)
        print(f"{name:15} {1e3 * (time.perf_counter() - start):8.1f} ms")
    differing = {
        name: int((result != results["reference"]).sum()) for name, result in results.items()
    }
    print(f"{picture.shape[0]}×{picture.shape[1]} in 3 channels: {picture.size:,} values")
    for name, count in differing.items():
        print(f"values that differ from the reference, {name}: {count}")
    draw(picture, results["eyeshot.filter"], out)
    return {"picture": picture, "results": results, "differing": differing}


def draw(before: Picture, after: Picture, out: Path) -> None:
    figure = Figure(figsize=(12, 8.4), layout="constrained")
    rows = figure.subplots(2, 2)
    detail = slice(380, 560), slice(700, 970)
    for column, (picture, title) in enumerate(
        [(before, "a grainy picture"), (after, f"after a {SIZE}×{SIZE} mean")]
    ):
        rows[0, column].imshow(picture)
        rows[0, column].set_title(title)
        rows[1, column].imshow(picture[detail])
        rows[1, column].set_title("the framed part")
        top, left = detail[0].start, detail[1].start
        frame = [[left, top], [left + 270, top], [left + 270, top + 180], [left, top + 180]]
        rows[0, column].plot(*zip(*frame, frame[0], strict=True), color="white", linewidth=1.5)
    for axis in rows.flat:
        axis.axis("off")
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "02_mean_filter.png", dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out")
    main(parser.parse_args().out)
