"""Each epoch's figures in the logs of others, one log however often a training was cut."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from eyeshot.errors import BadValue, Failure, UnknownName
from eyeshot.runs import METRICS
from eyeshot.training import Silence, checkpoint, train
from eyeshot.training.checkpoint import Position
from eyeshot.training.logs import FOLDER, LOGS, check_logs

from .blobs import blobs

SETTINGS: dict[str, Any] = {"epochs": 3, "batch_size": 50, "progress": False}


class Cut(Silence):
    """Ends a training as Ctrl-C does, in an epoch counted from 0."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def step(self, position: Position) -> None:
        if position.epoch == self.epoch:
            raise KeyboardInterrupt


def _events(folder: Path) -> Iterator[Any]:
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.glob("events*")):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            yield Event.FromString(content[place + 12 : place + 12 + length])
            place += 12 + length + 4


def scalars(folder: Path, name: str) -> dict[int, float]:
    """What TensorBoard shows: a restart hides the steps that were to come."""
    found: dict[int, float] = {}
    for event in _events(folder):
        if event.session_log.status == 1:
            found = {step: value for step, value in found.items() if step < event.step}
        for value in event.summary.value:
            if value.tag == name:
                found[event.step] = value.simple_value
    return found


def test_tensorboard_goes_on_with_the_log_of_a_cut_training(tmp_path: Path) -> None:
    folder = tmp_path / "run" / FOLDER / "tensorboard"
    with pytest.raises(KeyboardInterrupt):
        train(blobs(), out=tmp_path / "run", log="tensorboard", **{**SETTINGS, "progress": Cut(2)})
    assert sorted(scalars(folder, "test_accuracy")) == [1, 2]
    train(blobs(), out=tmp_path / "run", log="tensorboard", resume=True, **SETTINGS)
    found = scalars(folder, "loss")
    header, *rows = (tmp_path / "run" / METRICS).read_text().splitlines()
    place = header.split(",").index("loss")
    assert found == pytest.approx(
        {k: float(row.split(",")[place]) for k, row in enumerate(rows, 1)}, rel=1e-4
    )
    assert sorted(scalars(folder, "learning_rate")) == [1, 2, 3]
    assert not scalars(folder, "epoch")
    train(blobs(), out=tmp_path / "run", force=True, **SETTINGS)
    assert not folder.exists()


def test_a_log_that_begins_late_has_the_epochs_before(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(blobs(), out=tmp_path / "run", **{**SETTINGS, "progress": Cut(2)})
    train(blobs(), out=tmp_path / "run", log=["tensorboard"], resume=True, **SETTINGS)
    assert sorted(scalars(tmp_path / "run" / FOLDER / "tensorboard", "loss")) == [1, 2, 3]


class _Client:
    """Stands in for MLflow's client: one server in memory."""

    runs: dict[str, Any]

    def __init__(self, tracking_uri: str) -> None:
        self.uri = tracking_uri

    def get_experiment_by_name(self, name: str) -> None:
        assert name == "eyeshot"

    def create_experiment(self, name: str, artifact_location: str | None) -> str:
        return "7"

    def create_run(self, number: str, run_name: str) -> Any:
        self.runs["abc"] = {"uri": self.uri, "name": run_name, "params": {}, "metrics": {}}
        return SimpleNamespace(info=SimpleNamespace(run_id="abc"))

    def update_run(self, run: str, status: str) -> None:
        self.runs[run]["status"] = status

    def log_param(self, run: str, key: str, value: Any) -> None:
        assert key not in self.runs[run]["params"]
        self.runs[run]["params"][key] = value

    def log_metric(self, run: str, name: str, value: float, step: int) -> None:
        self.runs[run]["metrics"].setdefault(name, []).append(
            SimpleNamespace(step=step, value=value)
        )

    def get_metric_history(self, run: str, name: str) -> list[Any]:
        return list(self.runs[run]["metrics"].get(name, []))

    set_terminated = update_run


class _WandbRun:
    """Stands in for a run of Weights & Biases."""

    def __init__(self, **reported: Any) -> None:
        self.reported, self.rows, self.code = reported, dict[int, Any](), -1

    def log(self, figures: dict[str, float], step: int) -> None:
        self.rows[step] = figures

    def finish(self, exit_code: int) -> None:
        self.code = exit_code


def _stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)


