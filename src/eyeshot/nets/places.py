"""Where in a network a layer stands, in words: which level of a U-Net, and on which way."""

from __future__ import annotations

from itertools import chain

from torch import nn

from eyeshot.language import tr
from eyeshot.nets.unet import UNet


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
