"""What all sections draw from, worked out once: the run, its test set, its answers, its layers."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eyeshot.data import Data
from eyeshot.data.pixels import reduce
from eyeshot.errors import BadFile
from eyeshot.evaluation import Evaluation, evaluate, load_test_data
from eyeshot.features import Features, see
from eyeshot.files import explain_os_error
from eyeshot.runs import METRICS, Run

COLUMNS = ("epoch", "loss", "accuracy", "test_loss", "test_accuracy")


@dataclass(frozen=True, eq=False)
class Material:
    """A run laid out.

    Attributes:
        run: what the report is about.
        data: what it is judged by.
        evaluation: its answers for ``data.test``.
        epochs: the rows of ``metrics.csv``; empty where the file is not there.
        shown: the index in ``data.test`` of the picture that is followed through the layers.
        features: its maps.
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
        """The class that picture ``index`` of the test set is of."""
        return self.classes[int(self.evaluation.labels[index])]

    def answer(self, index: int) -> tuple[str, float]:
        """The class that the network says picture ``index`` is of, and how sure it is, 0…1."""
        share, said = self.evaluation.probabilities[index].max(0)
        return self.classes[int(said)], float(share)


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
    return Material(run, loaded, evaluation, read_epochs(run.path / METRICS), shown, features)


def read_epochs(path: Path, columns: Sequence[str] = COLUMNS) -> tuple[dict[str, float], ...]:
    """The ``columns`` of the rows of a ``metrics.csv``; none where there is no such file.

    Raises:
        BadFile: it is damaged.
    """
    if not path.is_file():
        return ()
    try:
        text = path.read_text(encoding="utf-8")
        rows = list(csv.DictReader(io.StringIO(text)))
        epochs = tuple({name: float(row[name]) for name in columns} for row in rows)
    except OSError as error:
        raise explain_os_error(error, path) from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise BadFile(
            f"{path}: not a table of epochs ({error})", cure="restore it, or take it away"
        ) from None
    if not all(math.isfinite(row["epoch"]) for row in epochs):
        raise BadFile(f"{path}: an epoch is not a number", cure="restore it, or take it away")
    return epochs


def _choose(evaluation: Evaluation) -> int:
    """The first picture that the network gets right; the first of all where there is none."""
    right = evaluation.probabilities.argmax(1) == evaluation.labels
    return int(right.int().argmax())
