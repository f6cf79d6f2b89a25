"""The tutorial's digit network in PaddlePaddle, beside the same one in PyTorch, line for line.

Needs PaddlePaddle, in an environment of its own: ``pip install 'eyeshot[paddle]'``. Both networks
learn the 8,000 digits of the package by the same recipe (Adam, 1e-3, batches of 64); what they make
of the 2,000 others is printed, and the Paddle one is written as ONNX and as a weight file that
PyTorch's takes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import polygraphy.config
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from torch import nn

from eyeshot import data

BATCH = 64


class PaddleNet(paddle.nn.Layer):  # type: ignore[misc]  # Paddle has no types
    """Convolution 16, pool, convolution 32, pool, linear 128, linear 10."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = paddle.nn.Conv2D(1, 16, 3, padding=1)
        self.conv2 = paddle.nn.Conv2D(16, 32, 3, padding=1)
        self.fc1 = paddle.nn.Linear(32 * 7 * 7, 128)
        self.fc2 = paddle.nn.Linear(128, 10)

    def forward(self, x: Any) -> Any:
        """Scores (N, 10) of pictures (N, 1, 28, 28)."""
        x = paddle.nn.functional.max_pool2d(paddle.nn.functional.relu(self.conv1(x)), 2)
        x = paddle.nn.functional.max_pool2d(paddle.nn.functional.relu(self.conv2(x)), 2)
        x = paddle.nn.functional.relu(self.fc1(paddle.flatten(x, 1)))
        return self.fc2(x)


class TorchNet(nn.Module):
    """The same."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc1 = nn.Linear(32 * 7 * 7, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores (N, 10) of pictures (N, 1, 28, 28)."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(torch.flatten(x, 1)))
        y: torch.Tensor = self.fc2(x)
        return y


def train_paddle(x: Any, labels: Any, epochs: int) -> PaddleNet:
    paddle.seed(0)
    net = PaddleNet()
    optimizer = paddle.optimizer.Adam(1e-3, parameters=net.parameters())
    for order in orders(len(x), epochs):
        for batch in order:
            scores = net(paddle.to_tensor(x[batch]))
            loss = paddle.nn.functional.cross_entropy(scores, paddle.to_tensor(labels[batch]))
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
    net.eval()
    return net


def train_torch(x: Any, labels: Any, epochs: int) -> TorchNet:
    torch.manual_seed(0)
    net = TorchNet()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for order in orders(len(x), epochs):
        for batch in order:
            scores = net(torch.from_numpy(x[batch]))
            loss = F.cross_entropy(scores, torch.from_numpy(labels[batch]))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
    return net.eval()


def orders(count: int, epochs: int) -> list[list[Any]]:
    """The batches of each epoch, in an order that is the same for both."""
    rng = np.random.default_rng(0)
    return [np.split(rng.permutation(count), range(BATCH, count, BATCH)) for _ in range(epochs)]


def to_torch(net: PaddleNet) -> dict[str, Any]:
    """Paddle's weights under PyTorch's shapes: a linear layer's matrix is transposed."""
    return {
        name: np.ascontiguousarray(value.numpy().T if is_linear(net, name) else value.numpy())
        for name, value in net.state_dict().items()
    }


def is_linear(net: PaddleNet, name: str) -> bool:
    layer, _, kind = name.rpartition(".")
    return kind == "weight" and isinstance(getattr(net, layer), paddle.nn.Linear)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    digits = data.load("digits")
    (x, labels), (shown, answers) = (
        (part.images.numpy().astype(np.float32) / 255, part.labels.numpy())
        for part in (digits.train, digits.test)
    )
    mine, theirs = train_paddle(x, labels, options.epochs), train_torch(x, labels, options.epochs)
    with paddle.no_grad():
        scores = mine(paddle.to_tensor(shown)).numpy()
    with torch.no_grad():
        others = theirs(torch.from_numpy(shown)).numpy()
    print(f"PaddlePaddle {paddle.__version__}: {(scores.argmax(1) == answers).mean():.2%}")
    print(f"PyTorch {torch.__version__}: {(others.argmax(1) == answers).mean():.2%}")

    save_file(to_torch(mine), options.out / "paddle_digits.safetensors")
    twin = TorchNet().eval()
    twin.load_state_dict({name: torch.from_numpy(one) for name, one in to_torch(mine).items()})
    with torch.no_grad():
        apart = np.abs(twin(torch.from_numpy(shown)).numpy() - scores).max()
    print(f"Paddle's weights in PyTorch: {apart / np.abs(scores).max():.1e} of the largest score")

    shape = paddle.static.InputSpec([None, 1, 28, 28], "float32", "image")
    # Its optimizer, Polygraphy, would install packages; without them it leaves the file as it is.
    polygraphy.config.AUTOINSTALL_DEPS = False
    paddle.onnx.export(mine, str(options.out / "paddle_digits"), input_spec=[shape])
    np.savez(options.out / "paddle_digits.npz", x=shown[:8], scores=scores[:8])


if __name__ == "__main__":
    main()
