"""The U-Net, its blocks, and classifiers made of convolutions.

A U-Net gives one score per class at every pixel, from a deep path and skip connections. Each block
can be used alone: two convolutions, one step down, one step up. A classifier maps a picture
(N, C, H, W) to scores (N, classes). The position of a layer is described in words here too: its
level, and whether it lies on the way down or up.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, pairwise
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from eyeshot.errors import BadValue, UnknownName
from eyeshot.language import tr

UpWay = Literal["transpose", "nearest", "bilinear"]
Norm = Literal["batch", "none"]
Padding = Literal["same", "valid"]
Choice = TypeVar("Choice", UpWay, Norm, Padding)

Convolution = (
    nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
)
# By the axes of space.
CONVOLUTIONS: dict[int, Callable[..., Convolution]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, Callable[..., Convolution]] = {
    1: nn.ConvTranspose1d,
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
_POOLS: dict[int, Callable[..., nn.Module]] = {
    1: nn.MaxPool1d,
    2: nn.MaxPool2d,
    3: nn.MaxPool3d,
}
_NORMS: dict[int, Callable[..., nn.Module]] = {
    1: nn.BatchNorm1d,
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}

UP_WAYS: tuple[UpWay, ...] = get_args(UpWay)
NORMS: tuple[Norm, ...] = get_args(Norm)
PADDINGS: tuple[Padding, ...] = get_args(Padding)


class DoubleConv(nn.Sequential):
    """Two 3×3 convolutions, each with its normalization and ReLU: conv1, norm1, relu1, conv2, ….

    (N, in_channels, H, W) → (N, out_channels, H, W), or (N, out_channels, H − 4, W − 4) where
    ``padding`` is ``"valid"``. Without normalization there is no norm1 and no norm2.

    Raises:
        BadValue: a number of channels below 1.
        UnknownName: no such ``norm`` or ``padding``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        norm: Norm = "batch",
        padding: Padding = "same",
        dims: int = 2,
    ) -> None:
        super().__init__(_two_convolutions(in_channels, out_channels, norm, padding, dims))


class Down(nn.Sequential):
    """One level down: a 2×2 max-pool (pool), then the layers of a :class:`DoubleConv`.

    (N, in_channels, H, W) → (N, out_channels, ⌊H / 2⌋, ⌊W / 2⌋), each 4 less where ``padding`` is
    ``"valid"``.

    Raises:
        BadValue, UnknownName: as :class:`DoubleConv`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        norm: Norm = "batch",
        padding: Padding = "same",
        dims: int = 2,
        step: tuple[int, ...] | None = None,
    ) -> None:
        layers = _two_convolutions(in_channels, out_channels, norm, padding, dims)
        pool = _POOLS[check_dims(dims)](step or (2,) * dims)
        super().__init__(OrderedDict(pool=pool, **layers))


class Up(nn.Module):
    """One level up: twice the size, joined with the skip, then the layers of a :class:`DoubleConv`.

    The map from below (N, in_channels, h, w) becomes (N, out_channels, 2h, 2w); the skip
    (N, skip_channels, H, W) is cropped around its center to that size and stands first in the
    concatenation; conv1 takes skip_channels + out_channels channels.

    Three ways up:

    * ``"transpose"``: a transposed convolution, 2×2 with stride 2 (transpose). Its kernel is a
      multiple of its stride, so that every pixel gets equally many terms; and the four weights of a
      kernel start alike, so that a flat map stays flat until something else is learned.
    * ``"nearest"``, ``"bilinear"``: a 1×1 convolution to out_channels (halve), then the resize
      (resize). The two may change places without changing a number, since a resize mixes pixels
      with weights that add up to 1 and a 1×1 convolution mixes channels; in this order there is a
      quarter of the work. The 3×3 convolution after a resize is conv1.

    Args:
        in_channels: channels of the map from below.
        out_channels: channels of the result, and of the up-sampled map.
        skip_channels: channels of the skip; ``out_channels`` by default.
        up: the way up.
        norm: ``"batch"`` or ``"none"``.
        padding: ``"same"``, or ``"valid"`` for convolutions that take a pixel off each side.
        dims: axes of space: 2 of pictures, 3 of volumes, 1 of signals.
        step: by how much each axis is enlarged; 2 by default.

    Raises:
        BadValue, UnknownName: as :class:`DoubleConv`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        skip_channels: int | None = None,
        up: UpWay = "transpose",
        norm: Norm = "batch",
        padding: Padding = "same",
        dims: int = 2,
        step: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        joined = out_channels + (out_channels if skip_channels is None else skip_channels)
        enlarging = _enlarging(in_channels, out_channels, up, step or (2,) * check_dims(dims))
        convolving = _two_convolutions(joined, out_channels, norm, padding, dims)
        for name, layer in {**enlarging, **convolving}.items():
            self.add_module(name, layer)
        self._enlarging, self._convolving = tuple(enlarging), tuple(convolving)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """The map (N, out_channels, 2h, 2w), or 4 less each way where nothing is padded."""
        for name in self._enlarging:
            x = self.get_submodule(name)(x)
        x = torch.cat([crop_to(skip, x), x], dim=1)
        for name in self._convolving:
            x = self.get_submodule(name)(x)
        return x


