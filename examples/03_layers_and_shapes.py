"""Layers and shapes: what goes in, what comes out, and how many weights do it.

Every shape below is computed twice, by Eyeshot's reference in NumPy and by PyTorch.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from eyeshot import data, reference


def two_to_three_channels() -> dict[str, tuple[int, ...]]:
    """Four pictures of 3×5 with 2 channels each become four of 3×5 with 3 channels."""
    layer = nn.Conv2d(2, 3, kernel_size=(3, 5), padding=(1, 2)).double()
    x = torch.randn(4, 2, 3, 5, dtype=torch.float64)
    theirs = layer(x).detach().numpy()
    weight, bias = (p.detach().numpy() for p in layer.parameters())
    ours = reference.conv(x.numpy(), weight, bias, padding=(1, 2))
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    return {
        "input": tuple(x.shape),
        "output": ours.shape,
        "weights": weight.shape,
        "bias": bias.shape,
    }


def one_by_one() -> float:
    """A 1×1 convolution is a linear layer over channels, at every place by itself."""
    x, weight, bias = torch.randn(2, 5, 4, 4), torch.randn(3, 5, 1, 1), torch.randn(3)
    ours = reference.conv(x.numpy(), weight.numpy(), bias.numpy())
    over_channels = nn.functional.linear(x.permute(0, 2, 3, 1), weight[:, :, 0, 0], bias)
    return float(np.abs(ours - over_channels.permute(0, 3, 1, 2).numpy()).max())


def same_and_valid() -> dict[tuple[int, str], int]:
    """What an axis of 28 cells becomes: ``same`` keeps it, ``valid`` loses kernel − 1."""
    x = np.zeros((1, 1, 28))
    sizes = {}
    for kernel in (1, 3, 5, 27):
        weight = np.zeros((1, 1, kernel))
        for padding in ("same", "valid"):
            ours = reference.conv(x, weight, padding=padding)
            layer = nn.Conv1d(1, 1, kernel, padding=padding)
            theirs = layer(torch.zeros(1, 1, 28))
            np.testing.assert_equal(ours.shape, tuple(theirs.shape))
            sizes[kernel, padding] = ours.shape[-1]
    return sizes


def eight_maps(digit: torch.Tensor) -> tuple[Any, nn.Conv2d]:
    """28×28 through eight 3×3 kernels without padding: 26×26×8."""
    layer = nn.Conv2d(1, 8, 3, bias=False)
    return reference.conv(digit.numpy(), layer.weight.detach().numpy()), layer


def main(out: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    shapes = two_to_three_channels()
    for name, shape in shapes.items():
        print(f"{name:8} {shape}")

    largest = one_by_one()
    print(f"1×1 convolution and linear layer over channels: largest difference {largest:.1e}")

    sizes = same_and_valid()
    for kernel in (1, 3, 5, 27):
        print(
            f"28 cells, kernel {kernel:2}: same {sizes[kernel, 'same']}, "
            f"valid {sizes[kernel, 'valid']}"
        )

    digit = next(data.load("digits").test.batches(1))[0].float() / 255
    maps, layer = eight_maps(digit)
    weights = layer.weight.numel()
    _, channels, height, width = maps.shape
    dense = 28 * 28 * height * width * channels
    print(f"28×28 -> {height}×{width}×{channels} with {weights} weights")
    print(f"a fully connected layer to as many numbers would have {dense:,}")
    draw(digit[0, 0].numpy(), maps[0], layer.weight.detach().numpy()[:, 0], out)
    return {"shapes": shapes, "largest": largest, "sizes": sizes, "maps": maps, "weights": weights}


def draw(digit: Any, maps: Any, kernels: Any, out: Path) -> None:
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    strongest = float(np.abs(kernels).max())
    kernel_style = {"cmap": "RdBu_r", "vmin": -strongest, "vmax": strongest}
    grid = figure.add_gridspec(2, 10)
    axis = figure.add_subplot(grid[:, :2])
    axis.imshow(digit, cmap="gray")
    axis.set_title("28×28")
    axis.axis("off")
    for number, (kernel, picture) in enumerate(zip(kernels, maps, strict=True)):
        for row, (shown, title) in enumerate([(kernel, "3×3"), (picture, "26×26")]):
            axis = figure.add_subplot(grid[row, 2 + number])
            axis.imshow(shown, **(kernel_style if row == 0 else {"cmap": "gray"}))
            axis.set_title(title, fontsize=8)
            axis.axis("off")
    figure.suptitle("One picture, eight kernels, eight maps: 72 weights")
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "03_layers_and_shapes.png", dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out")
    main(parser.parse_args().out)
