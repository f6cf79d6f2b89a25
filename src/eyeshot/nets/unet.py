"""The U-Net: one score per class at every pixel, from a deep path and skip connections.

The position of a layer is described in words here too: its level, and whether it lies on the way
down or up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain

from torch import Tensor, nn
from torch.nn import functional

from eyeshot.errors import BadValue
from eyeshot.language import tr
from eyeshot.nets.blocks import (
    CONVOLUTIONS,
    PADDINGS,
    UP_WAYS,
    DoubleConv,
    Down,
    Norm,
    Padding,
    Up,
    UpWay,
    check_choice,
    check_dims,
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
