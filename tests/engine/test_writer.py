"""Rows that are written while the next are computed: in order, all of them, and none too early."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import eyeshot
from eyeshot.engine.executing import RunReport
from eyeshot.engine.outputs import Form
from eyeshot.engine.writer import MOST_BYTES, Writer
from eyeshot.errors import Failure
from eyeshot.images.sinks.file_sink import FileSink
from eyeshot.images.sinks.png import NpySink
from eyeshot.language import speaking, spoken
from tests.engine import runner
from tests.engine.law import enliven, noise, whole
from tests.journals import state_of

BAND = 8
BLOCK = np.zeros((1, 2, 3), np.uint8)


class Log:
    """What is written to it, by which thread, in which language."""

    behind = True

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.threads: set[int] = set()
        self.languages: list[str] = []

    def write(self, row: int, block: Any, column: int = 0) -> None:
        if row < 0:
            raise Failure("the disk is full")
        self.rows.append(row)
        self.threads.add(threading.get_ident())
        self.languages.append(spoken())


def test_blocks_are_written_in_order_and_announced_afterwards() -> None:
    log, heard = Log(), list[list[int]]()
    with Writer(behind=True) as writer, speaking("zh"):
        for row in range(20):
            writer.write(log, row, BLOCK)
            writer.announce(lambda: heard.append(list(log.rows)))
    assert log.rows == list(range(20))
    assert [len(rows) for rows in heard] == list(range(1, 21)), "each exactly after its own rows"
    assert threading.get_ident() not in log.threads
    assert set(log.languages) == {"zh"}, "errors speak the language of the run"


@pytest.mark.parametrize("kind", ["not allowed", "array", "large"])
def test_what_is_not_written_behind(kind: str) -> None:
    log = Log()
    log.behind = kind != "array"
    block = np.zeros((1, 1, MOST_BYTES + 1), np.uint8) if kind == "large" else BLOCK
    with Writer(behind=kind != "not allowed") as writer:
        writer.write(log, 0, block)
        assert log.threads == {threading.get_ident()}


def test_rows_are_written_where_no_thread_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of Python (``atexit``), or where a process may have no more threads."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    log, heard = Log(), list[list[int]]()
    with Writer(behind=True) as writer:
        for row in range(3):
            writer.write(log, row, BLOCK)
            writer.announce(lambda: heard.append(list(log.rows)))
    assert heard == [[0], [0, 1], [0, 1, 2]]


def test_an_error_is_raised_before_anything_else_is_written_or_announced() -> None:
    log, heard = Log(), list[int]()
    with pytest.raises(Failure, match="the disk is full"), Writer(behind=True) as writer:
        writer.write(log, -1, BLOCK)
        writer._announcements.append(lambda: heard.append(1))
        writer.write(log, 1, BLOCK)
    assert log.rows == heard == []
    with pytest.raises(Failure, match="the disk is full"), Writer(behind=True) as writer:
        writer.write(log, -1, BLOCK)  # the last one


class Slow(Log):
    """Writes when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()

    def write(self, row: int, block: Any, column: int = 0) -> None:
        self.begun.set()
        self.go.wait(20)
        super().write(row, block, column)


