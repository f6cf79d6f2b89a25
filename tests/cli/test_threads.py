"""Threads that wait: a short spin is chosen before torch loads, and the user's choice stands."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from benchmarks.neighbor import POLICIES, speed

from eyeshot.cli.shared import SPIN_COUNT, limit_spinning

# libgomp prints what it was given when it loads; eyeshot.cli must not have loaded it before.
LOAD = """
import gc, os
gc.disable()
from eyeshot.cli.shared import limit_spinning
import eyeshot.cli
limit_spinning()
import torch
os._exit(0)  # Python takes half a second to end
"""


def loaded_with(**settings: str) -> str:
    """What OpenMP says of itself in a new process that began as a command does."""
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment |= {"OMP_DISPLAY_ENV": "VERBOSE"} | settings
    done = subprocess.run(
        [sys.executable, "-c", LOAD], env=environment, check=True, capture_output=True, text=True
    )
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("torch computes without libgomp here")
    return done.stderr


def test_libgomp_loads_with_the_short_spin() -> None:
    assert f"GOMP_SPINCOUNT = '{SPIN_COUNT}'" in loaded_with()


def test_the_users_choice_reaches_libgomp() -> None:
    assert "GOMP_SPINCOUNT = '77'" in loaded_with(GOMP_SPINCOUNT="77")


@pytest.mark.parametrize("name", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"])
def test_the_users_choice_stands(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    environment = {name: "77"}
    limit_spinning(environment)
    assert environment == {name: "77"}


def test_nothing_is_set_once_torch_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", sys)
    environment: dict[str, str] = {}
    limit_spinning(environment)
    assert environment == {}


def test_the_benchmark_measures_what_the_commands_set() -> None:
    assert POLICIES["eyeshot"] == {"GOMP_SPINCOUNT": str(SPIN_COUNT)}
    assert speed("train", seconds=0.01) > 0
    assert speed("run", seconds=0.01) > 0