class Resize(nn.Module):
    """A map enlarged along each axis, by copying (``nearest``) or by mixing neighbors.

    The other mode is ``bilinear``, of volumes ``trilinear`` and of signals ``linear``.

    As ``nn.Upsample(scale_factor=2)``, but in the precision of what comes in: under autocast
    PyTorch resizes in float32, and would convert the map there and back for nothing.
    """

    def __init__(self, mode: str, step: tuple[int, ...] = (2, 2)) -> None:
        super().__init__()
        self.mode = mode
        self.step = tuple(map(float, step))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, 2H, 2W), with the default ``step``."""
        kind = x.device.type
        if kind != "meta" and torch.is_autocast_enabled(kind):  # which knows no meta device
            with torch.autocast(kind, enabled=False):
                return functional.interpolate(x, scale_factor=self.step, mode=self.mode)
        return functional.interpolate(x, scale_factor=self.step, mode=self.mode)

    def extra_repr(self) -> str:
        """Shown between the brackets when the network is printed."""
        return self.mode


def crop_to(skip: Tensor, x: Tensor) -> Tensor:
    """``skip`` (N, C, H, W) cut around its center to the height and width of ``x``.

    Raises:
        BadValue: the skip is smaller than ``x``.
    """
    sizes, larger = x.shape[2:], skip.shape[2:]
    if sizes == larger:
        return skip
    if any(n < m for n, m in zip(larger, sizes, strict=True)):
        raise BadValue(
            f"a skip of {_by(larger)} beside a map of {_by(sizes)}",
            cure="give the map of one level down, half the size of the skip or smaller",
        )
    for axis, (n, m) in enumerate(zip(larger, sizes, strict=True), start=2):
        skip = skip.narrow(axis, (n - m) // 2, m)
    return skip


def check_dims(dims: int) -> int:
    """``dims`` if there are convolutions over so many axes.

    Raises:
        BadValue: it is not 1, 2 or 3.
    """
    if dims not in CONVOLUTIONS:
        raise BadValue(f"dims is {dims}", cure="use 2 for pictures, 3 for volumes, 1 for signals")
    return dims


def check_choice(kind: str, name: Choice, known: tuple[Choice, ...]) -> Choice:
    """``name`` if it is one of ``known``.

    Raises:
        UnknownName: it is not.
    """
    if name not in known:
        raise UnknownName(kind, str(name), known)
    return name


def _two_convolutions(
    in_channels: int, out_channels: int, norm: Norm, padding: Padding, dims: int
) -> OrderedDict[str, nn.Module]:
    check_choice("norm", norm, NORMS)
    border = 1 if check_choice("padding", padding, PADDINGS) == "same" else 0
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = (_counted("in_channels", in_channels), _counted("out_channels", out_channels))
    for step, (before, after) in enumerate(pairwise((*channels, channels[1])), start=1):
        # BatchNorm subtracts the mean, so a bias before it would do nothing.
        layer, normalize = CONVOLUTIONS[check_dims(dims)], _NORMS[dims]
        conv = layer(before, after, 3, padding=border, bias=norm == "none")
        # He et al., 2015, arXiv:1502.01852: half of what goes into a ReLU is lost in it.
        _draw_weights(conv, 2 / (3**dims * before))
        layers[f"conv{step}"] = conv
        if norm == "batch":
            layers[f"norm{step}"] = normalize(after)
        layers[f"relu{step}"] = nn.ReLU(inplace=True)
    return layers


def _enlarging(
    in_channels: int, out_channels: int, up: UpWay, step: tuple[int, ...]
) -> Mapping[str, nn.Module]:
    # One term for each input channel and no ReLU behind: such weights keep the mean square, and
    # the map comes to the concatenation as strong as the skip.
    variance = 1 / _counted("in_channels", in_channels)
    if check_choice("way up", up, UP_WAYS) == "transpose":
        transpose = _TRANSPOSED[len(step)](in_channels, out_channels, step, stride=step)
        _draw_weights(transpose, variance)
        # What the four differ by at the start is drawn over the map as a pattern, and training
        # leaves it there. Source: Aitken et al., 2017, arXiv:1707.02937.
        first = (slice(None), slice(None), *(slice(1) for _ in step))
        transpose.weight.data.copy_(transpose.weight.data[first].expand_as(transpose.weight))
        return {"transpose": transpose}
    halve = CONVOLUTIONS[len(step)](in_channels, out_channels, 1)
    _draw_weights(halve, variance)
    smooth = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(step)]
    return {"halve": halve, "resize": Resize("nearest" if up == "nearest" else smooth, step)}


def _draw_weights(layer: Convolution, variance: float) -> None:
    nn.init.normal_(layer.weight, std=variance**0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _by(size: Sequence[int]) -> str:
    return "×".join(map(str, size))


def _counted(name: str, value: int) -> int:
    if value < 1:
        raise BadValue(f"{name} is {value}", cure="use 1 or more")
    return value


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
    height, breadth = _last_map_size(size, depth, padding)
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


def _last_map_size(size: tuple[int, int], depth: int, padding: int) -> tuple[int, int]:
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
    """A small network in the manner of VGG with batch normalization: more accurate, slower.

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


