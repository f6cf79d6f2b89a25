"""``python -m benchmarks.memory [--only WORD]``: the table; ``--case`` is one row's process."""

from __future__ import annotations

import argparse
import sys

from benchmarks.memory import table, worker
from eyeshot.errors import EyeshotError


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name holds this word")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--room", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    options = parse()
    if options.case:
        worker.report(options.case, options.folder, options.room)
    else:
        try:
            table.main(options.only)
        except EyeshotError as error:
            sys.exit(f"benchmarks: {error}")
