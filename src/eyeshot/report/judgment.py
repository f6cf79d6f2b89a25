"""How good a classifier is: classes that it confuses, confident errors, learning curves."""

from __future__ import annotations

import numpy as np

from eyeshot.pages import (
    Bars,
    Card,
    Cards,
    Figure,
    Image,
    Matrix,
    Part,
    Plot,
    Section,
    Table,
    Text,
)
from eyeshot.pictures import Curve, color_maps, curves_svg, data_uri, mosaic
from eyeshot.report.material import Material

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
        for (name, style), prefix in zip(LEGEND, ("", "test_"), strict=True)
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
    rows = [
        [
            f"{row['epoch']:.0f}",
            f"{row['loss']:.4f}",
            f"{row['accuracy']:.2%}",
            f"{row['test_loss']:.4f}",
            f"{row['test_accuracy']:.2%}",
        ]
        for row in material.epochs
    ]
    return Table(head, rows, words=0, folded="The numbers")
