"""A slide that is mostly blank: copying blank regions against computing everything.

Tissue is noise in a disk, glass one constant. Both runs are of the same process, one after the
other; the ratio is printed, with the largest difference between both outputs.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import eyeshot
from eyeshot.engine.executing import RunReport
from eyeshot.nets.unet import unet

SIDE = 8192
BLANK = 0.8
"""The share of the slide that is glass."""
GLASS = 0.93


def slide(side: int, blank: float = BLANK, seed: int = 0) -> NDArray[np.float32]:
    """(3, side, side): a disk of noise on glass.

    Args:
        side: of the slide, in pixels.
        blank: the share of it that is glass.
        seed: of the noise.
    """
    rng = np.random.default_rng(seed)
    image = np.full((3, side, side), GLASS, np.float32)
    radius = side * math.sqrt((1 - blank) / math.pi)
    y, x = np.ogrid[:side, :side]
    tissue = (y - side / 2) ** 2 + (x - side / 2) ** 2 < radius**2
    image[:, tissue] = rng.random((3, int(tissue.sum())), np.float32)
    return image


def compare(side: int) -> dict[str, Any]:
    """Both runs over a slide of this side, the one with copies first.

    Returns:
        seconds of each, the ratio, the share that was copied, the share of the work that was done,
        and the largest difference relative to the largest score.
    """
    torch.manual_seed(0)
    net = eyeshot.trace(unet(in_channels=3, base=16, depth=3).eval())
    image = slide(side)
    eyeshot.run(net, image, region=[(0, 256), (0, 256)])  # traces, and warms the kernels
    found: dict[str, Any] = {}
    outputs = {}
    for name, blank in (("copied", True), ("everything", False)):
        reports: list[RunReport] = []
        started = time.perf_counter()
        outputs[name] = eyeshot.run(net, image, blank=blank, progress=reports.append)
        found[name] = time.perf_counter() - started
        found[f"{name} work"] = reports[-1].multiply_adds
        found["blank"] = max(found.get("blank", 0), reports[-1].blank)
    largest = float(np.abs(outputs["everything"]).max())
    difference = float(np.abs(outputs["everything"] - outputs["copied"]).max()) / largest
    return {
        **found,
        "ratio": found["everything"] / found["copied"],
        "share": found["copied work"] / found["everything work"],
        "difference": difference,
    }


def main() -> None:
    """Print the ratio."""
    found = compare(SIDE)
    print(f"a slide of {SIDE}×{SIDE}, {BLANK:.0%} glass, U-Net (base 16, depth 3)")
    print(f"copied: {found['copied']:.1f} s, {found['blank']:.1%} of the output")
    print(f"everything: {found['everything']:.1f} s")
    print(f"ratio {found['ratio']:.2f}, work {found['share']:.3f}, ", end="")
    print(f"largest difference {found['difference']:.1e}")
