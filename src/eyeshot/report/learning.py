"""How the network learned: loss and accuracy, epoch by epoch."""

from __future__ import annotations

from eyeshot.pages.parts import Plot, Section, Table
from eyeshot.pictures import Curve, curves_svg
from eyeshot.report.material import Material

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
    """What the network does in an epoch; how many pictures it has is known of its own data."""
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
    """Why the loss while learning may lie above the other, where the recipe made it so."""
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
