"""Networks over a picture: Eyeshot's streaming pass beside whole passes, tiles and other engines.

Each contender runs in a process of its own. Its memory is the most it holds during its first pass
beyond what it held before (libraries, weights, the picture); then all take turns, in an order drawn
again each round, and a ratio is the median of those within each round, with the smallest and the
largest behind it. The networks are in eval mode, float32, two threads; the pictures are white
noise. The last line says which share of the processors' time other programs took.

``python -m benchmarks.engine --size 512`` is a quick look.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.engine.settings import Settings


def main() -> None:
    """The whole table, as the project's pages show it."""
    from benchmarks.engine.settings import Settings

    print_table(Settings())


def print_table(settings: Settings, *choices: tuple[str, ...]) -> None:
    """The table, or the parts and networks of ``choices``, and the machine it was taken on."""
    from benchmarks.engine.comparing import compare
    from benchmarks.engine.table import markdown
    from benchmarks.measure import Neighbors

    neighbors = Neighbors()
    print(markdown(compare(settings, *choices)))
    share = neighbors.share()
    kind = "thread of processor time" if settings.processor_time else "threads"
    print(f"\n{_processor()}, {settings.threads} {kind}; ", end="")
    if share is None:
        print("it is not known whether other programs ran")
    else:
        quiet = "" if share <= Neighbors.QUIET else "a busy machine: "
        print(f"{quiet}other programs took {share:.1%} of the processors' time", flush=True)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "a processor without a name"
