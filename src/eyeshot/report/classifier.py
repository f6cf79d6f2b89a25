"""The report of a classifier: its data, its mistakes, how it learned, and what its layers do."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from eyeshot import filters, images
from eyeshot.data import Data
from eyeshot.data.pixels import reduce
from eyeshot.evaluation import Evaluation, evaluate, load_test_data
from eyeshot.extras import extra
from eyeshot.features import Features, LayerMaps, Step, see
from eyeshot.features.feature_maps import exhibit
from eyeshot.pages import Bars, Card, Cards, Figure, Image, Matrix, Part, Plot, Section, Table, Text
from eyeshot.pictures import (
    Curve,
    color_kernels,
    color_maps,
    curves_svg,
    data_uri,
    mosaic,
    reduce_picture,
)
from eyeshot.report.curves import read_epochs
from eyeshot.runs import METRICS, Run


@dataclass(frozen=True, eq=False)
class Material:
    """The data of a classifier's report.

    Attributes:
        run: the run.
        data: the data it is tested on.
        evaluation: its predictions for ``data.test``.
        epochs: the rows of ``metrics.csv``; empty if there is no such file.
        shown: the index in ``data.test`` of the picture that is followed through the layers.
        features: the maps of that picture.
    """

    run: Run
    data: Data
    evaluation: Evaluation
    epochs: tuple[dict[str, float], ...]
    shown: int
    features: Features

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.run.config.classes

    def picture(self, index: int) -> NDArray[np.uint8]:
        """Picture ``index`` of the test set, (H, W, C)."""
        pixels, _ = self.data.test.take([index])
        return np.ascontiguousarray(reduce(pixels[0].numpy()).transpose(1, 2, 0))

    def truth(self, index: int) -> str:
        """The true class of picture ``index`` of the test set."""
        return self.classes[int(self.evaluation.labels[index])]

    def answer(self, index: int) -> tuple[str, float]:
        """The predicted class of picture ``index`` of the test set, and its probability, 0…1."""
        probability, predicted = self.evaluation.probabilities[index].max(0)
        return self.classes[int(predicted)], float(probability)


def gather(run: Run, data: Data | None = None) -> Material:
    """Evaluate the run and follow one picture through it.

    Raises:
        BadFile: the data of the run, or its ``metrics.csv``, cannot be read.
        BadValue: ``data`` has other classes than the network.
    """
    loaded = load_test_data(run) if data is None else data
    evaluation = evaluate(run, loaded)
    shown = _choose(evaluation)
    pixels, _ = loaded.test.take([shown])
    features = see(run.net, run.normalize(pixels))
    epochs = read_epochs(run.path / METRICS, _columns(run))
    return Material(run, loaded, evaluation, epochs, shown, features)


def _columns(run: Run) -> tuple[str, ...]:
    """The columns of ``metrics.csv`` that are shown."""
    part = run.config.judged_by
    return ("epoch", "loss", "accuracy", f"{part}_loss", f"{part}_accuracy")


def _choose(evaluation: Evaluation) -> int:
    """The first picture that is classified correctly; if there is none, the first picture."""
    right = evaluation.probabilities.argmax(1) == evaluation.labels
    return int(right.int().argmax())


MISTAKES = 24
_LARGEST_TABLE = 26  # classes: a larger matrix is drawn as a picture
_PAIRS = 6


def confusion_section(material: Material) -> Section:
    """The confusion matrix, the pairs most often mixed up, and each class's figures."""
    evaluation = material.evaluation
    wrong = int(evaluation.confusion.sum() - np.trace(evaluation.confusion))
    parts: list[Part] = [_matrix(material)]
    if wrong:
        parts.append(Text(f"Most often mixed up: {_worst_pairs(material)}."))
    parts.append(_per_class(material))
    says = (
        f"Each row is what the {evaluation.count:,} held-out pictures truly show, each column what "
        "the network predicted: the diagonal is right, and everything beside it is a mistake."
    )
    return Section("confusion", "What it mixes up", says, parts)


def mistakes_section(material: Material) -> Section:
    """The wrongly classified pictures, those with the highest probability first."""
    wrong = material.evaluation.mistakes().tolist()
    if not wrong:
        says = f"There are none: all {material.evaluation.count:,} held-out pictures are right."
        return Section("mistakes", "Its surest mistakes", says)
    shown = wrong[:MISTAKES]
    number = f"The {len(shown)} of {len(wrong)}" if len(wrong) > len(shown) else f"All {len(wrong)}"
    says = (
        f"{number} mistakes of which it was surest, the surest first; often it is the picture that "
        "could be read either way."
    )
    cards = [_mistake(material, index) for index in shown]
    return Section("mistakes", "Its surest mistakes", says, [Cards(cards, width=112)])


