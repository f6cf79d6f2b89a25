"""A training in progress, looked at as it learns: its checkpoint, read again when it is new."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from eyeshot.errors import BadFile
from eyeshot.runs import CONFIG, LAST, WEIGHTS, Run, RunConfig, build_net, read_tensors

_FILE = "state.safetensors"
"""The checkpoint's name in the run's folder of what to resume from."""


class Training:
    """A run that is not finished, with the weights of its last checkpoint.

    Args:
        folder: of the run.

    Raises:
        BadFile: no run, or no checkpoint yet.

    Attributes:
        run: with a network whose weights change when :meth:`refresh` finds new ones.
        rows: what was measured after each epoch.
        epochs: how many there will be.
        stamp: counts the checkpoints that were read.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LAST / _FILE
        config = RunConfig.read(folder / CONFIG)
        self.run = Run(folder, config, build_net(config).eval())
        self.epochs = config.recipe.epochs
        self.rows: list[dict[str, float]] = []
        self.stamp = 0
        self._seen: tuple[int, int] | None = None
        self.refresh()

    def refresh(self) -> bool:
        """Read the checkpoint, if it is another than before; whether it was."""
        try:
            status = self._path.stat()
        except OSError:
            if self.stamp:
                return False  # the training has ended, and taken it away
            raise BadFile(
                f"{self._path}: no checkpoint yet", cure="wait until the training has written one"
            ) from None
        now = (status.st_mtime_ns, status.st_size)
        if now == self._seen:
            return False
        tensors, metadata = read_tensors(self._path)
        _fill(self.run.net, tensors, self._path)
        try:
            rows: Any = json.loads(metadata["position"])["rows"]
            self.rows = [{str(k): float(v) for k, v in row.items()} for row in rows]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise BadFile(f"{self._path}: not a checkpoint", cure="train again") from None
        self._seen = now
        self.stamp += 1
        return True

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {"rows": self.rows, "epochs": self.epochs, "stamp": self.stamp}


def is_training(folder: Path) -> bool:
    """Whether a folder holds a run that has a checkpoint and no final weights."""
    there = (folder / CONFIG).is_file() and (folder / LAST / _FILE).is_file()
    return there and not (folder / WEIGHTS).is_file() and not (folder / "model.pt").is_file()


def _fill(net: nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Copy the averaged weights, where there are some, or else the weights themselves."""
    prefix = "average/" if any(name.startswith("average/") for name in tensors) else "net/"
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            found = tensors.get(prefix + name)
            if found is None or found.shape != tensor.shape:
                raise BadFile(f"{path}: {name} is of another network", cure="train again")
            tensor.copy_(found)