_DEEPEST = 8
"""An output of such a net sees some 3,000 pixels each way, and its widest layer has 256 times the
channels of the first. Each level more doubles the one and takes four times the weights."""


class UNet(nn.Module):
    """Made by :func:`unet`: ``first``, ``down1`` … ``downN``, ``upN`` … ``up1``, ``head``.

    Level 0 has the picture's own pixels; ``down1`` leads to level 1, which has half as many each
    way, and ``up1`` leads back from it. A layer is named by its level and its place there:
    ``down2.conv1``, ``up1.transpose``. What an output sees, and on which grid, says
    :func:`eyeshot.output_geometry`, as for any network.

    Attributes:
        depth: levels below the picture's own.
        padding: ``"same"`` or ``"valid"``.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        depth: int,
        base: int,
        up: UpWay,
        norm: Norm,
        padding: Padding,
        dims: int,
        flat: int,
    ):
        super().__init__()
        self.depth = depth
        self.padding = padding
        self.steps = [(1, 2, 2) if level <= flat else (2,) * dims for level in range(1, depth + 1)]
        self.multiples = tuple(math.prod(axis) for axis in zip(*self.steps, strict=True))
        widths = [base * 2**level for level in range(depth + 1)]
        self.first = DoubleConv(in_channels, base, norm=norm, padding=padding, dims=dims)
        for level in range(1, depth + 1):
            down = Down(
                widths[level - 1],
                widths[level],
                norm=norm,
                padding=padding,
                dims=dims,
                step=self.steps[level - 1],
            )
            self.add_module(f"down{level}", down)
        for level in range(depth, 0, -1):
            step = Up(
                widths[level],
                widths[level - 1],
                up=up,
                norm=norm,
                padding=padding,
                dims=dims,
                step=self.steps[level - 1],
            )
            self.add_module(f"up{level}", step)
        self.head = CONVOLUTIONS[dims](base, classes, 1)
        nn.init.normal_(self.head.weight, std=base**-0.5)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        self.crop = Crop()

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, classes, H, W) of pictures (N, in_channels, H, W).

        Any height and width are accepted if the padding is ``"same"``: zeros are added at the
        bottom and on the right up to a multiple of ``2 ** depth``, and the scores there cut off.
        With ``"valid"`` the scores are ``12 * 2 ** depth - 8`` smaller each way.

        Raises:
            BadValue: ``"valid"`` takes no such size; the nearest that it takes are named.
        """
        size = x.shape[2:]
        if self.padding == "valid":
            self._check_size(size)
            return self._scores(x)
        missing = [-n % multiple for n, multiple in zip(size, self.multiples, strict=True)]
        if not any(missing):
            return self._scores(x)
        sides = [side for more in reversed(missing) for side in (0, more)]
        cropped: Tensor = self.crop(self._scores(functional.pad(x, sides)), *size)
        return cropped

    def _scores(self, x: Tensor) -> Tensor:
        x = self.first(x)
        skips = []
        for level in range(1, self.depth + 1):
            skips.append(x)
            x = self.get_submodule(f"down{level}")(x)
        for level in range(self.depth, 0, -1):
            x = self.get_submodule(f"up{level}")(x, skips.pop())
        scores: Tensor = self.head(x)
        return scores

    def _check_size(self, size: Sequence[int]) -> None:
        """Refuse a size that would leave a pixel over at a pool, or no output at all.

        A pixel left over would shift the skip against the map from below by half a pixel.
        """
        refused = [
            (name, int(n), *self._near(int(n)))
            for name, n in zip(("depth", "height", "width")[-len(size) :], size, strict=True)
            if self._near(int(n))[0] != n
        ]
        if refused:
            sizes = " and ".join(f"no {name} of {n}" for name, n, *_ in refused)
            cures = (
                f"the smallest {name} is {above}"
                if below is None
                else f"the nearest {name}s are {below} or {above}"
                for name, _, below, above in refused
            )
            raise BadValue(
                f"a picture of {'×'.join(map(str, size))}: without padding, a depth of "
                f"{self.depth} takes "
                f"{sizes}",
                cure=", ".join(cures),
            )

    def _near(self, n: int) -> tuple[int | None, int]:
        """The largest side up to ``n`` accepted without padding, and the smallest above it."""
        step = 2**self.depth
        # Each level takes 4 pixels and halves the rest, so that all but 4 are whole steps.
        least = 12 * step - 7
        smallest = least + -(least + 4) % step
        below = n - (n + 4) % step
        return (None, smallest) if below < smallest else (below, below + step)