def answer_bars(material: Material, most: int = 10) -> Bars:
    """The class probabilities of the picture that is followed through the layers."""
    shares = material.evaluation.probabilities[material.shown]
    if len(shares) <= most:
        order = list(range(len(shares)))
    else:
        order = shares.argsort(descending=True, stable=True)[:most].tolist()
    bars = [(material.classes[index], float(shares[index])) for index in order]
    return Bars("The answer: how likely each class is, as the last layer says", bars)


def _mistake(material: Material, index: int) -> Card:
    truth = material.truth(index)
    predicted, sure = material.answer(index)
    alt = f"Held-out picture {index}: truly {truth}, taken for {predicted}"
    image = Image(data_uri(material.picture(index)), alt, width=104)
    return Card([image], f"{truth} taken for {predicted}", f"{sure:.1%} sure")


def _matrix(material: Material) -> Part:
    counts = material.evaluation.confusion
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    if len(counts) > _LARGEST_TABLE:
        picture = mosaic(color_maps(shares[None]), side=780)
        alt = f"Confusion matrix of {len(counts)} classes: bright beside the diagonal is a mistake"
        return Figure(Image(data_uri(picture), alt), note="rows: truth, columns: answers")
    cells = [
        [
            (int(count), float(share), row == column)
            for column, (count, share) in enumerate(zip(*pair, strict=True))
        ]
        for row, pair in enumerate(zip(counts, shares, strict=True))
    ]
    return Matrix(material.classes, cells, "truth", "answer")


def _worst_pairs(material: Material) -> str:
    counts = material.evaluation.confusion * (1 - np.eye(len(material.classes), dtype=np.int64))
    order = np.argsort(-counts, axis=None, kind="stable")[:_PAIRS]
    pairs = [divmod(int(place), len(counts)) for place in order]
    return ", ".join(
        f"{material.classes[truth]} taken for {material.classes[predicted]} "
        f"({_times(int(counts[truth, predicted]))})"
        for truth, predicted in pairs
        if counts[truth, predicted]
    )


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _per_class(material: Material) -> Table:
    def say(share: float | None) -> str:
        return "–" if share is None else f"{share:.1%}"

    rows = [
        [result.name, f"{result.count:,}", say(result.recall), say(result.precision)]
        for result in material.evaluation.per_class
    ]
    head = ["class", "pictures", "found (recall)", "right when predicted (precision)"]
    return Table(head, rows, folded="Each class by itself")


LEGEND = (("while learning", "train"), ("held-out pictures", "test"))


def learning_section(material: Material) -> Section:
    """Learning curves, and their numbers in a folded table."""
    rows = material.epochs
    if not rows:
        return Section(
            "learning",
            "How it learned",
            "The run folder has no metrics.csv, so the curves of the training are not known.",
        )
    says = (
        f"In each of {len(rows)} epochs the network {_epoch(material)}; after each it was tested "
        "on pictures that it never learns from."
        if len(rows) > 1
        else f"In one epoch the network {_epoch(material)}; then it was tested on pictures that it "
        "never learns from."
    )
    return Section(
        "learning",
        "How it learned",
        says,
        [
            _plot(material, "Accuracy: the share that is right", "accuracy", "accuracy", True),
            _plot(material, "Loss: how wrong, and how sure of it", "loss", "loss"),
            _numbers(material),
        ],
    )


def _epoch(material: Material) -> str:
    """What the network does in an epoch; the number of pictures is known for its own data only."""
    recipe, count = material.run.config.recipe, len(material.data.train)
    if recipe.steps:
        return f"took {recipe.steps:,} steps on {recipe.batch_size:,} pictures each"
    return (
        f"saw all {count:,} pictures it learns from once"
        if count
        else ("saw the pictures it learns from once")
    )


def _plot(material: Material, title: str, column: str, y_label: str, percent: bool = False) -> Plot:
    curves = [
        Curve(name, [(row["epoch"], row[prefix + column]) for row in material.epochs], style)
        for (name, style), prefix in zip(
            LEGEND, ("", f"{material.run.config.judged_by}_"), strict=True
        )
    ]
    svg = curves_svg(curves, title=title, x_label="epoch", y_label=y_label, percent=percent)
    return Plot(title, svg, LEGEND, "" if percent else _harder(material))


def _harder(material: Material) -> str:
    """Why the training loss may be above the held-out loss, if the recipe is the reason."""
    recipe = material.run.config.recipe
    made = [
        *(["shifts each picture at random"] if recipe.shift else []),
        *(["smooths the labels"] if recipe.label_smoothing else []),
    ]
    return f"Training {' and '.join(made)}, which keeps its loss up." if made else ""


