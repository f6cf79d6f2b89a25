"""What a user's network must not do while it learns, and what it may draw at random."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from eyeshot.errors import EyeshotError, Failure
from eyeshot.runs import WEIGHTS, Run
from eyeshot.training import Silence, train
from eyeshot.training.checkpoint import Position

from .blobs import blobs
from .cells import write_cells


class Net(nn.Module):
    """Scores of three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)
        self.register_buffer("moving", torch.zeros(1), persistent=False)
        self.plain = 0

    def scores(self, x: Tensor) -> Tensor:
        maps = functional.relu(self.norm(self.conv(x)))
        found: Tensor = self.head(maps.mean((2, 3)))
        return found

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(x)


class Counts(Net):
    def forward(self, x: Tensor) -> Tensor:
        self.plain += 1
        return self.scores(x) * self.plain


class CountsInTraining(Net):
    def forward(self, x: Tensor) -> Tensor:
        self.plain += self.training
        return self.scores(x) * (1 + self.plain * self.training)


class KeepsAMean(Net):
    moving: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.moving.lerp_(x.detach().mean(), 0.1)
        return self.scores(x) + self.moving


class OwnGenerator(Net):
    def __init__(self) -> None:
        super().__init__()
        self.chance = np.random.default_rng(0)

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(x) * (1 + self.training * float(self.chance.random()))


