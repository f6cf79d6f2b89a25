"""A cluster of processes on this machine, for tests: loopback alone, no page, closed at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask
import distributed

_QUIET = {
    "distributed.comm.timeouts.connect": "30s",
    "distributed.worker.memory.terminate": False,  # the machine is shared with other tests
    "distributed.worker.memory.pause": False,
    "distributed.scheduler.allowed-failures": 0,
}

_local_cluster: Any = distributed.LocalCluster
_client: Any = distributed.Client


@contextmanager
def cluster(workers: int = 2, threads: int = 1, **options: Any) -> Iterator[distributed.Client]:
    """A client of new workers."""
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
