"""Pictures of cells made by arithmetic, with the mask of their membranes, and a U-Net taught them.

They look a little like electron microscopy: gray cells of uneven brightness, thin dark membranes
between them, and dark round bodies inside that a network must not take for membranes. Only what
lies far around a pixel tells the one from the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from eyeshot.nets import UNet, unet
from eyeshot.nets.unet import UpWay

SIDE, CELLS = 96, 13
PICTURES, BATCH, STEPS = 32, 6, 200
Floats = NDArray[np.float32]


def make_cells(seed: int, side: int = SIDE, cells: int = CELLS) -> tuple[Floats, NDArray[np.int64]]:
    """A picture (side, side), about 0 … 1, and its mask: 1 where a membrane is."""
    chance = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] + 7 * _smooth(chance, (2, side, side), 12)
    centers = chance.uniform(-0.1 * side, 1.1 * side, (cells, 2))
    distances = np.hypot(rows - centers[:, :1, None], columns - centers[:, 1:, None])
    owner, nearest = distances.argmin(axis=0), np.sort(distances, axis=0)[:2]
    membrane = nearest[1] - nearest[0] < 2.2
    picture = chance.uniform(0.6, 0.85, cells)[owner]
    picture = np.where(_bodies(chance, side) & (nearest[1] - nearest[0] > 9), 0.3, picture)
    picture = np.where(membrane, 0.25, picture)
    soft = cv2.GaussianBlur(picture, (0, 0), 0.8) + chance.normal(0, 0.13, (side, side))
    return soft.astype(np.float32), membrane.astype(np.int64)


def _smooth(chance: np.random.Generator, shape: tuple[int, ...], sigma: float) -> Floats:
    """Noise without fine detail, of standard deviation 1."""
    noise = np.stack([cv2.GaussianBlur(one, (0, 0), sigma) for one in chance.normal(size=shape)])
    scaled: Floats = (noise / noise.std()).astype(np.float32)
    return scaled


def _bodies(chance: np.random.Generator, side: int) -> NDArray[np.bool_]:
    """Filled ellipses as dark as a membrane."""
    canvas = np.zeros((side, side), np.uint8)
    for _ in range(side // 3):
        center = tuple(int(n) for n in chance.integers(0, side, 2))
        axes = tuple(int(n) for n in chance.integers(2, 6, 2))
        cv2.ellipse(canvas, center, axes, chance.uniform(0, 180), 0, 360, 1, -1)
    return canvas > 0


def make_batch(seeds: range, side: int = SIDE) -> tuple[Tensor, Tensor]:
    """Pictures (N, 1, side, side), normalized, and masks (N, side, side)."""
    made = [make_cells(seed, side) for seed in seeds]
    pictures = np.stack([(picture - 0.6) / 0.25 for picture, _ in made])[:, None]
    return torch.from_numpy(pictures), torch.from_numpy(np.stack([mask for _, mask in made]))


def teach(
    up: UpWay = "transpose", *, steps: int = STEPS, skips: bool = True, alike: bool = True
) -> UNet:
    """A U-Net (base 8, depth 3) that finds the membranes, in eval mode; the same each time.

    ``skips=False``: taught with the skips cut from the start, so that the deep path does what it
    can alone. ``alike=False``: the kernels of the transposed convolutions start as noise, each of
    their four places for itself.
    """
    pictures, masks = make_batch(range(PICTURES))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = unet(depth=3, base=8, up=up).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if not alike:
            _start_with_noise(net)
        handles = [] if skips else cut_skips(net)
        optimizer = torch.optim.AdamW(net.parameters(), 1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
        for _ in range(steps):
            chosen = torch.randint(PICTURES, (BATCH,))
            x, y = _turned(pictures[chosen], masks[chosen])
            optimizer.zero_grad()
            loss: Tensor = functional.cross_entropy(net(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    for handle in handles:
        handle.remove()
    result: UNet = net.eval()
    return result


def _start_with_noise(net: UNet) -> None:
    for layer in net.modules():
        if isinstance(layer, nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=layer.in_channels**-0.5)


def _turned(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both turned by the same number of quarters, and perhaps mirrored."""
    quarters, mirrored = int(torch.randint(4, ())), bool(torch.randint(2, ()))
    x, y = torch.rot90(x, quarters, (2, 3)), torch.rot90(y, quarters, (1, 2))
    return (x.flip(3), y.flip(2)) if mirrored else (x, y)


def cut_skips(net: UNet, levels: Sequence[int] | None = None) -> list[RemovableHandle]:
    """Put the mean of each map in place of every skip, or of those that end at ``up{level}``.

    The mean tells how strong a map is and nothing of where. Remove the handles to undo it.
    """

    def flatten(_: nn.Module, given: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, skip = given
        return x, skip.mean((2, 3), keepdim=True).expand_as(skip)

    chosen = range(1, net.depth + 1) if levels is None else levels
    return [net.get_submodule(f"up{n}").register_forward_pre_hook(flatten) for n in chosen]


def dice(scores: Tensor, mask: Tensor) -> float:
    """2 |A ∩ B| / (|A| + |B|) of the membranes found and the true ones."""
    found = scores.argmax(1).bool()
    return float(2 * (found & mask.bool()).sum() / (found.sum() + mask.sum()))
