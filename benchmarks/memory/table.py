"""The table: a row for each case and budget, and what was wrong with any."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.memory.cases import CASES, write_image
from eyeshot.errors import Failure

_FAR = 0.1
_ROOM = 120 * 10**6
"""Bytes that the second budget of a case allows beside the least."""


@dataclass(frozen=True)
class Row:
    """Bytes allowed, predicted and measured."""

    case: str
    budget: int
    predicted: int
    measured: int

    @property
    def exceeded(self) -> bool:
        """Whether more was held than was allowed."""
        return self.measured > self.budget

    @property
    def far(self) -> bool:
        """Whether the prediction within a budget was more than a tenth off."""
        return abs(self.predicted / self.measured - 1) > _FAR

    def __str__(self) -> str:
        said = " EXCEEDED" * self.exceeded + " FAR OFF" * self.far
        return (
            f"{self.case:48} {self.budget / 1e6:6.0f} {self.predicted / 1e6:9.0f} "
            f"{self.measured / 1e6:8.0f} {self.predicted / self.measured:6.2f}{said}"
        )


def main(only: str = "") -> None:
    """Run every case, or those whose name holds a word, and print the table.

    Raises:
        Failure: a budget was exceeded, or a prediction far off.
    """
    print(f"{'':48} {'budget':>6} {'predicted':>9} {'measured':>8}  ratio  (MB)")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in CASES:
            if only in name:
                for row in _rows(name, Path(folder)):
                    print(row, flush=True)
                    rows.append(row)
    wrong = [row for row in rows if row.exceeded or row.far]
    print(f"{len(rows)} runs; {len(wrong)} beyond their budget or far from what was predicted")
    if wrong:
        raise Failure(f"{len(wrong)} of {len(rows)} runs", cure="see the rows above")


def _rows(name: str, folder: Path) -> Iterator[Row]:
    case = CASES[name]
    write_image(folder, case.source, case.shape)
    for room in (0, _ROOM):
        told = _measured(name, folder, room)
        yield Row(name, told["budget"], told["predicted"], told["measured"])


def _measured(name: str, folder: Path, room: int) -> dict[str, Any]:
    """What a fresh process tells of a case."""
    command = [sys.executable, "-m", "benchmarks.memory", "--case", name, "--folder", str(folder)]
    command += ["--room", str(room)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise Failure(f"{name}: {result.stderr[-2000:]}")
    told: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return told
