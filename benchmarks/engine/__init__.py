"""A U-Net over a picture: Eyeshot's streaming pass beside whole passes, tiles and other engines.

Each contender runs in a process of its own. Its memory is the most it holds during its first pass
beyond what it held before (libraries, weights, the picture); then all take turns, in an order drawn
again each round, and a ratio is the median of those within each round. The network is a U-Net of
base 32 and depth 4 in eval mode, float32, two threads; the picture is white noise.

``python -m benchmarks.engine --size 512`` is a quick look.
"""

from __future__ import annotations

import sys


def main() -> None:
    """The whole table, as the project's pages show it."""
    from benchmarks.engine.comparing import compare
    from benchmarks.engine.settings import Settings
    from benchmarks.engine.table import markdown

    print(markdown(compare(Settings())))
    sys.stdout.flush()
