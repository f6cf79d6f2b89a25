"""A training stopped at any step, as one file: with it, going on is as if it had never stopped.

The file is safetensors: the weights, their running average and the optimizer's moments as tensors,
and where the training is as JSON in the header. One file, renamed into place in one step, so that
weights and position can never be of different moments.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from eyeshot.errors import BadFile, shorten
from eyeshot.runs import read_tensors, save_tensors
from eyeshot.training.optimization import Average

_AGAIN = "again with --force, or into another folder"
_MOMENTS = {"step", "exp_avg", "exp_avg_sq"}  # of AdamW
FILE = "state.safetensors"


@dataclass
class Position:
    """How far a training is, and what it has measured.

    ``step`` counts the steps done in ``epoch``; ``sums`` are the task's measures over the ``seen``
    pictures of the epoch so far, and ``seconds`` is the time that its steps took. ``best`` is the
    highest figure of the epochs before, where the task looks for the best, and ``best_epoch`` the
    epoch that had it, from 1.
    """

    epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    seen: int = 0
    seconds: float = 0.0
    best: float | None = None
    rows: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0

    @property
    def means(self) -> dict[str, float]:
        """Each measure a picture, over the epoch so far."""
        return {name: value / self.seen for name, value in self.sums.items()}

    def next_epoch(self, row: dict[str, float]) -> None:
        """Close the epoch with its ``row`` of measurements, and stand before the next."""
        self.rows.append(row)
        self.epoch += 1
        self.step, self.sums, self.seen, self.seconds = 0, {}, 0, 0.0


def save(
    folder: Path, net: nn.Module, average: Average | None, optimizer: Optimizer, position: Position
) -> None:
    """Write the checkpoint into ``folder``, in place of the one before.

    Raises:
        Failure: the disk is full; the checkpoint before is still whole.
    """
    tensors = {f"net/{name}": tensor for name, tensor in net.state_dict().items()}
    if average is not None:
        tensors |= {f"average/{name}": tensor for name, tensor in average.net.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": tensor for name, tensor in moments.items()}
    folder.mkdir(exist_ok=True)
    save_tensors(folder / FILE, tensors, {"position": json.dumps(asdict(position))})


def restore(
    folder: Path,
    net: nn.Module,
    average: Average | None,
    optimizer: Optimizer,
    measures: Sequence[str],
) -> Position:
    """Put ``net``, ``average`` and ``optimizer`` where the checkpoint in ``folder`` left them.

    ``measures`` are those of the task.

    Raises:
        BadFile: the checkpoint is damaged, or of another network.
    """
    path = folder / FILE
    try:
        tensors, metadata = read_tensors(path)
    except BadFile as error:
        error.cure = f"restore it from a copy, or train {_AGAIN}"
        raise
    try:
        position = _position(json.loads(metadata["position"]), measures)
        _fill(net.state_dict(), tensors, "net/")
        if average is not None:
            _fill(average.net.state_dict(), tensors, "average/")
        _restore_optimizer(optimizer, tensors)
    except (LookupError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise BadFile(
            f"{path}: not a checkpoint of this training ({reason})",
            cure=f"train {_AGAIN}",
        ) from None
    return position


def _position(found: dict[str, Any], measures: Sequence[str]) -> Position:
    """A position whose every value is checked for its type and range."""
    position = Position(**found)
    for name in ("epoch", "step", "seen", "best_epoch"):
        value = getattr(position, name)
        if type(value) is not int or not 0 <= value < 2**53:
            raise ValueError(f"{name} is {shorten(value)}")
    least = 1e-9 if position.step else 0
    if not _is_number(position.seconds) or position.seconds < least:
        raise ValueError(f"seconds is {shorten(position.seconds)}")
    if position.best is not None and not _is_number(position.best):
        raise ValueError(f"best is {shorten(position.best)}")
    if bool(position.step) != bool(position.seen) or set(position.sums) - set(measures):
        raise ValueError(f"{position.step} steps, and the sums {shorten(position.sums)}")
    if len(position.rows) != position.epoch:
        raise ValueError(f"{len(position.rows)} rows after {position.epoch} epochs")
    names = set(position.rows[0]) if position.rows else set()
    for table in (position.sums, *position.rows):
        if not isinstance(table, dict) or not all(map(_is_number, table.values())):
            raise ValueError(f"measures of {shorten(table)}")
    if any(set(row) != names for row in position.rows) or (
        names and not names >= {"epoch", *measures}
    ):
        raise ValueError("rows of different measures")
    return position


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _fill(state: dict[str, Tensor], tensors: dict[str, Tensor], prefix: str) -> None:
    with torch.no_grad():
        for name, tensor in state.items():
            found = tensors[prefix + name]
            if found.shape != tensor.shape:
                raise ValueError(f"{prefix}{name} is {tuple(found.shape)}")
            tensor.copy_(found)


def _restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition("/")
        if kind != "optimizer":
            continue
        number, _, moment = rest.partition("/")
        index = int(number)
        if not 0 <= index < len(parameters) or moment not in _MOMENTS:
            raise ValueError(f"{name} has no place")
        parameter = parameters[index]
        if moment != "step" and tensor.shape == parameter.shape:
            # A fused optimizer walks memory in order: moments must lie as their parameter does.
            tensor = torch.empty_like(parameter).copy_(tensor)
        elif moment != "step" or tensor.numel() != 1:
            raise ValueError(f"{name} is {tuple(tensor.shape)}")
        state.setdefault(index, {})[moment] = tensor
    if any(moments.keys() != _MOMENTS for moments in state.values()):
        raise ValueError("a moment of the optimizer is missing")
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
