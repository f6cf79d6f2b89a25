"""The report of a generator: how it learned, and how similar its pictures are to real ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from eyeshot import images
from eyeshot.data import Data
from eyeshot.data.pixels import reduce
from eyeshot.evaluation.labels import (
    SampleEvaluation,
    draw_latents,
    evaluate_samples,
    find_nearest,
    sample,
)
from eyeshot.features import see
from eyeshot.features.feature_maps import exhibit
from eyeshot.nets import Generator
from eyeshot.pages import Card, Cards, Fact, Figure, Image, Part, Plot, Section, Table
from eyeshot.pictures import Curve, curves_svg, data_uri, mosaic
from eyeshot.report.curves import read_epochs
from eyeshot.runs import METRICS, SAMPLES, Run

_SEED = 0
_SHEET, _WALK, _COMPARED = 64, 12, 8
_MOST_EPOCHS = 12
_COLUMNS = (
    "epoch",
    "loss",
    "discriminator_loss",
    "recognized",
    "fooled",
    "validation_frechet",
)
_CURVES = (("generator", "train"), ("discriminator", "test"))


def generator_facts(run: Run, data: Data) -> tuple[list[Fact], tuple[str, ...]]:
    """The figures at the head of the page, and the notes."""
    evaluation: SampleEvaluation = evaluate_samples(run, data)
    net, config = run.net, run.config
    parameters = sum(p.numel() for p in net.parameters())
    latent = net.latent if isinstance(net, Generator) else 0
    facts = [
        Fact(f"{evaluation.frechet:.3f}", "Fréchet distance of its pictures, by coarse pixels"),
        Fact(f"{evaluation.held_out_frechet:.3f}", "the same of held-out pictures"),
        Fact(f"{latent}", "numbers that a picture is made from"),
        Fact(f"{parameters:,}", "numbers learned"),
        Fact(f"{len(data.train):,}", "pictures to learn from, " + "×".join(map(str, config.size))),
    ]
    return facts, evaluation.notes


def generator_sections(run: Run, data: Data) -> list[Section]:
    """The sections, in the order in which they are read.

    Raises:
        BadFile: a file of the run folder is damaged.
    """
    return [
        _learning(run),
        *_epochs(run),
        _sheet(run),
        _nearest(run, data),
        _layers(run),
    ]


def _learning(run: Run) -> Section:
    rows = read_epochs(run.path / METRICS, _COLUMNS)
    if not rows:
        says = "The run folder has no metrics.csv, so the curves of the training are not known."
        return Section("learning", "How it learned", says)
    keys = ("loss", "discriminator_loss")
    losses = [
        Curve(name, [(row["epoch"], row[key]) for row in rows], style)
        for (name, style), key in zip(_CURVES, keys, strict=True)
    ]
    distance = Curve(
        "pictures", [(row["epoch"], row["validation_frechet"]) for row in rows], "test"
    )
    parts: list[Part] = [
        Plot(
            "Losses of the two networks",
            curves_svg(losses, title="Losses", x_label="epoch", y_label="loss"),
            _CURVES,
            "Neither is to fall to 0: each network is the other's measure.",
        ),
        Plot(
            "Fréchet distance between made and held-out pictures, by coarse pixels",
            curves_svg([distance], title="Distance", x_label="epoch", y_label="distance"),
            (("made pictures", "test"),),
        ),
        _numbers(rows),
    ]
    says = (
        "The generator makes pictures from random numbers; the discriminator learns to tell them "
        "from real ones, and the generator to make that impossible."
    )
    return Section("learning", "How it learned", says, parts)


def _numbers(rows: Sequence[dict[str, float]]) -> Table:
    head = ["epoch", "generator", "discriminator", "recognized", "fooled", "Fréchet distance"]
    lines = [
        [
            f"{row['epoch']:.0f}",
            f"{row['loss']:.4f}",
            f"{row['discriminator_loss']:.4f}",
            f"{row['recognized']:.2%}",
            f"{row['fooled']:.2%}",
            f"{row['validation_frechet']:.4f}",
        ]
        for row in rows
    ]
    return Table(head, lines, words=0, folded="The numbers")


def _epochs(run: Run) -> list[Section]:
    """The pictures of the same latents after each epoch, which the training saved."""
    paths = sorted((run.path / SAMPLES).glob("epoch-*.png"))
    if not paths:
        return []
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), _MOST_EPOCHS)).round())
    parts: list[Part] = []
    for place in chosen.astype(int).tolist():
        path = paths[place]
        number = path.stem.removeprefix("epoch-").lstrip("0")
        image = Image(
            data_uri(images.read(path)), f"Pictures of 16 latents after epoch {number}", width=960
        )
        parts.append(Figure(image, f"after epoch {number}"))
    says = "Each column is one latent, the same after each epoch."
    return [Section("epochs", "The same latents after each epoch", says, parts)]


def _sheet(run: Run) -> Section:
    pictures, walk = sample(run, _SHEET, seed=_SEED), sample(run, _WALK, seed=_SEED, walk=True)
    parts: list[Part] = [
        Figure(
            Image(_tiles(pictures), f"{_SHEET} made pictures"), f"{_SHEET} latents, seed {_SEED}"
        ),
        Figure(
            Image(_tiles(walk, _WALK), "A walk between two latents"),
            "From one latent to another",
            "In even steps along an arc: what lies between two pictures is a picture too.",
        ),
    ]
    return Section("samples", "What it makes", "No picture was chosen.", parts)


def _nearest(run: Run, data: Data) -> Section:
    pictures = sample(run, _COMPARED, seed=_SEED)
    distances, places = find_nearest(torch.from_numpy(pictures).permute(0, 3, 1, 2), data.train)
    others = reduce(data.train.take(places)[0].numpy()).transpose(0, 2, 3, 1)
    cards = [
        Card(
            [
                Image(data_uri(np.ascontiguousarray(made)), f"Made picture {number}", width=72),
                Image(data_uri(np.ascontiguousarray(real)), "The nearest learned from", width=72),
            ],
            f"picture {number}",
            f"{distance:.3f} apart",
        )
        for number, (made, real, distance) in enumerate(
            zip(pictures, others, distances.tolist(), strict=True)
        )
    ]
    says = (
        "Left a made picture, right the nearest of those that were learned from: the root of the "
        "mean square difference of their pixels, 0 … 1."
    )
    return Section("nearest", "Does it copy?", says, [Cards(cards, width=170)])


def _layers(run: Run) -> Section:
    """The maps of each layer for the first latent."""
    net = run.net
    latent = net.latent if isinstance(net, Generator) else 0
    features = see(net, draw_latents(latent, 1, _SEED))
    parts: list[Part] = []
    for step in features.steps:
        shown = exhibit(step.layers[-1])
        count, high, wide = step.maps.shape
        image = Image(data_uri(shown.picture), f"{count} maps after {step.name}")
        parts.append(
            Figure(image, f"{step.title} ({step.name})", f"{count} maps of {high}×{wide}.")
        )
    says = "The first picture of the sheet as it grows, layer by layer, from its latent."
    return Section("layers", "From numbers to a picture", says, parts)


def _tiles(pictures: NDArray[np.uint8], columns: int = 16) -> str:
    tiles = list(np.broadcast_to(pictures, (*pictures.shape[:3], 3)))
    return data_uri(mosaic(tiles, columns=columns))
