"""A training stopped at any step, as one file: with it, going on is as if it had never stopped.

The file is safetensors: the weights, their running average and the optimizer's moments as tensors,
and where the training is as JSON in the header. One file, renamed into place in one step, so that
weights and position can never be of different moments.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from eyeshot.errors import BadFile
from eyeshot.runs import read_tensors, save_tensors
from eyeshot.training.optimization import Average

_ANEW = "anew with --force, or into another folder"
FILE, BEST = "state.safetensors", "best.safetensors"


@dataclass
class Position:
    """How far a training is, and what it has measured.

    ``step`` counts the steps done in ``epoch``; ``sums`` are the task's measures over the ``seen``
    pictures of the epoch so far, and ``seconds`` is the time that its steps took. ``best`` is the
    highest figure of the epochs before, where the task looks for the best.
    """

    epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    seen: int = 0
    seconds: float = 0.0
    best: float | None = None
    rows: list[dict[str, float]] = field(default_factory=list)

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
    folder: Path, net: nn.Module, average: Average | None, optimizer: Optimizer
) -> Position:
    """Put ``net``, ``average`` and ``optimizer`` where the checkpoint in ``folder`` left them.

    Raises:
        BadFile: the checkpoint is damaged, or of another network.
    """
    path = folder / FILE
    try:
        tensors, metadata = read_tensors(path)
    except BadFile as error:
        error.cure = f"restore it from a copy, or train {_ANEW}"
        raise
    try:
        position = Position(**json.loads(metadata["position"]))
        _fill(net.state_dict(), tensors, "net/")
        if average is not None:
            _fill(average.net.state_dict(), tensors, "average/")
        _restore_optimizer(optimizer, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BadFile(
            f"{path}: not a checkpoint of this training ({error})",
            cure=f"train {_ANEW}",
        ) from None
    return position


def _fill(state: dict[str, Tensor], tensors: dict[str, Tensor], prefix: str) -> None:
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(tensors[prefix + name])


def _restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition("/")
        if kind != "optimizer":
            continue
        index, _, moment = rest.partition("/")
        parameter = parameters[int(index)]
        if tensor.shape == parameter.shape:
            # A fused optimizer walks memory in order: moments must lie as their parameter does.
            tensor = torch.empty_like(parameter).copy_(tensor)
        state.setdefault(int(index), {})[moment] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
