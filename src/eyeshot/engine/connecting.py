"""A Dask client for one run: for processes on this machine, or for an existing scheduler."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from eyeshot.engine.memory import available
from eyeshot.errors import BadValue, Failure, one_line
from eyeshot.extras import extra, is_installed

_PATIENCE = 20.0
"""Seconds to wait for a scheduler's answer."""


@contextmanager
def local_cluster(workers: int) -> Iterator[Any]:
    """Worker processes of one thread each, which accept connections only from this machine.

    Args:
        workers: the number of processes.

    Raises:
        Failure: Dask is not installed, or the processes cannot be started.
    """
    with extra("dask"):
        import dask
        from distributed import Client, LocalCluster
    room = available()
    # The run counts the failures of a block itself, also when a worker dies.
    settings = {"distributed.scheduler.allowed-failures": 0}
    options: dict[str, Any] = {
        "n_workers": workers,
        "threads_per_worker": 1,
        "processes": True,
        "host": "127.0.0.1",
        "dashboard_address": "127.0.0.1:8787" if is_installed("bokeh") else "127.0.0.1:0",
        "memory_limit": "auto" if room is None else room // workers,
        "silence_logs": logging.CRITICAL,  # the run reports the failures of blocks
    }
    with dask.config.set(settings):
        try:
            cluster = _made(LocalCluster, **options)
        except (RuntimeError, OSError, TimeoutError) as error:
            reason = one_line(str(error), 200)
            raise Failure(
                f"{workers} workers cannot be started: {reason}", cure="ask for fewer"
            ) from error
        with cluster, _made(Client, cluster, set_as_default=False) as client:
            yield client


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The client of a scheduler.

    Args:
        address: such as ``tcp://host:8786``.

    Raises:
        BadValue: it is not an address.
        Failure: Dask is not installed, or no scheduler answers at the address.
    """
    if not re.fullmatch(r"(\w+://)?[^/\s]+:\d{1,5}", address):
        raise BadValue(f"--scheduler {address}: no address", cure="use tcp://host:8786")
    with extra("dask"):
        from distributed import Client
    try:
        client = _made(Client, address, timeout=_PATIENCE, set_as_default=False)
    except OSError as error:
        raise Failure(
            f"{address}: no scheduler answers in {_PATIENCE:.0f} seconds",
            cure="start one with `dask scheduler`, or correct the address",
        ) from error
    except (ValueError, TypeError) as error:
        raise BadValue(
            f"--scheduler {address}: {one_line(str(error), 100)}", cure="use tcp://host:8786"
        ) from error
    with client:
        yield client


def _made(kind: Any, *arguments: Any, **options: Any) -> Any:
    """Make an object of a class that has no type annotations."""
    return kind(*arguments, **options)