def test_a_write_that_has_begun_is_completed_after_an_interrupt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow, writer = Slow(), Writer(behind=True)
    with pytest.raises(KeyboardInterrupt), writer:
        writer.write(slow, 7, BLOCK)
        assert slow.begun.wait(20)
        assert writer._pool is not None
        shutdown = writer._pool.shutdown
        again = iter([True, False])

        def interrupted(**options: Any) -> None:
            if next(again):
                raise KeyboardInterrupt  # a second Ctrl-C
            slow.go.set()
            shutdown(**options)

        monkeypatch.setattr(writer._pool, "shutdown", interrupted)
        raise KeyboardInterrupt
    assert slow.rows == [7]


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block is written only after the next one has been computed."""
    computed, write, convert = threading.Semaphore(0), FileSink.write, Form.__call__

    def called(self: Form, scores: torch.Tensor) -> Any:
        samples = convert(self, scores)
        computed.release()
        return samples

    def written(self: FileSink, row: int, block: Any, column: int = 0) -> None:
        assert threading.current_thread() is not threading.main_thread()
        computed.acquire(timeout=20)  # for this block itself
        if row + block.shape[1] < self.shape[1]:
            assert computed.acquire(timeout=20), "no other block was computed in the meantime"
            computed.release()
        write(self, row, block, column)

    monkeypatch.setattr(Form, "__call__", called)
    monkeypatch.setattr(FileSink, "write", written)


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("form", ["scores", "probabilities", "argmax", "uint8"])
@pytest.mark.parametrize("kind", ["u-net", "pointwise", "view", "input"])
@pytest.mark.filterwarnings("ignore:.*were clipped")
def test_computing_a_band_changes_no_block_that_is_being_written(
    form: str, kind: str, tmp_path: Path
) -> None:
    channels = 1 if kind == "u-net" else 2
    image = noise(channels, 40, 24)
    nets: dict[str, nn.Module] = {
        "u-net": runner.network(),
        "pointwise": nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU(inplace=True)),
        "view": nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.PixelShuffle(2)),
        "input": nn.ReLU(),
    }
    net = enliven(nets[kind], image[None])
    out = tmp_path / "out.npy"
    eyeshot.run(net, image, out, output_format=form, band=BAND)
    np.testing.assert_array_equal(
        np.load(out), eyeshot.run(net, image, output_format=form, band=BAND)
    )
    if form == "scores":
        np.testing.assert_allclose(np.load(out), whole(net, image)[0], atol=1e-5)


def test_a_disk_that_fills_up_behind_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, image, heard = runner.network(), noise(1, 64, 24), list[int]()
    whole_run, out = tmp_path / "whole.npy", tmp_path / "out.npy"
    eyeshot.run(net, image, whole_run, band=BAND)
    store = NpySink._store

    def fail(self: NpySink, row: int, block: Any, strip: Any) -> None:
        if row >= 24:
            raise OSError(28, "No space left on device")
        store(self, row, block, strip)

    def tell(report: RunReport) -> None:
        heard.append(report.rows)

    monkeypatch.setattr(NpySink, "_store", fail)
    with pytest.raises(Failure, match=r"out\.npy: the disk is full; free some space, then") as told:
        eyeshot.run(net, image, out, band=BAND, progress=tell)
    assert "\n" not in str(told.value)
    monkeypatch.undo()
    assert not out.exists()
    (rows,) = state_of(out)["done"].values()
    assert rows == max(heard), "what was announced is in the journal"
    eyeshot.run(net, image, out, band=BAND, resume=True)
    assert out.read_bytes() == whole_run.read_bytes()


def test_ctrl_c_while_rows_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is closed only when the write has ended; its rows count."""
    net, image, out = runner.network(), noise(1, 64, 24), tmp_path / "out.npy"
    whole_run, begun = tmp_path / "whole.npy", threading.Event()
    eyeshot.run(net, image, whole_run, band=BAND)
    store, convert = NpySink._store, Form.__call__

    def slow(self: NpySink, row: int, block: Any, strip: Any) -> None:
        begun.set()
        time.sleep(0.1)  # if nobody waited, the file would be closed now
        store(self, row, block, strip)

    def interrupted(self: Form, scores: torch.Tensor) -> Any:
        if begun.is_set():
            raise KeyboardInterrupt
        return convert(self, scores)

    monkeypatch.setattr(NpySink, "_store", slow)
    monkeypatch.setattr(Form, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        eyeshot.run(net, image, out, band=BAND)
    monkeypatch.undo()
    assert max(state_of(out)["done"].values()) > 0
    eyeshot.run(net, image, out, band=BAND, resume=True)
    assert out.read_bytes() == whole_run.read_bytes()
