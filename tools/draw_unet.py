"""Draw the pictures of ``docs/unet.md``: from small sums, and from U-Nets taught here and now.

Run ``make figures``. The five U-Nets take about a minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from tools.cells import cut_skips, dice, make_batch, teach
from tools.checkers import WAYS, rise, terms
from torch import Tensor

import eyeshot
from eyeshot import reference
from eyeshot.nets import UNet
from eyeshot.nets.unet import UpWay

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "images"
ORANGE = "#dd6b20"
WIDTH = 9.6  # inches, at 100 dots
HELD_OUT = range(1000, 1012)
SHOWN = 3  # of the held-out pictures
TITLES: dict[UpWay, str] = {
    "nearest": "nearest + conv",
    "bilinear": "bilinear + conv",
    "transpose": "transposed conv",
}

X = np.array([[1.0, 2.0], [3.0, 4.0]])
KERNEL = np.array([[1.0, 2.0, 1.0], [0.0, 1.0, 3.0], [2.0, 0.0, 1.0]])
STRIDE = 2
PLACE = (2, 2)  # the output whose sum is written out
DARKEST = 20.0  # more than any number drawn, so that black digits can be read on it

EYE = (slice(84, 132), slice(84, 132))  # of the photograph, eight times as large as it was

Matrix = NDArray[Any]


@dataclass(frozen=True)
class Insertion:
    """A transposed convolution by zero insertion, and by stamps; both give ``output``."""

    stuffed: Matrix
    padded: Matrix
    turned: Matrix
    output: Matrix
    stamps: dict[str, Matrix]

    def sum_at(self, place: tuple[int, int]) -> str:
        """The sum of one output, without the terms that are zero."""
        row, column = place
        seen = self.padded[row : row + 3, column : column + 3]
        pairs = zip(seen.flat, self.turned.flat, strict=True)
        caption = " + ".join(f"{value:g}·{weight:g}" for value, weight in pairs if value)
        return f"{caption} = {self.output[place]:g}"


def insert_zeros() -> Insertion:
    """Both ways, on the small matrix and kernel at the top of this file."""
    x, weight = X[None, None], KERNEL[None, None]
    stuffed = reference.insert_zeros(x, (STRIDE, STRIDE))
    edge = KERNEL.shape[0] - 1
    padded = np.pad(stuffed, [(0, 0), (0, 0), (edge, edge), (edge, edge)])
    stamps = {}
    for (row, column), value in np.ndenumerate(X):
        only = np.zeros_like(x)
        only[0, 0, row, column] = value
        stamp = reference.conv_transpose(only, weight, stride=STRIDE)
        stamps[f"{value:g} × kernel"] = stamp[0, 0]
    output = reference.conv(padded, weight, flip=True)[0, 0]
    return Insertion(stuffed[0, 0], padded[0, 0], KERNEL[::-1, ::-1], output, stamps)


def draw_zeros(path: Path) -> None:
    """Zero insertion step by step, and the same sums the other way round."""
    steps = insert_zeros()
    figure = plt.figure(figsize=(WIDTH, 6.2), dpi=100, layout="constrained")
    parts = figure.subfigures(2, 1, squeeze=False, height_ratios=[7.6, 6], hspace=0.04)
    _draw_gathering(parts[0, 0], steps)
    _draw_stamps(parts[1, 0], steps)
    _save(figure, path)


def _draw_gathering(part: SubFigure, steps: Insertion) -> None:
    part.suptitle("gather: insert zeros, then an ordinary convolution with the kernel turned")
    panels = part.subplots(1, 5, width_ratios=[2, 3, 7, 3, 5])
    row, column = PLACE
    made = np.ones_like(steps.padded, bool)
    made[2:-2:STRIDE, 2:-2:STRIDE] = False
    shown = [
        ("input", X, None, None),
        ("1 zero between", steps.stuffed, made[2:-2, 2:-2], None),
        ("2 zeros around", steps.padded, made, (row, column, 3)),
        ("kernel, turned", steps.turned, None, None),
        ("output", steps.output, None, (row, column, 1)),
    ]
    for axes, (title, matrix, ghosts, box) in zip(panels, shown, strict=True):
        _draw_matrix(axes, matrix, title, ghosts)
        if box:
            _frame(axes, *box)
    part.supxlabel(f"the framed sum: {steps.sum_at(PLACE)}", color=ORANGE, fontsize=11)


def _draw_stamps(part: SubFigure, steps: Insertion) -> None:
    part.suptitle("scatter: every input stamps the kernel, a stride apart, and stamps add up")
    panels = part.subplots(1, 5)
    signs = ["+", "+", "+", "=", ""]
    matrices = {**steps.stamps, "output": sum(steps.stamps.values())}
    for axes, (title, matrix), sign in zip(panels, matrices.items(), signs, strict=True):
        _draw_matrix(axes, np.asarray(matrix), title, np.asarray(matrix) == 0)
        axes.text(1.11, 0.5, sign, transform=axes.transAxes, ha="center", va="center", fontsize=14)


def _draw_matrix(
    axes: Axes, matrix: Matrix, title: str, ghosts: NDArray[np.bool_] | None = None
) -> None:
    """Numbers in cells, the darker the larger; ``ghosts`` are written faintly."""
    axes.imshow(matrix, cmap="Blues", vmin=0, vmax=DARKEST)
    for (row, column), value in np.ndenumerate(matrix):
        faint = ghosts is not None and ghosts[row, column]
        color = "#bbbbbb" if faint else "black"
        axes.text(column, row, f"{value:g}", ha="center", va="center", color=color, fontsize=10)
    axes.set_xticks(np.arange(-0.5, matrix.shape[1]), [])
    axes.set_yticks(np.arange(-0.5, matrix.shape[0]), [])
    axes.grid(color="white", linewidth=1.5)
    axes.tick_params(length=0)
    axes.set_frame_on(False)
    axes.set_title(title, fontsize=10)


def draw_checkerboard(path: Path) -> None:
    """How many terms an output has, and what three such layers do before any training."""
    figure, panels = plt.subplots(3, len(WAYS), figsize=(WIDTH, 6.3), dpi=100, layout="constrained")
    for (name, way), (counted, risen, close) in zip(WAYS.items(), panels.T, strict=True):
        counts = terms(way)
        counted.imshow(counts, cmap="Oranges", vmin=0, vmax=12)
        for (row, column), count in np.ndenumerate(counts):
            counted.text(column, row, f"{count}", ha="center", va="center", fontsize=8)
        counted.set_title(name, fontsize=10)
        photograph = rise(way)
        risen.imshow(photograph, cmap="gray")
        _frame(risen, EYE[0].start, EYE[1].start, EYE[0].stop - EYE[0].start)
        close.imshow(photograph[EYE], cmap="gray", interpolation="nearest")
        for axes in (counted, risen, close):
            _bare(axes)
    labels = ("terms in each output", "three, one after another", "48×48 pixels of that")
    for axes, label in zip(panels[:, 0], labels, strict=True):
        axes.set_ylabel(label, fontsize=10)
    _save(figure, path)


def _frame(axes: Axes, top: int, left: int, side: int) -> None:
    """A square around ``side`` pixels."""
    corner = (left - 0.5, top - 0.5)
    frame = Rectangle(corner, side, side, fill=False, edgecolor=ORANGE, linewidth=2, zorder=5)
    axes.add_patch(frame).set_clip_on(False)


def maps_of(net: UNet, picture: Tensor, *layers: str) -> list[Matrix]:
    """Of each layer the map that varies most, for one picture (1, 1, H, W)."""
    features = eyeshot.see(net, picture, list(layers))
    found = [np.asarray(features[layer]) for layer in layers]
    return [maps[maps.std(axis=(1, 2)).argmax()] for maps in found]


def scores_of(net: UNet, pictures: Tensor) -> Tensor:
    """(N, 2, H, W), without a gradient."""
    with torch.no_grad():
        scores: Tensor = net(pictures)
    return scores


def draw_ways(path: Path, nets: dict[UpWay, UNet]) -> None:
    """The three ways side by side: the map on its way into the top level, and the answer."""
    pictures, masks = make_batch(HELD_OUT)
    picture = pictures[SHOWN : SHOWN + 1]
    rows, columns = slice(36, 60), slice(36, 60)
    figure, panels = plt.subplots(3, 4, figsize=(WIDTH, 7.6), dpi=100, layout="constrained")
    _show(panels[0][0], picture[0, 0], "picture")
    _show(panels[1][0], picture[0, 0, rows, columns], "24×24 pixels of it")
    _show(panels[2][0], masks[SHOWN], "its membranes")
    for column, (up, title) in enumerate(TITLES.items(), start=1):
        layer = "up1.transpose" if up == "transpose" else "up1.resize"
        (enlarged,) = maps_of(nets[up], picture, layer)
        scores = scores_of(nets[up], pictures)
        _show(panels[0][column], enlarged, f"{title}\n{layer}")
        _show(panels[1][column], enlarged[rows, columns], "the same pixels")
        _show(
            panels[2][column],
            scores[SHOWN].softmax(0)[1],
            f"the answer, Dice {dice(scores, masks):.3f}",
        )
    for axes in panels[0]:
        _frame(axes, rows.start, columns.start, 24)
    _save(figure, path)


def draw_start(path: Path, noise: UNet, alike: UNet) -> None:
    """The last map on its way up, of two networks that began with unlike and like weights."""
    pictures, masks = make_batch(HELD_OUT)
    picture = pictures[SHOWN : SHOWN + 1]
    rows, columns = slice(36, 60), slice(36, 60)
    figure, panels = plt.subplots(1, 4, figsize=(WIDTH, 2.95), dpi=100, layout="constrained")
    for place, (net, began) in enumerate({noise: "as noise", alike: "alike"}.items()):
        (enlarged,) = maps_of(net, picture, "up1.transpose")
        caption = f"began {began}, Dice {dice(scores_of(net, pictures), masks):.3f}"
        _show(panels[2 * place], enlarged, f"{caption}\nup1.transpose")
        _frame(panels[2 * place], rows.start, columns.start, 24)
        _show(panels[2 * place + 1], enlarged[rows, columns], "24×24 pixels of it")
    _save(figure, path)


def draw_skip(path: Path, net: UNet, alone: UNet) -> None:
    """What the skip of the top level carries: the same net with it and without it.

    ``alone`` was taught with its skips cut.
    """
    pictures, masks = make_batch(HELD_OUT)
    picture = pictures[SHOWN : SHOWN + 1]
    figure, panels = plt.subplots(2, 5, figsize=(WIDTH, 4.6), dpi=100, layout="constrained")
    _show(panels[0][0], picture[0, 0], "picture")
    _show(panels[1][0], masks[SHOWN], "its membranes")
    skip, below, joined = maps_of(net, picture, "first.relu2", "up1.transpose", "up1.relu2")
    _show(panels[0][1], skip, "the skip\nfirst.relu2")
    _show(panels[1][1], below, "the deep path\nup1.transpose")
    with_skips = scores_of(net, pictures)
    handles = cut_skips(net, [1])
    (cut,), without = maps_of(net, picture, "up1.relu2"), scores_of(net, pictures)
    for handle in handles:
        handle.remove()
    handles = cut_skips(alone)
    (deep,), by_itself = maps_of(alone, picture, "up1.relu2"), scores_of(alone, pictures)
    for handle in handles:
        handle.remove()
    answers = [("joined", joined, with_skips), ("skip cut", cut, without)]
    answers += [("taught without", deep, by_itself)]
    for column, (title, maps, scores) in enumerate(answers, start=2):
        _show(panels[0][column], maps, f"{title}\nup1.relu2")
        caption = f"the answer\nDice {dice(scores, masks):.2f}"
        _show(panels[1][column], scores[SHOWN].softmax(0)[1], caption)
    _save(figure, path)


def _show(axes: Axes, picture: Tensor | Matrix, title: str) -> None:
    """Gray, from its own least to its own most, pixels as squares."""
    axes.imshow(np.asarray(picture), cmap="gray", interpolation="nearest")
    axes.set_title(title, fontsize=10)
    _bare(axes)


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_frame_on(False)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


def main() -> None:
    """Draw them all."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    draw_zeros(PICTURES / "unet_zeros.png")
    draw_checkerboard(PICTURES / "unet_checkerboard.png")
    nets = {up: teach(up) for up in TITLES}
    draw_ways(PICTURES / "unet_ways.png", nets)
    draw_start(PICTURES / "unet_start.png", teach(alike=False), nets["transpose"])
    draw_skip(PICTURES / "unet_skip.png", nets["transpose"], teach(skips=False))
    for path in sorted(PICTURES.glob("unet_*.png")):
        print(f"{path.name}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
