"""How many small changes of the code the tests notice: ``python -m tools.mutants axes geometry``.

Mutmut changes one operator, number or argument of a copy of the source at a time. A mutant that no
test kills is a place where a wrong number could come in without a word, or a change without effect
(an equivalent mutant). All mutants of a package would take days: a random sample is judged, the
same for the same seed and the same source. Messages are not changed: their words are no numbers.

Torch and the tests are imported once. One pass over all tests notes which functions each one calls
and how long it takes; then every mutant is tried in a fork, by the fastest tests that call its
function, up to ``--seconds`` of processor time.

Needs the extra ``mutants`` (``make mutants`` installs it), and Linux or macOS.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).resolve().parents[1]
TESTS = {
    "axes": ("axes", "geometry", "frontends/test_resizing.py", "engine/test_restart.py"),
    "geometry": (
        *("geometry", "axes", "inspection", "tiling", "findings/test_shapes.py"),
        *("frontends/test_net_geometry.py", "engine/test_padding.py", "nets/test_unet_field.py"),
    ),
    "operators": ("operators", "geometry", "engine", "frontends", "findings", "explanation"),
    "engine": ("engine", "planning"),
    "planning": ("planning", "engine"),
    "frontends": ("frontends", "operators"),
}
"""Where the tests of a package are, beside the folder of its name."""
_OTHERS = (
    *("tests/engine/test_cluster.py", "tests/engine/test_cluster_killed.py"),
    "tests/engine/test_run_killed.py",
)
"""Tests that mostly wait for other processes."""
NOTICED = ("killed", "crashed")
_MEMORY = 12 << 30


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant, and the test that failed."""

    status: str
    by: str = ""


@dataclass
class Tally:
    """What became of the mutants of one package, by name."""

    status: dict[str, str] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """The share that some test noticed, 0 to 1: killed, or crashed (or too slow or large)."""
        noticed = sum(status in NOTICED for status in self.status.values())
        return noticed / len(self.status) if self.status else 0.0

    def __str__(self) -> str:
        counted = Counter(self.status.values())
        parts = ", ".join(f"{count} {status}" for status, count in counted.most_common())
        return f"{self.score:.1%} of {len(self.status)} noticed: {parts}"


