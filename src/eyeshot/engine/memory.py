"""What the process holds, as the system counts it."""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_MEMORY = Path("/proc/meminfo")
_LIMIT = Path("/sys/fs/cgroup/memory.max")


def resident() -> int:
    """Bytes of memory the process holds now; where that cannot be asked, the most it ever held."""
    return _status("VmRSS") or _most_ever()


def reset_peak() -> None:
    """Forget the peak so far, where the system can (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """The most bytes held since :func:`reset_peak`."""
    return _status("VmHWM") or _most_ever()


def available() -> int | None:
    """The most bytes the process can come to hold, as far as the system tells; None if it does not.

    What is free now and what it holds already; no more than its control group (a container) allows.
    """
    if not _MEMORY.exists():
        return None
    free = _line(_MEMORY, "MemAvailable")
    limit = _LIMIT.read_text().strip() if _LIMIT.exists() else "max"
    most = free + resident()
    return min(most, int(limit)) if limit.isdigit() else most


def _status(field: str) -> int:
    return _line(_STATUS, field) if _STATUS.exists() else 0


def _line(file: Path, field: str) -> int:
    for line in file.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


def _most_ever() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
