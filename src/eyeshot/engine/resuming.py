"""What the rest of a run keeps of its beginning, so that both are the very same run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from eyeshot.images import unfinished
from eyeshot.plan import Cut, cut_from


@dataclass(frozen=True, slots=True)
class Begun:
    """What a run that was cut off had settled for itself.

    Attributes:
        cut: its bands and strips, which follow from the memory that was free.
        threads: among how many torch shared out the work, which decides where parts end.
    """

    cut: Cut
    threads: int


def look_up(targets: Sequence[Any]) -> Begun | None:
    """What the unfinished run at the first of these outputs had settled; None without one."""
    for target in targets:
        settings = unfinished(target)
        cut = None if settings is None else cut_from(settings)
        if settings is not None and cut is not None:
            threads = settings.get("threads")
            if not isinstance(threads, int) or threads < 1:
                threads = torch.get_num_threads()
            return Begun(cut, threads)
    return None


def arithmetic(place: torch.device) -> str:
    """By what the numbers are made: another processor or another torch rounds in other places."""
    kind = torch.backends.cpu.get_cpu_capability() if place.type == "cpu" else _gpu(place)
    return f"{place.type} ({kind}), torch {torch.__version__}"


def _gpu(place: torch.device) -> str:
    return torch.cuda.get_device_name(place) if place.type == "cuda" else ""


@contextmanager
def sharing(threads: int) -> Iterator[None]:
    """Share torch's work out among so many threads; afterwards as before."""
    before = torch.get_num_threads()
    if threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
