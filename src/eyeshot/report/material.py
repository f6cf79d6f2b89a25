"""The data of all sections, computed once: the run, its test set, its predictions, its layers."""

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
    return Material(run, loaded, evaluation, read_epochs(run.path / METRICS), shown, features)


def read_epochs(path: Path, columns: Sequence[str] = COLUMNS) -> tuple[dict[str, float], ...]:
    """The ``columns`` of the rows of a ``metrics.csv``; empty if there is no such file.

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
            f"{path}: not a table of epochs ({error})", cure="restore it, or remove it"
        ) from None
    if not all(math.isfinite(row["epoch"]) for row in epochs):
        raise BadFile(f"{path}: an epoch is not a number", cure="restore it, or remove it")
    return epochs


def _choose(evaluation: Evaluation) -> int:
    """The first picture that is classified correctly; if there is none, the first picture."""
    right = evaluation.probabilities.argmax(1) == evaluation.labels
    return int(right.int().argmax())
