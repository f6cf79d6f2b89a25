"""Shared by all tests: where the data lies, quiet hypothesis, one torch thread a worker."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

# Two xdist workers on two cores: more threads each would only fight. Set before torch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# `make test` tries the same examples every time, so that it is green for the same code every time.
# `make fuzz` tries new ones, and more (pytest --hypothesis-profile=fuzz).
settings.register_profile(
    "eyeshot",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=40,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "fuzz",
    settings.get_profile("eyeshot"),
    derandomize=False,
    max_examples=200,
    database=DirectoryBasedExampleDatabase(Path(".hypothesis/examples")),
)
settings.load_profile("eyeshot")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_finish() -> None:
    """What all tests share is not looked through for cycles again and again (1/15 of the time)."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the digits, trained for less time than a reader would; copy it."""
    import eyeshot

    out = tmp_path_factory.mktemp("digits") / "run"
    return eyeshot.train("digits", epochs=1, out=out, progress=False).path


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    """The whole of MNIST as IDX files; the test is skipped, by name, where it is absent."""
    folder = SHARED_DATA / "mnist"
    if not folder.is_dir():
        pytest.skip(f"no MNIST in {folder}")
    return folder


@pytest.fixture(scope="session")
def membranes_folder() -> Path:
    """24 slices of 512×512 with their masks; the test is skipped, by name, where it is absent."""
    folder = SHARED_DATA / "membranes"
    if not folder.is_dir():
        pytest.skip(f"no membranes in {folder}")
    return folder
