"""Up-sampling: three ways from 2×2 to something larger.

Nearest copies, bilinear mixes neighbors, and a transposed convolution does what its kernel says:
here step by step, with zeros inserted, then an ordinary convolution.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

from eyeshot import reference
from eyeshot.explanation import walk_transpose

X = np.array([[1.0, 2.0], [3.0, 4.0]])
KERNEL = np.array([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 4


def copy_and_mix() -> dict[str, Any]:
    """2×2 to 4×4 by both resizing rules."""
    x, tensor = X[None, None], torch.from_numpy(X)[None, None]
    nearest = reference.upsample(x, scale=2)
    bilinear = reference.upsample(x, scale=2, mode="linear")
    aligned = reference.upsample(x, scale=2, mode="linear", align_corners=True)
    np.testing.assert_allclose(nearest, F.interpolate(tensor, scale_factor=2))
    np.testing.assert_allclose(bilinear, F.interpolate(tensor, scale_factor=2, mode="bilinear"))
    theirs = F.interpolate(tensor, scale_factor=2, mode="bilinear", align_corners=True)
    np.testing.assert_allclose(aligned, theirs)
    return {
        "nearest": nearest[0, 0],
        "bilinear": bilinear[0, 0],
        "bilinear, corners aligned": aligned[0, 0],
    }


def transpose() -> dict[str, Any]:
    """Stride 2: a zero between neighbors, a border of kernel − 1 zeros, and a convolution."""
    x, weight = X[None, None], KERNEL[None, None]
    stuffed = reference.insert_zeros(x, (2, 2))
    padded = np.pad(stuffed, [(0, 0), (0, 0), (2, 2), (2, 2)])
    by_zeros = reference.conv(padded, weight, flip=True)
    spread = reference.conv_transpose(x, weight, stride=2)
    theirs = F.conv_transpose2d(torch.from_numpy(x), torch.from_numpy(weight), stride=2)
    np.testing.assert_allclose(by_zeros, spread)
    np.testing.assert_allclose(spread, theirs)
    return {
        "zeros inserted": stuffed[0, 0],
        "and around": padded[0, 0],
        "kernel, turned": KERNEL[::-1, ::-1],
        "transposed convolution": spread[0, 0],
    }


def main(out: Path) -> dict[str, Any]:
    steps = {"input": X, **copy_and_mix(), **transpose()}
    for name, matrix in steps.items():
        print(f"{name}:")
        print(matrix)
    middle = walk_transpose(X, KERNEL, stride=2).steps[12]
    print(f"output {middle.output}: {middle.formula}")
    draw(steps, out)
    return {**steps, "middle": middle}


def draw(steps: dict[str, Any], out: Path) -> None:
    figure = Figure(figsize=(13, 7), layout="constrained")
    for axis, (name, matrix) in zip(figure.subplots(2, 4).flat, steps.items(), strict=True):
        axis.imshow(matrix, cmap="Blues", vmin=0, vmax=6)
        for (row, column), value in np.ndenumerate(matrix):
            axis.text(column, row, f"{value:.3g}", ha="center", va="center")
        axis.set_title(f"{name}, {matrix.shape[0]}×{matrix.shape[1]}")
        axis.axis("off")
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "06_upsampling.png", dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out")
    main(parser.parse_args().out)
