"""Draw one picture for each page that has no figures of its own; every number is computed here.

    python -m tools.draw_pages [NAME…]    page_NAME.png in docs/images; all of them by default

``make figures`` runs it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib import cbook
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image
from tests.documents import blocks
from torch import nn

import eyeshot
from eyeshot import data, images, reference
from eyeshot.axes import Interval
from eyeshot.explanation import read_matrix, walk_conv
from eyeshot.images.whole import open_image
from eyeshot.training.augmentation import AUGMENTATIONS, augment_crops

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "images"
DARK, BLUE, ORANGE, TEAL, PALE, GRAY = (
    "#1d2733", "#2b6cb0", "#dd6b20", "#0b6e78", "#e8eef5", "#8a94a0",
)  # fmt: skip
Draw = Callable[[Figure], None]


class TwoScales(nn.Module):
    """The network of ``docs/audit.md``."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.pool, self.up = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)
        self.deep = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(16, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores (N, 2, H, W) of images (N, 1, H, W)."""
        x = self.first(x).relu()
        low: torch.Tensor = self.up(self.deep(self.pool(x)))
        found: torch.Tensor = self.last(torch.cat([x, low], 1))
        return found


def photograph() -> NDArray[np.uint8]:
    """(H, W, 3): the head of the portrait that comes with matplotlib."""
    path = cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    return np.asarray(images.read(path)[40:300, 130:390])


def _bare(axes: Axes, title: str = "") -> Axes:
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    if title:
        axes.set_title(title, fontsize=10, color=DARK)
    return axes


def _numbers(
    axes: Axes, matrix: NDArray[np.float64], lit: set[tuple[int, int]], color: str
) -> None:
    """A matrix as cells with its numbers; some of them in a color."""
    rows, columns = matrix.shape
    _bare(axes).set_xlim(-0.1, columns + 0.1)
    axes.set_ylim(rows + 0.1, -0.1)
    axes.set_aspect("equal")
    for row in range(rows):
        for column in range(columns):
            on = (row, column) in lit
            face = color if on else "white"
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=face, edgecolor=GRAY))
            axes.text(
                column + 0.5, row + 0.53, f"{matrix[row, column]:g}",
                ha="center", va="center", color="white" if on else DARK,
            )  # fmt: skip


def _box(axes: Axes, x: float, y: float, text: str, color: str = PALE, width: float = 2.2) -> None:
    axes.add_patch(Rectangle((x, y), width, 0.8, facecolor=color, edgecolor=GRAY, linewidth=0.8))
    dark = color in (BLUE, TEAL)
    axes.text(
        x + width / 2, y + 0.4, text, ha="center", va="center", fontsize=9,
        color="white" if dark else DARK,
    )  # fmt: skip


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": GRAY, "lw": 1.2})


def _columns(found: eyeshot.Inspection, layer: str, unit: int) -> Interval:
    """The columns of the input that the unit in this row and column sees."""
    box = found.field(layer, (unit, unit)).box
    assert box is not None
    return box[-1]


def explain(figure: Figure) -> None:
    """A step of the walk with which the page begins."""
    walk = walk_conv(
        read_matrix("1 1 1 0 0/0 1 1 1 0/0 0 1 1 1/0 0 1 1 0/0 1 1 0 0"),
        read_matrix("1 0 1/0 1 0/1 0 1"),
    )
    step, kernel = walk.steps[1], walk.kernel
    assert kernel is not None
    left, middle, right = figure.subplots(1, 3, width_ratios=[5, 3, 3])
    _numbers(left, walk.read, {term.at for term in step.terms}, BLUE)
    _numbers(middle, kernel, {(i, j) for i in range(3) for j in range(3) if kernel[i, j]}, ORANGE)
    _numbers(right, walk.output, {step.output}, TEAL)
    for axes, title in ((left, "input"), (middle, "kernel"), (right, "output")):
        axes.set_title(title, fontsize=11)
    terms = " + ".join(f"{term.value:g}·{term.weight:g}" for term in step.terms)
    figure.supxlabel(f"{terms} = {step.result:g}", fontsize=10)


def filters(figure: Figure) -> None:
    """Eight kernels on one photograph."""
    photo = photograph()
    names = [
        "identity",
        "mean:9",
        "gaussian:9",
        "sharpen",
        "sobel-x",
        "sobel",
        "laplacian",
        "emboss",
    ]
    for axes, name in zip(figure.subplots(2, 4).flat, names, strict=True):
        if name in ("sobel-x", "laplacian"):  # signed: gray is 0
            signed = eyeshot.filter(photo, name, padding="reflect", range="keep").mean(-1)
            _bare(axes, name).imshow(signed, cmap="gray", vmin=-120, vmax=120)
        else:
            _bare(axes, name).imshow(eyeshot.filter(photo, name, padding="reflect"))


def inspect(figure: Figure) -> None:
    """What one unit of each layer sees, along one row of the input."""
    net = TwoScales().eval()
    found = eyeshot.inspect(net, (1, 32, 32))
    layers = ["first", "pool", "deep", "up", "last"]
    axes = figure.subplots()
    for height, name in enumerate(reversed(layers)):
        (row,) = [row for row in found.rows if row.name == name]
        scale = 32 // row.shape[-1]
        for unit, color in ((16 // scale, BLUE), (16 // scale + 1, ORANGE)):
            seen = _columns(found, name, unit)
            y = height + (0.12 if color == ORANGE else -0.12)
            axes.plot([seen.lo, seen.hi], [y, y], color=color, linewidth=6, solid_capstyle="butt")
            axes.plot((unit + 0.5) * scale, y, "o", color=DARK, markersize=4)
    axes.set_yticks(range(len(layers)), list(reversed(layers)))
    axes.set_xticks(range(8, 28))
    axes.set_xlim(7, 28)
    axes.grid(axis="x", color=PALE)
    axes.set_xlabel("column of the input")
    axes.set_title(
        "the columns that two neighboring units of each layer see; the dot is where the unit lies",
        fontsize=10,
    )


def _tiled(net: nn.Module, x: torch.Tensor, tile: int, overlap: int) -> torch.Tensor:
    """The outputs of tiles, each cut in the middle of its overlaps."""
    side = x.shape[-1]
    starts = [*range(0, side - tile, tile - overlap), side - tile]
    cuts = [0, *((a + tile + b) // 2 for a, b in pairwise(starts)), side]
    found = torch.zeros_like(net(x))
    for i, top in enumerate(starts):
        for j, left in enumerate(starts):
            part = net(x[..., top : top + tile, left : left + tile])
            rows, columns = slice(cuts[i], cuts[i + 1]), slice(cuts[j], cuts[j + 1])
            inner = part[
                ..., cuts[i] - top : cuts[i + 1] - top, cuts[j] - left : cuts[j + 1] - left
            ]
            found[..., rows, columns] = inner
    return found


@torch.no_grad()
def audit(figure: Figure) -> None:
    """How far tiles are from the whole pass, with a small overlap and with the exact one."""
    net, x = TwoScales().eval(), torch.rand(1, 1, 176, 176)
    remedy = eyeshot.audit(net, tile=64, overlap=8).remedy
    assert remedy is not None
    whole = net(x)
    panels = figure.subplots(1, 2)
    for axes, overlap in zip(panels, (8, remedy.overlap[0]), strict=True):
        apart = (_tiled(net, x, 64, overlap) - whole).abs().amax(1)[0].numpy()
        wrong = (apart > 1e-5 * float(whole.abs().max())).mean()
        shown = axes.imshow(apart.clip(1e-7), norm=LogNorm(1e-7, 1e-1), cmap="magma")
        _bare(axes, f"overlap {overlap}: {wrong:.2%} of the pixels wrong")
    figure.colorbar(shown, ax=panels, label="difference from one pass", shrink=0.8)


def export(figure: Figure) -> None:
    """A block of another tool: what it reads, and what of it is right."""
    net = TwoScales().eval()
    geometry = eyeshot.output_geometry(net)
    halo, step = int(np.max(geometry.halo)), geometry.alignment
    halo += -halo % step
    side, block = 96, 48
    axes = _bare(figure.subplots())
    axes.add_patch(Rectangle((0, 0), side, side, facecolor=PALE, edgecolor=GRAY))
    axes.add_patch(Rectangle((24, 24), block, block, facecolor="#f6c99f", edgecolor=ORANGE))
    inner = block - 2 * halo
    axes.add_patch(Rectangle((24 + halo, 24 + halo), inner, inner, facecolor=BLUE, edgecolor=BLUE))
    for place in range(24, 24 + block + 1, step):
        axes.plot([place, place], [22.5, 24], color=DARK, linewidth=0.7)
    axes.text(48, 48, f"kept: {inner}×{inner}", color="white", ha="center", va="center")
    axes.annotate(
        f"halo {halo}: read, not kept", (24 + halo / 2, 60), (-48, 62), fontsize=9,
        arrowprops={"arrowstyle": "->", "color": ORANGE},
    )  # fmt: skip
    axes.annotate(
        f"a block of {block}×{block} starts on the grid of {step}", (36, 23), (102, 14), fontsize=9,
        arrowprops={"arrowstyle": "->", "color": DARK},
    )  # fmt: skip
    axes.text(102, 84, "the image", fontsize=9, color=GRAY)
    axes.set_xlim(-50, 175)
    axes.set_ylim(98, -2)
    axes.set_aspect("equal")


def network(figure: Figure) -> None:
    """From what people have to what they ask."""
    axes = _bare(figure.subplots())
    axes.set_xlim(0, 10.6)
    axes.set_ylim(-0.1, 4.9)
    left = ["net.py:Net", "net.pt2", "net.onnx", "a run folder"]
    right = ["inspect", "see, explain", "run, audit", "export, studio"]
    for place, (source, use) in enumerate(zip(left, right, strict=True)):
        y = 3.9 - 1.2 * place
        _box(axes, 0, y, source)
        _box(axes, 8.2, y, use, BLUE)
        _arrow(axes, (2.2, y + 0.4), (4.0, 2.5))
        _arrow(axes, (6.6, 2.5), (8.2, y + 0.4))
    rows = eyeshot.inspect(TwoScales().eval(), (1, 32, 32)).rows
    axes.add_patch(
        Rectangle((4.0, 0.6), 2.6, 3.7, facecolor="white", edgecolor=TEAL, linewidth=1.5)
    )
    axes.text(5.3, 4.45, "one Graph", ha="center", color=TEAL, fontsize=11)
    for place, row in enumerate(rows):
        text = f"{row.name}  {'×'.join(map(str, row.shape))}"
        axes.text(4.2, 4.03 - 0.46 * place, text, fontsize=9, color=DARK, va="center")


def cluster(figure: Figure) -> None:
    """Blocks of the output, and the part of the image that one of them reads."""
    net, side, block = TwoScales().eval(), 128, 32
    found = eyeshot.inspect(net, (1, side, side))
    axes = _bare(figure.subplots())
    colors = [PALE, "#cfe3d4", "#f6e0c8"]
    for number in range((side // block) ** 2):
        row, column = divmod(number, side // block)
        at = (column * block, row * block)
        face = colors[number % 3]
        axes.add_patch(Rectangle(at, block, block, facecolor=face, edgecolor="white", linewidth=2))
        axes.text(at[0] + 3, at[1] + 9, str(number), color=GRAY, fontsize=9)
    first, last = (_columns(found, "last", n) for n in (32, 63))
    start, length = first.lo, last.hi - first.lo
    axes.add_patch(
        Rectangle((start, start), length, length, fill=False, edgecolor=ORANGE, linewidth=2)
    )
    axes.annotate(
        f"block 5 reads {length}×{length} pixels\nof the image for its {block}×{block}",
        (start + length, start + 8), (136, 34), fontsize=9, va="center",
        arrowprops={"arrowstyle": "->", "color": ORANGE},
    )  # fmt: skip
    for place, face in enumerate(colors):
        axes.add_patch(Rectangle((136, 74 + 16 * place), 12, 10, facecolor=face, edgecolor=GRAY))
        axes.text(152, 79 + 16 * place, f"worker {place + 1}", fontsize=9, va="center")
    axes.set_xlim(-2, 235)
    axes.set_ylim(130, -2)
    axes.set_aspect("equal")


def reads(function: Callable[[torch.Tensor], torch.Tensor], size: int = 12) -> NDArray[np.bool_]:
    """(outputs, inputs): whether an output changes when one input does, on random numbers."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, 1, size, generator=generator)
    before = function(x)
    found = []
    for place in range(size):
        changed = torch.zeros(before.shape[-1], dtype=torch.bool)
        for step in (0.3, -2.0, 5.0):
            other = x.clone()
            other[0, 0, place] += step
            changed |= (function(other) != before)[0, 0]
        found.append(changed.numpy())
    return np.stack(found, axis=1)


def operators(figure: Figure) -> None:
    """Which inputs each output reads, of one operator of each kind, by changing one input."""
    kinds: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "local\ntanh": torch.tanh,
        "windowed\nconv1d, kernel 3": lambda x: nn.functional.conv1d(x, torch.ones(1, 1, 3)),
        "statistic\nx − x.mean()": lambda x: x - x.mean(-1, keepdim=True),
        "held\nsort": lambda x: x.sort(-1).values,
    }
    panels = figure.subplots(1, 4)
    for axes, (title, function) in zip(panels, kinds.items(), strict=True):
        table = reads(function)
        axes.pcolormesh(table, cmap="Blues", vmin=0, vmax=1.4, edgecolors="white", linewidth=1)
        axes.invert_yaxis()
        axes.set_aspect("equal")
        _bare(axes, title).set_xlabel("input", fontsize=9)
    panels[0].set_ylabel("output", fontsize=9)


