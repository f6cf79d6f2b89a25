"""How long torch's waiting threads spin before they sleep, for shared and for idle machines.

GNU OpenMP, which torch computes with on Linux, lets a thread that waits at a barrier spin for
300,000 turns before it sleeps (``GOMP_SPINCOUNT`` in the libgomp manual). If other programs
need the cores, the spinning thread takes time from the thread that it waits for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

SPIN_COUNT = 10_000
"""Turns. ``python -m benchmarks neighbor`` compares it with the default and with no spinning."""
_CHOSEN_BY_USER = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")


def limit_spinning(environment: MutableMapping[str, str] = os.environ) -> None:
    """Limit the spinning of waiting threads; it takes effect if torch is not loaded yet.

    A setting that the user made in the environment does not change.
    """
    if "torch" not in sys.modules and not any(name in environment for name in _CHOSEN_BY_USER):
        environment["GOMP_SPINCOUNT"] = str(SPIN_COUNT)
