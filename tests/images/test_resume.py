"""A killed run goes on, to the very bytes of the run that was not killed."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eyeshot import images
from eyeshot.errors import BadFile, BadValue, Failure
from eyeshot.images.sinks import journal as journals
from tests.journals import change_journal, lines_of, path_of, state_of
from tests.networks import examples

from .conftest import noise
from .runner import run
from .test_sinks import KINDS, content, put

SHAPE = (1, 1100, 40)
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("suffix", "kept"),
    [
        (".npy", 16),
        (".png", 16),
        (".tif", 16),
        (".zarr", 512),
        (".ome.zarr", 512),
        (".ome.tif", 512),
    ],
)
def test_killed_at_random_moments_and_resumed(suffix: str, kept: int, tmp_path: Path) -> None:
    band = 16
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    run(whole, SHAPE, band, 0, resume=False)
    chance = random.Random(suffix)
    for attempt in range(3):
        command = [sys.executable, "-m", "tests.images.runner", path, *SHAPE[1:], band, 0.004]
        written = _kill(list(map(str, command)) + ["resume"] * (attempt > 0), chance.random() * 0.1)
        if path.exists():
            break  # it was quicker than the kill
        rows = _journalled(path)
        assert rows >= written // kept * kept, "what was announced as written is not lost"
    if not path.exists():
        before = _journalled(path)
        assert run(path, SHAPE, band, 0, resume=True) == before
    assert content(path) == content(whole)
    assert {file.name for file in tmp_path.iterdir()} == {whole.name, path.name}


def _kill(command: list[str], after: float) -> int:
    """Start a run, kill it ``after`` seconds of work; return the last row that it announced."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        reported = process.stdout.read().split()
    return int(reported[-1]) if reported else 0


def _journalled(path: Path) -> int:
    return int(state_of(path)["done"].get(f"0:{SHAPE[2]}", 0))


def _tops(sink: images.Sink, strip: tuple[int, int], step: int) -> range:
    return range(sink.durable_rows(strip), sink.shape[1], step)


class Killed(BaseException):
    """Stands for the moment at which a process ends without a word."""


