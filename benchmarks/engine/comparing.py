"""The comparisons: who runs beside whom, and which ratio makes a row."""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.engine.contenders import MATRIX_MULTIPLY_ADDS, PICTURE, is_installed
from benchmarks.engine.filtering import BUDGET, compare_files, write_picture
from benchmarks.engine.networks import CHANNELS, make_network
from benchmarks.engine.settings import Settings
from benchmarks.engine.table import Row
from benchmarks.engine.tiles import aligned_halo, redundancy
from benchmarks.engine.workers import FirstPass, Worker, largest_difference, started
from benchmarks.measure import Timings
from eyeshot.cost import costs, total
from eyeshot.frontends.torch import graph_of

WHOLE = ("net(x)", "folded", "fused", "MONAI", "onnxruntime", "OpenVINO")
OURS = ("eyeshot", "eyeshot.run", "a @ b")


@dataclass(frozen=True)
class Seen:
    """What a group of contenders did, side by side."""

    timings: Timings
    passes: dict[str, FirstPass]

    def speed(self, name: str, ours: str = "eyeshot") -> float | None:
        """Eyeshot's speed as a multiple of theirs; None where they are not installed."""
        return self.timings.ratio(name, ours) if name in self.passes else None

    def memory(self, name: str, ours: str = "eyeshot") -> float | None:
        """The memory that Eyeshot adds as a multiple of what they add."""
        if name not in self.passes:
            return None
        return self.passes[ours].added / self.passes[name].added

    def difference(self, name: str, oracle: str = "net(x)") -> float | None:
        """Largest difference between two answers over the largest number of the second."""
        if name not in self.passes:
            return None
        return largest_difference(self.passes[name].answer, self.passes[oracle].answer)


def measure(
    names: tuple[str, ...], settings: Settings, folder: Path, rounds: int | None = None
) -> Seen:
    """Run contenders side by side; with no rounds, the first pass is the one that is timed."""
    passes: dict[str, FirstPass] = {}
    present = [name for name in names if is_installed(name)]
    for name in set(names) - set(present):
        _tell(f"{name} is not installed: pip install 'eyeshot[bench]'")
    with ExitStack() as stack:
        workers = {}
        for name in present:
            _tell(f"{name}: preparing")
            workers[name] = stack.enter_context(started(name, settings, folder))
        for name in present:
            passes[name] = workers[name].first_pass()
            _tell(f"{name}: first pass, {passes[name].added / 1e6:,.0f} MB")
        turns = settings.rounds if rounds is None else rounds
        timings = _interleaved(workers, turns)
    if turns == 0:
        timings = Timings({name: (done.seconds,) for name, done in passes.items()})
    for name in present:
        _tell(f"{name}: {timings.median(name):.2f} s")
    return Seen(timings, passes)


def _interleaved(workers: Mapping[str, Worker], rounds: int) -> Timings:
    """All take turns, in an order drawn again each round; each reads its own clock."""
    order = random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name in order.sample(list(workers), len(workers)):
            seconds[name].append(workers[name].run())
    return Timings({name: tuple(values) for name, values in seconds.items()})


def _tell(text: str) -> None:
    print(f"  {text}  (load {os.getloadavg()[0]:.1f})", file=sys.stderr, flush=True)


def compare(settings: Settings, parts: tuple[str, ...] | None = None) -> list[Row]:
    """Every row of the table, or of some parts of it."""
    rows: list[Row] = []
    for name in parts or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            found = list(_PARTS[name](settings, Path(folder)))
        for row in found:
            _tell(" | ".join(cell for cell in row.cells() if cell))
        rows += found
    return rows


