"""Evaluations and predictions as pieces of HTML, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.pages import render_piece
from eyeshot.pages.parts import Bars, Fact, Matrix, Section, Table, Text

if TYPE_CHECKING:
    from eyeshot.evaluation.classification import Evaluation, Prediction
    from eyeshot.evaluation.restoration import RestorationEvaluation
    from eyeshot.evaluation.segmentation import MaskEvaluation

_MOST_CLASSES = 20
_MOST_PICTURES = 50


def evaluation_piece(found: Evaluation) -> str:
    """How often a classifier is right, class by class."""
    facts = [
        Fact(f"{found.accuracy:.2%}", f"of {found.count:,} pictures right"),
        Fact(f"{found.loss:.3f}", "loss (cross-entropy, nats)"),
    ]
    rows = [
        [one.name, f"{one.count:,}", _share(one.precision), _share(one.recall)]
        for one in found.per_class
    ]
    table = Table(["class", "pictures", "precision", "recall"], rows)
    names = [one.name for one in found.per_class]
    parts: list[Any] = [table, *_matrix(names, found.confusion)]
    return _piece("Evaluation", facts, found.notes, parts)


def masks_piece(found: MaskEvaluation) -> str:
    """How well masks are met, class by class and picture by picture."""
    facts = [
        Fact(f"{found.accuracy:.2%}", "of pixels right"),
        Fact(f"{found.dice:.2%}", "Dice, the mean over classes"),
        Fact(f"{found.iou:.2%}", "IoU, the mean over classes"),
    ]
    head = ["class", "pixels", "Dice", "IoU", "precision", "recall", "boundary F1"]
    rows = [
        [
            *(one.name, f"{one.pixels:,}"),
            *map(_share, (one.dice, one.iou, one.precision, one.recall, one.boundary_f1)),
        ]
        for one in found.per_class
    ]
    pictures = [[one.name, f"{one.accuracy:.2%}", f"{one.dice:.2%}"] for one in found.pictures]
    parts: list[Any] = [Table(head, rows)]
    parts += _pictures(["picture", "accuracy", "Dice"], pictures)
    return _piece("Evaluation", facts, found.notes, parts)


def restoration_piece(found: RestorationEvaluation) -> str:
    """How near restored pictures come, picture by picture."""
    facts = [
        Fact(f"{found.psnr:.2f} dB", "PSNR, the mean over pictures"),
        Fact(f"{found.ssim:.3f}", "SSIM, the mean over pictures"),
    ]
    head = ["picture", "PSNR", "SSIM", "PSNR as given", "SSIM as given"]
    rows = [
        [one.name, *(f"{n:.2f}" for n in (one.psnr,)), f"{one.ssim:.3f}", f"{one.given_psnr:.2f}",
         f"{one.given_ssim:.3f}"]
        for one in found.pictures
    ]  # fmt: skip
    return _piece("Evaluation", facts, found.notes, _pictures(head, rows))


def prediction_parts(found: Prediction) -> list[Any]:
    """The likeliest classes as bars, and what was done to the picture."""
    return [Bars(found.name, found.classes), *(Text(note) for note in found.notes)]


def predictions_piece(found: Sequence[Prediction]) -> str:
    """What pictures show, one below the other."""
    shown = [part for one in found[:_MOST_PICTURES] for part in prediction_parts(one)]
    if len(found) > _MOST_PICTURES:
        shown.append(Text(f"and {len(found) - _MOST_PICTURES} more"))
    title = "Prediction" if len(found) == 1 else f"{len(found)} predictions"
    return _piece(title, [], (), shown)


def _piece(title: str, facts: list[Fact], notes: Sequence[str], parts: list[Any]) -> str:
    return render_piece(title, facts=facts, notes=notes, sections=[Section("all", "", "", parts)])


def _share(share: float | None) -> str:
    return "·" if share is None else f"{share:.2%}"


def _pictures(head: list[str], rows: list[list[str]]) -> list[Any]:
    folded = f"{len(rows)} pictures" if len(rows) > _MOST_CLASSES else ""
    return [Table(head, rows, folded=folded)] if rows else []


def _matrix(names: list[str], confusion: NDArray[np.int64]) -> list[Any]:
    """Which class was taken for which; nothing where there are too many to be read."""
    if len(names) > _MOST_CLASSES:
        return []
    rows = confusion.sum(1).clip(1)
    cells = [
        [(int(n), float(n / rows[i]), i == j) for j, n in enumerate(line)]
        for i, line in enumerate(confusion)
    ]
    return [Matrix(names, cells, "truth", "answer")]
