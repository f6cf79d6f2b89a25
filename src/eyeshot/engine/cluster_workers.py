"""The workers of a Dask cluster when a run begins: who they are, and whether they compute alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import eyeshot
from eyeshot.engine.block_task import (
    greeting,
)
from eyeshot.errors import BadValue, Failure, one_line
from eyeshot.extras import extra, is_installed

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
        held: the most bytes that one of them holds before it has seen the run.
        arithmetic: by which all of them compute.
        dashboard: the address of the page that shows them; "" for none.
    """

    threads: Mapping[str, int]
    memory: int | None
    held: int
    arithmetic: str
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
