"""Random networks run by parts and as one whole pass: the law, tried where nobody would look.

    python -m tools.random_networks --count 10000 --jobs 4 --seed 1
    python -m tools.random_networks --time 600 --runs 2
    python -m tools.random_networks --wide

``--wide`` draws networks with channels by the dozen, and each convolution that has a method of its
own (Winograd's, or machine code) uses it, however small it is.

A tally is printed after every 500 networks, so that a run that is cut short says what it saw.

Each network has one to three axes of space, a few layers of every kind at any place, odd sizes, one
or two inputs, and one to three outputs, any of its values. It is run by several bands, strips and
regions (one row, one column, one pixel), some also as a camera's rows, in float32 or float64, and
compared with ``net(x)``. One run is resumed at some row of each strip, and must give the same bits.
What differs is printed as a program that shows it. Where rounding alone decides what ``net(x)``
itself gives (:mod:`tools.sensitivity`), a difference says nothing: a network that differs there
alone is counted as discontinuous, and the share of such numbers is printed. A refusal is counted by
its reason; anything but an answer or a refusal is a traceback, and the end of the process a crash.
The exit status is 1 if a network was wrong or ended in either.
"""

from __future__ import annotations

import argparse
import gc
import random
import re
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from tools.random_layers import HEAD, Drawn, draw
from tools.sensitivity import Array, Reference, whole

import eyeshot
from eyeshot.axes import Interval
from eyeshot.engine.executing import columns_of, execute
from eyeshot.engine.job import Job, make_job
from eyeshot.engine.networks import Traced
from eyeshot.engine.running import finish, open_sinks
from eyeshot.errors import UserError
from eyeshot.geometry import required
from eyeshot.images import ArraySink, Span, open_source
from eyeshot.operators import compiled_layers, winograd
from eyeshot.planning import Strip
from eyeshot.planning.holding import names_held_whole
from eyeshot.planning.recomputing import recompute, repeatable

_LAYOUTS = {1: "CL", 2: "CHW", 3: "CDHW"}
_CHUNK = 25
_TALLY = 500
"""Networks between two lines of figures."""
KINDS = ("equal", "refused", "discontinuous", "wrong", "traceback", "crash")
"""What may come of a network; the last three are faults."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One way to run a network."""

    band: int | None = None
    region: tuple[tuple[int, int], ...] | None = None
    strips: int = 1
    camera: bool = False
    keeping: int = 0
    """A seed for which maps are on disk and which are computed again; 0 to hold all in memory."""
    done: int = 0
    """A seed for how many rows of each strip are there when the run is resumed; 0: not resumed."""


class OtherBits(Exception):
    """A resumed run differs from the uninterrupted one."""


@contextmanager
def methods_everywhere() -> Iterator[None]:
    """Inside, each convolution that has a method of its own uses it, in small pieces too."""
    chosen = {
        (winograd, "LEAST_CHANNELS"): 8,
        (winograd, "LEAST_CHANNELS_COMPILED"): 8,
        (winograd, "LEAST_POSITIONS"): 1,
        (winograd, "_MOST_WASTE"): 1e3,
        (winograd, "_CACHE"): 1 << 18,
        (winograd, "_LEAST_BLOCKS"): 16,
        (winograd, "_LEAST_SHARED"): 4,
        (compiled_layers, "LEAST_MULTIPLY_ADDS"): 0,
    }
    before = {place: getattr(*place) for place in chosen}
    try:
        for (module, name), value in chosen.items():
            setattr(module, name, value)
        yield
    finally:
        for (module, name), value in before.items():
            setattr(module, name, value)


@dataclass
class Outcome:
    """What came of one network, one of ``KINDS``, and why; and what was compared."""

    kind: str
    why: str = ""
    program: str = ""
    trials: int = 0
    numbers: int = 0
    silent: int = 0


def trials(r: random.Random, truth: Sequence[Array], inputs: int, axes: int) -> Iterator[Trial]:
    """Ways to run a network; regions only where all its outputs have the same positions."""
    sides = {one.shape[1:] for one in truth}
    regions: list[tuple[tuple[int, int], ...] | None] = [None]
    if len(sides) == 1 and len(shape := sides.pop()) == axes:
        regions += [_region(r, shape) for _ in range(3)]
    for region in regions:
        band, strips = r.choice([1, 2, 3, 7, 64, None]), r.choice([1, 1, 2, 3])
        yield Trial(band, region, strips, keeping=r.choice([0, 1, 2, 3]))
    yield Trial(1, None)
    if inputs == 1 and r.random() < 0.15:
        yield Trial(r.choice([1, 3, 11]), camera=True)
    yield Trial(r.choice([1, 3, 8, None]), strips=r.choice([1, 1, 2]), done=1 + r.randrange(99))


