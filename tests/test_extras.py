"""Without the packages of an extra the rest works, and what needs it names its command."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from eyeshot.errors import Failure
from eyeshot.extras import EXTRAS, extra

ROOT = Path(__file__).parents[1]
NOT_IN_DEV = {"bioimageio", "mlflow", "remote", "wandb"}
BLOCKER = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None  # as if it were not installed, for import and for find_spec
"""


def _python(folder: Path, code: str, blocked: set[str]) -> subprocess.CompletedProcess[str]:
    """Run code in a process that has none of the packages of these extras."""
    modules = {module for name in blocked for module in EXTRAS[name]}
    return subprocess.run(
        [sys.executable, "-c", BLOCKER.format(blocked=modules) + code],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )


def _commands(
    folder: Path, commands: list[tuple[str, ...]], blocked: set[str], expected: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run commands one after the other in one process, until one ends with another code."""
    code = f"""
from eyeshot.cli import main
for words in {commands!r}:
    sys.argv = ["eyeshot", *words]
    if (code := main()) != {expected}:
        sys.exit(code or "it worked")
"""
    return _python(folder, code, blocked)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "plain.tif", np.zeros((20, 20), np.uint8))
    tifffile.imwrite(tmp_path / "lzw.tif", np.zeros((20, 20), np.uint8), compression="lzw")
    (tmp_path / "scan.nii.gz").write_bytes(b"anything")
    (tmp_path / "net.py").write_text(
        "from torch import nn\nNet = lambda: nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())\n"
    )
    for name in ("cats", "dogs"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(6):
            noise = rng.integers(0, 256, (16, 16), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / "pets" / name / f"{i}.png")
    return tmp_path


def test_the_core_works_without_any_extra(folder: Path) -> None:
    commands = [
        ("inspect", "net.py:Net", "--size", "3x32x32"),
        ("filter", "a.png", "-k", "sobel-x", "-o", "edges.png"),
        ("filter", "plain.tif", "-k", "mean", "-o", "mean.tif"),
        ("run", "net.py:Net", "a.png", "-o", "out.npy"),
        ("run", "net.py:Net", "a.png", "-o", "out.tif"),
        ("explain", "net.py:Net", "a.png", "--layer", "0", "--unit", "0,3,4"),
    ]
    done = _commands(folder, commands, set(EXTRAS))
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_needs_an_extra_names_it(folder: Path) -> None:
    needs: dict[tuple[str, ...], tuple[str, str]] = {
        ("run", "net.py:Net", "a.png", "-o", "out.zarr"): ("imagecodecs", "images"),
        ("filter", "lzw.tif", "-k", "mean", "-o", "mean.png"): ("imagecodecs", "images"),
        ("train", "pets", "-o", "run"): ("lightning_fabric", "train"),
        ("see", "net.py:Net", "a.png", "-o", "maps.png"): ("matplotlib", "report"),
        ("run", "net.py:Net", "scan.nii.gz", "-o", "out.npy"): ("nibabel", "nifti"),
    }
    clusters: list[tuple[str, ...]] = [
        ("run", "net.py:Net", "a.png", "-o", "out.zarr", "--workers", "2"),
        ("run", "net.py:Net", "a.png", "-o", "out.zarr", "--scheduler", "tcp://127.0.0.1:1"),
    ]
    reported = _commands(folder, clusters, {"dask"}, expected=1)
    assert reported.returncode == 0, reported.stdout + reported.stderr
    assert reported.stderr.count("distributed is not installed; pip install 'eyeshot[dask]'") == 2
    # A command that fails for want of a package ends with 1: each is asked for in turn.
    reported = _commands(folder, list(needs), {"images", "nifti", "train", "report"}, expected=1)
    assert reported.returncode == 0, reported.stdout + reported.stderr
    assert "Traceback" not in reported.stderr
    lines = [line for line in reported.stderr.splitlines() if line.startswith("eyeshot: ")]
    for line, (package, name) in zip(lines, needs.values(), strict=True):
        assert line.endswith(f"{package} is not installed; pip install 'eyeshot[{name}]'")


def test_another_missing_module_is_no_extra() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), extra("images"):
        import no_such_module  # type: ignore[import-not-found]  # noqa: F401
    with pytest.raises(Failure, match=r"pip install 'eyeshot\[train\]'"), extra("train"):
        raise ModuleNotFoundError("No module named 'kornia.enhance'", name="kornia.enhance")


def test_the_table_lists_what_pyproject_does() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    names = packages_distributions()
    assert set(listed) >= set(EXTRAS) > NOT_IN_DEV
    for name, modules in EXTRAS.items():
        if name in NOT_IN_DEV:
            continue  # its packages are not installed here
        packages = {one.split(">")[0].split("[")[0] for one in listed[name]} - {"eyeshot"}
        brought = {dist for module in modules for dist in names[module]} - {"numcodecs"}
        assert brought == packages
