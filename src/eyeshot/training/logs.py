"""Where a lab logs: each epoch's figures in TensorBoard, MLflow or Weights & Biases.

TensorBoard is written by Lightning Fabric's logger. Fabric has none for MLflow, and its logger for
Weights & Biases needs the whole of Lightning, so these two use their own libraries. All write into
the run folder and send nothing, except MLflow if ``MLFLOW_TRACKING_URI`` names a server. A
resumed training continues the same log.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from eyeshot.errors import BadValue, UnknownName, one_line
from eyeshot.extras import is_installed, not_installed
from eyeshot.files import make_folder, write_aside
from eyeshot.runs import RunConfig

FOLDER = "logs"
"""In the run folder."""
_PROJECT = "eyeshot"
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "tensorboard": ("tensorboardX", "tensorboard"),
    "mlflow": ("mlflow",),
    "wandb": ("wandb",),
}
"""For each log its packages, of which one must be installed; the key also names the extra."""
_PRIVATE = {
    "mlflow": ("MLFLOW_DISABLE_TELEMETRY", "true"),
    "wandb": ("WANDB_ERROR_REPORTING", "false"),
}
"""Settings that stop a library from reporting its use to its makers; the user may change them."""
LOGS = tuple(_NEEDS)


class Log(Protocol):
    """One log of one training."""

    def write(self, figures: Mapping[str, float], epoch: int) -> None:
        """The figures of an epoch, counted from 1."""

    def close(self, *, finished: bool) -> None:
        """End the log: the training has finished, or was stopped and may be resumed."""


def check_logs(names: str | Sequence[str] | None) -> tuple[str, ...]:
    """The logs that were asked for, by their names.

    Args:
        names: with commas between them, or a list; None for none.

    Raises:
        UnknownName: there is no such log.
        BadValue: it is not a list of names.
        Failure: a package that writes it is not installed.
    """
    if names is None:
        return ()
    requested = names.split(",") if isinstance(names, str) else names
    if not all(isinstance(name, str) for name in requested):
        raise BadValue(f"log is {names!r}", cure=f"use {', '.join(LOGS)}")
    chosen = tuple(dict.fromkeys(name.strip() for name in requested))
    for name in chosen:
        if name not in _NEEDS:
            raise UnknownName("log", name, LOGS)
        if name in _PRIVATE:
            os.environ.setdefault(*_PRIVATE[name])  # it is read when the package is imported
        if not any(is_installed(package) for package in _NEEDS[name]):
            raise not_installed(_NEEDS[name][0], name)
    return chosen


class _Spared:
    """A log whose failure does not end the training: it is reported once, and ends there."""

    def __init__(self, log: Log, name: str, say: Callable[[str], None]) -> None:
        self._log, self._name, self._say = log, name, say
        self._failed = False

    def write(self, figures: Mapping[str, float], epoch: int) -> None:
        """Write the figures of an epoch."""
        if not self._failed:
            self._try(lambda: self._log.write(figures, epoch))

    def close(self, *, finished: bool) -> None:
        """Say how the training ended."""
        if not self._failed:
            self._try(lambda: self._log.close(finished=finished))

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # a server that is down, a full disk: metrics.csv has it all
            self._failed = True
            reason = one_line(f"{type(error).__name__}: {error}", 200)
            self._say(f"log {self._name}: {reason}; the training goes on without it")


def open_logs(
    names: Sequence[str],
    run: Path,
    config: RunConfig,
    rows: Sequence[Mapping[str, float]],
    say: Callable[[str], None],
) -> list[Log]:
    """Open the logs of a training, or continue them.

    Args:
        names: of the logs.
        run: the run folder.
        config: of the run.
        rows: the finished epochs, as in ``metrics.csv``. Every log gets them, so that it has each
            of them once, even if it is new or if a killed training wrote too few or too many.
        say: called with one line if a log fails later; nothing more is written to that log.
    """
    folder = run / FOLDER
    if names:
        make_folder(folder)
    logs: list[Log] = []
    for name in names:
        log = _MAKERS[name](folder, run.name, config, len(rows))
        logs.append(_Spared(log, name, say))
        write_row(logs[-1:], *rows)
    return logs


def write_row(logs: Sequence[Log], *rows: Mapping[str, float]) -> None:
    """Write rows of ``metrics.csv`` into every log."""
    for row in rows:
        figures = {name: value for name, value in row.items() if name != "epoch"}
        for log in logs:
            log.write(figures, int(row["epoch"]))


def _settings(config: RunConfig) -> dict[str, Any]:
    """The settings of the training as plain values."""
    recipe = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(config.recipe).items()
    }
    names = {"model": config.model, "data": config.data, "task": config.task}
    return {**names, **config.model_arguments, **recipe}


def _stored_name(path: Path, new: str) -> str:
    """The text of the file; if it does not exist, ``new``, which is then written to it."""
    if path.is_file():
        return path.read_text(encoding="ascii").strip()
    with write_aside(path) as aside:
        aside.write_text(new, encoding="ascii")
    return new


class _TensorBoard:
    """Event files in ``logs/tensorboard``."""

    def __init__(self, folder: Path, name: str, config: RunConfig, epochs_done: int) -> None:
        from lightning_fabric.loggers.tensorboard import TensorBoardLogger

        del name, config, epochs_done
        # Files are named by the second: a training resumed within that second needs another name.
        files = sum(1 for _ in (folder / "tensorboard").glob("events*"))
        # The earlier files are hidden, because all saved rows are written again.
        purge: dict[str, Any] = {"purge_step": 1} if files else {}
        self._logger = TensorBoardLogger(
            folder, name="", version="tensorboard", filename_suffix=f".{files:03}", **purge
        )

    def write(self, figures: Mapping[str, float], epoch: int) -> None:
        """Write the figures of an epoch."""
        self._logger.log_metrics(figures, epoch)
        self._logger.save()

    def close(self, *, finished: bool) -> None:
        """Say how the training ended."""
        self._logger.finalize("success" if finished else "aborted")


class _MLflow:
    """A run in ``logs/mlflow.db``, or where ``MLFLOW_TRACKING_URI`` says."""

    def __init__(self, folder: Path, name: str, config: RunConfig, epochs_done: int) -> None:
        from mlflow import MlflowClient

        del epochs_done
        place = os.environ.get("MLFLOW_TRACKING_URI")
        own = f"sqlite:///{(folder / 'mlflow.db').resolve()}"
        self._client = client = MlflowClient(tracking_uri=place or own)
        self._known: dict[str, set[int]] = {}
        found = folder / "mlflow.txt"
        self._resumed = found.is_file()
        if self._resumed:
            self._run = _stored_name(found, "")
            client.update_run(self._run, status="RUNNING")
            return
        there = client.get_experiment_by_name(_PROJECT)
        artifacts = None if place else (folder / "mlflow-artifacts").resolve().as_uri()
        number = (
            there.experiment_id
            if there
            else client.create_experiment(_PROJECT, artifact_location=artifacts)
        )
        self._run = client.create_run(number, run_name=name).info.run_id
        for key, value in _settings(config).items():
            client.log_param(self._run, key, value)
        _stored_name(found, self._run)

    def write(self, figures: Mapping[str, float], epoch: int) -> None:
        """Write the figures of an epoch."""
        for name, value in figures.items():
            if not (self._resumed and epoch in self._steps(name)):
                self._client.log_metric(self._run, name, value, step=epoch)

    def _steps(self, name: str) -> set[int]:
        """The epochs of which the run had a figure when the training was resumed."""
        if name not in self._known:
            found = self._client.get_metric_history(self._run, name)
            self._known[name] = {one.step for one in found}
        return self._known[name]

    def close(self, *, finished: bool) -> None:
        """Say how the training ended."""
        self._client.set_terminated(self._run, "FINISHED" if finished else "KILLED")


class _Wandb:
    """Offline runs in ``logs/wandb``, all of one id: ``wandb sync`` sends them.

    An offline run cannot be read, so a file beside it says which epoch was logged last: a training
    killed before it saved that epoch computes it again, and it is not logged twice.
    """

    def __init__(self, folder: Path, name: str, config: RunConfig, epochs_done: int) -> None:
        import wandb

        begins = not (folder / "wandb.txt").is_file()
        self._last = folder / "wandb-epoch.txt"
        self._done = 0 if begins else max(epochs_done, self._logged())
        self._run = wandb.init(
            project=_PROJECT,
            name=name,
            id=_stored_name(folder / "wandb.txt", secrets.token_hex(4)),
            resume="allow",
            mode="offline",
            dir=str(folder),
            config=_settings(config),
            settings=wandb.Settings(silent=True, console="off"),
        )

    def write(self, figures: Mapping[str, float], epoch: int) -> None:
        """Write the figures of an epoch."""
        if epoch > self._done:
            self._run.log(dict(figures), step=epoch)
            self._done = epoch
            with write_aside(self._last) as aside:
                aside.write_text(str(epoch), encoding="ascii")

    def _logged(self) -> int:
        """The last epoch that was logged; 0 if that is unknown."""
        text = self._last.read_text(encoding="ascii").strip() if self._last.is_file() else ""
        return int(text) if text.isdigit() else 0

    def close(self, *, finished: bool) -> None:
        """Say how the training ended."""
        self._run.finish(exit_code=0 if finished else 1)


_MAKERS: Mapping[str, Callable[[Path, str, RunConfig, int], Log]] = {
    "tensorboard": _TensorBoard,
    "mlflow": _MLflow,
    "wandb": _Wandb,
}
