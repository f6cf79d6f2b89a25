"""``python -m benchmarks.engine [--size 512] [--only …] [--network …]``: the table or a part of it.

Pictures of the other networks shrink with ``--size``, as the U-Net's does.
"""

from __future__ import annotations

import argparse

from benchmarks.engine import print_table
from benchmarks.engine.comparing import PARTS, USUAL
from benchmarks.engine.networks import NETWORKS
from benchmarks.engine.settings import Settings


def parse(arguments: list[str] | None = None) -> tuple[Settings, tuple[str, ...], tuple[str, ...]]:
    """The settings, the parts to run, and the networks."""
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
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=USUAL, help="default: all but the bands"
    )
    parser.add_argument(
        "--network", nargs="+", choices=NETWORKS, default=tuple(NETWORKS), help="default: all"
    )
    given = parser.parse_args(arguments)
    settings = Settings(
        size=given.size,
        rounds=given.rounds,
        filter_size=given.filter_size,
        threads=1 if given.processor_time else usual.threads,
        processor_time=given.processor_time,
    )
    return settings, tuple(given.only), tuple(given.network)


if __name__ == "__main__":
    print_table(*parse())
