"""The state of every source of random numbers that a network may draw from."""

from __future__ import annotations

import random
import sys
from typing import Any

import torch


class Chance:
    """Python's, NumPy's and torch's global random states, as they were when it was made."""

    def __init__(self) -> None:
        self._python = random.getstate()
        self._torch = torch.random.get_rng_state()
        numpy: Any = sys.modules.get("numpy")
        self._numpy = numpy.random.get_state() if numpy else None
        started = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        self._cuda = torch.cuda.get_rng_state_all() if started else None

    def restore(self) -> None:
        """Put them back."""
        random.setstate(self._python)
        torch.random.set_rng_state(self._torch)
        if self._numpy is not None:
            sys.modules["numpy"].random.set_state(self._numpy)
        if self._cuda is not None:
            torch.cuda.set_rng_state_all(self._cuda)
