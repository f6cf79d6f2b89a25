"""The comparisons: who runs beside whom, and which ratio makes a row."""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.engine.contenders import BANDS, LIMIT_MULTIPLY_ADDS, PICTURE, is_installed
from benchmarks.engine.filtering import BUDGET, compare_files, write_picture
from benchmarks.engine.networks import NETWORKS, network_of, picture_of
from benchmarks.engine.settings import Settings
from benchmarks.engine.table import Row
from benchmarks.engine.tiles import aligned_halo, redundancy
from benchmarks.engine.workers import FirstPass, Worker, largest_difference, started
from benchmarks.measure import Timings
from eyeshot.cost import costs, total
from eyeshot.engine.memory import available
from eyeshot.errors import Failure
from eyeshot.frontends.torch import graph_of

TORCH = ("folded", "fused")
"""What the best whole pass in torch is chosen from."""
ROUND = 3.0
"""Seconds that a contender may take in all its rounds, if these are more than the settings say."""
MOST_ROUNDS = 15


@dataclass(frozen=True)
class Seen:
    """What a group of contenders did, side by side."""

    timings: Timings
    passes: dict[str, FirstPass]

    def speed(self, name: str, ours: str = "eyeshot") -> float | None:
        """Eyeshot's speed as a multiple of theirs; None where they are not installed."""
        return self.timings.ratio(name, ours) if name in self.passes else None

    def spread(self, name: str, ours: str = "eyeshot") -> tuple[float, float] | None:
        """The smallest and largest such multiple of a round; None of a single round."""
        found = self.timings.ratios(name, ours) if name in self.passes else []
        return (found[0], found[-1]) if len(found) > 1 else None

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
        if turns == settings.rounds:  # short passes take more of them
            longest = max(done.seconds for done in passes.values())
            turns = max(turns, min(MOST_ROUNDS, int(ROUND / longest)))
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


def compare(
    settings: Settings,
    parts: tuple[str, ...] | None = None,
    networks: tuple[str, ...] = tuple(NETWORKS),
) -> list[Row]:
    """Every row of the table, or those of some parts."""
    rows: list[Row] = []
    for name in parts or USUAL:
        for network in networks if name in _OF_NETWORKS else ("unet32",):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    found = list(_PARTS[name](replace(settings, network=network), Path(folder)))
                except Failure as error:  # the other rows are worth their while
                    found = [Row(name, NETWORKS[network].title, "", None, note=str(error))]
            for row in found:
                _tell(" | ".join(cell for cell in row.cells() if cell))
            rows += found
    return rows


_HOW = {"fused": "folded, oneDNN with activations", "folded": "folded"}
WHOLE_BYTES = 300
"""That a whole pass over a signal takes for each of its samples, and some more."""


def _piece(settings: Settings, samples: int) -> int:
    """The samples for which a whole pass takes a quarter of the free memory; 0 for all of them."""
    free = available()
    longest = samples if free is None else free // 4 // WHOLE_BYTES
    return 0 if longest >= samples else longest


def _times(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


def _whole_passes(settings: Settings, folder: Path) -> Iterator[Row]:
    choice = NETWORKS[settings.network]
    groups = (TORCH if name == "best torch" else (name,) for name in choice.against)
    engines = [name for group in groups for name in group]
    usual = settings.network == "unet32"
    limit = ("one convolution",) if "U-Net" in choice.title and len(choice.size) == 2 else ()
    more = ("eyeshot.run", "MONAI") if usual else ()
    turns = min(settings.rounds, choice.rounds)
    size = picture_of(settings).shape[2:]
    settings = replace(settings, piece=_piece(settings, size[0]) if len(size) == 1 else 0)
    seen = measure(("eyeshot", *engines, *more, *limit), settings, folder, turns)
    where = f"{choice.title}, {'×'.join(map(str, size))}"
    share = settings.piece / size[0] if settings.piece else 1.0
    short = f"over {settings.piece} samples, by the sample" if settings.piece else ""
    for name, (least, aim) in choice.against.items():
        rival = seen.timings.fastest(list(TORCH)) if name == "best torch" else name
        yield Row(
            f"`{name}`" if name == "net(x)" else f"{name}, whole pass",
            where,
            "speed",
            _times(seen.speed(rival), 1 / share),
            least,
            aim=aim,
            difference=seen.difference("eyeshot" if name == "net(x)" else rival),
            note=short or _HOW.get(rival, ""),
            spread=_scaled(seen.spread(rival), 1 / share),
        )
        yield Row(
            "…", where, "memory", _times(seen.memory(rival), share), most=choice.memory, note=short
        )
    if usual:
        yield from _usual_rows(seen, settings, where)
    if limit:
        scale = _share_of_limit(settings)
        yield Row(
            "a 3×3 convolution at its limit",
            where,
            "FLOP/s",
            (seen.speed(*limit) or 0) * scale,
            1.0,
            aim=1.25,
            note="multiply-adds of the direct sum",
            spread=_scaled(seen.spread(*limit), scale),
        )


def _usual_rows(seen: Seen, settings: Settings, where: str) -> Iterator[Row]:
    yield Row(
        "`net(x)`, tracing and planning counted",
        where,
        "speed",
        seen.speed("net(x)", "eyeshot.run"),
        2.5,
        aim=5,
        difference=seen.difference("eyeshot.run"),
        spread=seen.spread("net(x)", "eyeshot.run"),
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
        spread=seen.spread("MONAI"),
    )


def _scaled(spread: tuple[float, float] | None, scale: float) -> tuple[float, float] | None:
    return None if spread is None else (spread[0] * scale, spread[1] * scale)


def _share_of_limit(settings: Settings) -> float:
    """Multiply-adds of the network over those of the one convolution."""
    graph = graph_of(network_of(settings), tuple(picture_of(settings).shape[1:]))
    return total(costs(graph).values()).multiply_adds / LIMIT_MULTIPLY_ADDS


def _bands(settings: Settings, folder: Path) -> Iterator[Row]:
    """The rows of a band that Eyeshot chooses, beside others."""
    choice = NETWORKS[settings.network]
    if len(choice.size) != 2:
        return
    names = [f"band {height}" for height in BANDS]
    seen = measure(("eyeshot", *names), settings, folder)
    best = seen.timings.fastest(names)
    yield Row(
        f"the best band of {BANDS[0]} to {BANDS[-1]} rows",
        f"{choice.title}, {'×'.join(map(str, picture_of(settings).shape[2:]))}",
        "speed",
        seen.speed(best),
        0.97,
        aim=1,
        note=best,
        spread=seen.spread(best),
    )


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
    "bands": _bands,
    "tiles": _tiles,
    "heights": _heights,
    "filters": _filters,
}

PARTS = tuple(_PARTS)
USUAL = tuple(name for name in PARTS if name != "bands")
"""Those of the table; the bands take as long as all of them."""
_OF_NETWORKS = ("whole", "bands")
"""Parts that run each network; the others run the U-Net of base 32."""
