"""A checkpoint: one file from which a training resumes as if it had never stopped.

The file is safetensors: the weights, their running average and the optimizer's moments as tensors,
and the position of the training as JSON in the header. It is written aside and renamed in one step,
so weights and position always belong to the same moment.

The run folder is prepared here too: new, resumed or refused. No file of the user is lost.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from eyeshot.errors import BadFile, BadValue, shorten
from eyeshot.files import Lock, explain_os_error, make_folder
from eyeshot.runs import (
    CONFIG,
    LAST,
    LAST_WEIGHTS,
    METRICS,
    PROGRAM,
    SAMPLES,
    WEIGHTS,
    RunConfig,
    read_tensors,
    save_tensors,
)
from eyeshot.training.logs import FOLDER
from eyeshot.training.optimization import Average

_AGAIN = "again with --force, or into another folder"
_MOMENTS = {"step", "exp_avg", "exp_avg_sq"}  # of AdamW
FILE = "state.safetensors"


@dataclass
class Position:
    """The position of a training, and its measurements so far.

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
        """Each measure for one picture, averaged over the epoch so far."""
        return {name: value / self.seen for name, value in self.sums.items()}

    def next_epoch(self, row: dict[str, float]) -> None:
        """End the epoch with its ``row`` of measurements, and begin the next."""
        self.rows.append(row)
        self.epoch += 1
        self.step, self.sums, self.seen, self.seconds = 0, {}, 0, 0.0


