"""Ways down: five ways to make a map smaller, and what each makes of detail that is too fine.

Every second pixel is kept, so detail finer than a quarter of a cycle a pixel cannot be kept as it
is. What of it comes through all the same comes back as a pattern that was never there: an alias.
It is seen on rings that grow finer, and measured with waves of every frequency. Blur-pool takes
the detail out first (Zhang, 2019, arXiv:1904.11486).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

SIDE = 256  # samples of each wave
RINGS = 128  # pixels of a side of the picture
FREQUENCIES = np.arange(1, 128) / 256  # cycles a pixel, of the map before it is made smaller
LIMIT = 0.25  # cycles a pixel: the finest wave that every second pixel can hold
ANGLES = 4  # starting points of each wave, over which the energies are averaged

BINOMIAL = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16  # the blur of blur-pool
KERNEL = torch.tensor([1.0, 2.0, 1.0]) / 4  # of the dilated convolution, which keeps the size


def convolve(x: Tensor, column: Tensor, dilation: int = 1) -> Tensor:
    """A column times a row of weights on every place; beyond a border lies the other side."""
    reach = dilation * (len(column) // 2)
    around = nn.functional.pad(x, [reach] * 4, mode="circular")
    return nn.functional.conv2d(around, torch.outer(column, column)[None, None], dilation=dilation)


WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "max-pool 2×2": lambda x: nn.functional.max_pool2d(x, 2),
    "average 2×2": lambda x: nn.functional.avg_pool2d(x, 2),
    "1×1, stride 2": lambda x: x[..., ::2, ::2],  # as in a ResNet's shortcut
    "dilated 3×3": lambda x: convolve(x, KERNEL, dilation=2),
    "blur-pool": lambda x: convolve(x, BINOMIAL)[..., ::2, ::2],
}
COLORS = ["#c4572e", "#2a6fbb", "#718096", "#1a202c", "#2f855a"]


def draw_rings() -> Tensor:
    """Rings around the middle, (1, 1, 128, 128) in 0 … 1: r / 128 cycles a pixel at radius r."""
    across = torch.arange(RINGS) - RINGS / 2
    squared = across.square()[:, None] + across.square()[None]
    rings = (1 + torch.cos(torch.pi * squared / RINGS)) / 2
    return rings[None, None]


def measure_wave(way: Callable[[Tensor], Tensor], cycles: int) -> tuple[float, float]:
    """What a way makes of a wave of energy 1: the energy that is still this wave, and the rest.

    The wave goes ``cycles`` times up and down over the width. A smaller map can hold it if there
    are more than two of its pixels to a cycle; what is not at the wave's own frequency, and not
    the mean, is an alias (or, of a maximum, a distortion).
    """
    starts = torch.arange(ANGLES)[:, None] * torch.pi / ANGLES
    wave = torch.cos(2 * torch.pi * cycles * torch.arange(SIDE) / SIDE + starts)
    picture = wave[:, None, None, :].expand(ANGLES, 1, 16, SIDE)
    row = way(picture)[:, 0, 0]
    spectrum = torch.fft.rfft(row).abs().square() / row.shape[-1] ** 2
    spectrum[:, 1:-1] *= 2  # the negative frequencies
    energies = spectrum.mean(dim=0)
    own = float(energies[cycles]) if cycles < len(energies) - 1 else 0.0
    return own / 0.5, (float(energies[1:].sum()) - own) / 0.5


def main(out: Path) -> dict[str, dict[str, Any]]:
    rings = draw_rings()
    results: dict[str, dict[str, Any]] = {}
    for name, way in WAYS.items():
        pairs = [measure_wave(way, round(f * SIDE)) for f in FREQUENCIES]
        own, alias = (np.array(energies) for energies in zip(*pairs, strict=True))
        fits, fine = FREQUENCIES < LIMIT, FREQUENCIES > LIMIT
        results[name] = {
            "map": way(rings)[0, 0].numpy(),
            "alias": alias,
            "kept": float(own[fits].mean()),  # of what can be kept
            "fine": float(alias[fine].mean()),  # of what is too fine
        }
        print(
            f"{name:14} {results[name]['map'].shape}: keeps {results[name]['kept']:4.0%} of the "
            f"waves that fit, {results[name]['fine']:6.1%} of those too fine come back as others"
        )
    draw(rings[0, 0].numpy(), results, out)
    return results


def draw(rings: Any, results: dict[str, dict[str, Any]], out: Path) -> None:
    figure = Figure(figsize=(13, 7.6), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[1, 1.6])[:, 0]
    panels = above.subplots(1, 6)
    pictures = {"before": rings}
    pictures.update({name: result["map"] for name, result in results.items()})
    for axis, (name, picture) in zip(panels, pictures.items(), strict=True):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
        axis.set_title(f"{name}\n{picture.shape[0]}×{picture.shape[1]}")
        axis.axis("off")
    axis, bars_axis = below.subplots(1, 2, width_ratios=[2, 1])
    for (name, result), color in zip(results.items(), COLORS, strict=True):
        axis.plot(FREQUENCIES, result["alias"], color=color, lw=2.5, label=name)
    axis.axvline(LIMIT, color="black", lw=0.8, ls=":")
    axis.text(LIMIT + 0.004, 0.96, "too fine for half the size", fontsize=9, va="top")
    axis.set(title="energy of each wave that comes out as something else", ylim=(-0.02, 1.02))
    axis.set(xlabel="frequency of the wave, cycles a pixel")
    axis.legend(loc="upper left")
    axis.grid(alpha=0.3)
    draw_bars(bars_axis, results)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "17_ways_down.png", dpi=110)


def draw_bars(axis: Axes, results: dict[str, dict[str, Any]]) -> None:
    names, thin = list(results), 0.38
    for offset, key, color in ((-thin / 2, "kept", "#2a6fbb"), (thin / 2, "fine", "#c4572e")):
        values = [result[key] for result in results.values()]
        label = {"kept": "waves that fit: kept", "fine": "too fine: come back as others"}[key]
        bars = axis.barh(np.arange(len(names)) + offset, values, thin, color=color, label=label)
        axis.bar_label(bars, [f" {value:.1%}" for value in values], fontsize=9)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set(xlim=(0, 1.2), xticks=[], title="mean energy")
    axis.legend(loc="upper center", bbox_to_anchor=(0.4, 0))
    axis.spines[["top", "right", "bottom"]].set_visible(False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out")
    main(parser.parse_args().out)