def _region(r: random.Random, shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
    region = []
    for n in shape:
        lo = r.randrange(n)
        region.append((lo, lo + 1 if r.random() < 0.4 else r.randint(lo + 1, n)))
    return tuple(region)


def compute(net: Any, images: Sequence[torch.Tensor], trial: Trial) -> list[Array]:
    """The network by parts."""
    if trial.camera:
        return _as_camera(net, images[0], trial.band or 1)
    layout = _LAYOUTS[images[0].ndim - 1]
    sources = [open_source(image, layout=layout) for image in images]
    job = make_job(net, sources, region=trial.region, band=trial.band, raw=True)
    job = _in_strips(_keeping(job, trial.keeping), trial.strips)
    sinks = open_sinks(job, [None] * len(job.forms), [], force=False, resume=False)
    execute(job, sinks)
    if trial.done:
        _check_resumed(job, random.Random(trial.done))
    found = finish(job, sinks)
    return [found[name] for name in job.graph.outputs]


class _PartlyThere(ArraySink):
    """An array in which the first rows of some strips are written."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, done: Mapping[Span, int]) -> None:
        super().__init__(shape, dtype, np.zeros(shape, dtype))
        self._written = dict(done)


def _resumed(job: Job, sinks: Mapping[str, _PartlyThere]) -> None:
    execute(job, sinks)


def _check_resumed(job: Job, r: random.Random) -> None:
    """Run a job, and again from some row of each strip.

    Raises:
        OtherBits: they differ.
    """
    dtypes = {name: form.dtype for name, form in job.forms.items()}
    sinks = {name: _PartlyThere(job.shape(name), dtype, {}) for name, dtype in dtypes.items()}
    execute(job, sinks)
    parts, there = {}, {}
    for name, dtype in dtypes.items():
        spans = [columns_of(one, job.plan.regions[name], name) for one in job.plan.strips]
        there[name] = {span: r.randint(0, job.shape(name)[1]) for span in spans}
        parts[name] = _PartlyThere(job.shape(name), dtype, there[name])
    _resumed(job, parts)
    for name, done in there.items():
        whole, part = sinks[name].finish(), parts[name].finish()
        for (lo, hi), rows in done.items():
            place = (slice(None), slice(rows), *[slice(lo, hi)][: whole.ndim - 2])
            part[place] = whole[place]
        if part.tobytes() != whole.tobytes():
            raise OtherBits(f"{name}: {np.abs(part - whole).max():.2g} off after a resume")


def _keeping(job: Job, seed: int) -> Job:
    """The same job with some maps computed again, and some of the others on disk."""
    if not seed:
        return job
    r = random.Random(seed)
    share = r.choice([0.3, 0.6, 1.0])
    graph = recompute(job.graph, [n for n in repeatable(job.graph) if r.random() < share])
    spilled = [name for name in sorted(names_held_whole(graph)) if r.random() < 0.5]
    boxes = required(graph, job.plan.regions)
    plan = replace(
        job.plan,
        strips=(Strip(job.plan.regions, boxes),),
        spilled=dict.fromkeys(spilled, 0),
    )
    return replace(job, graph=graph, plan=plan)


def _in_strips(job: Job, count: int) -> Job:
    """The same job, cut into column strips whatever its memory."""
    boxes = job.plan.regions.values()
    if count == 1 or any(len(box) < 2 or len(box[1]) < count for box in boxes):
        return job
    parts = []
    for i in range(count):
        part = {}
        for name, box in job.plan.regions.items():
            ends = [box[1].lo + len(box[1]) * k // count for k in (i, i + 1)]
            part[name] = (box[0], Interval(*ends), *box[2:])
        parts.append(Strip(part, required(job.graph, part)))
    return replace(job, plan=replace(job.plan, strips=tuple(parts)))


def _as_camera(net: Any, image: torch.Tensor, rows: int) -> list[Array]:
    camera = eyeshot.stream(net, tuple(image.shape[2:]), channels=image.shape[0], raw=True)
    given = [camera.push(image[:, i : i + rows].numpy()) for i in range(0, image.shape[1], rows)]
    given.append(camera.finish())
    steps = [one if isinstance(one, list) else [one] for one in given]
    module = net.module if isinstance(net, Traced) else net
    outputs = zip(zip(*steps, strict=True), whole(module, [image]), strict=True)
    return [_joined(parts, truth.shape) for parts, truth in outputs]


def _joined(parts: Sequence[Array], shape: tuple[int, ...]) -> Array:
    """A camera's parts of one output, along the axis where its rows lie: a network may turn it."""
    for axis in range(1, len(shape)):
        others = {np.delete(part.shape, axis).tobytes() for part in parts}
        if len(others) == 1 and sum(part.shape[axis] for part in parts) == shape[axis]:
            return np.concatenate(parts, axis)
    return np.concatenate([part for part in parts if part.size])


def attempt(seed: int, runs: int | None = None, *, wide: bool = False) -> Outcome:
    """One network, by all its trials or the first few; the first that is not equal decides."""
    with methods_everywhere() if wide else nullcontext():
        return _attempted(draw(seed, wide=wide), runs)


def _attempted(drawn: Drawn, runs: int | None) -> Outcome:
    net, images = drawn.build(), drawn.inputs()
    reference = Reference(net, images, drawn.dtype)
    traced = eyeshot.trace(net)
    r, outcome = random.Random(drawn.seed), Outcome("equal")
    ways = trials(r, reference.truth, len(images), images[0].ndim - 1)
    for trial in islice(ways, runs):
        outcome.trials += 1
        try:
            found = compute(traced, images, trial)
        except UserError as error:
            if not trial.camera:  # what a camera cannot do, a run may
                return replace(outcome, kind="refused", why=_reason(error))
        except OtherBits as error:
            return replace(outcome, kind="wrong", why=str(error), program=program(drawn, trial))
        except Exception as error:
            why = f"{type(error).__name__}: {str(error)[:200]}\n{_where(error)}"
            return replace(outcome, kind="traceback", why=why, program=program(drawn, trial))
        else:
            verdict = reference.compare(found, trial.region)
            outcome.numbers += verdict.numbers
            outcome.silent += verdict.silent
            if verdict.why:
                told = program(drawn, trial)
                return replace(outcome, kind="wrong", why=verdict.why, program=told)
            if verdict.jumped:
                outcome.kind = "discontinuous"
    return outcome


def _reason(error: UserError) -> str:
    """A refusal without the names and numbers of this network."""
    text = re.sub(r"\b\w+(\.\w+)+\b|\b[xtm]\d+\b|#\d+|\d+", "·", str(error).splitlines()[0])
    return f"{type(error).__name__}: {text[:90]}"


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " <- ".join(f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno}" for f in reversed(frames))


def program(drawn: Drawn, trial: Trial) -> str:
    """A network and a way to run it, as a program of its own."""
    sizes = ", ".join(f"torch.randn({size}, generator=generator)" for size in drawn.sizes)
    places = (trial.band, trial.region, trial.strips, trial.camera, trial.keeping, trial.done)
    call = f"Trial({', '.join(map(str, places))})"
    return (
        f"{HEAD}\n{drawn.source}\n\n"
        f"torch.manual_seed({drawn.seed})\n"
        f"net = Net().eval().to({drawn.dtype})\n"
        f"generator = torch.Generator().manual_seed({drawn.seed})\n"
        f"images = [one.to({drawn.dtype}) for one in ({sizes},)]\n"
        "from tools.random_networks import Trial, compute, methods_everywhere, whole\n"
        f"trial = {call}\n"
        "# with methods_everywhere():  # if it was found by --wide\n"
        "for part, wanted in zip(compute(net, images, trial), whole(net, images)):\n"
        "    if trial.region is not None:\n"
        "        wanted = wanted[(slice(None), *(slice(*side) for side in trial.region))]\n"
        "    print(part.shape, wanted.shape, abs(part - wanted).max())\n"
    )


@dataclass
class Tally:
    """Outcomes, counted."""

    kinds: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    trials: int = 0
    numbers: int = 0
    silent: int = 0
    bad: list[tuple[int, Outcome]] = field(default_factory=list)

    def add(self, seed: int, outcome: Outcome) -> None:
        """Count one more network."""
        self.kinds[outcome.kind] += 1
        self.trials += outcome.trials
        self.numbers += outcome.numbers
        self.silent += outcome.silent
        if outcome.kind == "refused":
            self.reasons[outcome.why] += 1
        elif outcome.kind in KINDS[-3:]:
            self.bad.append((seed, outcome))

    def summary(self, seconds: float) -> str:
        """One line of figures."""
        counts = ", ".join(f"{self.kinds[kind]} {kind}" for kind in KINDS)
        total = sum(self.kinds.values())
        rate = total / max(seconds, 1e-9)
        share = self.silent / max(1, self.numbers)
        return (
            f"{total} networks, {self.trials} runs: {counts}; {share:.1e} of the numbers are "
            f"decided by rounding; {rate:.1f} a second"
        )


def _some(seeds: range, runs: int | None = None, wide: bool = False) -> list[tuple[int, Outcome]]:
    torch.set_num_threads(1)
    gc.freeze()  # what the imports made is walked through by no later collection
    return [(seed, _guarded(seed, runs, wide)) for seed in seeds]


def _guarded(seed: int, runs: int | None, wide: bool) -> Outcome:
    try:
        return attempt(seed, runs, wide=wide)
    except Exception as error:  # of the generator itself, or of torch's whole pass
        return Outcome("traceback", f"generator: {error!r}\n{_where(error)}", f"# seed {seed}\n")


def run(
    first: int,
    count: int,
    seconds: float,
    jobs: int,
    runs: int | None = None,
    wide: bool = False,
) -> Iterator[tuple[int, Outcome]]:
    """The outcome of each network from a seed on, each run in at most so many ways."""
    end = time.monotonic() + seconds
    starts = range(first, first + count, _CHUNK)
    chunks = (range(at, min(at + _CHUNK, first + count)) for at in starts)
    if jobs == 1:
        for chunk in chunks:
            yield from _some(chunk, runs, wide)
            if time.monotonic() > end:
                return
        return
    pool = _pool(jobs)
    waiting = [(chunk, pool.submit(_some, chunk, runs, wide)) for chunk in islice(chunks, 2 * jobs)]
    while waiting:
        chunk, future = waiting.pop(0)
        try:
            yield from future.result()
        except BrokenProcessPool:
            yield from _one_by_one(chunk, runs, wide)
            pool = _pool(jobs)
            waiting = [(other, pool.submit(_some, other, runs, wide)) for other, _ in waiting]
        if time.monotonic() < end:
            waiting += [
                (other, pool.submit(_some, other, runs, wide)) for other in islice(chunks, 1)
            ]
    pool.shutdown()


def _pool(jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))


