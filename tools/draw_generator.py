"""Draw the pictures of ``docs/generator.md``: what a generator does inside, from a latent on.

``python -m tools.draw_generator RUN`` draws them of a trained run; ``make figures`` draws those
that need none. A run of digits or of MNIST takes some minutes:
``eyeshot train mnist --task generate``.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

import eyeshot
from eyeshot import nets
from eyeshot.evaluation.labels import draw_latents
from eyeshot.pictures import color_maps, mosaic

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "images"
WIDTH = 9.6  # inches, at 100 dots
ORANGE = "#dd6b20"
KERNELS = (3, 4)
NETS, LATENTS = 200, 8  # whose pictures are averaged for a spectrum
PIXEL = (13, 14)  # the one that is traced back
BORDER = 4  # pixels at each side that see fewer terms for another reason
SHOWN = 16  # maps of a layer


@dataclass(frozen=True)
class Traced:
    """One output pixel as a sum over the latent, exact for this latent.

    Attributes:
        parts: (latent,) what each number of the latent brings: slope × number.
        rest: what is there without any: biases, and the shifts of batch norm.
        value: of the pixel before tanh; the parts and the rest add up to it.
        reads: of each layer before, how many of its units the pixel depends on by its place.
    """

    parts: NDArray[np.float64]
    rest: float
    value: float
    reads: dict[str, int]


def trace_to_latent(net: nets.Generator, latent: Tensor, pixel: tuple[int, int]) -> Traced:
    """Trace an output pixel back to the latent (1, latent, 1, 1), through every layer.

    In eval mode all layers before tanh are linear or ReLU: around one latent the pixel is a
    constant and a slope times each number. The slopes are found by the gradient.
    """
    net = net.double().eval()
    latent = latent.double().requires_grad_()
    maps: dict[str, Tensor] = {}
    x = latent
    for name, layer in net.named_children():
        if name == "tanh":
            break
        x = layer(x)
        if name.startswith(("relu", "resize")):
            x.retain_grad()
            maps[name] = x
    value = x[0, 0, pixel[0], pixel[1]]
    value.backward()  # type: ignore[no-untyped-call]
    assert latent.grad is not None
    parts = (latent.grad * latent).detach().flatten().numpy()
    reads = {name: int((one.grad != 0).any(1).sum()) for name, one in maps.items()}  # type: ignore
    net.float()
    return Traced(parts, float(value.detach()) - float(parts.sum()), float(value.detach()), reads)


def mean_power(kernel: int) -> NDArray[np.float64]:
    """Mean square (H, W) of each pixel before tanh, over latents and fresh networks.

    With weights that are noise, a pixel's mean square grows with the number of terms that it is
    the sum of: what differs from pixel to pixel is the kernel's doing alone.
    """
    total = np.zeros((28, 28))
    with torch.random.fork_rng(), torch.no_grad():
        for seed in range(NETS):
            torch.manual_seed(seed)
            net = nets.generator(width=16, kernel=kernel).eval()
            x = torch.randn(LATENTS, net.latent, 1, 1)
            for name, layer in net.named_children():
                if name != "tanh":
                    x = layer(x)
            power = x.double().square().mean((0, 1)).numpy()
            total += power / power.mean()
    return total / NETS


def spectrum(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Magnitudes (h, w) of the waves in the middle of a map, as shares of its mean.

    In units of cycles a pixel the axes run from −1/2 to below 1/2.
    """
    middle = power[BORDER:-BORDER, BORDER:-BORDER]
    waves = np.abs(np.fft.fft2(middle / middle.mean() - 1)) / middle.size
    return np.asarray(np.fft.fftshift(waves))


def checkerboard_share(power: NDArray[np.float64]) -> float:
    """The largest of the three waves of two pixels (down, across, both), as a share of the mean."""
    waves = np.fft.ifftshift(spectrum(power))
    half = len(waves) // 2
    return float(max(waves[half, 0], waves[0, half], waves[half, half]))


