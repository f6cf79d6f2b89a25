"""A process that tries one damaged file after another, and says how each ended."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from tools.fuzzing.uses import call, change_for, commands_of, uses_of

from eyeshot.engine.memory import peak, reset_peak, resident
from eyeshot.errors import EyeshotError

MOST_GROWTH = 2**30
_ROOM = 6 * 2**30
"""Bytes of addresses beyond those at the start: the machine is not to be brought down."""
_LONGEST = 2200


@dataclass(frozen=True)
class Plan:
    """Which inputs there are: of a seed and a number, always the same one."""

    seeds: tuple[Path, ...]
    seed: int
    cli: float

    def damage(self, number: int, folder: Path) -> tuple[Path, Random]:
        """Write input ``number`` into ``folder``; return it, and the chance for what follows."""
        chance = Random(f"{self.seed}/{number}")
        original = self.seeds[chance.randrange(len(self.seeds))]
        path = folder / original.name
        if original.is_file():
            path.write_bytes(change_for(original)(chance, original.read_bytes()))
            return path, chance
        shutil.copytree(original, path)
        files = sorted(file for file in path.rglob("*") if file.is_file())
        small = [file for file in files if file.suffix in (".json", ".yaml", ".zarray")]
        file = chance.choice(files + small * 3)
        if chance.random() < 0.03:
            file.unlink()
        else:
            file.write_bytes(change_for(file)(chance, file.read_bytes()))
        return path, chance


def work(plan: Plan, beside: Path, connection: Connection) -> None:
    """Try the numbers that come through the connection, until it closes."""
    os.nice(10)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + _ROOM, resource.RLIM_INFINITY))
    with contextlib.suppress(EOFError):
        while True:
            connection.send(attempt(plan, connection.recv(), beside))


def attempt(plan: Plan, number: int, beside: Path) -> str:
    """What is wrong with how Eyeshot takes input ``number``; nothing where all is well."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        path, chance = plan.damage(number, Path(folder))
        if path.suffix == ".checkpoint":  # of this run's network
            shutil.copytree(beside / "masks.run", Path(folder) / "masks.run")
        before = resident()
        reset_peak()
        wrong = _try(path, chance, plan.cli, beside)
        grown = peak() - before
        if not wrong and grown > MOST_GROWTH:
            wrong = f"{grown / 2**20:.0f} MB"
    return f"{path.name}: {wrong}" if wrong else ""


def _try(path: Path, chance: Random, cli: float, beside: Path) -> str:
    commands = commands_of(path, beside) if chance.random() < cli else []
    with _everything_captured() as captured:
        try:
            if commands:
                wrong = call(chance.choice(commands))
            else:
                wrong = ""
                chance.choice(uses_of(path))(path)
        except EyeshotError as error:
            wrong = "a message without end" if len(str(error)) > _LONGEST else ""
        except BaseException:
            wrong = traceback.format_exc(limit=-4)
    text = captured()
    return wrong or (f"said on standard error: {text[:300]}" if text else "")


@contextlib.contextmanager
def _everything_captured() -> Iterator[Callable[[], str]]:
    """What the block, C libraries included, writes to standard error."""
    sys.stderr.flush()
    duplicate = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        text = ""

        def captured() -> str:
            return text

        try:
            yield captured
        finally:
            sys.stderr.flush()
            os.dup2(duplicate, 2)
            os.close(duplicate)
            file.seek(0)
            text = file.read(2000).decode("utf-8", "replace").strip()
