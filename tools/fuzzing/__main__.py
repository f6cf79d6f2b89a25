"""The command: see ``python -m tools.fuzzing --help``."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from PIL import Image
from tools.fuzzing.seeds import make_seeds
from tools.fuzzing.worker import Plan, work

_PATIENCE = 10.0
"""Seconds of the processor that an input may take."""
_WAIT = 90.0
"""Seconds of the clock: on a busy machine they are more."""
_NET = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU())
"""


class Fuzzer:
    """One worker at a time, replaced when it hangs or dies."""

    def __init__(self, plan: Plan, beside: Path) -> None:
        self._plan, self._beside = plan, beside
        self._context = multiprocessing.get_context("fork")
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None

    def attempt(self, number: int) -> str:
        """What is wrong with how input ``number`` is taken; nothing where all is well."""
        if self._process is None or self._connection is None:
            self._connection, theirs = self._context.Pipe()
            self._process = self._context.Process(
                target=work, args=(self._plan, self._beside, theirs), daemon=True
            )
            self._process.start()
            theirs.close()
        self._connection.send(number)
        started, spent = time.monotonic(), _processor_seconds(self._process)
        while not self._connection.poll(0.5):
            busy = _processor_seconds(self._process) - spent
            if busy > _PATIENCE or time.monotonic() - started > _WAIT:
                self.close()
                return f"a hang: {busy:.0f} s of the processor"
        try:
            return str(self._connection.recv())
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self.close()
            return f"the process ended with {code}"

    def close(self) -> None:
        """End the worker."""
        if self._process is not None and self._connection is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
        self._process = self._connection = None


def _processor_seconds(process: BaseProcess) -> float:
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / 100


def fuzz(options: argparse.Namespace, folder: Path) -> int:
    """Try inputs until the count or the time is reached; return how many failed."""
    seeds, beside = folder / "seeds", folder / "beside"
    for place in (seeds, beside):
        place.mkdir()
    made = make_seeds(seeds, programs=not options.no_programs)
    _write_beside(beside, seeds)
    plan = Plan(
        tuple(path for path in made if options.kind in path.name), options.seed, options.cli
    )
    fuzzer, started, tried, failed = Fuzzer(plan, beside), time.monotonic(), 0, 0
    first, count = (options.start, options.count) if options.only is None else (options.only, 1)
    for number in range(first, first + count):
        if time.monotonic() - started > options.seconds:
            break
        wrong = fuzzer.attempt(number)
        tried += 1
        if wrong:
            failed += 1
            print(f"--- {number}: {wrong}", flush=True)
            _keep(plan, number, options.keep)
    fuzzer.close()
    seconds = time.monotonic() - started
    print(f"{tried} inputs of {len(plan.seeds)} seeds in {seconds:.0f} s: {failed} failed")
    return failed


def _keep(plan: Plan, number: int, folder: Path | None) -> None:
    if folder is not None:
        place = folder / str(number)
        place.mkdir(parents=True, exist_ok=True)
        plan.damage(number, place)


def _write_beside(beside: Path, seeds: Path) -> None:
    (beside / "net.py").write_text(_NET)
    Image.new("L", (24, 18), 99).save(beside / "picture.png")
    (beside / "masks.run").symlink_to(seeds / "masks.run")


def main() -> int:
    """Read the options; 0 where nothing failed."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzzing", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the inputs")
    parser.add_argument("--count", type=int, default=10_000, help="most inputs")
    parser.add_argument("--start", type=int, default=0, help="the first one's number")
    parser.add_argument("--seconds", type=float, default=3600, help="longest time")
    parser.add_argument(
        "--cli", type=float, default=0.1, help="share that goes by the command line"
    )
    parser.add_argument("--kind", default="", help="a part of the names of the seeds to damage")
    parser.add_argument("--only", type=int, help="repeat one input by its number")
    parser.add_argument("--keep", type=Path, help="a folder for the inputs that failed")
    parser.add_argument("--no-programs", action="store_true", help="leave .pt2 out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzzing-") as folder:
        return 1 if fuzz(options, Path(folder)) else 0


if __name__ == "__main__":
    sys.exit(main())
