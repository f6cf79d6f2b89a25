"""Few pictures: enough steps, no batch of one, weights of classes, and notes of what is odd."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from eyeshot.data import Data, Examples
from eyeshot.errors import BadValue
from eyeshot.runs import Recipe
from eyeshot.training import Silence, train
from eyeshot.training.recipes import LEAST_STEPS, choose_recipe
from eyeshot.training.tasks import Classification

from .blobs import blobs


class Ears(Silence):
    """Hears what is said."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def say(self, line: str) -> None:
        """Remember it."""
        self.heard.append(line)


@pytest.mark.parametrize("model", ["digit_cnn", "small_vgg"])
@pytest.mark.parametrize("count", [2, 9, 32, 300, 700])
def test_few_pictures_make_enough_steps(model: str, count: int) -> None:
    recipe = choose_recipe(model, [count // 2, count - count // 2], {})
    assert recipe.epochs * -(-count // recipe.batch_size) >= LEAST_STEPS
    assert recipe.batch_size <= max(8, count // 8)


def test_what_the_caller_says_of_epochs_and_batches_holds() -> None:
    recipe = choose_recipe("digit_cnn", [16, 16], {"epochs": 3, "batch_size": 32})
    assert (recipe.epochs, recipe.batch_size) == (3, 32)


def test_the_recipe_of_the_digits_is_as_it_was() -> None:
    recipe = choose_recipe("digit_cnn", [800] * 10, {})
    assert (recipe.epochs, recipe.batch_size) == (8, 64)


def test_a_picture_that_is_left_over_joins_the_batch_before(tmp_path: Path) -> None:
    """The last map is 1×1: batch norm on one value was a traceback."""
    data = blobs(train=9, test=4)
    run = train(
        data, model="small_vgg", out=tmp_path, progress=False, epochs=1, batch_size=4, shift=0
    )
    task = Classification(run.config, data, whole_batches=False)
    assert [len(labels) for _, labels in task.batches(0, 0)] == [4, 5]
    assert task.steps_an_epoch == 2
    assert [len(labels) for _, labels in task.batches(0, 1)] == [5]


def test_batches_of_one_are_refused_where_batch_norm_is_left_one_value(tmp_path: Path) -> None:
    data = blobs(train=9, test=4)
    options = {"out": tmp_path / "run", "progress": False, "epochs": 1, "shift": 0}
    with pytest.raises(BadValue, match=r"batch_size is 1, .* a map of a single pixel"):
        train(data, model="small_vgg", batch_size=1, **options)  # type: ignore[arg-type]
    train(data, model="digit_cnn", batch_size=1, **options)  # type: ignore[arg-type]


def test_class_weights_weigh_the_loss_of_pictures(tmp_path: Path) -> None:
    data = blobs(train=40, test=4)
    labels = data.train.labels.bincount().tolist()
    run = train(data, out=tmp_path, progress=False, epochs=1, class_weights="balanced")
    weights = run.config.recipe.class_weights
    assert weights == pytest.approx([40 / (len(labels) * count) for count in labels], abs=1e-5)
    task = Classification(run.config, data, whole_batches=False)
    scores, targets = torch.randn(6, len(labels)), torch.tensor([0, 0, 0, 1, 1, 0])
    smooth = run.config.recipe.label_smoothing
    expected = torch.nn.functional.cross_entropy(
        scores, targets, torch.tensor(weights), label_smoothing=smooth
    )
    assert torch.equal(task.loss(scores, targets), expected)


def test_what_is_odd_is_said(tmp_path: Path) -> None:
    ears = Ears()
    one = Examples.hold(torch.zeros((16, 1, 512, 512), dtype=torch.uint8), torch.arange(16) % 3)
    data = dataclasses.replace(blobs(), train=one, test=one, size=(512, 512))
    with pytest.raises(BadValue):  # said before anything is trained
        (tmp_path / "config.yaml").write_text("{}")
        train(data, out=tmp_path, progress=ears, epochs=2, batch_size=8)
    assert ears.heard[-2] == (
        f"4 steps in all may be too few to learn anything: --epochs 50 makes {LEAST_STEPS}"
    )
    assert ears.heard[-1].startswith("digit_cnn for pictures of 512×512 has 67,")
    assert "of them in fc1.weight" in ears.heard[-1]


def test_more_epochs_afterwards_say_what_would(tmp_path: Path) -> None:
    data: Data = blobs(train=16, test=4)
    train(data, out=tmp_path, progress=False, epochs=2)
    with pytest.raises(BadValue, match=r"its 2 epochs falls to 0 .* go on with --epochs 2"):
        train(data, out=tmp_path, progress=False, epochs=5, resume=True)
    assert Recipe(epochs=1, batch_size=1, learning_rate=1).class_weights == ()
