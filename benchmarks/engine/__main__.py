"""``python -m benchmarks.engine [--size 512] [--only …]``: the table at other sizes, or a part."""

from __future__ import annotations

import argparse

from benchmarks.engine.comparing import PARTS, compare
from benchmarks.engine.settings import Settings
from benchmarks.engine.table import markdown


def parse(arguments: list[str] | None = None) -> tuple[Settings, tuple[str, ...]]:
    """The settings, and the parts to run."""
    usual = Settings()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--size", type=int, default=usual.size, help="side of the picture")
    parser.add_argument(
        "--rounds", type=int, default=usual.rounds, help="after the first; 0 times that one"
    )
    parser.add_argument(
        "--filter-size", type=int, default=usual.filter_size, help="side of the filtered picture"
    )
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="one thread, and the processor's time: for a busy machine",
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    given = parser.parse_args(arguments)
    settings = Settings(
        size=given.size,
        rounds=given.rounds,
        filter_size=given.filter_size,
        threads=1 if given.processor_time else usual.threads,
        processor_time=given.processor_time,
    )
    return settings, tuple(given.only)


if __name__ == "__main__":
    print(markdown(compare(*parse())))
