"""A run that is killed goes on, to the very bytes of the run that was not, and repeats no band."""

from __future__ import annotations

import contextlib
import functools
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import eyeshot
from eyeshot.axes import Interval
from eyeshot.engine.executing import Progress, RunReport, execute
from eyeshot.engine.job import Job, make_job
from eyeshot.errors import BadValue
from eyeshot.geometry import required
from eyeshot.images import open_sink, open_source
from eyeshot.planning import first_rows
from eyeshot.planning.schedule import multiply_adds
from tests.engine import runner
from tests.engine.law import cut, job_of, noise, whole
from tests.engine.runner import content
from tests.journals import path_of, state_of
from tests.networks import examples

KILLS = examples(6).max_examples


def durable(out: Path) -> dict[tuple[int, int], int]:
    """Rows of each strip that the journal counts as done."""
    done = state_of(out)["done"] if path_of(out).exists() else {}
    ends = [(*map(int, strip.split(":")), rows) for strip, rows in done.items()]
    return {(lo, hi): rows for lo, hi, rows in ends}


def spent(job: Job, done: dict[tuple[int, int], int]) -> tuple[int, int]:
    """Multiply-adds of a run that goes on: the fewest, and by whole calls of the first run."""
    least = by_calls = 0
    for strip in job.plan.strips:
        ((name, box),) = strip.regions.items()
        there = done.get((box[1].lo, box[1].hi), 0)
        if there == len(box[0]):
            continue
        rest = (Interval(box[0].lo + there, box[0].hi), *box[1:])
        least += multiply_adds(job.graph, required(job.graph, {name: rest}))
        first = first_rows(job.graph, strip.boxes, {name: rest[0].lo}, job.plan.band)
        boxes = {n: (Interval(first[n], b[0].hi), *b[1:]) for n, b in strip.boxes.items()}
        by_calls += multiply_adds(job.graph, boxes)
    return least, by_calls


def jobs(image: Path) -> dict[str, Job]:
    """What is run in the other processes, settled here."""
    source = open_source(image, space=2)
    u_net = make_job(runner.network(), [source], band=runner.BAND)
    return {"u-net": u_net, "curves": runner.job_of_curves(source, image)}


@pytest.mark.parametrize("kind", ["u-net", "curves"])
def test_killed_at_random_moments(kind: str, tmp_path: Path) -> None:
    image = tmp_path / "image.npy"
    np.save(image, noise(*runner.SHAPE).numpy())
    job = jobs(image)[kind]
    bands = -(-runner.SHAPE[1] // job.plan.band) * len(job.plan.strips)
    a_band_of_each = job.plan.multiply_adds / bands
    suffixes = (".npy", ".tif", ".zarr")
    uninterrupted = {s: content(finished(job, tmp_path / f"whole{s}")) for s in suffixes}
    chance, kills, lives = random.Random(4), 0, 0
    while kills < KILLS:
        suffix = suffixes[lives % 3]
        out = tmp_path / f"out{lives}{suffix}"
        while not out.exists():
            done = durable(out)
            process, results = runner.start(kind, image, out, 0.002)
            steps = chance.randrange(bands + 1)
            heard = runner.listen(results, steps)
            if kills < KILLS and len(heard) == steps:
                time.sleep(chance.random() * (0.005 if steps else 0.2))
                process.kill()
                kills += 1
                heard = []
            else:
                heard += runner.listen(results)
            process.join()
            if heard:
                least, by_calls = spent(job, done)
                assert heard[-1] == (runner.SHAPE[1] * len(job.plan.strips), by_calls)
                assert least <= by_calls <= least + 1.1 * a_band_of_each * len(job.plan.strips)
        assert content(out) == uninterrupted[suffix], (suffix, done)
        lives += 1
    assert lives >= 3, "each kind of output was killed"


def finished(job: Job, path: Path) -> Path:
    """The output of a run that nothing cut off."""
    (name,) = job.forms
    with open_sink(path, job.shape(name), job.forms[name].dtype) as sink:
        execute(job, {name: sink})
        sink.finish()
    return path


class Killed(BaseException):
    """Stands for the moment at which a process ends without a word."""


def killed_after(steps: int) -> Progress:
    left = iter(range(steps))

    def die(report: RunReport) -> None:
        if next(left, None) is None:
            raise Killed

    return die


@pytest.mark.parametrize("suffix", [".npy", ".png", ".tif", ".zarr"])
@examples(4)
@given(data=st.data())
def test_strips_go_on_where_each_of_them_stood(
    suffix: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("strips")
    settled = _settled_in_strips(data.draw(st.integers(1, 3)), data.draw(st.integers(20, 90)))
    shape = settled.shape(next(iter(settled.forms)))
    paths = [folder / f"{name}{suffix}" for name in ("whole", "out")]
    lives = [[10**6], [*data.draw(st.lists(st.integers(0, 9), max_size=3)), 10**6]]
    for path, steps in zip(paths, lives, strict=True):
        for life in steps:
            sink = open_sink(path, shape, np.uint8, resume=True)
            with contextlib.suppress(Killed):
                execute(settled, dict.fromkeys(settled.forms, sink), killed_after(life))
                if life == 10**6:
                    sink.finish()
            del sink  # no abort, no finish: what the system has is all that there is
    assert content(paths[0]) == content(paths[1])


@functools.cache
def _job() -> Job:
    return job_of(runner.network(), noise(1, 600, 24), output_format="threshold:0.4", device="cpu")


def _settled_in_strips(strips: int, band: int) -> Job:
    return cut(_job(), band, strips)


@pytest.fixture(scope="module")
def small() -> torch.Tensor:
    return noise(1, 32, 24)


@pytest.mark.parametrize(
    ("setting", "options"),
    [
        ("network", {"net": 1}),
        ("image", {"seed": 1}),
        ("output_format", {"output_format": "probabilities"}),
        ("regions", {"region": ((0, 20), (0, 24))}),
    ],
)
def test_another_run_is_not_gone_on_with(
    setting: str, options: dict[str, Any], small: torch.Tensor, tmp_path: Path
) -> None:
    out = tmp_path / "out.npy"
    with pytest.raises(Killed):
        eyeshot.run(runner.network(), small, out, band=8, progress=killed_after(2))
    before = content(tmp_path)
    net = runner.network(options.pop("net", 0))
    image = noise(1, 32, 24, seed=options.pop("seed", 0))
    with pytest.raises(BadValue, match=f"cannot resume: .*{setting} was") as caught:
        eyeshot.run(net, image, out, band=8, resume=True, **options)
    assert "\n" not in str(caught.value)
    assert content(tmp_path) == before, "what was finished stays as it was"
    eyeshot.run(runner.network(), small, out, band=8, resume=True)
    (truth,) = whole(runner.network(), small)
    np.testing.assert_allclose(np.load(out), truth, atol=1e-5)