def digits(figure: Figure) -> None:
    """The digits in the package, and a photo on its way to one."""
    left, middle, right = figure.subplots(1, 3, width_ratios=[2.2, 1, 1])
    part = data.load("digits").test
    labels = part.labels.numpy()
    rows = [
        np.hstack([*part.images[np.flatnonzero(labels == k)[:12], 0].numpy()]) for k in range(10)
    ]
    _bare(left, "ten classes, 28×28").imshow(np.vstack(rows), cmap="gray")
    three = part.images[int(np.flatnonzero(labels == 3)[0]), 0].numpy()
    ink = np.asarray(Image.fromarray(three).resize((240, 240), Image.Resampling.BICUBIC))
    paper = 215 + 25 * np.linspace(0, 1, 420)[None, :] * np.ones((400, 1))
    paper[90:330, 120:360] -= ink * 0.75
    photo = (paper + np.random.default_rng(0).normal(0, 4, paper.shape)).clip(0, 255)
    _bare(middle, "a photo").imshow(photo, cmap="gray", vmin=0, vmax=255)
    prepared, _ = data.prepare_picture(
        photo.astype(np.uint8), channels=1, size=(28, 28), digit=True
    )
    _bare(right, "as the network gets it").imshow(prepared[0], cmap="gray")


def pairs(figure: Figure) -> None:
    """A crop and its mask, changed together."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        rows, columns = np.mgrid[:90, :120]
        generator = np.random.default_rng(0)
        for number in range(10):
            inside = np.hypot(rows - 40, columns - 30 - 6 * number) < 25
            inside |= (np.abs(rows - 70) < 8) & (np.abs(columns - 40) < 30)
            noisy = 90 + 70 * inside + generator.normal(0, 12, inside.shape)
            for side, samples in (("image", noisy.clip(0, 255)), ("label", 255 * inside)):
                (folder / side).mkdir(exist_ok=True)
                images.write(folder / side / f"{number}.png", samples.astype(np.uint8))
        sampler = data.CropSampler(data.load_pairs(folder), (72, 72), halo=10, seed=0)
        crops = sampler.batch(epoch=0, step=0, count=4)
        batches = [crops, *(augment_crops(crops, AUGMENTATIONS, seed=(0, 0, n)) for n in (1, 2, 3))]
    panels = figure.subplots(2, 4)
    for column, batch in enumerate(batches):
        title = "a crop" if column == 0 else "changed at random"
        _bare(panels[0, column], title).imshow(batch.images[0, 0], cmap="gray", vmin=0, vmax=1)
        mask = np.where(batch.valid[0], batch.targets[0], batch.targets[0] * 0.6 + 0.2)
        _bare(panels[1, column]).imshow(mask, cmap="Blues", vmin=-0.1, vmax=1.2)
    panels[0, 0].set_ylabel("image")
    panels[1, 0].set_ylabel("mask")


def training(figure: Figure) -> None:
    """The table of a run of the bundled digits."""
    with TemporaryDirectory() as name:
        run = eyeshot.train("digits", out=Path(name) / "run", progress=False)
        lines = (run.path / "metrics.csv").read_text().splitlines()
    names, *rows = (line.split(",") for line in lines)
    table = {name: [float(row[place]) for row in rows] for place, name in enumerate(names)}
    left, right = figure.subplots(1, 2)
    epochs = table["epoch"]
    for key, color, label in (("loss", ORANGE, "training"), ("test_loss", BLUE, "test digits")):
        left.plot(epochs, table[key], "o-", color=color, label=label)
    for key, color, label in (
        ("accuracy", ORANGE, "training"),
        ("test_accuracy", BLUE, "test digits"),
    ):
        right.plot(epochs, [100 * value for value in table[key]], "o-", color=color, label=label)
    for axes, title in ((left, "loss"), (right, "right, in percent")):
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("epoch")
        axes.grid(color=PALE)
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)


def findings(figure: Figure) -> None:
    """How often pixels are read or written: three findings of the page, counted."""
    ones = torch.ones(1, 1, 15, 15)
    image = ones.clone().requires_grad_()
    (pooled,) = torch.autograd.grad(4 * nn.functional.avg_pool2d(image, 2).sum(), image)
    up = nn.functional.conv_transpose2d(torch.ones(1, 1, 7, 7), torch.ones(1, 1, 3, 3), stride=2)
    inside = ones
    for _ in range(3):
        inside = nn.functional.conv2d(inside, torch.full((1, 1, 3, 3), 1 / 9), padding=1)
    maps = {
        "pixels dropped: a pool by 2\nnever reads the last row": pooled[0, 0],
        "checkerboard: a kernel of 3, stride 2\nsums 1, 2 or 4 inputs": up[0, 0],
        "zero padding: weight of pixels,\nnot zeros, after three layers": inside[0, 0],
    }
    for axes, (title, values) in zip(figure.subplots(1, 3), maps.items(), strict=True):
        axes.pcolormesh(values, cmap="Blues", edgecolors="white", linewidth=0.6)
        axes.invert_yaxis()
        axes.set_aspect("equal")
        axes.add_patch(Rectangle((0, 0), 15, 15, fill=False, edgecolor=GRAY, linewidth=1.5))
        _bare(axes).set_title(title, fontsize=9)


def paddle(figure: Figure) -> None:
    """One linear layer in both layouts, and its first weights in both."""
    torch.manual_seed(0)
    weight = nn.Linear(12, 5).weight.detach()
    left, right = figure.subplots(1, 2, width_ratios=[12, 5])
    left.imshow(weight.numpy(), cmap="RdBu")
    right.imshow(weight.T.numpy(), cmap="RdBu")
    _bare(left, "PyTorch: (out, in) = (5, 12)").set_xlabel("input")
    left.set_ylabel("output")
    _bare(right, "PaddlePaddle: (in, out) = (12, 5)").set_xlabel("output")
    right.set_ylabel("input")


def definitions(figure: Figure) -> None:
    """A transposed convolution by inserted zeros."""
    small = np.array([[1.0, 2.0], [3.0, 4.0]])[None, None]
    kernel = np.array([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]])[None, None]
    spread = reference.insert_zeros(small, (2, 2))
    padded = reference.pad(spread, ((2, 2), (2, 2)))
    out = reference.conv_transpose(small, kernel, stride=2)
    cells = {(int(i), int(j)) for i, j in np.argwhere(padded[0, 0])}
    panels = figure.subplots(1, 4, width_ratios=[2, 7, 3, 5])
    _numbers(panels[0], small[0, 0], {(i, j) for i in (0, 1) for j in (0, 1)}, BLUE)
    _numbers(panels[1], padded[0, 0], cells, BLUE)
    _numbers(panels[2], kernel[0, 0], set(), BLUE)
    _numbers(panels[3], out[0, 0], {(2, 2)}, TEAL)
    titles = ["input", "zeros inserted, padded", "kernel", "transposed convolution, stride 2"]
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, fontsize=10)


def floors() -> list[tuple[str, str]]:
    """The list of ``docs/architecture.md``: packages of a floor, and what they are for."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    (listed,) = re.findall(r"<!-- floors.*?```text\n(.*?)```", text, re.DOTALL)
    rows = [
        re.split(r"\s{3,}|(?<=\w)  (?=everything|networks)", line) for line in listed.splitlines()
    ]
    return [(row[0].strip(), row[1].strip() if len(row) > 1 else "") for row in rows]


