"""Runs in processes of their own, to be killed at any moment.

One process imports torch and is forked for each run, which so costs no import.
"""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.connection import Connection
from pathlib import Path

import torch

import eyeshot
from eyeshot.engine.running import Report
from tests.engine.law import enliven, noise
from tests.zoo import UNet

BAND = 16
SHAPE = (1, 1104, 24)


def network(seed: int = 0) -> torch.nn.Module:
    """The same one in every process."""
    torch.manual_seed(seed)
    return enliven(UNet(2, 2), noise(1, 1, 16, 16))


def run(image: Path, out: Path, pause: float, told: Connection) -> None:
    """One run, which tells of each band, and rests after it."""
    torch.set_num_threads(1)

    def tell(report: Report) -> None:
        told.send((report.rows, report.multiply_adds))
        time.sleep(pause)

    eyeshot.run(network(), image, out, band=BAND, resume=True, progress=tell)


def start(image: Path, out: Path, pause: float) -> tuple[multiprocessing.Process, Connection]:
    """Start a run; what comes through the connection is (rows, multiply-adds) after each band."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["eyeshot.engine.running", "torch.export._trace"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=run, args=(image, out, pause, theirs))
    process.start()
    theirs.close()
    return process, ours  # type: ignore[return-value]