def _numbers(material: Material) -> Table:
    head = ["epoch", "loss", "accuracy", "held-out loss", "held-out accuracy"]
    forms = ("{:.0f}", "{:.4f}", "{:.2%}", "{:.4f}", "{:.2%}")
    rows = [
        [form.format(row[name]) for form, name in zip(forms, _columns(material.run), strict=True)]
        for row in material.epochs
    ]
    return Table(head, rows, words=0, folded="The numbers")


_SIDE = 84  # CSS pixels of a kernel and of its map


def kernels_section(material: Material) -> Section | None:
    """Every kernel of the first convolution, each next to its map of the picture."""
    first = _first_convolution(material)
    if first is None:
        return None
    name, layer, step = first
    weights = layer.weight.detach().numpy()
    high, wide = weights.shape[2:]
    maps = color_maps(step.maps)
    cards = [
        Card(
            [
                Image(data_uri(kernel), _kernel_alt(name, number, weights[number]), _SIDE),
                Image(data_uri(drawn), f"Map {number} after {step.title}", _SIDE),
            ],
            f"kernel {number}",
            "dead: its map is 0 everywhere" if step.dead[number] else "",
        )
        for number, (kernel, drawn) in enumerate(zip(color_kernels(weights), maps, strict=True))
    ]
    colors = (
        "its three colors are drawn as colors, with gray for 0"
        if weights.shape[1] == 3
        else "red adds, blue subtracts, white does nothing"
    )
    says = (
        f"The first layer ({name}) looks at the picture through {len(weights)} windows of "
        f"{high}×{wide} pixels that it learned ({colors}); beside each is the map it makes."
    )
    return Section("kernels", "Every kernel of the first layer", says, [Cards(cards, 190)])


def steps_section(material: Material) -> Section:
    """The maps of one picture after each step, and the answer at the end."""
    truth = material.truth(material.shown)
    modules = dict(material.run.net.named_modules())
    image = Image(data_uri(material.picture(material.shown)), f"The picture: {truth}", width=140)
    high, wide = material.run.config.size
    parts: list[Part] = [Figure(image, "The picture", f"{truth}, {high}×{wide} pixels")]
    for step in material.features.steps:
        if step.maps.ndim == 3 and step.maps.shape[1] * step.maps.shape[2] > 1:
            parts.append(_step_figure(step, modules))
    parts.append(answer_bars(material))
    says = (
        f"One held-out picture, “{truth}”, as it passes through the network; in each map bright "
        "means much of what its kernel looks for, and black means none."
    )
    return Section("steps", "What each step sees", says, parts)


def parameters_section(material: Material) -> Section:
    """Parameters of each layer, compared with a fully connected layer of the same sizes."""
    layers = [layer for layer in material.features.layers if layer.parameters]
    rows = [_cost_row(layer) for layer in layers]
    own = sum(layer.parameters - layer.shared for layer in layers)
    equal = sum(fully_connected(layer) for layer in layers)
    head = ["layer", "what it is", "in", "out", "parameters", "fully connected", "ratio"]
    total = ["all", "", "", "", f"{own:,}", f"{equal:,}", _ratio(own, equal)]
    says = (
        "A convolution uses the same few weights at every place; a fully connected layer from c₁ "
        "maps of h₁×w₁ to c₂ maps of h₂×w₂ needs c₁·h₁·w₁·c₂·h₂·w₂ weights of its own."
    )
    table = Table(head, rows, total=total, words=4)
    return Section("parameters", "What the layers cost", says, [table])


def fully_connected(layer: LayerMaps) -> int:
    """Weights of a fully connected layer with the same inputs and outputs: c₁·h₁·w₁·c₂·h₂·w₂."""
    return math.prod(layer.input_shape) * math.prod(layer.maps.shape)


def _cost_row(layer: LayerMaps) -> list[str]:
    equal = fully_connected(layer)
    return [
        layer.name,
        layer.title,
        _by(layer.input_shape),
        _by(layer.maps.shape),
        f"{layer.parameters:,}" if not layer.shared else _new(layer),
        f"{equal:,}",
        _ratio(layer.parameters, equal),
    ]


def _new(layer: LayerMaps) -> str:
    """The parameters of a layer that shares some with an earlier one."""
    new = layer.parameters - layer.shared
    return f"{new:,} and {layer.shared:,} shared" if new else f"the {layer.shared:,} shared"


def _ratio(own: int, equal: int) -> str:
    times = equal / own
    return f"{times:,.0f}×" if times >= 10 else f"{times:.2g}×"


