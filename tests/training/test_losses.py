"""The losses of pixels against their definitions, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy

from eyeshot.errors import BadValue, UnknownName
from eyeshot.training.optimization import restoration_loss, segmentation_loss
from eyeshot.training.recipes import choose_class_weights
from tests.networks import examples


def drawn(seed: int, batch: int, classes: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(batch, classes, size, size, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (batch, size, size), generator=generator)
    valid = torch.rand(batch, size, size, generator=generator) < 0.7
    return scores, labels, valid


def by_definition(scores: Tensor, labels: Tensor, valid: Tensor, weights: list[float]) -> float:
    """Dice loss and cross-entropy in plain Python, a pixel at a time."""
    batch, classes, height, width = scores.shape
    both, said, there = ([0.0] * classes for _ in range(3))
    total, weight = 0.0, 0.0
    for n in range(batch):
        for y in range(height):
            for x in range(width):
                if not valid[n, y, x]:
                    continue
                row = [math.exp(s) for s in scores[n, :, y, x].tolist()]
                shares = [value / sum(row) for value in row]
                label = int(labels[n, y, x])
                total -= weights[label] * math.log(shares[label])
                weight += weights[label]
                there[label] += 1
                both[label] += shares[label]
                for k in range(classes):
                    said[k] += shares[k]
    dice = [(2 * b + 1) / (s + t + 1) for b, s, t in zip(both, said, there, strict=True)]
    return 1 - sum(dice) / classes + (total / weight if weight else 0.0)


@given(st.integers(0, 999), st.integers(1, 2), st.integers(2, 4), st.integers(1, 4), st.booleans())
@examples(30)
def test_dice_and_cross_entropy_by_definition(
    seed: int, batch: int, classes: int, size: int, weighted: bool
) -> None:
    scores, labels, valid = drawn(seed, batch, classes, size)
    weights = [1.0 + k for k in range(classes)] if weighted else [1.0] * classes
    given_weights = torch.tensor(weights) if weighted else None
    found = segmentation_loss(scores.float(), labels, valid, given_weights)
    assert float(found) == pytest.approx(by_definition(scores, labels, valid, weights), rel=1e-4)


def test_the_cross_entropy_is_that_of_torch() -> None:
    scores, labels, _ = drawn(3, 2, 3, 5)
    everywhere = torch.ones_like(labels, dtype=torch.bool)
    shares = scores.softmax(1)
    truth = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1)
    both, sizes = (shares * truth).sum((0, 2, 3)), (shares + truth).sum((0, 2, 3))
    dice = ((2 * both + 1) / (sizes + 1)).mean()
    weights = torch.tensor([1.0, 2.0, 0.5])
    expected = cross_entropy(scores, labels, weight=weights.double()) + 1 - dice
    found = segmentation_loss(scores.float(), labels, everywhere, weights)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_what_is_not_valid_moves_nothing() -> None:
    scores, labels, valid = drawn(1, 1, 2, 6)
    results = []
    for other in (0, 1):
        asked = scores.float().clone().requires_grad_()
        changed = torch.where(valid, labels, torch.full_like(labels, other))
        loss = segmentation_loss(asked, changed, valid)
        (gradient,) = torch.autograd.grad(loss, asked)
        assert not gradient.movedim(1, -1)[~valid].any()
        results.append(float(loss.detach()))
    assert results[0] == results[1]


def test_nothing_valid_is_nothing_to_learn() -> None:
    scores, labels, valid = drawn(1, 1, 2, 3)
    asked = scores.float().requires_grad_()
    loss = segmentation_loss(asked, labels, torch.zeros_like(valid))
    (gradient,) = torch.autograd.grad(loss, asked)
    assert float(loss.detach()) == 0
    assert not gradient.any()


def test_a_sure_and_right_answer_costs_nothing() -> None:
    labels = torch.randint(0, 3, (1, 9, 9))
    scores = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1) * 50.0
    everywhere = torch.ones_like(labels, dtype=torch.bool)
    assert float(segmentation_loss(scores, labels, everywhere)) < 1e-4
    assert float(segmentation_loss(-scores, labels, everywhere)) > 5


@given(st.integers(0, 999), st.sampled_from(["l1", "mse"]))
@examples(20)
def test_differences_by_definition(seed: int, kind: str) -> None:
    generator = np.random.default_rng(seed)
    one, other = generator.random((2, 2, 3, 4, 5))
    valid = generator.random((2, 4, 5)) < 0.6
    wrong = np.abs(one - other) if kind == "l1" else (one - other) ** 2
    kept = [wrong[n, :, y, x].mean() for n, y, x in zip(*np.nonzero(valid), strict=True)]
    expected = np.mean(kept) if kept else 0
    found = restoration_loss(kind, *(torch.from_numpy(a) for a in (one, other, valid)))
    assert float(found) == pytest.approx(expected)


def test_a_loss_unheard_of() -> None:
    picture = torch.zeros(1, 1, 2, 2)
    with pytest.raises(UnknownName, match="unknown loss 'l2'; did you mean 'l1'"):
        restoration_loss("l2", picture, picture, torch.ones(1, 2, 2, dtype=torch.bool))


def test_class_weights() -> None:
    assert choose_class_weights("none", (10, 30)) == ()
    balanced = choose_class_weights("balanced", (10, 30))
    assert balanced == pytest.approx((2.0, 2 / 3), abs=1e-6)
    assert balanced[0] * 10 == pytest.approx(balanced[1] * 30, rel=1e-5)
    assert choose_class_weights([1, 2.5], (10, 30)) == (1.0, 2.5)
    with pytest.raises(BadValue, match="class 1 has no pixel"):
        choose_class_weights("balanced", (10, 0))
    with pytest.raises(BadValue, match="3 class weights for 2 classes"):
        choose_class_weights([1, 2, 3], (10, 30))
    with pytest.raises(UnknownName, match="did you mean 'balanced'"):
        choose_class_weights("balance", (10, 30))
