"""The random numbers of a training: seeded for each step, and the caller's own put back.

A network may draw from torch, from NumPy's global generator or from Python's ``random``.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch


def seed_everything(device: torch.device, numbers: Sequence[int]) -> None:
    """Seed all global generators from ``numbers``, no combination better than another.

    ``torch.manual_seed`` would do it for devices that are not there too, and formats a stack trace
    for each of them: half a millisecond a step.
    """
    mixed, other = np.random.SeedSequence(numbers).generate_state(2, np.uint64).tolist()
    torch.default_generator.manual_seed(mixed >> 1)
    if device.type == "cuda":
        torch.cuda.manual_seed(mixed >> 1)
    elif device.type == "mps":
        torch.mps.manual_seed(mixed >> 1)
    np.random.seed(other >> 32)
    random.seed(other)


@contextmanager
def generators_restored(devices: Sequence[int] | None = None) -> Iterator[None]:
    """Inside, the global generators may change; afterwards they are as before.

    Args:
        devices: the numbers of the CUDA devices whose generators are kept; None for all.
    """
    of_numpy = np.random.get_state()
    of_python = random.getstate()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        np.random.set_state(of_numpy)
        random.setstate(of_python)
