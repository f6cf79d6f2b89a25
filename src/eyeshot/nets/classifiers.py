"""Networks that say what a picture shows: (N, C, H, W) in, one score a class (N, classes) out."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from eyeshot.errors import BadValue


class Classifier(nn.Sequential):
    """Layers one after another; while it trains, a ReLU before a max-pool is worked out after it.

    ReLU never reverses an order, so max(relu(x)) = relu(max(x)), and both ways the gradient reaches
    the same element: the numbers are the same to the bit, and ReLU has a quarter of the elements.
    In eval mode the layers run as they are written, for anyone who looks at their maps.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, classes) of the pictures ``x`` (N, C, H, W)."""
        layers = list(self)
        if self.training:
            for index in range(len(layers) - 1):
                if isinstance(layers[index], nn.ReLU) and isinstance(
                    layers[index + 1], nn.MaxPool2d
                ):
                    layers[index : index + 2] = layers[index + 1], layers[index]
        for layer in layers:
            x = layer(x)
        return x


def digit_cnn(
    *,
    in_channels: int = 1,
    classes: int = 10,
    size: tuple[int, int] = (28, 28),
    width: int = 16,
    depth: int = 2,
    hidden: int = 128,
    padding: int = 1,
) -> Classifier:
    """The tutorial network: ``depth`` times convolution, ReLU and max-pool, then two linear layers.

    By default conv 16, conv 32, both 3×3 with one pixel of zero padding, 2×2 pools, linear 128,
    linear 10; (N, 1, 28, 28) → conv1 (N, 16, 28, 28) → pool1 (N, 16, 14, 14) → conv2
    (N, 32, 14, 14) → pool2 (N, 32, 7, 7) → fc1 (N, 128) → fc2 (N, 10).

    Args:
        in_channels: channels of the input.
        classes: scores in the output.
        size: height and width of the input in pixels; fc1 depends on it.
        width: channels after conv1; every further convolution doubles them.
        depth: how many times convolution, ReLU and pool.
        hidden: outputs of fc1.
        padding: 1, or 0 for convolutions without padding, each of which takes two pixels off both
            sides: such a network has an exact dense form (:func:`eyeshot.dense`).

    Raises:
        BadValue: a number out of range, or an input too small to be halved ``depth`` times.
    """
    _check(in_channels, classes, size, depth, width=width, hidden=hidden)
    height, breadth = _left_by_digit_cnn(size, depth, padding)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = in_channels
    for step in range(1, depth + 1):
        wider = width * 2 ** (step - 1)
        layers[f"conv{step}"] = nn.Conv2d(channels, wider, 3, padding=padding)
        layers[f"relu{step}"] = nn.ReLU()
        layers[f"pool{step}"] = nn.MaxPool2d(2)
        channels = wider
    layers["flatten"] = nn.Flatten()
    layers["fc1"] = nn.Linear(channels * height * breadth, hidden)
    layers[f"relu{depth + 1}"] = nn.ReLU()
    layers["fc2"] = nn.Linear(hidden, classes)
    return Classifier(layers)


def _left_by_digit_cnn(size: tuple[int, int], depth: int, padding: int) -> tuple[int, int]:
    """Height and width of the last pool's maps."""
    if padding not in (0, 1):
        raise BadValue(f"padding is {padding}", cure="use 1, or 0 for none")
    height, breadth = size
    for _ in range(depth):
        height, breadth = (height + 2 * padding - 2) // 2, (breadth + 2 * padding - 2) // 2
    if min(height, breadth) < 1:
        raise BadValue(
            f"an input of {size[0]}×{size[1]} has no pixel left behind {depth} unpadded stages",
            cure=f"use at least {3 * 2**depth - 2} pixels each way, or a smaller depth",
        )
    return height, breadth


def small_vgg(
    *,
    in_channels: int = 1,
    classes: int = 10,
    size: tuple[int, int] = (28, 28),
    width: int = 16,
    depth: int = 3,
) -> Classifier:
    """A small network in the manner of VGG with batch normalisation: more accurate, slower.

    ``depth`` stages, each of two 3×3 convolutions (conv2a, conv2b, …) but the first, whose maps are
    the largest, of one (conv1). After each convolution BatchNorm and ReLU (norm2a, relu2a, …), and
    before the last of them in a stage a 2×2 max-pool (pool2), so that they have a quarter of the
    work. The largest value of each channel goes to one linear layer: the same weights fit any input
    of at least ``2 ** depth`` pixels each way.
    Source: Simonyan and Zisserman, 2014, arXiv:1409.1556; Ioffe and Szegedy, 2015,
    arXiv:1502.03167.

    Args:
        in_channels: channels of the input.
        classes: scores in the output.
        size: height and width of the input in pixels, to check that it can be halved.
        width: channels of the first stage; every further stage doubles them.
        depth: how many stages.

    Raises:
        BadValue: a number below 1, or an input too small to be halved ``depth`` times.
    """
    _check(in_channels, classes, size, depth, width=width)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = in_channels
    for stage in range(1, depth + 1):
        wider = width * 2 ** (stage - 1)
        names = ["1"] if stage == 1 else [f"{stage}a", f"{stage}b"]
        for name in names:
            # BatchNorm subtracts the mean, so a bias before it would do nothing.
            layers[f"conv{name}"] = nn.Conv2d(channels, wider, 3, padding=1, bias=False)
            if name == names[-1]:
                layers[f"pool{stage}"] = nn.MaxPool2d(2)
            layers[f"norm{name}"] = nn.BatchNorm2d(wider)
            layers[f"relu{name}"] = nn.ReLU()
            channels = wider
    layers["pool"] = nn.AdaptiveMaxPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(channels, classes)
    return Classifier(layers)


def _check(
    in_channels: int, classes: int, size: tuple[int, int], depth: int, **counts: int
) -> None:
    """Refuse a count below 1, and a ``size`` that cannot be halved ``depth`` times."""
    counts = {"in_channels": in_channels, "classes": classes, "depth": depth, **counts}
    for name, value in counts.items():
        if value < 1:
            raise BadValue(f"{name} is {value}", cure="use 1 or more")
    if len(size) != 2:
        raise BadValue(f"size is {list(size)}", cure="use two numbers: height and width")
    height, breadth = size
    if min(size) >> depth < 1:
        raise BadValue(
            f"an input of {height}×{breadth} cannot be halved {depth} times",
            cure="use a smaller depth"
            + (f", or at least {2**depth}×{2**depth} pixels" if depth < 16 else ""),
        )