def house(figure: Figure) -> None:
    """The floors, from the page's own list."""
    axes = _bare(figure.subplots())
    found = floors()
    for place, (packages, words) in enumerate(found):
        y = len(found) - place
        shade = plt.get_cmap("Blues")(0.08 + 0.4 * place / len(found))
        axes.add_patch(Rectangle((0, y), 10, 0.9, facecolor=shade, edgecolor="white"))
        axes.text(
            0.15, y + 0.42, "  ".join(packages.split()), fontsize=8.5, va="center", color=DARK
        )
        axes.text(9.85, y + 0.42, words, fontsize=8, va="center", ha="right", color="#46535f")
    axes.annotate("", (10.35, 1), (10.35, len(found) + 0.9), arrowprops={"arrowstyle": "->"})
    axes.text(10.45, len(found) / 2, "imports", rotation=270, va="center", fontsize=9)
    axes.set_xlim(0, 10.8)
    axes.set_ylim(0.9, len(found) + 1)


def terms(figure: Figure) -> None:
    """Six words of the glossary in one drawing."""
    walk = walk_conv(
        read_matrix("1 2 0 1/0 1 3 1/2 0 1 0/1 1 0 2"), np.ones((3, 3)), stride=2, padding=1
    )
    left, right = figure.subplots(1, 2, width_ratios=[7, 4])
    _numbers(left, walk.read, {term.at for term in walk.steps[1].terms}, BLUE)
    for row, column in np.argwhere(walk.made):
        if (row, column) not in {term.at for term in walk.steps[1].terms}:
            left.add_patch(Rectangle((column, row), 1, 1, facecolor="#e9e9e9", edgecolor=GRAY))
            left.text(column + 0.5, row + 0.53, "0", ha="center", va="center", color=GRAY)
    left.annotate("padding", (0.5, 5.5), (-2.2, 6.4), arrowprops={"arrowstyle": "->"})
    left.annotate("", (3.5, -0.35), (1.5, -0.35), arrowprops={"arrowstyle": "->", "color": ORANGE})
    left.text(2.5, -0.5, "stride 2", ha="center", va="bottom", color=ORANGE)
    left.annotate(
        "the kernel, 3×3, lies on a patch:\nthe receptive field of one unit", (5, 1.5), (6.4, 0.4),
        color=BLUE, arrowprops={"arrowstyle": "->", "color": BLUE},
    )  # fmt: skip
    left.set_xlim(-2.4, 12.5)
    left.set_ylim(6.9, -1.2)
    _numbers(right, walk.output, {(0, 1)}, TEAL)
    right.set_title("feature map: a unit for each place", fontsize=10)
    right.set_xlim(-0.6, 3.4)
    right.set_ylim(2.6, -0.6)


