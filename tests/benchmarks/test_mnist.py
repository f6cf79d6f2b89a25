"""The benchmark of digits: which of the tutorial's epochs is compared, and what is printed."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.mnist import Epoch, Round

from benchmarks import mnist


def test_the_ratio_is_that_of_the_first_epoch_at_the_goal() -> None:
    epochs = [Epoch(10, 0.98), Epoch(20, 0.988), Epoch(30, 0.99)]
    assert Round(epochs, Epoch(4, 0.991)).ratio == 5
    assert Round(epochs[:1], Epoch(4, 0.991)).ratio == 2.5  # all of its epochs: it is never there
    assert Round(epochs, Epoch(4, 0.987)).ratio == 0


def test_the_median_of_the_rounds_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    plain = [Epoch(20, 0.99)]
    mnist.print_ratio([Round(plain, Epoch(seconds, 0.99)) for seconds in (2, 4, 5)])
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0] == "seed 0: tutorial at 98.8% after 20.0 s, eyeshot at 99.00% after 2.0 s: 1/10.0"
    )
    assert lines[-1].startswith("median of 3 rounds: accuracy 99.00%; ratio 1/5.0 ")


def test_it_is_skipped_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mnist, "FOLDER", tmp_path / "none")
    mnist.main(quick=True)
    assert capsys.readouterr().out.startswith("skipped: no MNIST in ")
