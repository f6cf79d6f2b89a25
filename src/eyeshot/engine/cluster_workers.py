"""The Dask client of a run, and its workers: who they are, and whether they compute alike.

A client is for processes on this machine, or for an existing scheduler.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import eyeshot
from eyeshot.engine.block_task import greeting
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


WAIT_FOR_WORKERS = 60.0
"""Seconds without any worker after which a run ends."""
_GREETED = 600.0
"""Seconds to wait for a worker to say what it is; it may be busy with the run of another client."""


@dataclass(frozen=True)
class Workers:
    """The workers of a cluster when a run begins.

    Attributes:
        threads: of each worker, how many blocks it computes at one time.
        memory: the fewest bytes that one of them may hold; None where nothing limits it.
        in_use: the most bytes that one of them holds before it has seen the run.
        arithmetic: by which all of them compute.
        widths: the float32 numbers of a register of those that compile code, and 0 if any does not.
        dashboard: the address of the page that shows them; "" for none.
    """

    threads: Mapping[str, int]
    memory: int | None
    in_use: int
    arithmetic: str
    widths: frozenset[int]
    dashboard: str

    @property
    def slots(self) -> int:
        """How many blocks are computed at one time."""
        return sum(self.threads.values())

    @property
    def most_threads(self) -> int:
        """Of one worker."""
        return max(self.threads.values())


def check_client(client: Any) -> None:
    """Refuse what is no client.

    Raises:
        BadValue: it is none of ``dask.distributed``, or one for ``await``.
    """
    with extra("dask"):
        from distributed import Client
    if not isinstance(client, Client) or client.asynchronous:
        raise BadValue(f"client is a {type(client).__name__}", cure="give a distributed.Client")


def look_at_workers(client: Any, device: str) -> Workers:
    """Ask every worker of a cluster what it is.

    Raises:
        Failure: there is no worker, one lacks Eyeshot, or they compute by different bits.
    """
    with suppress(TimeoutError):
        client.wait_for_workers(1, timeout=WAIT_FOR_WORKERS)
    threads = threads_of(client)
    if not threads:
        raise Failure(
            f"{_address(client)}: no workers came in {WAIT_FOR_WORKERS:.0f} seconds",
            cure="start some with `dask worker`",
        )
    asked = {
        address: client.submit(greeting, device, workers=[address], pure=False)
        for address in threads
    }
    found = {address: _answer(address, future) for address, future in asked.items()}
    for what, cure in (("eyeshot", "the same Eyeshot"), ("arithmetic", "the same processors")):
        kinds = Counter(one[what] for one in found.values())
        if len(kinds) > 1:
            (usual, _), *_ = kinds.most_common(1)
            odd = next(address for address, one in found.items() if one[what] != usual)
            raise Failure(
                f"worker {odd} has {what} {found[odd][what]}, and others have {usual}: their "
                "answers differ in the last bits",
                cure=f"use workers with {cure}",
            )
    one = next(iter(found.values()))
    if one["eyeshot"] != eyeshot.__version__:
        raise Failure(
            f"the workers have Eyeshot {one['eyeshot']}, and the client {eyeshot.__version__}",
            cure="install the same",
        )
    limits = [limit for limit in _memory_limits(client).values() if limit]
    return Workers(
        threads,
        min(limits, default=None),
        max(one["resident"] for one in found.values()),
        one["arithmetic"],
        frozenset(int(one["width"]) for one in found.values()),
        client.dashboard_link if _has_dashboard(client) else "",
    )


def _answer(address: str, future: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = future.result(timeout=_GREETED)
    except TimeoutError as error:
        future.cancel()
        raise Failure(
            f"worker {address}: did not say what it is in {_GREETED / 60:.0f} minutes",
            cure="wait until it is idle, or stop it",
        ) from error
    except ModuleNotFoundError as error:
        raise Failure(
            f"worker {address}: {error.name} is not installed there",
            cure="install the same Eyeshot on every worker",
        ) from error
    except Exception as error:  # another machine may raise anything
        raise Failure(
            f"worker {address}: {type(error).__name__}: {one_line(str(error), 200)}",
            cure="install the same packages on every worker",
        ) from error
    return found


def _info(client: Any) -> dict[str, Any]:
    """What the scheduler tells of itself and of all workers."""
    try:
        found: dict[str, Any] = client.scheduler_info(n_workers=-1)
    except TypeError:  # an older one tells of all without being asked
        found = client.scheduler_info()
    return found


def threads_of(client: Any) -> dict[str, int]:
    """How many blocks each worker computes at one time."""
    return dict(client.nthreads())


def _memory_limits(client: Any) -> dict[str, int | None]:
    return {name: one.get("memory_limit") for name, one in _info(client)["workers"].items()}


def _has_dashboard(client: Any) -> bool:
    """Whether the scheduler shows a page: without Bokeh it only says that this is missing."""
    return is_installed("bokeh") and "dashboard" in _info(client).get("services", {})


def _address(client: Any) -> str:
    scheduler = getattr(client, "scheduler", None)
    return str(getattr(scheduler, "address", "the scheduler"))