def _one_by_one(seeds: range, runs: int | None, wide: bool) -> Iterator[tuple[int, Outcome]]:
    """A chunk in which a process may have died: that network is a crash, the others are tried."""
    pool = _pool(1)
    for seed in seeds:
        try:
            yield from pool.submit(_some, range(seed, seed + 1), runs, wide).result()
        except BrokenProcessPool:
            yield (
                seed,
                Outcome("crash", "the process died", program(draw(seed, wide=wide), Trial())),
            )
            pool = _pool(1)
    pool.shutdown()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="networks; default 1000")
    parser.add_argument("--time", type=float, default=float("inf"), help="seconds at most")
    parser.add_argument("--seed", type=int, default=0, help="of the first network")
    parser.add_argument("--runs", type=int, help="ways to run each network at most; default all")
    parser.add_argument("--wide", action="store_true", help="channels by the dozen, and methods")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--show", type=int, default=5, help="programs to print; default 5")
    options = parser.parse_args()
    started, tally = time.monotonic(), Tally()
    ways = (options.jobs, options.runs, options.wide)
    outcomes = run(options.seed, options.count, options.time, *ways)
    for done, (seed, outcome) in enumerate(outcomes, 1):
        tally.add(seed, outcome)
        if outcome.kind in KINDS[-3:]:
            shown = outcome.program if len(tally.bad) <= options.show else ""
            print(f"# network {seed}: {outcome.kind}: {outcome.why}\n{shown}", flush=True)
        if done % _TALLY == 0:
            print(tally.summary(time.monotonic() - started), flush=True)
    for reason, times in tally.reasons.most_common(15):
        print(f"{times:6} refused: {reason}")
    print(tally.summary(time.monotonic() - started))
    return 1 if tally.bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
