"""Trainings of every kind that a child process runs, and dies in at a chosen write.

Apart from the tests, so that a child imports little.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from eyeshot.cli import main
from eyeshot.training import checkpoint, train

from .blobs import blobs

SHORT: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 2,
    "steps": 2,
    "resume": True,
    "progress": False,
    "checkpoint_seconds": 0,
    "precision": "32-true",
}
OWN = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, width=4):
        super().__init__(
            nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Dropout2d(0.2), nn.Conv2d(width, 2, 1),
        )
"""


def classify(out: Path, data: Path) -> None:
    """Pictures of classes, with a running average."""
    del data
    short = {name: value for name, value in SHORT.items() if name != "steps"}
    train(blobs(40), model="small_vgg", out=out, **{**short, "batch_size": 20, "average": 0.9})


def segment_own(out: Path, data: Path) -> None:
    """Masks by a network in a file, as the command line names it."""
    (data / "net.py").write_text(OWN)
    asked = ["train", str(data / "cells"), "--task", "segment", "--net", f"{data}/net.py:Net"]
    counts = ["--epochs", "2", "--steps", "2", "--batch-size", "2", "--checkpoint-seconds", "0"]
    assert main([*asked, *counts, "-o", str(out), "--resume"]) == 0


def restore(out: Path, data: Path) -> None:
    """Pictures of pictures."""
    small = {"base": 4, "depth": 1}
    train(data / "noisy", task="restore", model_arguments=small, out=out, **SHORT)


def generate(out: Path, data: Path) -> None:
    """Two networks."""
    del data
    short = {name: value for name, value in SHORT.items() if name != "steps"}
    settings = {**short, "batch_size": 64}
    train(
        blobs(128), task="generate", model_arguments={"width": 4, "latent": 8}, out=out, **settings
    )


def volumes(out: Path, data: Path) -> None:
    """Masks of volumes."""
    small = {"base": 4, "depth": 1}
    train(data / "scans", task="segment", dims=3, model_arguments=small, out=out, **SHORT)


def _hurry() -> None:
    torch.set_num_threads(1)
    os.fsync = lambda fd: None  # a kill, unlike a power cut, loses nothing that was written


def child(kind: Callable[[Path, Path], None], out: Path, data: Path, dies: float, _: Any) -> None:
    """Train, and die at a rename counted from 1: at n before it, at n + 0.5 after it."""
    _hurry()
    rename, count = Path.replace, 0

    def replace(self: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count == dies:
            os.kill(os.getpid(), signal.SIGKILL)
        found = rename(self, target)
        if count + 0.5 == dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    Path.replace = replace  # type: ignore[method-assign,assignment]
    kind(out, data)


def logged(out: Path, dies: int, _: Any) -> None:
    """Train with a log, and die when an epoch was logged and its state is not yet saved."""
    _hurry()
    save = checkpoint.save

    def die(*arguments: Any) -> None:
        if arguments[-1].epoch == dies:
            os.kill(os.getpid(), signal.SIGKILL)
        save(*arguments)

    checkpoint.save = die  # type: ignore[assignment]
    learn_logged(out)


def learn_logged(out: Path) -> None:
    """Two epochs in TensorBoard's log."""
    short: dict[str, Any] = {"epochs": 2, "batch_size": 20, "resume": True, "progress": False}
    train(blobs(40), out=out, log="tensorboard", **short)
