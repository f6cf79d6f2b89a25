"""Each contender in a process of its own, so that its memory is its own and can be measured."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engine.settings import Settings
from eyeshot.engine.memory import peak, reset_peak, resident
from eyeshot.errors import Failure


@dataclass(frozen=True)
class FirstPass:
    """What the first pass of a contender took.

    Attributes:
        added: the most bytes held during it, beyond what was there before it: libraries, weights,
            the picture, and what was prepared.
        held: the most bytes held during it, all told.
        seconds: that it took.
        answer: where its answer lies, as ``.npy``; None where it wrote a file of its own.
    """

    added: int
    held: int
    seconds: float
    answer: Path | None


class Worker:
    """A contender in another process; it does one thing at a time, and only when asked."""

    def __init__(self, name: str, connection: Connection) -> None:
        self.name = name
        self._connection = connection

    def first_pass(self) -> FirstPass:
        """Run once, and measure memory."""
        answer: FirstPass = self._ask("first")
        return answer

    def run(self) -> float:
        """Run once more; the seconds it took."""
        return float(self._ask("again"))

    def wait(self) -> None:
        """Return when it is ready to run."""
        self._receive()

    def _ask(self, what: str) -> Any:
        self._connection.send(what)
        return self._receive()

    def _receive(self) -> Any:
        try:
            return self._connection.recv()
        except EOFError:
            raise Failure(
                f"the contender {self.name} has died", cure="its own message stands above"
            ) from None


@contextmanager
def started(name: str, settings: Settings, folder: Path) -> Iterator[Worker]:
    """A worker that is ready to run, ended when the block is left."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(name, settings, folder, theirs))
    process.start()
    theirs.close()
    try:
        worker = Worker(name, ours)
        worker.wait()
        yield worker
    finally:
        ours.close()
        process.join()


def _serve(name: str, settings: Settings, folder: Path, connection: Connection) -> None:
    """The worker's side: prepare, then run as often as asked, until nobody listens."""
    import torch

    from benchmarks.engine.contenders import prepare

    torch.set_num_threads(settings.threads)
    clock = time.process_time if settings.processor_time else time.perf_counter
    call = prepare(name, settings, folder)
    connection.send("ready")
    while True:
        try:
            command = connection.recv()
        except EOFError:
            return
        before = resident()
        reset_peak()
        start = clock()
        answer = call()
        seconds = clock() - start
        if command == "again":
            connection.send(seconds)
        else:
            held = peak()
            path = _saved(answer, folder / f"{name}.answer.npy")
            connection.send(FirstPass(held - before, held, seconds, path))
        del answer


def _saved(answer: Any, path: Path) -> Path | None:
    if answer is None or isinstance(answer, Path):
        return None
    np.save(path, np.asarray(answer))
    return path


def largest_difference(one: Path | None, other: Path | None) -> float | None:
    """max|a − b| / max|b| of two answers; None where there are not two."""
    if one is None or other is None:
        return None
    a, b = np.load(one, "r"), np.load(other, "r")
    if a.shape[-1] != b.shape[-1]:  # a whole pass over a piece of a signal, causally
        a, b = (x.reshape(-1, x.shape[-1])[:, : min(a.shape[-1], b.shape[-1])] for x in (a, b))
    a, b = a.ravel(), b.ravel()  # one may be a batch
    return float(np.abs(a - b).max() / np.abs(b).max())
