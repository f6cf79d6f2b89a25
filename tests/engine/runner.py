"""Runs in processes of their own, to be killed at any moment.

One process imports torch and is forked for each run or training, which so costs no import.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import eyeshot
from eyeshot.axes import Interval
from eyeshot.engine.executing import RunReport, execute
from eyeshot.engine.job import Job, make_job
from eyeshot.engine.memory import resident
from eyeshot.engine.resuming import Begun, look_up
from eyeshot.engine.running import open_sinks, opened
from eyeshot.images import Source, open_sink
from eyeshot.planning import Cut
from tests.engine.law import enliven, noise
from tests.zoo import UNet

BAND = 16
SHAPE = (1, 1104, 24)
PRELOADED = [
    *("eyeshot.engine.running", "eyeshot.training", "torch.export._trace"),
    *("distributed", "eyeshot.engine.block_task"),
]
"""What a forked process has: all tests of a process share the one that is forked."""


def network(seed: int = 0) -> nn.Module:
    """The same one in every process."""
    torch.manual_seed(seed)
    return enliven(UNet(2, 2), noise(1, 1, 16, 16))


class Curves(nn.Module):
    """Layers whose last bit depends on where a call ends, around a U's worth of sliding ones."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.down = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 6, 4, 2, 1)
        self.up, self.last = nn.ConvTranspose2d(6, 4, 2, 2), nn.Conv2d(8, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = F.gelu(self.first(x.sigmoid()))
        coarse = F.elu(F.softplus(self.down(F.silu(fine))))
        joined = torch.cat([fine, self.up(coarse.softmax(1)).tanh()], 1)
        scores: torch.Tensor = self.last(joined)
        return scores


def curves() -> nn.Module:
    """The same one in every process."""
    torch.manual_seed(0)
    return enliven(Curves(), noise(1, 1, 16, 16))


def strips_of_curves() -> Begun:
    """Three column strips."""
    ends = [SHAPE[2] * i // 3 for i in range(4)]
    rows = Interval(0, SHAPE[1])
    boxes = [{"last": (rows, Interval(lo, hi))} for lo, hi in pairwise(ends)]
    return Begun(Cut(3 * BAND, tuple(boxes)), threads=1, exact="direct")


def job_of_curves(source: Source, out: Path) -> Job:
    """Probabilities by strips, as if the first run had so settled for want of memory."""
    begun = look_up([out]) or strips_of_curves()
    return make_job(curves(), [source], output_format="probabilities", begun=begun)


def run(kind: str, image: Path, out: Path, pause: float, results: Connection) -> None:
    """One run, which tells of each band, and rests after it."""
    torch.set_num_threads(1)

    def tell(report: RunReport) -> None:
        results.send((report.rows, report.multiply_adds))
        time.sleep(pause)

    if kind == "u-net":
        eyeshot.run(network(), image, out, band=BAND, resume=True, progress=tell)
        return
    with ExitStack() as stack:
        job = job_of_curves(stack.enter_context(opened(image, curves())), out)
        sinks = open_sinks(job, [out], [image], force=False, resume=True)
        for sink in sinks.values():
            stack.enter_context(sink)
        execute(job, sinks, tell)
        for sink in sinks.values():
            sink.finish()


def run_where_files_stay_small(image: Path, outs: list[Path], results: Connection) -> None:
    """Runs that may write no file beyond 60 kB; what each says of it."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
    for out in outs:
        try:
            eyeshot.run(network(), image, out, band=BAND)
        except eyeshot.errors.EyeshotError as error:
            results.send((error.exit_code, str(error)))


def measure(
    image: Path, out: Path, spare: int | None, band: int | None, results: Connection
) -> None:
    """Tell what a run held: (before, allowed, predicted, measured) bytes, and the plan's strips."""
    torch.set_num_threads(1)
    net = enliven(UNet(2, 8), noise(1, 1, 16, 16))
    samples = np.load(image, mmap_mode="r")
    before = resident()
    allowed = None if spare is None else before + spare
    job = make_job(net, [opened(samples, net)], output_format="argmax", memory=allowed, band=band)
    with open_sink(out, job.shape(job.graph.outputs[0]), np.uint8) as sink:
        report = execute(job, {job.graph.outputs[0]: sink})
        sink.finish()
    results.send((before, allowed, job.plan.peak, report.peak, len(job.plan.strips)))


def run_folder(folder: Path, image: Path, out: Path, results: Connection) -> None:
    """Open a run folder and use it; tell which modules of tests are loaded, and its Dice."""
    torch.set_num_threads(1)
    loaded = eyeshot.load(folder)
    np.save(out, eyeshot.run(loaded, image, output_format="argmax"))
    found = eyeshot.evaluate(loaded)
    assert isinstance(found, eyeshot.MaskEvaluation)
    results.send(
        ([name for name in sys.modules if "tests." in name and ".test_" in name], found.dice)
    )


def start(kind: str, image: Path, out: Path, pause: float) -> tuple[BaseProcess, Connection]:
    """Start a run; what comes through the connection is (rows, multiply-adds) after each band."""
    return fork(run, kind, image, out, pause)


def fork(target: Callable[..., None], *arguments: Any) -> tuple[BaseProcess, Connection]:
    """Call a function in a process of its own, which has torch imported and little else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(*arguments, theirs))
    process.start()
    theirs.close()
    return process, ours


def content(path: Path) -> dict[str, bytes]:
    """Every file of an output, by its place in it."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {
        str(f.relative_to(path.parent))[len(path.name) :]: f.read_bytes()
        for f in files
        if f.is_file()
    }


def listen(results: Connection, count: int = 10**6) -> list[Any]:
    """What comes through a connection until it ends, or so many messages."""
    heard: list[Any] = []
    with contextlib.suppress(EOFError):
        while len(heard) < count:
            heard.append(results.recv())
    return heard
