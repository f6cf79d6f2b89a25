"""Starting values: the same digit network with its first weights too small, right and too large.

Each layer multiplies what goes through it, forward and backward, by about the size of its weights.
A factor that is a little wrong is wrong once for each layer: activations and gradients vanish or
explode. He's formula, a standard deviation of √(2 / inputs), keeps both as large as they were
(He, Zhang, Ren and Sun, 2015, arXiv:1502.01852, equation 10).
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import eyeshot
from eyeshot import data
from eyeshot.nets import digit_cnn

SCALES = {"He × 0.1": 0.1, "He": 1.0, "He × 10": 10.0}
OWN = "PyTorch's own"  # a standard deviation of √(1 / (3 · inputs)): He × 0.41
NORM = ", batch norm"
COLORS = {"He × 0.1": "#2a6fbb", "He": "#2f855a", "He × 10": "#c4572e", OWN: "#718096"}
BATCH, RATE, MOMENTUM = 64, 0.01, 0.9


@dataclass(frozen=True)
class Start:
    """What one start gives, layer by layer, and what becomes of it.

    Attributes:
        activations: the mean and the standard deviation of each weighted layer's outputs, at first.
        gradients: the standard deviation of the loss's gradient at the same outputs, at first.
        losses: one for each step.
        accuracy: after the last step, of digits that it has not seen.
    """

    activations: dict[str, tuple[float, float]]
    gradients: dict[str, float]
    losses: list[float]
    accuracy: float


def build(scale: float | None, norm: bool = False) -> nn.Sequential:
    """The digit network, four times convolution, ReLU and pool; weights from N(0, (scale·He)²)."""
    torch.manual_seed(0)
    layers = list(digit_cnn(width=8, depth=4, hidden=64))
    for layer in layers:
        if scale is not None and isinstance(layer, (nn.Conv2d, nn.Linear)):
            inputs = layer.weight[0].numel()  # of one sum: channels × kernel
            nn.init.normal_(layer.weight, std=scale * math.sqrt(2 / inputs))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    if norm:
        for place in reversed(range(len(layers))):
            layer = layers[place]
            if isinstance(layer, nn.Conv2d):
                layers.insert(place + 1, nn.BatchNorm2d(layer.out_channels))
            elif isinstance(layer, nn.Linear) and place < len(layers) - 1:
                layers.insert(place + 1, nn.BatchNorm1d(layer.out_features))
    return nn.Sequential(*layers)


def weighted(net: nn.Sequential) -> dict[str, str]:
    """The layers that have kernels or weights: their names in the network, and those to print."""
    kinds = {nn.Conv2d: "conv", nn.Linear: "linear"}
    found = [name for name, layer in net.named_children() if type(layer) in kinds]
    return {
        name: f"{kinds[type(net[int(name)])]} {number}"
        for number, name in enumerate(found, start=1)
    }


def measure_gradients(net: nn.Sequential, x: Tensor, labels: Tensor) -> dict[str, float]:
    """The standard deviation of ∂ loss / ∂ output, for each weighted layer."""
    names, outputs = weighted(net), {}
    for name, layer in net.named_children():
        x = layer(x)
        if name in names:
            outputs[names[name]] = x
    loss = nn.functional.cross_entropy(x, labels)
    gradients = torch.autograd.grad(loss, list(outputs.values()))
    return {name: float(one.std()) for name, one in zip(outputs, gradients, strict=True)}


def measure_activations(net: nn.Sequential, x: Tensor) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of each weighted layer's outputs."""
    names = weighted(net)
    maps = eyeshot.see(net, x, list(names))
    return {
        names[name]: (float(values.mean()), float(values.std())) for name, values in maps.items()
    }


def train(net: nn.Sequential, x: Tensor, labels: Tensor, steps: int) -> list[float]:
    """So many steps of gradient descent with momentum; the loss at each."""
    optimizer = torch.optim.SGD(net.parameters(), RATE, momentum=MOMENTUM)
    losses: list[float] = []
    for step in range(steps):
        chosen = torch.arange(step * BATCH, (step + 1) * BATCH) % len(x)
        loss = nn.functional.cross_entropy(net(x[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return losses


def main(out: Path, quick: bool = False) -> dict[str, Start]:
    digits = data.load("digits")
    x, test = (
        (part.images / 255 - digits.mean[0]) / digits.std[0] for part in (digits.train, digits.test)
    )
    test, truth = (test[:500], digits.test.labels[:500]) if quick else (test, digits.test.labels)
    starts = {}
    for name, scale in {**SCALES, OWN: None}.items():
        for norm in (False, True):
            net = build(scale, norm)
            gradients = measure_gradients(net, x[:256], digits.train.labels[:256])
            activations = measure_activations(net, x[:256])
            losses = train(net, x, digits.train.labels, 3 if quick else 120)
            with torch.no_grad():
                right = (net.eval()(test).argmax(dim=1) == truth).double().mean().item()
            starts[name + NORM * norm] = Start(activations, gradients, losses, right)
    for name, start in starts.items():
        (first, deviation), (last, widest) = (
            list(start.activations.items())[place] for place in (0, -1)
        )
        print(
            f"{name:26} outputs {deviation[1]:8.2g} at {first}, {widest[1]:8.2g} at {last}; "
            f"gradient at {first} {start.gradients[first]:8.2g}; {start.accuracy:4.0%} right"
        )
    draw(starts, out)
    return starts


def draw(starts: dict[str, Start], out: Path) -> None:
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    forward, backward, learning = figure.subplots(1, 3)
    for name, start in starts.items():
        if NORM in name:
            continue
        style: dict[str, Any] = {"color": COLORS[name], "lw": 2, "label": name}
        deviations = [deviation for _, deviation in start.activations.values()]
        forward.semilogy(list(start.activations), deviations, "o-", **style)
        backward.semilogy(list(start.gradients), list(start.gradients.values()), "o-", **style)
        losses = np.array(start.losses)
        losses[losses > 10] = np.nan  # it leaves the paper, and comes back as NaN
        broken = [step for step, loss in enumerate(start.losses, 1) if not math.isfinite(loss)]
        end = f"NaN from step {broken[0]} on" if broken else f"{start.accuracy:.0%} right"
        style["label"] = f"{name}: {end}"
        learning.plot(np.arange(1, len(losses) + 1), losses, **style)
    forward.set(title="outputs of each layer, before training", ylabel="standard deviation")
    backward.set(title="gradient of the loss at these outputs", ylabel="standard deviation")
    backward.invert_xaxis()  # as it travels
    learning.set(title="the loss while it learns", xlabel="step", ylim=(0, 5))
    learning.axhline(math.log(10), color="black", lw=0.8, ls=":")
    place = learning.get_yaxis_transform()
    learning.text(0.7, math.log(10) + 0.06, "guessing", fontsize=9, transform=place)
    learning.legend(loc="upper right")
    for axis in (forward, backward):
        axis.tick_params(axis="x", rotation=30)
        axis.grid(alpha=0.3)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "13_starting_values.png", dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out")
    parser.add_argument("--quick", action="store_true", help="a few steps only")
    given = parser.parse_args()
    main(given.out, given.quick)
