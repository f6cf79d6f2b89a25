"""Killed at any moment and resumed, a training gives the very bytes of one that was left alone."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from eyeshot.errors import BadFile, BadValue
from eyeshot.runs import (
    CONFIG,
    LAST,
    METRICS,
    WEIGHTS,
    Recipe,
    RunConfig,
    build_net,
    read_tensors,
    save_tensors,
)
from eyeshot.training import Settings, Silence, train
from eyeshot.training.checkpoint import FILE, Position, restore
from eyeshot.training.optimization import make_optimizer
from tests.engine.runner import fork

from .blobs import blobs

SETTINGS: dict[str, Settings] = {
    "digit_cnn": {"epochs": 2, "batch_size": 20, "seed": 3},
    "small_vgg": {"epochs": 2, "batch_size": 20, "shift": 1, "average": 0.9, "weight_decay": 0.01},
}
STEPS = 10  # two epochs of five steps
Ruin = tuple[dict[str, object], dict[str, torch.Tensor]]


class Stop(Exception):
    """The training was cut off."""


class StopAt(Silence):
    """Cut the training off after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, position: Position) -> None:
        if self.left == 0:
            raise Stop
        self.left -= 1


def weights(folder: Path) -> bytes:
    return (folder / WEIGHTS).read_bytes()


@pytest.mark.parametrize("model", SETTINGS)
def test_cut_off_after_any_step(model: str, tmp_path: Path) -> None:
    settings = SETTINGS[model]
    data = blobs()
    train(data, model=model, out=tmp_path / "whole", progress=False, **settings)
    for steps in range(0, STEPS, 3):
        folder = tmp_path / f"cut{steps}"
        with pytest.raises(Stop):
            train(
                data,
                model=model,
                out=folder,
                progress=StopAt(steps),
                checkpoint_seconds=0,
                **settings,
            )
        assert (folder / WEIGHTS).exists() == (steps >= STEPS // 2)
        train(data, model=model, out=folder, resume=True, progress=False, **settings)
        assert weights(folder) == weights(tmp_path / "whole")


def test_cut_off_again_and_again(tmp_path: Path) -> None:
    settings = SETTINGS["small_vgg"]
    train(blobs(), model="small_vgg", out=tmp_path / "whole", progress=False, **settings)
    for _ in range(20):
        try:
            train(
                blobs(),
                model="small_vgg",
                out=tmp_path / "cut",
                progress=StopAt(2),
                resume=True,
                checkpoint_seconds=0,
                **settings,
            )
        except Stop:
            continue
        break
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_metrics_of_a_resumed_run_are_those_of_a_whole_one(tmp_path: Path) -> None:
    settings = SETTINGS["digit_cnn"]
    train(blobs(), out=tmp_path / "whole", progress=False, **settings)
    with pytest.raises(Stop):
        train(blobs(), out=tmp_path / "cut", progress=StopAt(7), checkpoint_seconds=0, **settings)
    train(blobs(), out=tmp_path / "cut", resume=True, progress=False, **settings)
    whole, cut = ((tmp_path / name / METRICS).read_text().splitlines() for name in ("whole", "cut"))
    untimed = len(["epoch", "loss", "accuracy", "test_loss", "test_accuracy", "learning_rate"])
    assert [line.split(",")[:untimed] for line in cut] == [
        line.split(",")[:untimed] for line in whole
    ]
    assert len(cut) == 3


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    settings = SETTINGS["digit_cnn"]
    train(blobs(), out=tmp_path, progress=False, **settings)
    before = weights(tmp_path)
    train(blobs(), out=tmp_path, resume=True, progress=StopAt(0), **settings)
    assert weights(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"batch_size": 10}, "--batch-size is 10"),
        ({"learning_rate": 0.5}, "--lr is 0.5"),
        ({"epochs": 9}, "--epochs is 9"),
        ({"seed": 4}, "--seed is 4"),
    ],
)
def test_another_setting_is_refused_by_its_name(
    change: Settings, named: str, tmp_path: Path
) -> None:
    train(blobs(), out=tmp_path, progress=False, **SETTINGS["digit_cnn"])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    merged: Settings = {**SETTINGS["digit_cnn"], **change}
    with pytest.raises(BadValue, match=named):
        train(blobs(), out=tmp_path, resume=True, progress=False, **merged)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_other_pictures_are_refused(tmp_path: Path) -> None:
    train(blobs(), out=tmp_path, progress=False, **SETTINGS["digit_cnn"])
    with pytest.raises(BadValue, match="fingerprint"):
        train(blobs(seed=5), out=tmp_path, resume=True, progress=False, **SETTINGS["digit_cnn"])


def test_a_half_written_checkpoint_is_never_loaded(tmp_path: Path) -> None:
    settings = SETTINGS["digit_cnn"]
    train(blobs(), out=tmp_path / "whole", progress=False, **settings)
    folder = tmp_path / "cut"
    with pytest.raises(Stop):
        train(blobs(), out=folder, progress=StopAt(4), checkpoint_seconds=0, **settings)
    half = (folder / LAST / FILE).read_bytes()[:1000]
    leftover = folder / LAST / ".state.123.part.safetensors"
    leftover.write_bytes(half)
    train(blobs(), out=folder, resume=True, progress=False, **settings)
    assert weights(folder) == weights(tmp_path / "whole")
    assert not leftover.exists()


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    settings = SETTINGS["digit_cnn"]
    train(blobs(), out=tmp_path, progress=False, **settings)
    path = tmp_path / LAST / FILE
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BadFile, match=FILE):
        train(blobs(), out=tmp_path, resume=True, progress=False, **settings)