class Crop(nn.Module):
    """The first rows and columns alone; a module so that it has a name where layers are listed."""

    def forward(self, x: Tensor, *size: int) -> Tensor:
        """(N, C, H, W) → (N, C, height, width)."""
        return x[(slice(None), slice(None), *map(slice, size))]


def unet(
    *,
    in_channels: int = 1,
    classes: int = 2,
    depth: int = 4,
    base: int = 32,
    up: UpWay = "transpose",
    norm: Norm = "batch",
    padding: Padding = "same",
    dims: int = 2,
    flat: int = 0,
) -> UNet:
    """A U-Net: two 3×3 convolutions a level, ``depth`` levels down, and up again beside the skips.

    A level's width is twice that of the level above it. On the way up the skip is concatenated with
    the up-sampled map, and the next two convolutions take the sum of their channels. With base 64,
    depth 4, no normalization and no padding it is the published one: 572×572 → 388×388.
    Source: Ronneberger, Fischer and Brox, 2015, arXiv:1505.04597.

    Args:
        in_channels: channels of the input.
        classes: scores at each pixel.
        depth: how often the picture is halved.
        base: channels at the picture's own resolution.
        up: ``"transpose"``, ``"nearest"`` or ``"bilinear"``: see :class:`eyeshot.nets.Up`.
        norm: ``"batch"`` for batch normalization after each 3×3 convolution, ``"none"``.
        padding: ``"same"`` for convolutions that keep the size: any size is accepted, padded with
            zeros at the bottom and right to a multiple of ``2 ** depth`` and cropping the scores.
            ``"valid"`` for convolutions without padding, whose outputs all see nothing but picture:
            the skips are cropped around their center, and only some sizes are accepted. (A bilinear
            resize still repeats the edge of its map: outputs near the border are not quite those
            of a larger picture.)
        dims: axes of space: 2 for pictures, 3 for volumes (N, C, D, H, W), 1 for signals (N, C, L).
        flat: of a volume, so many first levels halve height and width alone, for slices that are
            farther apart than pixels.

    Raises:
        BadValue: a number below 1, a depth above 8, no such ``dims``, or ``flat`` without volumes.
        UnknownName: no such ``up``, ``norm`` or ``padding``.
    """
    for name, value in {"classes": classes, "depth": depth, "base": base}.items():
        if value < 1:
            raise BadValue(f"{name} is {value}", cure="use 1 or more")
    if depth > _DEEPEST:
        raise BadValue(
            f"depth is {depth}: at its lowest level a pixel would stand for {2**depth}×{2**depth}",
            cure=f"use {_DEEPEST} or less; 4 is the published one",
        )
    check_choice("way up", up, UP_WAYS)
    check_choice("padding", padding, PADDINGS)
    check_dims(dims)
    if flat and (dims != 3 or padding == "valid" or not 0 <= flat <= depth):
        raise BadValue(
            f"flat is {flat}, of dims {dims}, depth {depth} and padding {padding}",
            cure="use 0 to the depth, with dims 3 and padding same",
        )
    return UNet(in_channels, classes, depth, base, up, norm, padding, dims, flat)