def copy_checkout(folder: Path) -> None:
    """The tracked files as they lie here, and new ones, into a folder of their own."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def mutate(folder: Path, package: str, count: int, seed: int) -> dict[str, str]:
    """Put mutants of a package, chosen by chance, beside their functions in a copy of the checkout.

    Returns the mutants' names, each with the lines it changes. Which of them runs is chosen by the
    environment variable MUTANT_UNDER_TEST; without it, the code as it was.
    """
    from mutmut.mutation.file_mutation import combine_mutations_to_source, create_mutations
    from mutmut.utils.format_utils import get_mutant_name

    modules = {}
    for path in sorted((folder / "src" / "eyeshot" / package).rglob("*.py")):
        module, mutations, *_ = create_mutations(str(path), path.read_text(encoding="utf-8"))
        modules[path] = module, [one for one in mutations if _is_judged(one)]
    sites = [(path, index) for path, (_, found) in modules.items() for index in range(len(found))]
    taken = set(random.Random(seed).sample(sites, min(count, len(sites))))
    differences: dict[str, str] = {}
    for path, (module, found) in modules.items():
        here = [mutation for index, mutation in enumerate(found) if (path, index) in taken]
        if here:
            mutated = combine_mutations_to_source(module, here)
            path.write_text(mutated.code, encoding="utf-8")
            for name, difference in _differences(mutated.code, mutated.mutant_names).items():
                key = get_mutant_name(path.relative_to(folder), name).replace("__init__.", "")
                differences[key] = difference
    return differences


def _is_judged(mutation: Any) -> bool:
    words = str(getattr(mutation.original_node, "value", ""))
    is_text = words.startswith(("'", '"')) and " " in words
    return mutation.contained_by_top_level_function is not None and not is_text


def _differences(code: str, names: Iterable[str]) -> dict[str, str]:
    """The lines that each mutant changes."""
    functions = {
        node.name: ast.unparse(node).splitlines()[1:]
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    differences = {}
    for name in names:
        original = functions[f"{_function(name)}__mutmut_orig"]
        lines = difflib.unified_diff(original, functions[name], n=0, lineterm="")
        differences[name] = "\n".join(
            line for line in lines if not line.startswith(("+++", "---", "@@"))
        )
    return differences


def _function(mutant: str) -> str:
    return mutant.rpartition("__mutmut_")[0]


_QUIET = ("-q", "-s", "-p", "no:cacheprovider", "-p", "no:faulthandler", "--tb=no")


class Judge:
    """A pytest plugin that runs the collected tests once, and then some of them for each mutant."""

    def __init__(self, differences: Mapping[str, str], seconds: float) -> None:
        self.differences = differences
        self.seconds = seconds
        self.verdicts: dict[str, Verdict] = {}
        self.failed: list[str] = []
        self.hits: set[str] = set()
        self.imported: set[str] = set()
        """Functions called while modules are imported: a fork would come too late for them."""

    def pytest_collection_finish(self) -> None:
        """Called by pytest when every module is imported."""
        self.imported = set(self.hits)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called by pytest in a fork, after each part of a test."""
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Called by pytest in place of its own loop over the tests."""
        items = {item.nodeid: item for item in session.items}
        reached = None if session.testsfailed else _forked(lambda: self._reach(items), 10**5)
        if reached is None:
            raise session.Failed("the tests do not run without a mutant")
        tests, seconds, failed = reached
        if failed:
            print("not used, since they fail without a mutant:", *failed, sep="\n  ", flush=True)
        fastest = sorted(seconds, key=seconds.__getitem__)
        for mutant, difference in self.differences.items():
            function = _function(mutant)
            usual = fastest if function in self.imported else ()
            chosen = within(tests.get(function, usual), seconds, self.seconds)
            listed = [item for name, item in items.items() if name in chosen]
            verdict = self._try(mutant, listed)
            if function in self.imported and verdict.status not in NOTICED:
                verdict = _afresh(mutant, list(chosen))
            self.verdicts[mutant] = verdict
            print(f"{mutant}: {verdict.status} by {len(listed)} tests {verdict.by}")
            print("" if verdict.status in NOTICED else difference, flush=True)
        return True

    def _reach(
        self, items: Mapping[str, pytest.Item]
    ) -> tuple[dict[str, list[str]], dict[str, float], list[str]]:
        """The tests that call each function, the processor seconds of each test, and which fail.

        What a test calls in a fixture or a cache of its file, the other tests of the file use.
        """
        tests: dict[str, list[str]] = {}
        seconds: dict[str, float] = {}
        called: dict[str, set[str]] = {}
        for name, item in items.items():
            self.hits.clear()
            began = time.process_time()
            _run(item, None)
            seconds[name] = time.process_time() - began
            called.setdefault(str(item.path), set()).update(self.hits)
            for function in self.hits:
                tests.setdefault(function, []).append(name)
        for function, names in tests.items():
            names.sort(key=seconds.__getitem__)
            beside = [
                name
                for name, item in items.items()
                if function in called[str(item.path)] and name not in names
            ]
            names += sorted(beside, key=seconds.__getitem__)
        failed = set(self.failed)
        passed = {key: [one for one in names if one not in failed] for key, names in tests.items()}
        return passed, seconds, sorted(failed)

    def _try(self, mutant: str, items: Sequence[pytest.Item]) -> Verdict:
        """Run tests until one fails."""
        if not items:
            return Verdict("no tests")

        def run() -> Verdict:
            from mutmut.mutation import trampoline

            trampoline.get_mutant_under_test = lambda: mutant
            os.environ["MUTANT_UNDER_TEST"] = mutant  # for processes that a test starts
            for item, following in zip(items, [*items[1:], None], strict=True):
                _run(item, following)
                if self.failed:
                    return Verdict("killed", self.failed[0])
            return Verdict("survived")

        return _forked(run, 60 + 10 * self.seconds) or Verdict("crashed")


def _run(item: pytest.Item, following: pytest.Item | None) -> None:
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)


def within(tests: Iterable[str], seconds: Mapping[str, float], budget: float) -> set[str]:
    """The first of the tests, as many as ``budget`` seconds allow, and one at least."""
    listed: set[str] = set()
    for test in tests:
        budget -= seconds[test]
        if budget < 0 and listed:
            break
        listed.add(test)
    return listed


def _forked(work: Callable[[], Any], seconds: float) -> Any:
    """What work returns in a fork of this process; None where it ends without an answer."""

    def body(answer: Connection) -> None:
        os.setsid()
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 5))
        answer.send(work())

    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=body, args=(sender,))
    process.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(20 * seconds) else None
    except EOFError:
        return None
    finally:
        if process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.join()


def _afresh(mutant: str, tests: Sequence[str]) -> Verdict:
    """Judge a mutant of what modules call when they are imported: in a process of its own."""
    environment = {**os.environ, "MUTANT_UNDER_TEST": mutant}
    command = [sys.executable, "-m", "pytest", *_QUIET, "-x", *tests]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return Verdict("killed", "in a new process") if done.returncode else Verdict("survived")


def serve(output: str, tests: Sequence[str], differences: dict[str, str], seconds: float) -> None:
    """Judge the mutants of the copy of the checkout in which this process runs."""
    import pytest
    from mutmut.mutation import trampoline

    judge = Judge(differences, seconds)
    trampoline.get_mutant_under_test = lambda: "stats"
    trampoline.record_trampoline_hit = lambda name, caller=None: judge.hits.add(name)
    ignored = [f"--ignore={one}" for one in _OTHERS]
    code = pytest.main([*_QUIET, *ignored, *tests], plugins=[judge])
    if not judge.verdicts:
        raise SystemExit(code)
    status = {mutant: verdict.status for mutant, verdict in judge.verdicts.items()}
    Path(output).write_text(json.dumps(status), encoding="utf-8")


def judge(
    folder: Path, differences: Mapping[str, str], tests: Sequence[str], seconds: float
) -> Tally:
    """Try the mutants of a copy of the checkout, and print each with what became of it."""
    output = folder / "mutants.json"
    arguments = f"{str(output)!r}, {list(tests)!r}, {dict(differences)!r}, {seconds!r}"
    subprocess.run(
        [sys.executable, "-c", f"from tools.mutants import serve; serve({arguments})"],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(folder / "src"), str(folder))),
            "OMP_NUM_THREADS": "1",
        },
        check=True,
    )
    return Tally(json.loads(output.read_text(encoding="utf-8")))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packages", nargs="*", default=tuple(TESTS), help="of src/eyeshot")
    parser.add_argument("--count", type=int, default=100, help="mutants of each package")
    parser.add_argument("--seed", type=int, default=0, help="which mutants")
    parser.add_argument("--tests", nargs="*", help="tests to run; those of the package by default")
    parser.add_argument("--seconds", type=float, default=20, help="of tests for each mutant")
    options = parser.parse_args()
    for package in options.packages:
        tests = options.tests or [f"tests/{name}" for name in TESTS.get(package, (package,))]
        with tempfile.TemporaryDirectory(prefix="mutants-") as name:
            folder = Path(name)
            copy_checkout(folder)
            differences = mutate(folder, package, options.count, options.seed)
            if not differences:
                raise SystemExit(f"src/eyeshot/{package} holds no mutant: is it a package's name?")
            tally = judge(folder, differences, tests, options.seconds)
        print(f"\n{package}, seed {options.seed}: {tally}", flush=True)


if __name__ == "__main__":
    main()