def _ruined(position: dict[str, object], tensors: dict[str, torch.Tensor]) -> Iterator[Ruin]:
    """A checkpoint with one thing wrong, many times."""
    lies: dict[str, tuple[object, ...]] = {
        "epoch": ("x", -1, 2**60, None, 1),
        "step": ("x", 3.5, -2),
        "seen": (0, "many"),
        "seconds": ("x", -1.0, 0, float("nan"), None),
        "best": ("x", [1]),
        "sums": ({"loss": "x"}, {"other": 1.0}, [1], None),
        "rows": ([{}], [{"epoch": "x"}], 5, ["x"], [{"epoch": 1.0}]),
    }
    for name, values in lies.items():
        for value in values:
            yield {**position, name: value}, tensors
    yield {**position, "more": 1}, tensors
    for name in tensors:
        yield position, {other: tensor for other, tensor in tensors.items() if other != name}
        yield position, {**tensors, name: torch.zeros(3, 5, 7)}
    for name in ("optimizer/-1/step", "optimizer/99/step", "optimizer/x/step", "optimizer/0/y"):
        yield position, {**tensors, name: torch.zeros(1)}


def test_a_checkpoint_that_lies_is_named(tmp_path: Path) -> None:
    settings = SETTINGS["digit_cnn"]
    with pytest.raises(Stop):
        train(blobs(), out=tmp_path, progress=StopAt(2), checkpoint_seconds=0, **settings)
    tensors, metadata = read_tensors(tmp_path / LAST / FILE)
    position = json.loads(metadata["position"])
    net = build_net(RunConfig.read(tmp_path / CONFIG))
    count = 0
    for other, state in _ruined(position, tensors):
        count += 1
        save_tensors(tmp_path / LAST / FILE, state, {"position": json.dumps(other)})
        optimizer = make_optimizer(net, Recipe(1, 1, 0.1))
        with pytest.raises(BadFile, match="not a checkpoint of this training"):
            restore(tmp_path / LAST, net, None, optimizer, ("loss", "accuracy"))
    assert count > 50


def learn(folder: Path, _: object = None) -> None:
    """Long enough to be killed, by a process of its own."""
    settings: Settings = {**SETTINGS["small_vgg"], "epochs": 3, "seed": 1}
    options: dict[str, Any] = {"progress": False, "checkpoint_seconds": 0.05, **settings}
    train(blobs(1000), model="small_vgg", out=folder, resume=True, **options)


def test_kill_9_at_random_moments(tmp_path: Path) -> None:
    learn(tmp_path / "whole")
    moments = random.Random(0)
    for _ in range(3):
        process, _ = fork(learn, tmp_path / "cut")
        wait_for_start(tmp_path / "cut", process)
        time.sleep(moments.uniform(0, 0.6))
        process.kill()
        process.join()
        if process.exitcode == 0:
            break
    process, _ = fork(learn, tmp_path / "cut")
    process.join()
    assert process.exitcode == 0
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_a_second_training_in_one_folder_is_refused(tmp_path: Path) -> None:
    settings, folder = SETTINGS["digit_cnn"], tmp_path / "run"
    train(blobs(), out=tmp_path / "whole", progress=False, **settings)

    class Other(Silence):
        """Starts another training after the first step."""

        said = ""

        def step(self, position: Position) -> None:
            if not self.said:
                options: Settings = {**settings, "seed": 1}
                with pytest.raises(BadFile, match="is still writing it; wait") as caught:
                    train(blobs(), out=folder, progress=False, force=True, **options)
                self.said = str(caught.value)

    other = Other()
    run = train(blobs(), out=folder, progress=other, **settings)
    assert other.said
    assert run.config.recipe.seed == settings["seed"]
    assert weights(folder) == weights(tmp_path / "whole")
    assert sorted(file.name for file in folder.iterdir()) == sorted(
        file.name for file in (tmp_path / "whole").iterdir()
    )


def test_a_lock_of_a_training_that_was_killed_keeps_nobody_out(tmp_path: Path) -> None:
    (tmp_path / ".training.lock").write_text("1")  # a number that is always alive
    train(blobs(), out=tmp_path, progress=False, **SETTINGS["digit_cnn"])
    assert not (tmp_path / ".training.lock").exists()


def wait_for_start(folder: Path, process: BaseProcess) -> None:
    end = time.monotonic() + 60
    while not (folder / CONFIG).exists() and process.is_alive():
        assert time.monotonic() < end, "the training never began"
        time.sleep(0.01)


def test_the_caller_keeps_their_random_numbers(tmp_path: Path) -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    train(blobs(), out=tmp_path, progress=False, **SETTINGS["digit_cnn"])
    assert torch.equal(torch.random.get_rng_state(), before)