def _step_figure(step: Step, modules: dict[str, nn.Module]) -> Figure:
    shown = exhibit(step.layers[-1])
    count, high, wide = step.maps.shape
    dead = int(step.dead.sum())
    note = " ".join(
        [
            *_explanation(step, modules),
            f"{count} maps of {high}×{wide}.",
            *([f"{dead} of them are 0 everywhere (crossed out)."] if dead else []),
        ]
    )
    alt = f"{count} feature maps after {step.title} ({step.name})"
    return Figure(Image(data_uri(shown.picture), alt), f"{step.title} ({step.name})", note)


def _explanation(step: Step, modules: dict[str, nn.Module]) -> list[str]:
    """A sentence about each layer of a step, for the kinds in ``_EXPLAIN``."""
    sentences = []
    for layer in step.layers:
        module = modules.get(layer.name)
        explain = _EXPLAIN.get(type(module)) if module is not None else None
        if module is not None and explain is not None:
            sentences.append(explain(module))
    return sentences


def _say_convolution(module: nn.Module) -> str:
    if not isinstance(module, nn.Conv2d):
        return ""
    high, wide = module.kernel_size
    depth = module.in_channels // module.groups
    before = "the picture" if depth == 1 else f"all {depth} maps before it"
    return f"Each kernel slides over {before} and sums {high}×{wide}×{depth} products."


def _say_pool(module: nn.Module) -> str:
    if not isinstance(module, nn.MaxPool2d):
        return ""
    size = module.kernel_size
    high, wide = (size, size) if isinstance(size, int) else size
    return f"Of every {high}×{wide} patch only the largest number is kept."


_EXPLAIN: dict[type[nn.Module], Callable[[nn.Module], str]] = {
    nn.Conv2d: _say_convolution,
    nn.MaxPool2d: _say_pool,
    nn.ReLU: lambda _: "ReLU turns negative sums into 0.",
    nn.BatchNorm2d: lambda _: "Batch normalization brings every map to a common scale.",
}


def _first_convolution(material: Material) -> tuple[str, nn.Conv2d, Step] | None:
    for name, module in material.run.net.named_modules():
        if isinstance(module, nn.Conv2d):
            for step in material.features.steps:
                if step.layers[0].name == name:
                    return name, module, step
            return None
    return None


def _kernel_alt(name: str, number: int, weights: NDArray[Any]) -> str:
    """The alternative text of a kernel; if it is small, with its weights."""
    if weights.size > 25:
        return f"Kernel {number} of {name}"
    rows = " / ".join(" ".join(f"{value:.2f}" for value in row) for row in weights[0])
    return f"Kernel {number} of {name}: {rows}"


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


with extra("report"):
    from matplotlib import cbook

_HEIGHT = 232  # of the reduced photograph: small enough that the effect of a 3×3 kernel is visible
_GRAY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_LEAST = 1 / 255  # the smallest value that may be drawn white: below it is rounding
_MOST = 0.995  # the quantile that is drawn white, so that one bright speck does not darken the rest


def photograph_section() -> Section:
    """matplotlib's portrait of Grace Hopper, filtered by each name that Eyeshot knows."""
    photo = read_photograph()
    cards = [
        Card(
            [Image(data_uri(apply(photo, name), photo=True), _alt(name), sharp=False)],
            name,
            recipe.about,
        )
        for name, recipe in filters.RECIPES.items()
    ]
    says = (
        "A filter is a kernel that somebody chose instead of learned: here is every one that "
        "eyeshot filter knows by name, on one photograph (mid-gray is 0 where sums may be "
        "negative)."
    )
    return Section("photograph", "A photograph under the named filters", says, [Cards(cards, 172)])


def read_photograph() -> NDArray[np.uint8]:
    """Grace Hopper (H, W, 3), from matplotlib's own sample data, reduced."""
    whole = images.read(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    return reduce_picture(np.asarray(whole, np.uint8), height=_HEIGHT)


def apply(photo: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """The photograph (H, W, 3) under a named filter, scaled for display.

    A kernel whose weights add up to 0 measures change, not brightness: it is applied to the gray
    picture, and 0 is drawn as mid-gray, or as black if no value is negative.
    """
    kernels = filters.resolve(name).kernels
    if any(abs(float(kernel.sum())) > 1e-9 for kernel in kernels):
        return np.asarray(filters.filter(photo, name, padding="replicate"), np.uint8)
    gray = (photo @ _GRAY / 255).astype(np.float32)
    answer: NDArray[Any] = filters.filter(gray, name, padding="replicate", range="keep")
    most = max(float(np.quantile(np.abs(answer), _MOST)), _LEAST)
    unit = answer / most if len(kernels) > 1 else answer / most / 2 + 0.5
    return np.rint(np.clip(unit, 0, 1) * 255).astype(np.uint8)


def _alt(name: str) -> str:
    return f"The photograph under {name}"
