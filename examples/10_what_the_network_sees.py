"""What the network sees: a digit after each of the four steps of the digit CNN.

Convolution and ReLU, pooling, convolution and ReLU, pooling. ``eyeshot.see`` brings the maps of
every layer; a hook on each layer, which is how plain PyTorch does it, brings the same numbers.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

import eyeshot
from eyeshot import data
from eyeshot.features import Features
from eyeshot.pictures import color_kernels, color_maps, mosaic

DIGIT = 7
MAPS = 16  # of each step, as many as there is room for


def see_by_hooks(net: nn.Module, x: torch.Tensor) -> dict[str, Any]:
    """The maps of every layer in plain PyTorch: a hook a layer, then one forward pass."""
    maps: dict[str, Any] = {}

    def keep(name: str) -> Any:
        return lambda _module, _inputs, output: maps.update({name: output[0].numpy().copy()})

    handles = [layer.register_forward_hook(keep(name)) for name, layer in net.named_children()]
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    return maps


def main(out: Path, quick: bool = False) -> dict[str, Any]:
    out.mkdir(parents=True, exist_ok=True)
    run = eyeshot.train(
        "digits", out=out / "run", epochs=1 if quick else 4, force=True, progress=False
    )
    test = data.load("digits").test
    index = int((test.labels == DIGIT).int().argmax())
    pixels, _ = test.take([index])
    x = run.normalize(pixels)

    features = eyeshot.see(run.net, x)
    by_hooks = see_by_hooks(run.net, x)
    apart = max(float(np.abs(features[name] - maps).max()) for name, maps in by_hooks.items())
    print(f"maps by eyeshot.see and by hooks: at most {apart:.0e} apart")

    steps = [step for step in features.steps if step.maps.ndim == 3]
    for step in steps:
        count, high, wide = step.maps.shape
        zero = float((step.maps == 0).mean())
        print(f"{step.title:18} {count} maps of {high}×{wide}, {zero:.0%} of the numbers are 0")
    shares = torch.from_numpy(features["fc2"]).softmax(0)
    print(f"the answer: {int(shares.argmax())}, {float(shares.max()):.1%} sure")
    draw(features, run.net, pixels[0, 0].numpy(), out)
    return {
        "shapes": [step.maps.shape for step in steps],
        "titles": [step.title for step in steps],
        "apart": apart,
        "answer": int(shares.argmax()),
        "features": features,
    }


def draw(features: Features, net: nn.Module, digit: Any, out: Path) -> None:
    steps = [step for step in features.steps if step.maps.ndim == 3]
    figure = Figure(figsize=(14, 3.9), layout="constrained")
    grid = figure.add_gridspec(2, 5, width_ratios=[0.46, 1, 1, 1, 1])
    axis = figure.add_subplot(grid[0, 0])
    axis.imshow(digit, cmap="gray")
    axis.set_title("the digit")
    kernels = color_kernels(net.get_submodule("conv1").get_parameter("weight").detach().numpy())
    axis = figure.add_subplot(grid[1, 0])
    axis.imshow(mosaic(kernels, side=60, columns=4, gap=8))
    axis.set_title("the first kernels")
    for place, step in enumerate(steps):
        axis = figure.add_subplot(grid[:, 1 + place])
        maps = color_maps(step.maps[:MAPS])
        axis.imshow(mosaic(maps, side=112, columns=4, gap=6))
        count, high, wide = step.maps.shape
        axis.set_title(f"{place + 1}. {step.title}\n{len(maps)} of {count} maps, {high}×{wide}")
    for axis in figure.axes:
        axis.set_axis_off()
    figure.savefig(out / "10_what_the_network_sees.png", dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out")
    parser.add_argument("--quick", action="store_true", help="learn from the digits once")
    given = parser.parse_args()
    main(given.out, given.quick)
