from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import pytest

from eyeshot.errors import BadFile, BadValue, EyeshotError, Failure, UnknownName, UserError
from eyeshot.files import explain_os_error, write_aside


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
    assert explain_os_error(OSError(errno.EFBIG, ""), path).exit_code == 1
    assert explain_os_error(FileNotFoundError(2, ""), path).exit_code == 2


@pytest.mark.parametrize(
    "error", [BadValue("7 channels", cure="give 3"), UnknownName("layer", "cnv1", ["conv1"])]
)
def test_an_error_crosses_processes_unchanged(error: EyeshotError) -> None:
    crossed = pickle.loads(pickle.dumps(error))
    assert (type(crossed), str(crossed)) == (type(error), str(error))
