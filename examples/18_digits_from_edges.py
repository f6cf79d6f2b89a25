"""Digits from edges: the digit network trained on Sobel edge maps in place of gray values.

``eyeshot.filter`` makes the maps. An edge map forgets how bright the ink is and how bright the
paper, so its network can read digits in light and on paper that no training picture had: dark on
light after it has learned light on dark. One trained on gray values cannot.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

import eyeshot
from eyeshot import data
from eyeshot.nets import digit_cnn

Pictures = NDArray[Any]  # float32, (N, 28, 28), from 0 to 1

WRITTEN: dict[str, Callable[[Pictures], Pictures]] = {
    "as learned": lambda pictures: pictures,
    "on gray paper": lambda pictures: 0.4 + 0.6 * pictures,
    "in faint ink": lambda pictures: 0.3 * pictures,
    "dark on light": lambda pictures: 1 - pictures,
}
"""What may become of the digits after training."""


def find_edges(pictures: Pictures) -> Pictures:
    """Edge strength by the Sobel kernels, divided by its largest value in each picture."""
    maps = [eyeshot.filter(picture, "sobel", padding="replicate") for picture in pictures]
    edges: Pictures = np.stack(maps)
    edges /= edges.max(axis=(1, 2), keepdims=True)
    return edges


SEEN: dict[str, Callable[[Pictures], Pictures]] = {
    "gray values": lambda pictures: pictures,
    "edges": find_edges,
}
"""What the network is shown of them."""


def as_input(pictures: Pictures) -> Tensor:
    return torch.from_numpy(pictures)[:, None]


def train(x: Tensor, labels: Tensor, steps: int) -> nn.Module:
    """The digit network after so many steps of Adam on 32 pictures each."""
    torch.manual_seed(0)
    net = digit_cnn(width=8, hidden=64)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for step in range(steps):
        chosen = torch.arange(step * 32, (step + 1) * 32) % len(x)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x[chosen]), labels[chosen])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return net.eval()


def compare(count: int, steps: int, asked: int) -> dict[str, dict[str, float]]:
    """Accuracy by what the network is shown, and by how the digits asked of it are written."""
    digits = data.load("digits")
    pictures, test = (
        part.images[:many, 0].numpy().astype(np.float32) / 255
        for part, many in ((digits.train, count), (digits.test, asked))
    )
    accuracies: dict[str, dict[str, float]] = {}
    for seen, look in SEEN.items():
        net = train(as_input(look(pictures)), digits.train.labels[:count], steps)
        accuracies[seen] = {}
        for written, write in WRITTEN.items():
            with torch.no_grad():
                answers = net(as_input(look(write(test)))).argmax(dim=1)
            right = answers == digits.test.labels[:asked]
            accuracies[seen][written] = right.double().mean().item()
    return accuracies


def main(out: Path, quick: bool = False) -> dict[str, dict[str, float]]:
    accuracies = compare(500, 10, 100) if quick else compare(8000, 500, 2000)
    print(f"{'trained on':12} " + " ".join(f"{written:>14}" for written in WRITTEN))
    for seen, by_written in accuracies.items():
        print(f"{seen:12} " + " ".join(f"{value:14.1%}" for value in by_written.values()))
    draw(accuracies, out)
    return accuracies


def draw(accuracies: dict[str, dict[str, float]], out: Path) -> None:
    test = data.load("digits").test
    place = int((test.labels == 7).int().argmax())
    digit = test.images[place].numpy().astype(np.float32) / 255
    figure = Figure(figsize=(10, 5.4), layout="constrained")
    axes = figure.subplots(2, len(WRITTEN))
    for column, (written, write) in enumerate(WRITTEN.items()):
        for row, (seen, look) in enumerate(SEEN.items()):
            shown: Any = look(write(digit))[0]
            axes[row, column].imshow(shown, cmap="gray", vmin=0, vmax=1)
            right = accuracies[seen][written]
            axes[row, column].set_title(f"{written}\n{right:.1%}" if row == 0 else f"{right:.1%}")
            axes[row, column].set(xticks=[], yticks=[])
            if column == 0:
                axes[row, column].set_ylabel(seen, fontsize=12)
    figure.suptitle("how often each network is right, trained on the first column alone")
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "18_digits_from_edges.png", dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out")
    parser.add_argument("--quick", action="store_true", help="few digits and steps")
    given = parser.parse_args()
    main(given.out, given.quick)
