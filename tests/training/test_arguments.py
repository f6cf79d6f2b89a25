"""What a caller may give a training, and what is refused before anything is read or thrown away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eyeshot.cli import main
from eyeshot.errors import BadValue
from eyeshot.runs import CONFIG
from eyeshot.training import train

from .cells import write_cells, write_noisy

QUICK: dict[str, Any] = {
    **{"task": "segment", "progress": False, "epochs": 1, "steps": 1, "batch_size": 2},
    **{"model_arguments": {"base": 2, "depth": 1}, "precision": "32-true"},
}

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"crop": 32}, r"crop is 32; use two whole numbers: \(height, width\)"),
    ({"crop": (32.0, 32)}, "crop is 32.0; use a whole number"),
    ({"validation": 2.0}, "validation is 2.0; use a whole number"),
    ({"validation": True}, "validation is True; use a whole number"),
    ({"augment": ["flips"]}, r"augment is \['flips'\]; use words, with commas"),
    ({"batch_size": 2.5}, "batch_size is 2.5; use a whole number"),
    ({"learning_rate": "fast"}, "learning_rate is 'fast'; use a number"),
    ({"class_weights": 3}, "class_weights is 3; use a number for each class"),
    ({"class_weights": [1, "x"]}, "class_weights is 'x'; use a number"),
    ({"model_arguments": {"classes": 3}}, "has 'classes', which follows from the data"),
    ({"model_arguments": {"base": 2.0}}, "'base' is 2.0; use a whole number"),
    ({"model_arguments": 7}, "model_arguments is 7; use names with values"),
]


@pytest.mark.parametrize(("changes", "words"), WRONG, ids=[words for _, words in WRONG])
def test_values_of_the_wrong_type(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(BadValue, match=words):
        train(tmp_path, out=tmp_path / "run", **{**QUICK, **changes})
    assert not (tmp_path / "run").exists()


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    cells = write_cells(tmp_path / "cells", ((24, 24),) * 3)
    options: dict[str, Any] = {
        "class_weights": np.array([1.0, 2.0]),
        "learning_rate": np.float32(0.5),
    }
    options |= {"batch_size": np.int64(1), "crop": [np.int64(24), 24]}
    recipe = train(cells, out=tmp_path / "run", **{**QUICK, **options}).config.recipe
    assert (recipe.class_weights, recipe.learning_rate, recipe.batch_size) == ((1.0, 2.0), 0.5, 1)


@pytest.mark.parametrize(("write", "task"), [(write_cells, "segment"), (write_noisy, "restore")])
def test_a_folder_of_pairs_without_a_task(write: Any, task: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "pairs", ((24, 24),) * 3)
    with pytest.raises(BadValue, match=f"no task was named; add --task {task}, or"):
        train(folder, out=tmp_path / "run")
    assert main(["train", str(folder), "-o", str(tmp_path / "run")]) == 2
    assert not (tmp_path / "run").exists()


def test_folders_that_are_classes_after_all(tmp_path: Path) -> None:
    folder = write_cells(tmp_path / "pairs", ((24, 24),) * 4)
    options: dict[str, Any] = {"epochs": 1, "batch_size": 2, "progress": False, "size": (28, 28)}
    run = train(folder, task="classify", out=tmp_path / "run", **options)
    assert run.config.classes == ("image", "label")


def test_the_folder_of_mnist_is_called_as_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match=r"folder \(--data\) is for the task classify"):
        train(tmp_path, out=tmp_path / "run", **QUICK, folder=tmp_path)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        (((64, 64),) * 3 + ((27, 27),) * 3, "a side of 27.*; cut it to 26, leave"),
        (((64, 64),) * 3 + ((9, 9),) * 3, "a side of 9.*; leave it out"),
    ],
)
def test_pictures_that_a_network_without_padding_cannot_take(
    sizes: tuple[tuple[int, int], ...], words: str, tmp_path: Path
) -> None:
    train(write_cells(tmp_path / "sound", ((64, 64),) * 3), out=tmp_path / "run", **QUICK)
    before = (tmp_path / "run" / CONFIG).read_bytes()
    cells = write_cells(tmp_path / "cells", sizes)
    options = {**QUICK, "crop": (64, 64), "force": True}
    options["model_arguments"] = {"base": 2, "depth": 1, "padding": "valid"}
    with pytest.raises(BadValue, match=words) as caught:
        train(cells, out=tmp_path / "run", **options)
    assert str(cells / "image") in str(caught.value)
    assert (tmp_path / "run" / CONFIG).read_bytes() == before