def place_of(net: nn.Module, layer: str) -> str:
    """Where ``layer`` stands: "level 2, on the way down"; nothing for a network without levels.

    Level 0 has the picture's own pixels, and each level below it half as many each way.

    Args:
        net: the network.
        layer: dotted, as :func:`eyeshot.see` names layers: ``down2.conv1``, ``up1.cat``.
    """
    if not isinstance(net, UNet):
        return ""
    block = layer.partition(".")[0]
    if block == "first":
        return tr("level {level}, on the way down", level=0)
    if block.startswith("down"):
        level = int(block.removeprefix("down"))
        if level == net.depth:
            return tr("level {level}, the deepest", level=level)
        return tr("level {level}, on the way down", level=level)
    if block.startswith("up"):
        return tr("level {level}, on the way up", level=int(block.removeprefix("up")) - 1)
    return tr("the answer") if block in ("head", "crop") else ""


def levels_of(net: nn.Module) -> tuple[str, ...]:
    """The last layer of each level, on the way down and up again; () for one without levels."""
    if not isinstance(net, UNet):
        return ()
    down = (f"down{level}" for level in range(1, net.depth + 1))
    up = (f"up{level}" for level in range(net.depth, 0, -1))
    return tuple(f"{block}.relu2" for block in chain(["first"], down, up))