def weights(figure: Figure) -> None:
    """What "72 weights" leaves out: the parameters of the network that a tutorial counts."""
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3))
    rows = [row for row in eyeshot.inspect(net.eval(), (1, 28, 28)).rows if row.cost.parameters]
    axes = figure.subplots()
    for place, layer in enumerate(net[int(row.name)] for row in rows):
        assert isinstance(layer, nn.Conv2d)
        count, biases = layer.weight.numel(), layer.out_channels
        axes.barh(place, count, color=BLUE)
        axes.barh(place, biases, left=count, color=ORANGE)
        text = f"{count:,} weights + {biases} biases = {count + biases:,} parameters"
        axes.text(count + biases + 15, place, text, va="center", fontsize=9)
    axes.set_yticks([0, 1], ["8 filters of 1×3×3", "16 filters of 8×3×3"])
    axes.invert_yaxis()
    axes.set_xlim(0, 2600)
    axes.spines[["top", "right"]].set_visible(False)


def first_steps(figure: Figure) -> None:
    """What the network of ``docs/start.md`` gives for a photograph."""
    names: dict[str, type[nn.Module]] = {}
    (block,) = [one for one in blocks(ROOT / "docs" / "start.md") if one.saved_as == "net.py"]
    exec(compile(block.text, "net.py", "exec"), names)
    photo = photograph().mean(-1, keepdims=True).transpose(2, 0, 1).astype(np.uint8)
    scores = eyeshot.run(names["Bright"]().eval(), photo)
    panels = figure.subplots(1, 3)
    _bare(panels[0], "image").imshow(photo[0], cmap="gray")
    _bare(panels[1], "score of class 1").imshow(scores[1], cmap="RdBu_r", vmin=-0.5, vmax=0.5)
    _bare(panels[2], "mask").imshow(scores.argmax(0), cmap="gray")


