"""A cluster of processes on this machine, for tests: loopback alone, no page, closed at the end.

Its workers are forked from one process that has loaded what they need: a worker that loads torch
itself takes three seconds of the processor, and a cluster starts one for each that is killed.
So are commands: a scheduler, a worker, ``eyeshot run``.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import dask
import dask.cli
import distributed
import distributed.utils

from tests.engine.runner import PRELOADED, fork

_QUIET = {
    "distributed.worker.multiprocessing-method": "forkserver",
    "distributed.comm.timeouts.connect": "30s",
    "distributed.worker.memory.terminate": False,  # the machine is shared with other tests
    "distributed.worker.memory.pause": False,
    "distributed.scheduler.allowed-failures": 0,
}

_local_cluster: Any = distributed.LocalCluster
_client: Any = distributed.Client
_dask: Any = dask.cli.run_cli
_processes: Any = distributed.utils.get_mp_context


@contextmanager
def cluster(workers: int = 2, threads: int = 1, **options: Any) -> Iterator[distributed.Client]:
    """A client of new workers."""
    with dask.config.set(_QUIET):
        _processes()  # sets a list of its own, once
    multiprocessing.set_forkserver_preload(PRELOADED)
    if options.setdefault("processes", True):
        options.setdefault("host", "127.0.0.1")
    with (
        dask.config.set(_QUIET),
        _local_cluster(
            n_workers=workers,
            threads_per_worker=threads,
            dashboard_address="127.0.0.1:0",
            silence_logs=50,
            **options,
        ) as local,
        _client(local, set_as_default=False) as client,
    ):
        yield client


def start(
    program: str, *words: str, folder: Path, network: str = ""
) -> tuple[BaseProcess, Connection]:
    """Start ``dask`` or ``eyeshot`` with these words, in a process group of its own.

    Args:
        program: one of the two.
        words: of the command line.
        folder: the working directory.
        network: the name of a network namespace.

    Returns:
        The process, and a connection through which its exit code and standard error come.
    """
    return fork(_run, program, words, folder, network)


def _run(
    program: str, words: tuple[str, ...], folder: Path, network: str, results: Connection
) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ["OMP_NUM_THREADS"] = "1"
    if network:
        with open(f"/var/run/netns/{network}") as namespace:  # noqa: PTH123 - a handle, no path
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _NETWORK):
                raise OSError(ctypes.get_errno(), f"setns {network}")
    errors = os.memfd_create("errors")
    os.dup2(errors, 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if program == "dask":
        sys.argv[1:] = words
        _dask()  # ends the process
    from eyeshot.cli import main

    code = main([*words])
    results.send((code, Path(f"/proc/self/fd/{errors}").read_text()))


_NETWORK = 0x40000000
"""CLONE_NEWNET of Linux."""