def draw_checkerboard() -> Figure:
    """Mean power and its spectrum, of 3×3 and 4×4 kernels."""
    figure, axes = plt.subplots(2, 3, figsize=(WIDTH, 5.6), width_ratios=(1, 1, 1.2))
    for row, kernel in zip(axes, KERNELS, strict=True):
        power = mean_power(kernel)
        _picture(row[0], power[BORDER:-BORDER, BORDER:-BORDER], f"{kernel}×{kernel}, stride 2")
        waves = spectrum(power)
        _picture(row[1], waves, "its spectrum")
        middle = waves[len(waves) // 2]
        cycles = (np.arange(len(middle)) - len(middle) // 2) / len(middle)
        row[2].bar(cycles, 100 * middle, width=0.035, color=ORANGE)
        row[2].set_ylim(0, 60)
        row[2].set_xlabel("cycles a pixel, across")
        row[2].set_ylabel("% of the mean")
        row[2].set_title(f"waves of two pixels: {checkerboard_share(power):.1%}", fontsize=10)
    figure.tight_layout()
    return figure


def draw_growth(net: nets.Generator, latent: Tensor) -> Figure:
    """A latent, the maps of each step, and the picture."""
    features = eyeshot.see(net, latent)
    steps = [name for name in features if name.startswith("relu") and name != "relu0"]
    figure, axes = plt.subplots(1, len(steps) + 2, figsize=(WIDTH, 2.9))
    numbers = latent.flatten().numpy()
    side = int(np.ceil(np.sqrt(len(numbers))))
    square = np.zeros(side * side)
    square[: len(numbers)] = numbers
    axes[0].imshow(square.reshape(side, side), cmap="RdBu_r", vmin=-3, vmax=3)
    axes[0].set_title(f"{len(numbers)} numbers", fontsize=10)
    for axis, name in zip(axes[1:-1], steps, strict=True):
        maps = features[name]
        axis.imshow(mosaic(color_maps(maps[:SHOWN]), columns=4))
        count, high, wide = maps.shape
        axis.set_title(f"{name}: {SHOWN} of {count}, {high}×{wide}", fontsize=10)
    axes[-1].imshow(features["tanh"][0], cmap="gray", vmin=-1, vmax=1)
    axes[-1].set_title("tanh: the picture", fontsize=10)
    for axis in axes:
        axis.set_axis_off()
    figure.tight_layout()
    return figure


def draw_trace(net: nets.Generator, latent: Tensor) -> Figure:
    """One pixel of the picture, and what each number of the latent brings to it."""
    traced = trace_to_latent(net, latent, PIXEL)
    with torch.no_grad():
        picture = net.eval()(latent)[0, 0].numpy()
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.2), width_ratios=(1, 2.4))
    left.imshow(picture, cmap="gray", vmin=-1, vmax=1)
    left.add_patch(Rectangle((PIXEL[1] - 0.5, PIXEL[0] - 0.5), 1, 1, fill=False, ec=ORANGE, lw=2))
    left.set_title(f"pixel ({PIXEL[0]}, {PIXEL[1]})", fontsize=10)
    left.set_axis_off()
    order = np.argsort(-np.abs(traced.parts))
    right.bar(range(len(order)), traced.parts[order], color=ORANGE)
    right.axhline(0, color="#444", lw=0.8)
    right.set_xlabel("numbers of the latent, the weightiest first")
    right.set_title(
        f"{traced.parts.sum():+.3f} from the latent, {traced.rest:+.3f} from biases: "
        f"{traced.value:+.3f} before tanh",
        fontsize=10,
    )
    figure.tight_layout()
    return figure


def _picture(axis: Axes, values: NDArray[np.float64], title: str) -> None:
    axis.imshow(values, cmap="magma", vmin=0)
    axis.set_title(title, fontsize=10)
    axis.set_axis_off()


def main() -> None:
    """Draw the figures that need no run, and with a run the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", help="the folder of a trained generator")
    parser.add_argument("--out", type=Path, default=PICTURES)
    options = parser.parse_args()
    figures = {"generator_checkerboard": draw_checkerboard()}
    if options.run is not None:
        net = eyeshot.load(options.run).net
        if not isinstance(net, nets.Generator):
            raise SystemExit(f"{options.run}: not a generator")
        latent = draw_latents(net.latent, 1, 0)
        figures["generator_growth"] = draw_growth(net, latent)
        figures["generator_trace"] = draw_trace(net, latent)
    for name, figure in figures.items():
        figure.savefig(options.out / f"{name}.png", dpi=100)


if __name__ == "__main__":
    main()
