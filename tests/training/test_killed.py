"""Every kind of training, killed (-9) at chosen writes and resumed: the bytes of one of a piece.

A child dies just before or just after it renames its n-th file into place, so that each kill falls
where it is meant to, however busy the machine is.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from eyeshot.runs import LAST, METRICS, WEIGHTS
from eyeshot.training import checkpoint
from eyeshot.training.logs import FOLDER
from tests.engine.runner import fork

from .cells import write_cells, write_noisy
from .killable import (
    child,
    classify,
    generate,
    learn_logged,
    logged,
    restore,
    segment_own,
    volumes,
)
from .test_logs import scalars
from .test_volumes import ball, write

KINDS = (classify, segment_own, restore, generate, volumes)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_cells(folder / "cells")
    write_noisy(folder / "noisy")
    for number in range(3):
        volume, mask = ball((12, 20, 24), number)
        write(folder / "scans" / "image" / f"{number}.npy", volume)
        write(folder / "scans" / "label" / f"{number}.npy", mask)
    return folder


def exit_code(target: Callable[..., None], *arguments: Any) -> int:
    process, _ = fork(target, *arguments)
    process.join()
    return cast(int, process.exitcode)


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_a_write_and_resumed(
    kind: Callable[[Path, Path], None], data: Path, tmp_path: Path
) -> None:
    kind(tmp_path / "whole", data)
    cut = tmp_path / "cut"
    for dies in (3.5, 3):
        assert exit_code(child, kind, cut, data, dies) == -signal.SIGKILL
        assert (cut / LAST / checkpoint.FILE).exists()
    kind(cut, data)
    assert (cut / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()
    tables = [(tmp_path / one / METRICS).read_text().splitlines() for one in ("whole", "cut")]
    assert [line.split(",")[:4] for line in tables[0]] == [
        line.split(",")[:4] for line in tables[1]
    ]


def test_an_epoch_that_was_logged_and_not_saved_is_there_once(tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    for dies in (1, 2):
        assert exit_code(logged, cut, dies) == -signal.SIGKILL
        assert (cut / METRICS).exists() == (dies > 1)
    learn_logged(cut)
    learn_logged(tmp_path / "whole")
    assert (cut / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()
    header, *rows = (cut / METRICS).read_text().splitlines()
    for place, name in enumerate(header.split(",")[1:], 1):
        found = scalars(cut / FOLDER / "tensorboard", name)
        values = {k: float(row.split(",")[place]) for k, row in enumerate(rows, 1)}
        assert found == pytest.approx(values, rel=1e-4), name
    assert len(rows) == 2
