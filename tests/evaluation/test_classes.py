"""Accuracy, precision, recall and confusion against their definitions, counted one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.networks import examples
from torch import Tensor, nn

import eyeshot
from eyeshot.data import Data, Examples
from eyeshot.errors import BadValue
from eyeshot.runs import Recipe, Run, RunConfig, fingerprint

CLASSES = ("ash", "birch", "cedar")


class Oracle(nn.Module):
    """Say the class that the first pixel holds, as surely as the second is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        predicted = images[:, 0, 0, 0].round().long()
        sure = images[:, 0, 0, 1] / 5
        return nn.functional.one_hot(predicted, len(CLASSES)) * sure[:, None]


def make(predicted: list[int], labels: list[int]) -> tuple[Run, Data]:
    """A run that predicts these classes, each surer than the one before, and the true labels."""
    images = torch.zeros(len(predicted), 1, 4, 4, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.tensor(predicted)
    images[:, 0, 0, 1] = torch.arange(len(predicted)) + 1
    examples = Examples.hold(images, torch.tensor(labels))
    data = Data("trees", examples, examples, CLASSES, 1, (4, 4), (0.0,), (1 / 255,))
    config = RunConfig(
        model="digit_cnn",
        data="trees",
        fingerprint=fingerprint(data),
        classes=CLASSES,
        channels=1,
        size=(4, 4),
        mean=data.mean,
        std=data.std,
        recipe=Recipe(epochs=1, batch_size=1, learning_rate=1.0),
    )
    return Run(Path("nowhere"), config, Oracle().eval()), data


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30))
@examples(60)
def test_figures_by_counting(pairs: list[tuple[int, int]]) -> None:
    predicted, labels = [p[0] for p in pairs], [p[1] for p in pairs]
    evaluation = eyeshot.evaluate(*make(predicted, labels))
    assert evaluation.count == len(pairs)
    assert evaluation.accuracy == pytest.approx(sum(s == is_ for s, is_ in pairs) / len(pairs))
    for i in range(3):
        for j in range(3):
            assert evaluation.confusion[i, j] == pairs.count((j, i))
        right, named, there = pairs.count((i, i)), predicted.count(i), labels.count(i)
        result = evaluation.per_class[i]
        assert (result.name, result.count) == (CLASSES[i], there)
        assert result.precision == (pytest.approx(right / named) if named else None)
        assert result.recall == (pytest.approx(right / there) if there else None)
    wrong = [index for index, (s, is_) in enumerate(pairs) if s != is_]
    assert evaluation.mistakes().tolist() == wrong[::-1]  # the last is the surest
    assert evaluation.probabilities.sum(1).tolist() == pytest.approx([1] * len(pairs))


def test_the_loss_is_the_mean_cross_entropy() -> None:
    evaluation = eyeshot.evaluate(*make([0, 1, 2, 0], [0, 1, 1, 2]))
    expected = -np.log(evaluation.probabilities.numpy()[range(4), [0, 1, 1, 2]]).mean()
    assert evaluation.loss == pytest.approx(expected, rel=1e-5)


def test_evaluating_leaves_the_mode_of_the_network() -> None:
    run, data = make([0, 1], [0, 1])
    run.net.train()
    eyeshot.evaluate(run, data)
    assert run.net.training


def test_other_channels_are_refused() -> None:
    run, _ = make([0, 1], [0, 1])
    color = Examples.hold(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]))
    other = Data("color", color, color, CLASSES, 3, (4, 4), (0.0,) * 3, (1.0,) * 3)
    with pytest.raises(BadValue, match="color has 3 channels"):
        eyeshot.evaluate(run, other)


def test_loaded_pictures_of_another_size_are_refused() -> None:
    run, data = make([0, 1], [0, 1])
    other = replace(data, size=(5, 4))
    with pytest.raises(
        BadValue, match=r"holds pictures of 5×4, .* trained on 4×4; .*size=\(4, 4\)"
    ):
        eyeshot.evaluate(run, other)


@pytest.mark.parametrize(
    ("largest", "mean", "noted"),
    [(4000, 0.4, True), (4000, 0.05, False), (40000, 0.7, False), (60, 0.4, False)],
)
def test_samples_of_few_bits_are_noted(largest: int, mean: float, noted: bool) -> None:
    """A camera's 12 bits in a file of 16: the network sees them almost black."""
    run, _ = make([0], [0])
    run = replace(run, config=replace(run.config, mean=(mean,)))
    picture = np.full((4, 4), largest, np.uint16)
    _, notes = run.prepare(picture)
    matching = [note for note in notes if f"the largest sample is {largest}" in note]
    assert bool(matching) is noted
    assert all("scale 12-bit samples to the full range first" in note for note in matching)


def test_predict_ranks_the_classes() -> None:
    run, _ = make([0], [0])
    picture = np.zeros((4, 4), np.uint8)
    picture[0, 0], picture[0, 1] = 2, 4
    (prediction,) = eyeshot.predict(run, [picture], top=2)
    assert prediction.classes[0][0] == "cedar"
    assert len(prediction.classes) == 2
    assert prediction.classes[0][1] == pytest.approx(np.exp(0.8) / (np.exp(0.8) + 2), rel=1e-5)
    assert prediction.name == "array"