def speeds() -> tuple[list[str], dict[str, list[float]]]:
    """The engines of the first table of ``docs/benchmarks.md``, and Eyeshot's speed beside each.

    Returns:
        The names of the engines, and for each network that has them all its speeds.
    """
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    (head,) = re.findall(r"^\| network, pixels \| (.+) \|$", text, re.MULTILINE)
    engines = [name.replace("`", "") for name in head.split(" | ")]
    rows = re.findall(r"^\| ([^|]+) \|((?: [\d.]+ \([\d.]+\) \|)+)$", text, re.MULTILINE)
    numbers = {name: [float(one) for one in re.findall(r" ([\d.]+) \(", row)] for name, row in rows}
    return engines, {name: found for name, found in numbers.items() if len(found) == len(engines)}


def benchmarks(figure: Figure) -> None:
    """The speeds of the page, a bar for each engine."""
    axes = figure.subplots()
    engines, networks = speeds()
    colors = (GRAY, TEAL, ORANGE, BLUE)
    thick = 0.8 / len(engines)
    for i, (engine, color) in enumerate(zip(engines, colors, strict=True)):
        places = [row + thick * (i - (len(engines) - 1) / 2) for row in range(len(networks))]
        values = [found[i] for found in networks.values()]
        axes.barh(places, [value - 1 for value in values], thick, left=1, color=color, label=engine)
        for place, value in zip(places, values, strict=True):
            side = "left" if value >= 1 else "right"
            shift = 1.03 if value >= 1 else 0.97
            axes.text(value * shift, place, f"{value:g}", va="center", ha=side, fontsize=7)
    axes.set_yticks(range(len(networks)), [name.rpartition(", ")[0] for name in networks])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(0.25, 7)
    axes.set_xticks([0.5, 1, 2, 5], ["0.5", "1", "2", "5"])
    axes.minorticks_off()
    axes.axvline(1, color=DARK, linewidth=0.8)
    axes.set_title("Eyeshot's speed, as a multiple of theirs", fontsize=10)
    axes.legend(fontsize=7, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)


