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


def _commands(
    folder: Path, commands: list[tuple[set[str], int, tuple[str, ...]]]
) -> subprocess.CompletedProcess[str]:
    """Run commands in one process: without the packages of these extras, to end with this code.

    The process ends at the first one that ends with another code.
    """
    lacking = [
        (sorted(module for name in blocked for module in EXTRAS[name]), expected, words)
        for blocked, expected, words in commands
    ]
    code = f"""
import gc, os, sys
gc.disable()  # what is imported is no garbage
hidden = set()
for blocked, expected, words in {lacking!r}:
    for name in hidden - set(blocked):
        del sys.modules[name]
    for name in set(blocked) - hidden:
        sys.modules[name] = None  # as if it were not installed, for import and for find_spec
    hidden = set(blocked)
    from eyeshot.cli import main
    sys.argv = ["eyeshot", *words]
    if (code := main()) != expected:
        sys.exit(f"{{words}}: {{code}}")
sys.stderr.flush()
os._exit(0)
"""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )


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


def test_the_core_works_without_any_extra_and_what_needs_one_names_it(folder: Path) -> None:
    works: list[tuple[str, ...]] = [
        ("inspect", "net.py:Net", "--size", "3x32x32"),
        ("filter", "a.png", "-k", "sobel-x", "-o", "edges.png"),
        ("filter", "plain.tif", "-k", "mean", "-o", "mean.tif"),
        ("run", "net.py:Net", "a.png", "-o", "out.npy"),
        ("run", "net.py:Net", "a.png", "-o", "out.tif"),
        ("explain", "net.py:Net", "a.png", "--layer", "0", "--unit", "0,3,4"),
    ]
    zarr = ("run", "net.py:Net", "a.png", "-o", "out.zarr")
    needs: dict[tuple[str, ...], tuple[str, str]] = {
        zarr: ("imagecodecs", "images"),
        ("filter", "lzw.tif", "-k", "mean", "-o", "mean.png"): ("imagecodecs", "images"),
        ("train", "pets", "-o", "run"): ("lightning_fabric", "train"),
        ("see", "net.py:Net", "a.png", "-o", "maps.png"): ("matplotlib", "report"),
        ("run", "net.py:Net", "scan.nii.gz", "-o", "out2.npy"): ("nibabel", "nifti"),
    }
    clusters = [(*zarr, "--workers", "2"), (*zarr, "--scheduler", "tcp://127.0.0.1:1")]
    lines = [
        f"{package} is not installed; pip install 'eyeshot[{name}]'"
        for package, name in [*needs.values(), *[("distributed", "dask")] * 2]
    ]
    every = set(EXTRAS)
    reported = _commands(
        folder,
        [
            *((every, 0, words) for words in works),
            *((every, 1, words) for words in needs),
            *(({"dask"}, 1, words) for words in clusters),
        ],
    )
    assert reported.returncode == 0, reported.stdout + reported.stderr
    assert "Traceback" not in reported.stderr
    said = [line for line in reported.stderr.splitlines() if line.startswith("eyeshot: ")]
    for one, line in zip(said, lines, strict=True):
        assert one.endswith(line)


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
