"""A cluster of processes on this machine, for tests: loopback alone, no page, closed at the end.

Its workers are forked from one process that has loaded what they need: a worker that loads torch
itself takes three seconds of the processor, and a cluster starts one for each that is killed.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask
import distributed
import distributed.utils

from tests.engine.runner import PRELOADED

_QUIET = {
    "distributed.worker.multiprocessing-method": "forkserver",
    "distributed.comm.timeouts.connect": "30s",
    "distributed.worker.memory.terminate": False,  # the machine is shared with other tests
    "distributed.worker.memory.pause": False,
    "distributed.scheduler.allowed-failures": 0,
}

_local_cluster: Any = distributed.LocalCluster
_client: Any = distributed.Client
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