PAGES: dict[str, tuple[Draw, tuple[float, float]]] = {
    "start": (first_steps, (8, 3)),
    "explain": (explain, (8, 3)),
    "filters": (filters, (8, 4.2)),
    "inspect": (inspect, (8, 3)),
    "audit": (audit, (8, 3.6)),
    "export": (export, (8, 3.6)),
    "bring-your-network": (network, (8, 3.6)),
    "cluster": (cluster, (8, 4.2)),
    "operators": (operators, (8, 2.7)),
    "data": (digits, (8, 3.2)),
    "pairs": (pairs, (8, 4.2)),
    "training": (training, (8, 3)),
    "findings": (findings, (8, 3)),
    "paddle": (paddle, (8, 2.8)),
    "reference": (definitions, (8, 2.8)),
    "architecture": (house, (8, 5)),
    "glossary": (terms, (8, 3.2)),
    "benchmarks": (benchmarks, (8, 4.4)),
    "tutorials": (weights, (8, 1.9)),
}
"""For each page: what draws its picture, and the size in inches, at 100 dots."""


def draw(name: str, folder: Path = PICTURES) -> Path:
    """Draw the picture of a page into ``page_NAME.png`` of a folder, and return its path."""
    function, size = PAGES[name]
    figure = plt.figure(figsize=size, dpi=100, layout="constrained")
    torch.manual_seed(0)
    function(figure)
    path = folder / f"page_{name}.png"
    figure.savefig(path, facecolor="white")
    plt.close(figure)
    with open_image(path) as picture:
        picture.convert("RGB").quantize(128).save(path, optimize=True)
    return path


if __name__ == "__main__":
    for one in sys.argv[1:] or PAGES:
        kept = draw(one)
        print(f"{kept.relative_to(ROOT)}  {kept.stat().st_size:,} bytes")