def _cut_and_resumed(out: Path, log: str) -> None:
    """Cut in the second epoch, and again when the second was logged and not yet saved."""
    with pytest.raises(KeyboardInterrupt):
        train(blobs(), out=out, log=log, **{**SETTINGS, "progress": Cut(1)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", _cut_at_save)
        with pytest.raises(KeyboardInterrupt):
            train(blobs(), out=out, log=log, resume=True, **{**SETTINGS, "checkpoint_seconds": 60})
    train(blobs(), out=out, log=log, resume=True, **SETTINGS)


def _cut_at_save(*_: object) -> None:
    raise KeyboardInterrupt


def test_mlflow_gets_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a stand-in: the package is not among those of the tests."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setattr(_Client, "runs", {}, raising=False)
    _stand_in(monkeypatch, "mlflow", MlflowClient=_Client)
    _cut_and_resumed(tmp_path / "out", "mlflow")
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    (run,) = _Client.runs.values()
    assert run["uri"] == f"sqlite:///{tmp_path}/out/{FOLDER}/mlflow.db"
    for history in run["metrics"].values():
        assert [one.step for one in history] == [1, 2, 3]
    assert run["params"]["epochs"] == 3
    assert (run["name"], run["status"]) == ("out", "FINISHED")


def test_a_server_that_is_down_ends_the_log_and_not_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Down(_Client):
        def log_metric(self, run: str, name: str, value: float, step: int) -> None:
            if step == 2:
                raise ConnectionError("no answer")
            super().log_metric(run, name, value, step)

        def set_terminated(self, run: str, status: str) -> None:
            raise AssertionError("nothing more is asked of it")

    class Said(Silence):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def say(self, line: str) -> None:
            self.lines.append(line)

    monkeypatch.setattr(_Client, "runs", {}, raising=False)
    _stand_in(monkeypatch, "mlflow", MlflowClient=Down)
    said = Said()
    run = train(blobs(), out=tmp_path / "run", log="mlflow", **{**SETTINGS, "progress": said})
    assert run.finished
    assert len((run.path / METRICS).read_text().splitlines()) == 4
    reported = [line for line in said.lines if line.startswith("log mlflow: ")]
    assert reported == ["log mlflow: ConnectionError: no answer; the training goes on without it"]


def test_wandb_gets_runs_of_one_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a stand-in: the package is not among those of the tests."""
    runs: list[_WandbRun] = []

    def init(**reported: Any) -> _WandbRun:
        runs.append(_WandbRun(**reported))
        return runs[-1]

    _stand_in(monkeypatch, "wandb", init=init, Settings=dict)
    _cut_and_resumed(tmp_path / "out", "wandb")
    first = runs[0]
    assert {run.reported["id"] for run in runs} == {first.reported["id"]}
    assert all(run.reported["mode"] == "offline" for run in runs)
    assert first.reported["dir"] == str(tmp_path / "out" / FOLDER)
    assert [sorted(run.rows) for run in runs] == [[1], [2], [3]]
    assert [run.code for run in runs] == [1, 1, 0]


def test_what_cannot_be_logged_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_logs(" tensorboard,tensorboard") == ("tensorboard",)
    with pytest.raises(UnknownName, match="log 'tensorbord'"):
        check_logs("tensorbord")
    with pytest.raises(BadValue, match="log is"):
        check_logs([1])  # type: ignore[list-item]
    for name in ("tensorboard", "tensorboardX", "mlflow", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in LOGS:
        with pytest.raises(Failure, match=r"is not installed") as caught:
            check_logs(name)
        assert f"pip install 'eyeshot[{name}]'" in str(caught.value)
