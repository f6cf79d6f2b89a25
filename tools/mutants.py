"""How many small changes of the code the tests notice: ``python -m tools.mutants axes geometry``.

Mutmut changes one operator, number or argument of a copy of the source at a time, and runs the
tests that reach the changed function. A mutant that no test kills is a place where a wrong number
could come in without a word, or a change without effect (an equivalent mutant). All mutants of a
package would take days: a random sample is judged, the same for the same seed.

Needs the extra ``mutants`` (``make mutants`` installs it).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = {
    "axes": ("axes", "geometry", "frontends/test_resizing.py", "engine/test_restart.py"),
    "geometry": (
        *("geometry", "axes", "inspection", "tiling", "findings/test_shapes.py"),
        *("frontends/test_net_geometry.py", "engine/test_padding.py", "nets/test_unet_field.py"),
    ),
    "operators": ("operators", "geometry", "engine"),
    "engine": ("engine", "planning"),
}
"""Where the tests of a package are, beside the folder of its name."""
_COPIED = ("src", "tests", "setup.cfg", "pyproject.toml")
"""What mutmut copies by itself; the rest of the checkout is named for it, as tests read it."""


_OTHERS = (
    *("tests/engine/test_cluster.py", "tests/engine/test_cluster_killed.py"),
    "tests/engine/test_run_killed.py",
)
"""Tests whose code runs in other processes, in which no mutant is."""


@dataclass
class Tally:
    """What became of the mutants of one package, by name."""

    status: dict[str, str] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """The share that some test noticed, 0 to 1: killed, or running without an end."""
        noticed = sum(status in NOTICED for status in self.status.values())
        return noticed / len(self.status) if self.status else 0.0

    def __str__(self) -> str:
        counted = Counter(self.status.values())
        parts = ", ".join(f"{count} {status}" for status, count in counted.most_common())
        return f"{self.score:.1%} of {len(self.status)} noticed: {parts}"


NOTICED = ("killed", "timeout", "segfault", "caught by type check")


def copy_checkout(folder: Path) -> None:
    """The tracked files as they lie here, and new ones, into a folder of their own."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def configure(folder: Path, packages: Iterable[str], tests: Iterable[str]) -> None:
    """Write mutmut's settings into a copy of the checkout."""
    beside = sorted(path.name for path in folder.iterdir() if path.name not in _COPIED)
    settings = {
        "source_paths": ["src"],
        "only_mutate": [f"src/eyeshot/{package}/*" for package in packages],
        "also_copy": beside,
        "pytest_add_cli_args_test_selection": list(tests),
        "pytest_add_cli_args": ["-p", "no:cacheprovider", *(f"--ignore={one}" for one in _OTHERS)],
    }
    lines = [f"{key}=" + "".join(f"\n    {value}" for value in of) for key, of in settings.items()]
    (folder / "setup.cfg").write_text("[mutmut]\n" + "\n".join(lines) + "\n", encoding="utf-8")


def read(folder: Path) -> dict[str, int | None]:
    """Each mutant's name with the exit code of its tests; None where they did not run."""
    codes: dict[str, int | None] = {}
    for path in sorted((folder / "mutants" / "src").rglob("*.meta")):
        codes.update(json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"])
    return codes


def chosen(names: Iterable[str], count: int, seed: int) -> list[str]:
    """``count`` of the names by chance, or all where there are no more."""
    listed = sorted(names)
    return sorted(random.Random(seed).sample(listed, min(count, len(listed))))


def judge(package: str, tests: Sequence[str], count: int, seed: int, workers: int) -> Tally:
    """Change a package in a temporary copy, and print the mutants that lived."""
    from mutmut.stats import status_by_exit_code

    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folder = Path(name)
        copy_checkout(folder)
        configure(folder, [package], tests)
        _mutmut(folder, ["run", "no mutant has this name"], check=False)  # writes all mutants
        names = chosen(read(folder), count, seed)
        if not names:
            raise SystemExit(f"src/eyeshot/{package} holds no mutant: is it a package's name?")
        _mutmut(folder, ["run", "--max-children", str(workers), *names])
        codes = read(folder)
        tally = Tally({mutant: status_by_exit_code[codes[mutant]] for mutant in names})
        for mutant, status in tally.status.items():
            if status not in NOTICED:
                print(f"\n{mutant}: {status}")
                print(_difference(_mutmut(folder, ["show", mutant]).stdout), flush=True)
    return tally


def _difference(shown: str) -> str:
    return "\n".join(
        line
        for line in shown.splitlines()
        if line.startswith(("+", "-")) and not line.startswith(("+++", "---"))
    )


def _mutmut(
    folder: Path, arguments: Sequence[str], *, check: bool = True
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "mutmut", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if check and done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    return done


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packages", nargs="*", default=tuple(TESTS), help="of src/eyeshot")
    parser.add_argument("--count", type=int, default=100, help="mutants of each package")
    parser.add_argument("--seed", type=int, default=0, help="which mutants")
    parser.add_argument("--tests", nargs="*", help="tests to run; those of the package by default")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    for package in options.packages:
        tests = options.tests or [f"tests/{name}" for name in TESTS.get(package, (package,))]
        tally = judge(package, tests, options.count, options.seed, options.workers)
        print(f"\n{package}: {tally}", flush=True)


if __name__ == "__main__":
    main()
