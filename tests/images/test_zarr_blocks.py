"""A Zarr output with many writers: windows of it, records of them, and runs that are given up."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import zarr

from eyeshot.errors import BadFile, BadValue, Failure
from eyeshot.images import open_sink
from eyeshot.images.sinks.sink import STORED_PLAINLY, laid_canonically
from eyeshot.images.sinks.zarr_blocks import (
    BlockedZarr,
    BlockWindow,
    Record,
    blocked_zarr,
    opened_part,
)
from eyeshot.images.sinks.zarrays import RunFolder, holding

SHAPE = (2, 700, 600)
WINDOWS = {0: [(0, 512), (0, 600)], 1: [(512, 700), (0, 600)]}


def _owner(target: Path, resume: bool = False) -> BlockedZarr:
    sink = blocked_zarr(
        target,
        SHAPE,
        np.dtype(np.uint8),
        laid_canonically(SHAPE),
        storage=STORED_PLAINLY,
        settings={"a": 1},
        resume=resume,
    )
    sink.open()
    return sink


def _write(
    owner: BlockedZarr, number: int, samples: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
) -> None:
    window = WINDOWS[number]
    sink = BlockWindow(
        opened_part(owner.part), window, 2, np.dtype(np.uint8), laid_canonically(SHAPE), 512
    )
    block = samples[:, slice(*window[0]), slice(*window[1])]
    for top in range(0, block.shape[1], 100):
        sink.write(top, np.ascontiguousarray(block[:, top : top + 100]))
    owner.record(Record(number, sink.finish()))


def test_what_is_recorded_is_kept_and_what_has_changed_is_not(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)
    with _owner(tmp_path / "out.zarr") as owner:
        _write(owner, 1, samples)
        owner.keep(0, {"mean": [0.25, float("inf")]})
    with pytest.raises(BadFile, match="an unfinished run is there"):
        _owner(tmp_path / "out.zarr")
    with _owner(tmp_path / "out.zarr", resume=True) as owner:
        owner.check(WINDOWS)
        assert set(owner.records) == {1}
        assert owner.lost == 0
        assert owner.result_of(0) == {"mean": [0.25, float("inf")]}
        assert owner.result_of(1) is None
        _write(owner, 0, samples)
        opened_part(owner.part)[:, 600:601] = 0
        owner.check(WINDOWS)
        assert set(owner.records) == {0}
        assert owner.lost == 1
        _write(owner, 1, samples)
        assert owner.finish() == tmp_path / "out.zarr"
    assert (np.asarray(zarr.open_array(str(tmp_path / "out.zarr"))[:]) == samples).all()
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]


def test_what_a_killed_worker_leaves_of_a_chunk_is_removed(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)
    with _owner(tmp_path / "out.zarr") as owner:
        _write(owner, 0, samples)
        (owner.part / "c" / "0" / "0" / "0.abc.partial").write_bytes(b"half a chunk")
        _write(owner, 1, samples)
        owner.finish()
    assert not list((tmp_path / "out.zarr").rglob("*.partial"))


def test_of_a_run_that_has_written_nothing_nothing_stays(tmp_path: Path) -> None:
    with (
        _owner(tmp_path / "out.zarr") as owner,
        pytest.raises(BadValue, match="is written by workers"),
    ):
        owner.write(0, np.zeros((2, 5, 600), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_a_new_run_waits_for_workers_of_one_that_was_abandoned(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "out.zarr")
    folder.make("a", {"run.json": b"{}"})
    assert folder.path.stat().st_mode & 0o777 == 0o700, "settings may hold passwords"
    held, release = threading.Event(), threading.Event()
    let_go: list[float] = []

    def work() -> None:
        with holding(folder.path, "a"):
            held.set()
            release.wait(30)
            let_go.append(time.monotonic())

    worker = threading.Thread(target=work)
    worker.start()
    assert held.wait(30)
    with pytest.raises(Failure, match="workers still write blocks of a run that was stopped"):
        folder.remove(patience=0)
    threading.Timer(0.2, release.set).start()
    with open_sink(tmp_path / "out.zarr", SHAPE, np.uint8) as sink:
        begun = time.monotonic()
        sink.write(0, np.zeros(SHAPE, np.uint8))
        sink.finish()
    worker.join()
    assert let_go[0] <= begun
    assert not folder.path.exists()
    with pytest.raises(Failure, match="the run has been given up"), holding(folder.path, "a"):
        raise AssertionError("a run that is over was held")


def test_the_folder_of_another_run_is_not_held(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "out.zarr")
    folder.make("a", {})
    folder.make("b", {})
    with pytest.raises(Failure, match="the run has been given up"), holding(folder.path, "a"):
        raise AssertionError("the folder of a run that came after was held")
    with holding(folder.path, "b"):
        assert folder.path.exists()