def save(
    folder: Path, net: nn.Module, average: Average | None, optimizer: Optimizer, position: Position
) -> None:
    """Write the checkpoint into ``folder``, in place of the earlier one.

    Raises:
        BadFile: the run folder is not there any more, or may not be written to.
        Failure: the disk is full; the earlier checkpoint is still complete.
    """
    tensors = {f"net/{name}": tensor for name, tensor in net.state_dict().items()}
    if average is not None:
        tensors |= {f"average/{name}": tensor for name, tensor in average.net.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": tensor for name, tensor in moments.items()}
    make_folder(folder)
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


# The name of a setting on the command line, if it differs.
_OPTIONS = {
    "learning_rate": "--lr",
    "data": "the data",
    "data_folder": "--data",
    "source": "--net",
    "start": "--from",
    "backbone_rate": "--backbone-lr",
    "arguments": "--net-args",
    "program": "the network, by its program,",
    "judged_by": "the part that judges each epoch",
    "fingerprint": "the data, by its fingerprint,",
}
_FOLLOWING = ("fingerprint", "judged_by", "classes", "channels", "mean", "std", "steps")
# All but the first differ only if the data differs, or in a run that did not record them.
_IMPLIED = ("versions", "legend", "learned", "own_scale")
_FREE = ("minutes", "patience", "fresh")
"""Settings that may differ in a resumed training: its end, and the weights it started from."""
_PAGE = "report.html"
_LOCK = ".training.lock"
STOP = "STOP"
"""A file with this name in the run folder ends the training after the current step."""


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep every other training out of ``folder`` while this one reads and writes it.

    Raises:
        BadValue: the name is one that safetensors could not open a file in.
        BadFile: another training writes there, or the folder cannot be made.
    """
    if str(folder).encode("utf-8", "replace").decode() != str(folder):
        raise BadValue(f"{folder}: a name that is not UTF-8", cure="name another with --out")
    if folder.exists() and not folder.is_dir():
        raise BadFile(f"{folder}: is a file", cure="name a folder with --out")
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = Lock(folder / _LOCK, folder)
    except OSError as error:
        raise explain_os_error(error, folder) from error
    try:
        yield
    finally:
        lock.release()
        if new:
            with suppress(OSError):
                folder.rmdir()  # a refused training leaves no folder


def prepare(folder: Path, config: RunConfig, *, resume: bool, force: bool) -> bool:
    """Make ``folder`` ready for a training of ``config``, and write its configuration.

    With ``resume``, an empty folder is a training that was stopped before its first checkpoint. The
    caller has to :func:`hold` the folder.

    Returns:
        Whether there is a checkpoint to continue from.

    Raises:
        BadValue: the folder is in use and neither ``resume`` nor ``force`` is given, or the run in
            it was started with other settings.
        BadFile: the folder holds something other than a run.
    """
    started = (folder / CONFIG).is_file()
    entries = [p for p in folder.iterdir() if p.name != _LOCK and not _is_leftover(p)]
    if entries and not started:
        raise BadFile(
            f"{folder}: holds {entries[0].name}, and no run", cure="name another folder with --out"
        )
    if started and resume and _worth_keeping(folder):
        _check_same(folder, config)
        _clear(folder, leftovers=True)
        return True
    if started and not (resume or force):
        raise BadValue(
            f"{folder} holds a run already",
            cure="go on with --resume, throw it away with --force, or name another with --out",
        )
    _clear(folder, leftovers=False)
    config.save(folder / CONFIG)
    return False


def _worth_keeping(folder: Path) -> bool:
    return (folder / LAST / FILE).is_file() or (folder / WEIGHTS).is_file()


def _is_leftover(path: Path) -> bool:
    """Whether a killed process left ``path`` incomplete."""
    return path.name.startswith(".") and ".part" in path.suffixes


def _clear(folder: Path, *, leftovers: bool) -> None:
    """Remove incomplete files and, unless ``leftovers`` is set, the run itself."""
    for place in (folder / LAST, folder / SAMPLES, folder):
        for path in place.iterdir() if place.is_dir() else ():
            if _is_leftover(path):
                path.unlink(missing_ok=True)
    (folder / STOP).unlink(missing_ok=True)
    if not leftovers:
        (folder / LAST / FILE).unlink(missing_ok=True)
        for name in (WEIGHTS, LAST_WEIGHTS, METRICS, PROGRAM, _PAGE):
            (folder / name).unlink(missing_ok=True)
        if (folder / FOLDER).is_dir() and not (folder / FOLDER).is_symlink():
            shutil.rmtree(folder / FOLDER)
        for path in (folder / SAMPLES).glob("epoch-*.png"):
            path.unlink(missing_ok=True)


def _check_same(folder: Path, config: RunConfig) -> None:
    if not (folder / LAST / FILE).is_file():
        raise BadFile(
            f"{folder}: {LAST}/{FILE} is missing, so there is nothing to go on from",
            cure="train again with --force",
        )
    old = RunConfig.read(folder / CONFIG)
    # A setting that follows from others is printed only if all of those are the same.
    found = sorted(_differences(old, config), key=lambda one: one[0] in _FOLLOWING)
    for name, before, now in found:
        option = _OPTIONS.get(name, "--" + name.replace("_", "-"))
        if name == "size" and config.task in ("segment", "restore"):
            option = "--crop"
        same = option.partition(",")[0].removeprefix("the ")
        cure = f"resume with the same {same}, or name another folder with --out"
        if name == "epochs":
            cure = (
                f"the learning rate of its {before} epochs falls to 0 at their end, so none can "
                f"follow; go on with --epochs {before}, or train all {now} in another folder"
            )
        raise BadValue(
            f"{option} is {_worded(now)}, and the run in {folder} was started "
            + (f"with {before!r}" if before is not None else "without it"),
            cure=cure,
        )


def _worded(value: Any) -> str:
    return "not given" if value is None else repr(value)


def _differences(old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Each setting that differs: its name, the old value and the new value."""
    for entry in dataclasses.fields(old):
        before, now = getattr(old, entry.name), getattr(new, entry.name)
        if entry.name in (*_IMPLIED, *_FREE):
            continue
        if dataclasses.is_dataclass(before):
            yield from _differences(before, now)
        elif isinstance(before, Mapping):
            for name in (*now, *(before.keys() - now.keys())):
                if before.get(name) != now.get(name):
                    yield name, before.get(name), now.get(name)
        elif before != now:
            yield entry.name, before, now
