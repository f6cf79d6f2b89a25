"""A digit network in NumPy alone, and the same in PyTorch, trained side by side.

28×28 -> 26×26×8 (eight 3×3 filters), ReLU, 13×13×8 (max-pool), softmax over ten digits. Both start
from the same weights and see the same digits in the same order, by plain gradient descent in double
precision, so they stay the same network. All that trains the first is in ``eyeshot.reference``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from eyeshot import data, reference

FILTERS, BATCH, RATE = 8, 16, 0.1
SHOWN = 25  # steps to a point of the curve


class NumPyNet:
    """Weights, a forward pass, and a step down the gradient, each layer's by hand."""

    def __init__(self, net: nn.Sequential) -> None:
        kernel, bias, weight, offset = (p.detach().numpy().copy() for p in net.parameters())
        self.kernel, self.bias = kernel, bias  # (8, 1, 3, 3), (8,)
        self.weight, self.offset = weight, offset  # (10, 1352), (10,)

    def forward(self, x: Any) -> tuple[Any, Any, Any, Any]:
        """The sums, the maps after ReLU, the pooled maps in a row, and the ten scores."""
        sums = reference.conv(x, self.kernel, self.bias)
        maps = reference.relu(sums)
        flat = reference.max_pool(maps, 2).reshape(len(x), -1)
        return sums, maps, flat, reference.linear(flat, self.weight, self.offset)

    def step(self, x: Any, labels: Any) -> float:
        """One step of gradient descent; the loss before it."""
        sums, maps, flat, scores = self.forward(x)
        loss = reference.softmax_cross_entropy(scores, labels)
        to_scores = reference.softmax_cross_entropy_backward(scores, labels)
        to_flat, to_weight, to_offset = reference.linear_backward(to_scores, flat, self.weight)
        to_pooled = to_flat.reshape(len(x), FILTERS, 13, 13)
        to_maps = reference.max_pool_backward(to_pooled, maps, 2)
        to_sums = reference.relu_backward(to_maps, sums)
        to_kernel = reference.conv_backward(to_sums, x, self.kernel)
        self.kernel -= RATE * to_kernel.weight
        self.bias -= RATE * to_kernel.bias
        self.weight -= RATE * to_weight
        self.offset -= RATE * to_offset
        return loss

    def accuracy(self, x: Any, labels: Any) -> float:
        """The share of digits whose highest score is the right one."""
        right = [
            (self.forward(x[i : i + 500])[-1].argmax(axis=1) == labels[i : i + 500]).sum()
            for i in range(0, len(x), 500)
        ]
        return float(sum(right) / len(x))


def build_torch() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, FILTERS, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(FILTERS * 13 * 13, 10),
    )


def step_torch(net: nn.Sequential, x: torch.Tensor, labels: torch.Tensor) -> float:
    loss = nn.functional.cross_entropy(net(x), labels)
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(net.parameters(), gradients, strict=True):
            parameter.sub_(RATE * gradient)
    return loss.item()


def batches(count: int, epochs: int) -> Iterator[torch.Tensor]:
    order = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        shuffled = torch.randperm(count, generator=order)
        yield from (shuffled[i : i + BATCH] for i in range(0, count, BATCH))


def main(out: Path, quick: bool = False) -> dict[str, Any]:
    torch.manual_seed(0)
    digits = data.load("digits")
    count, epochs = (1500, 1) if quick else (len(digits.train), 3)
    images, labels = (t[:count] for t in (digits.train.images, digits.train.labels))
    x = (images.double() / 255 - digits.mean[0]) / digits.std[0]
    test = (digits.test.images.double() / 255 - digits.mean[0]) / digits.std[0]

    theirs = build_torch().double()
    ours = NumPyNet(theirs)
    losses: list[tuple[float, float]] = []
    for chosen in batches(count, epochs):
        in_numpy = ours.step(x[chosen].numpy(), labels[chosen].numpy())
        losses.append((in_numpy, step_torch(theirs, x[chosen], labels[chosen])))
        if len(losses) % 100 == 0:
            print(
                f"step {len(losses):4}: loss {in_numpy:.3f} in NumPy, {losses[-1][1]:.3f} in torch"
            )

    in_numpy = ours.accuracy(test.numpy(), digits.test.labels.numpy())
    with torch.no_grad():
        in_torch = (theirs(test).argmax(dim=1) == digits.test.labels).double().mean().item()
    apart = float(np.abs(ours.kernel - next(theirs.parameters()).detach().numpy()).max())
    print(f"{len(digits.test)} digits it has not seen: {in_numpy:.2%} right in NumPy, ", end="")
    print(f"{in_torch:.2%} in PyTorch; kernels at most {apart:.1e} apart")
    draw(ours, test[:1].numpy(), losses, out)
    return {"numpy": in_numpy, "torch": in_torch, "apart": apart, "losses": losses}


def draw(net: NumPyNet, digit: Any, losses: list[tuple[float, float]], out: Path) -> None:
    _, maps, flat, _ = net.forward(digit)
    pooled = flat.reshape(FILTERS, 13, 13)
    figure = Figure(figsize=(13, 4.4), layout="constrained")
    strongest = float(np.abs(net.kernel).max())
    kernel_style = {"cmap": "RdBu_r", "vmin": -strongest, "vmax": strongest}
    grid = figure.add_gridspec(3, 13)
    axis = figure.add_subplot(grid[:, :4])
    for number, (name, style) in enumerate([("NumPy", "-"), ("PyTorch", ":")]):
        curve = np.array([pair[number] for pair in losses])
        blocks = curve[: len(curve) // SHOWN * SHOWN].reshape(-1, SHOWN).mean(axis=1)
        axis.semilogy(SHOWN * np.arange(1, len(blocks) + 1), blocks, style, label=name, lw=3)
    axis.set(title=f"training loss, mean of {SHOWN} steps", xlabel="step")
    axis.legend()
    axis = figure.add_subplot(grid[1, 4])
    axis.imshow(digit[0, 0], cmap="gray")
    axis.set_axis_off()
    for number in range(FILTERS):
        for row, shown in enumerate((net.kernel[number, 0], maps[0, number], pooled[number])):
            axis = figure.add_subplot(grid[row, 5 + number])
            axis.imshow(shown, **({"cmap": "gray"} if row else kernel_style))
            axis.set_axis_off()
            if number == 0:
                axis.set_title(("kernels", "maps, 26×26", "pooled, 13×13")[row], loc="left")
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "09_digit_cnn_in_numpy.png", dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out")
    parser.add_argument("--quick", action="store_true", help="fewer digits, one epoch")
    given = parser.parse_args()
    main(given.out, given.quick)