@pytest.mark.parametrize(
    "name",
    ["npy", "png deep color", "tiff color", "zarr planes", "OME-Zarr planes", "OME-TIFF planes"],
)
@examples(10)
@given(data=st.data())
def test_killed_between_any_two_steps_in_strips(
    name: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    suffix, shape, dtype, squeeze = KINDS[name]
    folder, array = tmp_path_factory.mktemp("resume"), noise(shape, dtype)
    put(folder / f"whole{suffix}", array, squeeze, [0, shape[1]], [0, shape[2]])
    middle = data.draw(st.integers(1, shape[2] - 1))
    strips = [(0, middle), (middle, shape[2])]
    path, step = folder / f"out{suffix}", data.draw(st.integers(20, shape[1]))
    for life in [*data.draw(st.lists(st.integers(1, 30), max_size=4), label="steps"), None]:
        sink = images.open_sink(path, shape, dtype, resume=True)
        todo = [(strip, top) for strip in strips for top in _tops(sink, strip, step)]
        for strip, top in todo[:life]:
            sink.write(top, array[:, top : top + step, slice(*strip)], strip[0])
        if life is None:
            sink.finish()
        del sink  # no abort, no finish: what the system has is all that there is
    assert content(path) == content(folder / f"whole{suffix}")


@pytest.mark.parametrize("suffix", [".npy", ".png", ".tif", ".zarr", ".ome.zarr", ".ome.tif"])
def test_killed_inside_finish(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array, path = noise((1, 9, 7)), tmp_path / f"out{suffix}"

    def die(self: Path, missing_ok: bool = False) -> None:
        raise Killed

    sink = images.open_sink(path, array.shape, np.uint8)
    sink.write(0, array)
    monkeypatch.setattr(Path, "unlink", die)  # before or after the last rename
    with pytest.raises(Killed):
        sink.finish()
    monkeypatch.undo()
    del sink  # a process that ends lets go of its lock
    with images.open_sink(path, array.shape, np.uint8, resume=True) as again:
        assert again.durable_rows() == 9
        assert again.finish() == path
    np.testing.assert_array_equal(images.open_source(path).read(), array)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def _unfinished(path: Path, settings: dict[str, object]) -> None:
    with images.open_sink(path, (1, 9, 7), np.uint8, settings=settings) as sink:
        sink.write(0, np.ones((1, 4, 7), np.uint8))


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "out.npy"
    _unfinished(path, {"network": "abc", "as": "argmax"})
    with pytest.raises(BadValue, match='cannot resume: network was "abc" and is "xyz"'):
        images.open_sink(
            path, (1, 9, 7), np.uint8, resume=True, settings={"network": "xyz", "as": "argmax"}
        )
    with pytest.raises(BadValue, match='as was "argmax" and is null'):
        images.open_sink(path, (1, 9, 7), np.uint8, resume=True, settings={"network": "abc"})
    with pytest.raises(BadValue, match="output shape was"):
        images.open_sink(
            path, (1, 9, 8), np.uint8, resume=True, settings={"network": "abc", "as": "argmax"}
        )


def test_an_unfinished_run_is_neither_lost_nor_taken_for_another(tmp_path: Path) -> None:
    path = tmp_path / "out.npy"
    _unfinished(path, {})
    with pytest.raises(BadFile, match="an unfinished run is there; --resume"):
        images.open_sink(path, (1, 9, 7), np.uint8)
    with images.open_sink(path, (1, 9, 7), np.uint8, force=True) as sink:
        assert sink.durable_rows() == 0
        sink.write(0, np.ones((1, 4, 7), np.uint8))
    journal = path_of(path)
    journal.write_text("{")
    with pytest.raises(BadFile, match="not a journal"):
        images.open_sink(path, (1, 9, 7), np.uint8, resume=True)
    journal.unlink()
    with pytest.raises(BadFile, match="journal is missing"):
        images.open_sink(path, (1, 9, 7), np.uint8, resume=True)


def test_a_run_that_did_nothing_leaves_nothing(tmp_path: Path) -> None:
    for suffix in (".npy", ".png", ".tif", ".zarr"):
        with images.open_sink(tmp_path / f"out{suffix}", (1, 9, 7), np.uint8):
            assert list(tmp_path.iterdir())
        assert not list(tmp_path.iterdir())


def test_what_another_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.npy"
    command = [sys.executable, "-m", "tests.images.runner", path, *SHAPE[1:], 16, 60]
    with subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "ready\n"
            for resume, force in ((True, False), (False, True), (False, False)):
                with pytest.raises(BadFile, match=f"process {other.pid} is still writing"):
                    images.open_sink(path, SHAPE, np.uint8, resume=resume, force=force)
        finally:
            other.kill()
    with images.open_sink(path, SHAPE, np.uint8, force=True) as sink:
        assert sink.durable_rows() == 0


def test_what_an_aborted_run_finished_can_be_used(tmp_path: Path) -> None:
    path = tmp_path / "out.npy"
    _unfinished(path, {})
    part = np.load(path.with_name("out.npy.part"))
    assert part[0, :4].all()
    assert not part[0, 4:].any()


def test_after_a_new_start_of_the_machine_only_forced_rows_count(tmp_path: Path) -> None:
    path = tmp_path / "out.npy"
    with images.open_sink(path, (1, 9, 7), np.uint8) as sink:
        sink.write(0, np.ones((1, 2, 7), np.uint8))
        sink._force()  # type: ignore[attr-defined]
        sink.write(2, np.ones((1, 2, 7), np.uint8))
    journal = path_of(path)
    lines = lines_of(path)
    state = json.dumps({**json.loads(lines[0]), "boot": "another"}).encode()
    journal.write_bytes(b"\n".join([state, *lines[1:], b"\0\xff{\n\0"]))
    with images.open_sink(path, (1, 9, 7), np.uint8, resume=True) as sink:
        assert sink.durable_rows() == 2


def test_a_journal_that_was_cut_off_counts_up_to_its_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "out.npy"
    with images.open_sink(path, (1, 9, 7), np.uint8) as sink:
        sink.notes.append("read")
        for row in range(3):
            sink.write(row, np.full((1, 1, 7), row, np.uint8))
    journal, lines = path_of(path), lines_of(path)
    assert len(lines) == 5, "a state and three changes"
    whole = journal.read_bytes()
    ends = [sum(len(line) + 1 for line in lines[: n + 1]) for n in range(4)]
    for end in range(ends[1], len(whole) + 1):  # before that no row counts
        journal.write_bytes(whole[:end])
        with images.open_sink(path, (1, 9, 7), np.uint8, resume=True) as sink:
            assert sink.durable_rows() == sum(end >= one for one in ends[1:])
            assert sink.notes == ["read"]
    for damage in (b"\n", b"{}\n", b"\0\n", b'{"done": {"0:7": 9}, "sums": {}}\n'):
        journal.write_bytes(whole + damage)
        with pytest.raises(BadFile, match="start again with --force"):
            images.open_sink(path, (1, 9, 7), np.uint8, resume=True)


def test_a_journal_on_a_full_disk_is_never_continued_behind_half_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write = tmp_path / "out.npy", os.write
    row = np.ones((1, 1, 7), np.uint8)

    def fill(handle: int, data: bytes) -> int:
        if len(data) < 5:
            raise OSError(errno.ENOSPC, "full")
        return write(handle, data[:-4])

    sink = images.open_sink(path, (1, 9, 7), np.uint8)
    sink.write(0, row)
    monkeypatch.setattr(os, "write", fill)
    with pytest.raises(Failure, match="the disk is full"):
        sink.write(1, row)
    monkeypatch.undo()
    assert lines_of(path)[-1] != b""
    sink.abort()
    with images.open_sink(path, (1, 9, 7), np.uint8, resume=True) as again:
        assert again.durable_rows() == 1
        for line in (1, 2):
            again.write(line, row)
    assert lines_of(path)[-1] == b""
    with images.open_sink(path, (1, 9, 7), np.uint8, resume=True) as again:
        assert again.durable_rows() == 3


def test_a_long_journal_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "out.npy"
    with images.open_sink(path, (1, 9000, 7), np.uint8) as sink:
        for row in range(4000):
            sink.write(row, np.ones((1, 1, 7), np.uint8))
    assert len(lines_of(path)) < 3000
    with images.open_sink(path, (1, 9000, 7), np.uint8, resume=True) as sink:
        assert sink.durable_rows() == 4000


@pytest.mark.parametrize("name", ["npy", "npy signal", "png deep color", "tiff planes", "zarr"])
def test_a_part_that_was_cut_or_changed_is_not_gone_on_with(name: str, tmp_path: Path) -> None:
    suffix, shape, dtype, squeeze = KINDS[name]
    path, array = tmp_path / f"out{suffix}", noise(shape, dtype)
    rows = shape[1] * 2 // 3
    with images.open_sink(path, shape, dtype, squeeze=squeeze) as sink:
        sink.write(0, array[:, :rows])
        assert sink.durable_rows() > 0
    files = [f for f in sorted(path.parent.rglob("*")) if f.is_file() and ".json" not in f.name]
    for file in files:
        before = file.read_bytes()
        for change in (
            before[:-1],
            before[:100],
            b"",
            _bent(before, 70),
            _bent(before, len(before) // 40),
        ):
            file.write_bytes(change)
            with pytest.raises(BadFile, match="start again with --force"):
                images.open_sink(path, shape, dtype, squeeze=squeeze, resume=True)
        file.write_bytes(before)
    with images.open_sink(path, shape, dtype, squeeze=squeeze, resume=True) as sink:
        sink.write(sink.durable_rows(), array[:, sink.durable_rows() :])
        sink.finish()
    with images.open_source(path, space=len(shape) - 1) as source:
        np.testing.assert_array_equal(source.read(), array)


def _bent(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": []},
        {"done": [1]},
        {"done": {"0:7": -1}},
        {"done": {"0:7": 10**30}},
        {"done": {"0:7": 9.5}},
        {"done": {"0:7": 99}},
        {"done": {"3:99": 4}, "sums": {"3:99": [1]}},
        {"done": {"a": 4}},
        {"sums": {}},
        {"sums": {"0:7": ["x"]}},
        {"sums": {"0:7": []}},
        {"frame": None},
        {"notes": 5},
        {"notes": None},
    ],
)
def test_a_damaged_journal_is_named(changes: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "out.npy"
    _unfinished(path, {})
    change_journal(path, **changes)
    with pytest.raises(BadFile, match=r"out\.npy\.part.*start again with --force"):
        images.open_sink(path, (1, 9, 7), np.uint8, resume=True)


@pytest.mark.parametrize("text", [b"\xff", b"[" * 10**5, b"{}", b"null", b'{"settings": NaN}'])
def test_what_is_no_journal_is_named(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "out.npy"
    _unfinished(path, {})
    path_of(path).write_bytes(text)
    with pytest.raises(BadFile, match=r"not a journal.*start again with --force"):
        images.open_sink(path, (1, 9, 7), np.uint8, resume=True)


@pytest.mark.parametrize("suffix", [".npy", ".png", ".tif", ".zarr"])
def test_nothing_is_written_through_links_and_the_mode_is_kept(suffix: str, tmp_path: Path) -> None:
    path, array = tmp_path / f"out{suffix}", noise((1, 9, 7))
    put(path, array, False, [0, 9], [0, 7])
    path.chmod(0o700 if path.is_dir() else 0o600)
    mode = path.stat().st_mode
    victims = tmp_path / "victims"
    victims.mkdir()
    for end in (".part", ".part.packed", ".part.json.new"):
        (tmp_path / f"out{suffix}{end}").symlink_to(victims / end[1:])
    with images.open_sink(path, array.shape, np.uint8, force=True) as sink:
        sink.write(0, array)
        sink.finish()
    assert not list(victims.iterdir())
    assert path.stat().st_mode == mode
    assert {file.name for file in tmp_path.glob("*.part*")} <= {f"out{suffix}.part.packed"}


def test_of_two_that_start_at_once_exactly_one_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.images.runner", tmp_path / "out.npy", *SHAPE[1:], 16]
    both = [
        subprocess.Popen(
            [*map(str, command), "0.02"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd=ROOT,
        )
        for _ in range(2)
    ]
    said = [process.communicate()[1].decode() for process in both]
    assert sorted(process.returncode for process in both) == [0, 1]
    assert sum("still writing it" in text for text in said) == 1
    assert content(tmp_path / "out.npy")


def test_notes_added_while_a_line_is_written_are_in_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are written on a second thread, and the first one reads on and takes notes."""
    journal = journals.Journal(tmp_path / "a.json", {})
    journal.start()
    write = journals._write

    def slow(handle: int, data: bytes) -> None:
        write(handle, data)
        journal.notes.append(len(journal.notes))

    monkeypatch.setattr(journals, "_write", slow)
    for rows in range(1, 4):
        journal.record((0, 5), rows, [0])
    journal.close()
    assert journals.Journal.load(journal.path).notes == [0, 1]
