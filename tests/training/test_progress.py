"""What a person sees while a network learns, at a terminal and in a log file."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from eyeshot.training import Progress, Settings, TerminalProgress, train
from eyeshot.training.checkpoint import Position
from eyeshot.training.progress import percent

from .blobs import blobs

QUICK: Settings = {"epochs": 2, "batch_size": 24}


def shown(terminal: bool, folder: Path) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100, highlight=False)
    train(blobs(), out=folder, progress=TerminalProgress(console), **QUICK)
    return text.getvalue()


def test_a_terminal_sees_a_bar_and_a_line_an_epoch(tmp_path: Path) -> None:
    text = shown(True, tmp_path)
    assert "epoch 2/2" in text
    assert "loss" in text
    assert "images/s" in text
    assert "left" in text
    assert "\x1b[" in text  # the bar is drawn over itself


def test_a_log_gets_plain_lines(tmp_path: Path) -> None:
    text = shown(False, tmp_path)
    lines = text.splitlines()
    few, *epochs = lines
    assert few.startswith("8 steps in all may be too few to learn anything")
    assert [line.split("  ")[0] for line in epochs] == ["epoch 1/2", "epoch 2/2"]
    assert "\x1b" not in text


def test_a_resumed_run_shows_the_epochs_before(tmp_path: Path) -> None:
    shown(False, tmp_path)
    text = io.StringIO()
    console = Console(file=text, width=40)
    train(blobs(), out=tmp_path, resume=True, progress=TerminalProgress(console), **QUICK)
    lines = [line for line in text.getvalue().splitlines() if "too few to learn" not in line]
    reported, *lines = lines
    assert reported == f"{tmp_path}: this training had finished already"
    assert [line[:9] for line in lines] == ["epoch 1/2", "epoch 2/2"]


def test_the_bar_is_closed_when_training_fails(tmp_path: Path) -> None:
    class Failing(TerminalProgress):
        def step(self, position: Position) -> None:
            super().step(position)
            raise RuntimeError("out of paper")

    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    bar: Progress = Failing(console)
    with pytest.raises(RuntimeError, match="out of paper"):
        train(blobs(), out=tmp_path, progress=bar, **QUICK)
    assert isinstance(bar, Failing)
    assert bar.bar.live.is_started is False


@pytest.mark.parametrize(
    ("share", "text"), [(1, "100.00 %"), (0.57, "57.00 %"), (0.99999, "99.99 %"), (0, "0.00 %")]
)
def test_a_share_is_never_rounded_up(share: float, text: str) -> None:
    assert percent(share) == text
