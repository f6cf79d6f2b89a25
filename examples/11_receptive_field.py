"""The receptive field: how much of the picture one unit sees, and how it grows layer by layer.

Each layer adds its kernel less one, times the strides before it. ``eyeshot.inspect`` and
``eyeshot.receptive_field`` know the box without running the network; a gradient in plain PyTorch
shows what fills it. Most of it comes from the middle: the effective field, which grows with the
square root of the depth only (Luo, Li, Urtasun and Zemel, 2016, arXiv:1701.04128).
"""

from __future__ import annotations

import argparse
import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import cbook
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor, nn

import eyeshot
from eyeshot import images

Map = NDArray[Any]
SIDE = 128
DEPTHS = [1, 2, 4, 8, 16, 24, 32]  # of 3×3 convolutions, for the effective field
COLORS = ["#90cdf4", "#63b3ed", "#4299e1", "#f6ad55", "#ed8936", "#c4572e"]


def read_photo() -> Map:
    """The face in matplotlib's portrait of Grace Hopper, gray, 128×128, from 0 to 1."""
    color = images.read(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    face = color[60:316, 110:366].astype(np.float64) @ np.array([0.299, 0.587, 0.114]) / 255
    gray: Map = face.reshape(SIDE, 2, SIDE, 2).mean(axis=(1, 3)).astype(np.float32)
    return gray


def build_net() -> nn.Sequential:
    """Two convolutions, a pool; two convolutions, a pool; two convolutions."""
    torch.manual_seed(0)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 1
    for stage in (1, 2, 3):
        for letter in "ab":
            layers[f"conv{stage}{letter}"] = nn.Conv2d(channels, 8, 3, padding=1)
            layers[f"relu{stage}{letter}"] = nn.ReLU()
            channels = 8
        if stage < 3:
            layers[f"pool{stage}"] = nn.MaxPool2d(2)
    return nn.Sequential(layers).eval()


def grow_by_hand(net: nn.Sequential) -> dict[str, int]:
    """The side of the square that one unit of each layer sees: field += (kernel − 1) · strides."""
    field, strides, sides = 1, 1, {}
    for name, layer in net.named_children():
        if isinstance(layer, nn.Conv2d):
            field += (layer.kernel_size[0] - 1) * strides
        elif isinstance(layer, nn.MaxPool2d):
            field += (2 - 1) * strides
            strides *= 2
        else:
            continue
        sides[name] = field
    return sides


def grow_by_eyeshot(net: nn.Sequential) -> dict[str, int]:
    rows = eyeshot.inspect(net, (1, SIDE, SIDE)).rows
    return {row.name: row.fields[0].largest for row in rows if "2d" in row.operator}


def measure_gradient(net: nn.Module, x: Tensor, unit: tuple[int, int]) -> Map:
    """|∂ unit / ∂ pixel| of the middle of a network's output, over all its channels: (H, W)."""
    x = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(net(x)[..., unit[0], unit[1]].sum(), x)
    strength: Map = gradient[0, 0].abs().numpy()
    return strength


def share_of_half(strength: Map, box: tuple[slice, slice]) -> float:
    """The share of the box's pixels from which half of the gradient comes."""
    values = np.sort(strength[box], axis=None)[::-1].astype(np.float64)
    return float((np.searchsorted(values.cumsum(), values.sum() / 2) + 1) / values.size)


def measure_widths(depths: list[int], tries: int) -> dict[int, tuple[int, float]]:
    """For so many 3×3 convolutions one after another: the side of the box and of what fills it.

    The second is the side of an evenly filled square as spread out as the gradient's energy is,
    over random weights: √(12 σ² + 1) pixels for a standard deviation of σ.
    """
    torch.manual_seed(0)
    widths = {}
    for depth in depths:
        side = 2 * depth + 1
        layers = [nn.Conv2d(1 if place == 0 else 4, 4, 3, padding=1) for place in range(depth)]
        energy = np.zeros(side)
        for _ in range(tries):
            for layer in layers:
                nn.init.normal_(layer.weight, std=math.sqrt(1 / layer.weight[0].numel()))
            gradient = measure_gradient(
                nn.Sequential(*layers), torch.zeros(1, 1, side, side), (depth, depth)
            )
            energy += np.square(gradient).sum(axis=0)
        places = np.arange(side) - depth
        variance = float((energy * places**2).sum() / energy.sum())
        widths[depth] = (side, math.sqrt(12 * variance + 1))
    return widths


def main(out: Path, quick: bool = False) -> dict[str, Any]:
    photo, net = read_photo(), build_net()
    by_hand, by_eyeshot = grow_by_hand(net), grow_by_eyeshot(net)
    for name, side in by_eyeshot.items():
        print(f"{name:6} one unit sees {side:2}×{side:2}; by hand {by_hand[name]}")
    seen = eyeshot.receptive_field(net, (1, SIDE, SIDE), layer="conv3b", unit=(15, 16))
    print(seen)
    if seen.box is None:
        raise SystemExit("the field of a convolution is always known")
    rows, columns = (slice(side.lo, side.hi) for side in seen.box)
    strength = measure_gradient(net, torch.from_numpy(photo)[None, None], (15, 16))
    outside = strength.copy()
    outside[rows, columns] = 0
    half = share_of_half(strength, (rows, columns))
    print(f"gradient outside of the box: {np.abs(outside).sum():.0f}; ", end="")
    print(f"half of it comes from {half:.0%} of the pixels in the box")
    widths = measure_widths(DEPTHS[:4] if quick else DEPTHS, 2 if quick else 20)
    for depth, (side, width) in widths.items():
        print(f"{depth:2} convolutions of 3×3: box {side:2} wide, effective field {width:4.1f}")
    draw(photo, net, strength, (rows, columns), widths, out)
    return {
        "by hand": by_hand,
        "by eyeshot": by_eyeshot,
        "box": (rows, columns),
        "strength": strength,
        "half": half,
        "widths": widths,
    }


def draw(
    photo: Map,
    net: nn.Sequential,
    strength: Map,
    box: tuple[slice, slice],
    widths: dict[int, tuple[int, float]],
    out: Path,
) -> None:
    figure = Figure(figsize=(13, 4.5), layout="constrained")
    growing, filled, curve = figure.subplots(1, 3)
    growing.imshow(photo, cmap="gray", vmin=0, vmax=1)
    sides = {name: side for name, side in grow_by_eyeshot(net).items() if "conv" in name}
    for (name, side), color in zip(sides.items(), COLORS, strict=True):
        unit = {"1": (62, 66), "2": (31, 33), "3": (15, 16)}[name[4]]
        field = eyeshot.receptive_field(net, (1, SIDE, SIDE), layer=name, unit=unit)
        top, left = ((one.lo, one.hi) for one in field.box or ())
        corner = (left[0] - 0.5, top[0] - 0.5)
        style: dict[str, Any] = {"fill": False, "color": color, "lw": 2}
        label = f"{name}: {side}×{side}"
        growing.add_patch(
            Rectangle(corner, left[1] - left[0], top[1] - top[0], **style, label=label)
        )
    growing.legend(loc="lower right", fontsize=8)
    growing.set_title("what one unit of each layer sees")
    rows, columns = box
    filled.imshow(photo[rows, columns], cmap="gray", vmin=0, vmax=1)
    shown = strength[rows, columns] / strength.max()
    filled.imshow(shown, cmap="inferno", alpha=0.35 + 0.65 * np.sqrt(shown), vmin=0, vmax=1)
    filled.set_title("the last box, and how much each pixel counts")
    for axis in (growing, filled):
        axis.axis("off")
    depths = list(widths)
    curve.plot(depths, [side for side, _ in widths.values()], "s-", color="#c4572e", label="box")
    effective = [width for _, width in widths.values()]
    curve.plot(depths, effective, "o-", color="#2a6fbb", label="effective field")
    root = np.sqrt(8 * np.array(depths) + 1)  # each 3×3 adds 2/3 to σ²
    curve.plot(depths, root, ":", color="black", label="√(8 · depth + 1)")
    curve.set(title="width by depth, random weights", xlabel="3×3 convolutions", ylabel="pixels")
    curve.legend()
    curve.grid(alpha=0.3)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "11_receptive_field.png", dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out")
    parser.add_argument("--quick", action="store_true", help="fewer random networks")
    given = parser.parse_args()
    main(given.out, given.quick)