def _whole_passes(settings: Settings, folder: Path) -> Iterator[Row]:
    seen = measure((*WHOLE, *OURS), settings, folder)
    where, exact = f"{settings.size}²", seen.difference("eyeshot")
    fastest = seen.timings.fastest(["folded", "fused"])
    yield Row(
        "`net(x)` as written", where, "speed", seen.speed("net(x)"), 2.5, aim=5, difference=exact
    )
    yield Row(
        "… tracing and planning counted",
        where,
        "speed",
        seen.speed("net(x)", "eyeshot.run"),
        2.5,
        aim=5,
        difference=seen.difference("eyeshot.run"),
    )
    yield Row("… ", where, "memory", seen.memory("net(x)"), most=1 / 3)
    yield Row(
        "best torch whole pass (folded, channels last)",
        where,
        "speed",
        seen.speed(fastest),
        1.2,
        aim=2,
        difference=seen.difference(fastest),
        note="oneDNN with ReLU inside" if fastest == "fused" else "",
    )
    yield Row(
        f"MONAI sliding window, overlap 0.25, tile {settings.tile}",
        where,
        "speed",
        seen.speed("MONAI"),
        2,
        aim=4,
        difference=seen.difference("MONAI"),
        note="inexact",
    )
    yield Row(
        "onnxruntime whole pass",
        where,
        "speed",
        seen.speed("onnxruntime"),
        0.85,
        aim=1,
        difference=seen.difference("onnxruntime"),
    )
    yield Row("… ", where, "memory", seen.memory("onnxruntime"), most=1 / 5)
    yield Row(
        "OpenVINO whole pass",
        where,
        "speed",
        seen.speed("OpenVINO"),
        aim=1,
        difference=seen.difference("OpenVINO"),
    )
    yield Row("… ", where, "memory", seen.memory("OpenVINO"))
    yield Row("a large `a @ b`", where, "FLOP/s", _share_of_limit(seen, settings), 0.6, aim=0.9)


def _share_of_limit(seen: Seen, settings: Settings) -> float:
    """FLOP/s of the streaming pass over those of a matrix product."""
    net = make_network(settings.depth, settings.base)
    graph = graph_of(net, (CHANNELS, settings.size, settings.size))
    work = total(costs(graph).values()).multiply_adds
    return seen.timings.ratio("a @ b", "eyeshot") * work / MATRIX_MULTIPLY_ADDS


def _tiles(settings: Settings, folder: Path) -> Iterator[Row]:
    seen = measure(("net(x), deeper", "tiles", "eyeshot, deeper"), settings, folder, rounds=0)
    halo = aligned_halo(settings.deep)
    inner = settings.tile / (settings.tile - 2 * halo)
    times = redundancy(settings.size, settings.tile, halo)
    exact = seen.difference("tiles", "net(x), deeper")
    yield Row(
        f"exact halo tiles of {settings.tile}, depth {settings.deep}",
        f"{settings.size}²",
        "speed",
        seen.speed("tiles", "eyeshot, deeper"),
        5,
        aim=10,
        difference=seen.difference("eyeshot, deeper", "net(x), deeper"),
        note=f"halo {halo}: {times:.1f}× the work here, {inner**2:.0f}× inside; theirs {exact:.0e}",
    )


def _heights(settings: Settings, folder: Path) -> Iterator[Row]:
    """One after the other: the second must not find what the first has left in the memory."""
    square = measure(("square file",), settings, folder, rounds=0).passes["square file"]
    tall = measure(("tall file",), settings, folder, rounds=0).passes["tall file"]
    yield Row(
        f"{settings.size}×{settings.size}",
        f"{4 * settings.size}×{settings.size}",
        "memory",
        tall.added / square.added,
        most=1.05,
        aim=1,
    )


def _filters(settings: Settings, folder: Path) -> Iterator[Row]:
    write_picture(folder / PICTURE, settings.filter_size)
    seen = measure(("filter", "OpenCV"), settings, folder)
    largest, share = compare_files(folder / "bands.tif", folder / "whole.tif")
    where = f"{settings.filter_size}² 8-bit TIFF"
    yield Row(
        "`--memory 1GB`, dense 5×5 filter",
        where,
        "memory",
        seen.passes["filter"].held / BUDGET,
        most=1,
        note="all that the process holds",
    )
    yield Row(
        "OpenCV whole array, file to file",
        where,
        "speed",
        seen.speed("OpenCV", "filter"),
        0.5,
        aim=0.9,
        note=f"{share:.1e} of the samples differ, by {largest} at most",
    )


_PARTS: dict[str, Callable[[Settings, Path], Iterator[Row]]] = {
    "whole": _whole_passes,
    "tiles": _tiles,
    "heights": _heights,
    "filters": _filters,
}

PARTS = tuple(_PARTS)
