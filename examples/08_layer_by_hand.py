"""A layer written by hand: its own kernel and bias, and gradients from two sides.

The forward pass is a sum over the cells of the kernel, in plain tensor arithmetic. PyTorch finds
its gradient by itself; Eyeshot's reference writes the same gradient down. Then the layer learns a
kernel that it has never seen, from pictures before and after.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from eyeshot import data, reference

SOBEL_X = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).double()


class ConvLayer(nn.Module):
    """A convolution with one bias for each output channel, without padding."""

    def __init__(self, into: int, out: int, kernel: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(0.1 * torch.randn(out, into, kernel, kernel).double())
        self.bias = nn.Parameter(torch.zeros(out).double())

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, O, H − kernel + 1, W − kernel + 1)."""
        size = self.kernel.shape[-1]
        height, width = x.shape[2] - size + 1, x.shape[3] - size + 1
        total = self.bias[None, :, None, None]
        for row in range(size):
            for column in range(size):
                seen = x[:, :, row : row + height, column : column + width]
                weights = self.kernel[:, :, row, column]
                total = total + torch.einsum("oc,nchw->nohw", weights, seen)
        return total


def compare_gradients() -> dict[str, float]:
    """The largest difference of each gradient between autograd and the reference."""
    layer = ConvLayer(3, 4, 3)
    x = torch.randn(2, 3, 9, 8, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    gradient = torch.randn_like(y)
    y.backward(gradient)
    kernel, bias = layer.kernel.detach().numpy(), layer.bias.detach().numpy()
    np.testing.assert_allclose(
        y.detach().numpy(), reference.conv(x.detach().numpy(), kernel, bias), atol=1e-12
    )
    by_hand = reference.conv_backward(gradient.numpy(), x.detach().numpy(), kernel)
    by_autograd = {"x": x.grad, "kernel": layer.kernel.grad, "bias": layer.bias.grad}
    return {
        name: float(np.abs(ours - theirs.numpy()).max())
        for ours, (name, theirs) in zip(by_hand, by_autograd.items(), strict=True)
        if theirs is not None
    }


def learn(pictures: Tensor, steps: int = 200, rate: float = 1.0) -> dict[str, Any]:
    """Find the kernel that turned ``pictures`` into their edges, twice, by gradient descent."""
    expected = nn.functional.conv2d(pictures, SOBEL_X[None, None])
    layer = ConvLayer(1, 1, 3)
    kernel, bias = layer.kernel.detach().numpy().copy(), layer.bias.detach().numpy().copy()
    x, losses = pictures.numpy(), []
    for _ in range(steps):
        loss = (layer(pictures) - expected).square().mean()
        layer.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in layer.parameters():
                if parameter.grad is not None:
                    parameter.sub_(rate * parameter.grad)
        losses.append(loss.item())

        error = reference.conv(x, kernel, bias) - expected.numpy()
        back = reference.conv_backward(2 * error / error.size, x, kernel)
        kernel, bias = kernel - rate * back.weight, bias - rate * back.bias
    return {"losses": losses, "autograd": layer.kernel.detach().numpy(), "by hand": kernel}


def main(out: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    differences = compare_gradients()
    for name, difference in differences.items():
        print(f"gradient of {name:6}: reference and autograd differ by at most {difference:.1e}")

    digits = data.load("digits")
    # Less their mean: two directions that pictures hardly differ in would be learned slowly.
    pictures = next(digits.train.batches(32))[0].double() / 255 - digits.mean[0]
    learned = learn(pictures)
    apart = float(np.abs(learned["by hand"] - learned["autograd"]).max())
    print(f"loss {learned['losses'][0]:.3f} -> {learned['losses'][-1]:.6f}")
    print("kernel learned by hand:")
    print(learned["by hand"][0, 0].round(2))
    print(f"and by autograd: at most {apart:.1e} apart")
    draw(learned, out)
    return {"differences": differences, "apart": apart, **learned}


def draw(learned: dict[str, Any], out: Path) -> None:
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    axes = figure.subplots(1, 4)
    kernels = {
        "expected": SOBEL_X.numpy(),
        "learned by hand": learned["by hand"][0, 0],
        "learned by autograd": learned["autograd"][0, 0],
    }
    for axis, (name, kernel) in zip(axes, kernels.items(), strict=False):
        axis.imshow(kernel, cmap="RdBu_r", vmin=-4, vmax=4)
        for (row, column), value in np.ndenumerate(kernel):
            axis.text(column, row, f"{value:.2f}", ha="center", va="center")
        axis.set_title(name)
        axis.axis("off")
    axes[3].semilogy(learned["losses"])
    axes[3].set(title="mean squared error", xlabel="step")
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "08_layer_by_hand.png", dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out")
    main(parser.parse_args().out)