class AlwaysNoisy(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.scores(x) * random.random()


class LessTheMean(Net):
    def forward(self, x: Tensor) -> Tensor:
        scores = self.scores(x)
        return scores - scores.mean(0, keepdim=True)


class InOtherOrder(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.scores(x).flip(0)


class TwiceAsMany(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.scores(x).repeat(2, 1)


class WithoutGradient(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.scores(x).detach()


class WritesOver(Net):
    def forward(self, x: Tensor) -> Tensor:
        maps = self.conv(x).sigmoid()
        scores: Tensor = self.head((maps * maps.mul_(2)).mean((2, 3)))
        return scores


class ToEval(Net):
    def forward(self, x: Tensor) -> Tensor:
        self.eval()
        return self.scores(x)


class ToTraining(Net):
    def forward(self, x: Tensor) -> Tensor:
        self.norm.train()
        return self.scores(x)


class PlainTensor(Net):
    def __init__(self) -> None:
        super().__init__()
        self.offset = torch.ones(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(x) + self.offset


class Insists(Net):
    def forward(self, x: Tensor) -> Tensor:
        if self.training and bool((x < -0.5).any()):
            raise KeyError("dark")
        return self.scores(x)


def learn(net: nn.Module, out: Path, **options: object) -> Run:
    chosen: dict[str, object] = {"epochs": 1, "batch_size": 15, "progress": False, **options}
    return train(blobs(), net=net, out=out, **chosen)  # type: ignore[arg-type]


def _scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated; networks of this kind still go around
        made: nn.Module = torch.jit.script(nn.Conv2d(1, 1, 1))
    return made


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Counts, "Counts in eval mode gives another answer when it sees the same pictures again"),
        (
            AlwaysNoisy,
            "AlwaysNoisy in eval mode gives another answer .* only while self.training",
        ),
        (CountsInTraining, "keeps something from one training step .* register_buffer"),
        (KeepsAMean, "keeps something from one training step to the next"),
        (OwnGenerator, "keeps something from .* draw random numbers from torch, numpy.random or"),
        (LessTheMean, "in eval mode gives a picture another answer beside other pictures"),
        (InOtherOrder, "in eval mode gives a picture another answer beside other pictures"),
        (TwiceAsMany, "gives 4 answers for 2 pictures; give one for each picture"),
        (
            WithoutGradient,
            "no gradient reaches the weights of WithoutGradient; leave out no_grad",
        ),
        (WritesOver, "the gradient of WritesOver cannot be computed: .* in place"),
        (ToEval, "ToEval changes its own mode when it is called; leave train.* and eval"),
        (ToTraining, "ToTraining changes its own mode when it is called"),
        (PlainTensor, "PlainTensor fails on .*; register its tensor offset by register_buffer"),
        (Insists, "Insists fails on noise while it trains: .*KeyError: 'dark'; correct that line"),
        (lambda: Net().to("meta"), "Net is on the device meta; move it by net.cpu.* first"),
        (_scripted, "is a ScriptModule, which cannot be traced; give"),
        (
            lambda: nn.DataParallel(Net()),
            "DataParallel is wrapped for several devices; give its .module",
        ),
        (
            lambda: nn.Sequential(nn.DataParallel(Net())),
            "Sequential.0 is wrapped for several devices",
        ),
        (lambda: torch.compile(Net()), "is compiled by torch.compile; give its ._orig_mod"),
    ],
)
def test_what_could_not_be_learned_or_resumed_is_refused(
    make: Callable[[], nn.Module], message: str, tmp_path: Path
) -> None:
    with pytest.raises(EyeshotError, match=message):
        learn(make(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Chancy(Net):
    """Random numbers of three libraries, and a layer that is left out by chance."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = x * (1 + random.random()) + np.random.rand() + torch.rand(()).item()
        if self.training and torch.rand(()) < 0.5:
            scores: Tensor = self.head(self.conv(x).mean((2, 3)))
            return scores
        return self.scores(x)


class Words(Silence):
    """Keeps what is said, and cuts the training off after so many steps."""

    def __init__(self, steps: int = -1) -> None:
        self.left, self.said = steps, list[str]()

    def say(self, text: str) -> None:
        self.said.append(text)

    def step(self, position: Position) -> None:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1


def test_random_layers_are_resumed_to_the_same_bytes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, words = Chancy(), Words()
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    whole = learn(net, tmp_path / "whole", epochs=3, progress=words)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[index]
    assert not any("gradient" in one for one in words.said)
    with pytest.raises(KeyboardInterrupt):
        learn(net, tmp_path / "cut", epochs=3, progress=Words(4), checkpoint_seconds=0)
    random.seed(9)
    cut = learn(net, tmp_path / "cut", epochs=3, resume=True)
    assert (whole.path / WEIGHTS).read_bytes() == (cut.path / WEIGHTS).read_bytes()


class Forgotten(Net):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(2, 2)


class CumulativeMean(Net):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4, momentum=None)


def test_weights_that_never_learn_are_named(tmp_path: Path) -> None:
    words = Words()
    learn(Forgotten(), tmp_path / "run", progress=words)
    (said,) = [one for one in words.said if "gradient" in one]
    assert said.startswith("not all weights of Forgotten learn: no gradient reaches 2 of them, ")
    assert "other.weight" in said
    words = Words()
    learn(CumulativeMean(), tmp_path / "other", progress=words)
    assert not any("gradient" in one for one in words.said)


class FailsLater(Net):
    def forward(self, x: Tensor) -> Tensor:
        if len(x) == 15:  # the trials before the first step have other batches
            raise KeyError("lost")
        return self.scores(x)


def test_a_failure_of_the_network_at_a_step_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"FailsLater failed in epoch 1, step 1: .*KeyError: 'lost'"):
        learn(FailsLater(), tmp_path / "run")


class KeepsNorm(nn.Module):
    """Its own ``train`` leaves the norm as it is, as fine-tuning often does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.other, self.head = nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)

    def train(self, mode: bool = True) -> KeepsNorm:
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        maps = self.other(functional.relu(self.norm(input=self.conv(x))))
        scores: Tensor = self.head(maps)
        return scores


def test_norms_that_the_network_keeps_in_eval_mode_are_kept(tmp_path: Path) -> None:
    cells = write_cells(tmp_path / "cells")
    net = KeepsNorm()
    options: dict[str, object] = {"epochs": 1, "steps": 2, "batch_size": 2, "progress": False}
    run = train(cells, task="segment", net=net, out=tmp_path / "run", **options)  # type: ignore[arg-type]
    learned = run.net.state_dict()
    assert torch.equal(learned["norm.running_mean"], torch.zeros(4))
    assert torch.equal(learned["norm.running_var"], torch.ones(4))
    assert not torch.equal(learned["other.running_mean"], torch.zeros(4))
