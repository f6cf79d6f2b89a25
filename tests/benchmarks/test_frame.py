"""The benchmarks' frame, and that all contenders of the filter benchmark compute the same thing."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.__main__ import find_benchmarks, main
from benchmarks.filters import KERNELS, check
from benchmarks.measure import Timings, time_interleaved


def test_ratios_are_medians_of_pairs() -> None:
    timings = Timings({"a": (1.0, 2.0, 30.0), "b": (2.0, 4.0, 10.0)})
    assert timings.median("a") == 2
    assert timings.ratio("a", "b") == 0.5
    assert timings.fastest(["a", "b"]) == "a"


def test_everyone_runs_in_every_round() -> None:
    calls: list[str] = []
    timings = time_interleaved(
        {name: lambda name=name: calls.append(name) for name in "abc"},  # type: ignore[misc]
        rounds=4,
        warm_up=2,
    )
    rounds = [calls[start : start + 3] for start in range(0, len(calls), 3)]
    assert len(rounds) == 6
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert {len(seconds) for seconds in timings.seconds.values()} == {4}


def test_benchmarks_are_found_and_unknown_ones_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "filters" in find_benchmarks()
    assert "measure" not in find_benchmarks()
    assert main(["filtrs"]) == 2
    assert "did you mean 'filters'" in capsys.readouterr().err


def test_a_quick_form_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["filters", "--quick"]) == 2
    assert "filters has no quick form; leave --quick out" in capsys.readouterr().err
    assert main(["filters", "--keep", "here"]) == 2
    assert "filters keeps nothing; leave --keep out" in capsys.readouterr().err


@pytest.mark.parametrize("name", KERNELS)
def test_all_contenders_compute_the_same(name: str) -> None:
    picture = np.random.default_rng(0).random((40, 45, 3), dtype=np.float32)
    assert check(name, picture) < 1e-5
