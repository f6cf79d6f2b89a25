from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import pytest

from eyeshot.errors import (
    LONGEST,
    BadFile,
    BadValue,
    EyeshotError,
    Failure,
    UnknownName,
    UserError,
    printable,
    shorten,
)
from eyeshot.files import Lock, explain_os_error, write_aside


def test_unknown_name_offers_the_nearest() -> None:
    message = str(UnknownName("kernel", "sobl-x", ["sobel-x", "mean"]))
    assert message == "unknown kernel 'sobl-x'; did you mean 'sobel-x'? known: sobel-x, mean"


def test_message_is_one_line_with_place_fact_and_cure() -> None:
    error = BadValue("kernel 5\nis larger", cure="use 3").at("layer conv1")
    assert str(error) == "layer conv1: kernel 5 is larger; use 3"
    assert isinstance(error, UserError)
    assert isinstance(error, EyeshotError)
    assert error.exit_code == 2


def test_write_aside_replaces_only_on_success(tmp_path: Path) -> None:
    path = tmp_path / "kept.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="half way"), write_aside(path) as aside:
        aside.write_text("half")
        raise RuntimeError("half way")
    assert path.read_text() == "old"
    with write_aside(path) as aside:
        aside.write_text("new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["kept.txt"]  # noqa: PTH208


def test_write_aside_needs_a_name() -> None:
    with pytest.raises(BadFile, match="is a folder; name a file"), write_aside(Path("")):  # noqa: PTH201
        pass


def test_a_full_disk_is_a_failure_and_not_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "kept.txt"
    path.write_text("old")
    with pytest.raises(Failure, match="disk is full"), write_aside(path) as aside:
        aside.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert path.read_text() == "old"
    assert explain_os_error(OSError(errno.ENOSPC, ""), path).exit_code == 1
    for said in ("80 requested and 3 written", "Not enough free space to write 80 bytes after 3"):
        assert "the disk is full" in str(explain_os_error(OSError(said), path))  # as NumPy says it
    assert explain_os_error(OSError(errno.EFBIG, ""), path).exit_code == 1
    assert explain_os_error(FileNotFoundError(2, ""), path).exit_code == 2


def test_a_message_names_the_file_and_not_the_temporary_one(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"^[^ ]*/kept\.txt: the disk is full"):  # noqa: SIM117
        with write_aside(tmp_path / "kept.txt") as aside:
            raise explain_os_error(OSError(errno.ENOSPC, ""), aside)


@pytest.mark.parametrize(
    "error", [BadValue("7 channels", cure="give 3"), UnknownName("layer", "cnv1", ["conv1"])]
)
def test_an_error_crosses_processes_unchanged(error: EyeshotError) -> None:
    crossed = pickle.loads(pickle.dumps(error))
    assert (type(crossed), str(crossed)) == (type(error), str(error))


def test_a_message_is_bounded_and_keeps_both_ends() -> None:
    error = BadValue("begin " + "x" * 10**7 + " end", cure="c" * 10**7).at("file")
    assert len(str(error)) <= 2 * LONGEST + 2
    assert error.fact.startswith("file: begin x")
    assert error.fact.endswith("x end")
    assert len(str(UnknownName("layer", "x" * 10**6, ["y" * 10**6] * 100))) <= 2 * LONGEST + 2


@pytest.mark.parametrize(
    "value",
    [[1] * 10**6, "x" * 10**7, {1: "y" * 10**6}, [10**5000], [[[[[[1] * 99]]]]]],
    ids=["list", "text", "dict", "number", "nested"],
)
def test_a_value_is_shortened_without_being_written_out(value: object) -> None:
    assert len(shorten(value)) <= 100


def test_nothing_in_a_message_steers_a_terminal() -> None:
    name = "a\x1b[2J\x9b\x00\u202e\udcff.png"
    assert str(BadFile(f"{name}: no such file")) == r"a\x1b[2J\x9b\x00\u202e\xff.png: no such file"
    assert printable("größe\u200d.png") == "größe\u200d.png"


def test_what_is_written_aside_follows_no_link_and_keeps_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "kept.txt"
    path.write_text("old")
    path.chmod(0o600)
    with write_aside(path) as aside:
        assert aside.stat().st_mode & 0o777 == 0o600, "not open to others while it is written"
        aside.write_text("new")
        (tmp_path / f".kept.{os.getpid()}.part.txt").symlink_to(tmp_path / "victim")
    assert path.stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "victim").exists()
    umask = os.umask(0o027)
    try:
        with write_aside(tmp_path / "new.txt") as aside:
            aside.write_text("new")
    finally:
        os.umask(umask)
    assert (tmp_path / "new.txt").stat().st_mode & 0o777 == 0o640


def test_a_lock_is_held_by_one_and_never_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    first = Lock(path, tmp_path / "a")
    with pytest.raises(BadFile, match=f"a: process {os.getpid()} is still writing it; wait"):
        Lock(path, tmp_path / "a")
    first.release()
    first.release()
    assert not path.exists()
    path.write_text("123")  # of a process that was killed
    again = Lock(path, tmp_path / "a")
    again.release()
    (tmp_path / "victim").write_text("kept")
    path.symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic link"):
        Lock(path, tmp_path / "a")
    assert (tmp_path / "victim").read_text() == "kept"
