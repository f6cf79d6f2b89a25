"""Shared by all tests: where the data lies, chance that is the same every time, one torch thread a
worker, and no search for cycles in what all tests share."""

from __future__ import annotations

import gc
import os
import sys
import time
import zlib
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

# Two xdist workers on two cores: more threads each would only fight. Set before torch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# `make test` tries the same examples every time, so that it is green for the same code every time.
# `make fuzz` tries new ones, and more (pytest --hypothesis-profile=fuzz). The same holds of weights
# and pictures that a test leaves to torch's own generator: each test starts it by its own name.
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

# No test cuts the power: what the disk has got by then need not be waited for.
os.fsync = lambda handle: None  # type: ignore[assignment]

SEED = "EYESHOT_TEST_SEED"
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What all tests share is not looked through for cycles again and again (1/15 of the time)."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """Workers inherit the seed."""
    if not settings().derandomize:
        os.environ.setdefault(SEED, str(time.time_ns() % 10**6))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Every run of the engine looks for cycles: what earlier files left is looked through once."""
    if nextitem is not None and nextitem.path != item.path:
        gc.collect()
        gc.freeze()


def pytest_report_header() -> str:
    """How a failure of `make fuzz` comes again."""
    return f"torch's generator: {SEED}={os.environ.get(SEED, '0')}"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What a test draws depends on no test that ran before it on the same worker."""
    if "torch" in sys.modules:
        name = f"{os.environ.get(SEED, '0')} {item.nodeid}"
        sys.modules["torch"].manual_seed(zlib.crc32(name.encode()))


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
