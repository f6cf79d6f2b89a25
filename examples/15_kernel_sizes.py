"""Kernel sizes: two 3×3 instead of one 5×5, and three instead of one 7×7.

They see as much, with fewer weights and less work, and bend more often between them (Simonyan and
Zisserman, 2014, arXiv:1409.1556, section 2.3). Fields, parameters and cost come from
``eyeshot.inspect``; then every variant learns digits for equally many steps, with several seeds.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import eyeshot
from eyeshot import data

BLOCKS = {
    "3×3": [3],
    "5×5": [5],
    "3×3, 3×3": [3, 3],
    "7×7": [7],
    "3×3, 3×3, 3×3": [3, 3, 3],
}
CHANNELS, BATCH = 16, 32
COLORS = ["#a0aec0", "#c4572e", "#2a6fbb", "#c4572e", "#2a6fbb"]


@dataclass(frozen=True)
class Block:
    """What is known of a block before it runs, and how right its network is afterwards.

    Attributes:
        field: the side of the square that one output of the block sees.
        parameters: of the block, biases included.
        multiply_adds: of the block, for one picture.
        accuracies: of the whole network, one for each seed.
    """

    field: int
    parameters: int
    multiply_adds: int
    accuracies: list[float]


def build_block(kernels: list[int]) -> nn.Sequential:
    """A ReLU after each convolution; the size stays."""
    layers: list[nn.Module] = []
    for kernel in kernels:
        layers += [nn.Conv2d(CHANNELS, CHANNELS, kernel, padding=kernel // 2), nn.ReLU()]
    return nn.Sequential(*layers)


def build_net(kernels: list[int]) -> nn.Sequential:
    """A 1×1 convolution to 16 channels, which sees one pixel; pools; the block; ten scores."""
    return nn.Sequential(
        nn.AvgPool2d(2),
        nn.Conv2d(1, CHANNELS, 1),
        build_block(kernels),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(CHANNELS * 7 * 7, 10),
    )


def train(net: nn.Sequential, x: Tensor, labels: Tensor, steps: int, seed: int) -> nn.Sequential:
    """So many steps of Adam on 32 digits each, the digits in an order that the seed draws."""
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(x), (BATCH,), generator=generator)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x[chosen]), labels[chosen])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return net.eval()


def measure(kernels: list[int], steps: int, seeds: int) -> Block:
    """Inspect the block, then let networks that hold it learn."""
    inspection = eyeshot.inspect(build_block(kernels).eval(), (CHANNELS, 14, 14))
    digits = data.load("digits")
    x, test = (
        (part.images / 255 - digits.mean[0]) / digits.std[0] for part in (digits.train, digits.test)
    )
    accuracies = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        net = train(build_net(kernels), x, digits.train.labels, steps, seed)
        with torch.no_grad():
            right = net(test).argmax(dim=1) == digits.test.labels
        accuracies.append(right.double().mean().item())
    return Block(
        max(field.largest for field in inspection.rows[-1].fields if field.largest is not None),
        inspection.total.parameters,
        inspection.total.multiply_adds,
        accuracies,
    )


def main(out: Path, quick: bool = False) -> dict[str, Block]:
    blocks = {}
    for name, kernels in BLOCKS.items():
        blocks[name] = block = measure(kernels, 5 if quick else 300, 1 if quick else 3)
        print(
            f"{name:14} sees {block.field}×{block.field}, {block.parameters:6,} parameters, "
            f"{block.multiply_adds:9,} multiply-adds, {np.mean(block.accuracies):.1%} right "
            f"({min(block.accuracies):.1%} to {max(block.accuracies):.1%})"
        )
    draw(blocks, out)
    return blocks


def draw(blocks: dict[str, Block], out: Path) -> None:
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    fields, parameters, accuracies = figure.subplots(1, 3, sharey=True)
    names = list(blocks)
    sides = [block.field for block in blocks.values()]
    bars = fields.barh(names, sides, color=COLORS)
    fields.bar_label(bars, [f" {side}×{side}" for side in sides])
    fields.set(title="one output sees", xlim=(0, 9))
    counts = [block.parameters for block in blocks.values()]
    bars = parameters.barh(names, counts, color=COLORS)
    parameters.bar_label(bars, [f" {count:,}" for count in counts])
    parameters.set(title="parameters, 16 channels to 16", xlim=(0, 1.25 * max(counts)))
    for place, (block, color) in enumerate(zip(blocks.values(), COLORS, strict=True)):
        mean = float(np.mean(block.accuracies))
        accuracies.plot(block.accuracies, [place] * len(block.accuracies), "o", color=color, ms=5)
        accuracies.plot([mean], [place], "|", color="black", ms=22)
        accuracies.text(mean, place - 0.32, f"{mean:.1%}", ha="center", fontsize=9)
    accuracies.set(title="right after equal steps: seeds, mean")
    accuracies.xaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
    accuracies.invert_yaxis()
    for axis in (fields, parameters):
        axis.set_xticks([])
    for axis in (fields, parameters, accuracies):
        axis.spines[["top", "right"]].set_visible(False)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "15_kernel_sizes.png", dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out")
    parser.add_argument("--quick", action="store_true", help="one seed and a few steps")
    given = parser.parse_args()
    main(given.out, given.quick)
