"""What the process holds, as the system counts it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from eyeshot.errors import BadValue

_STATUS = Path("/proc/self/status")
_MEMORY = Path("/proc/meminfo")
_LIMIT = Path("/sys/fs/cgroup/memory.max")

_TRIM, _MAP = -1, -3  # what glibc's mallopt calls its two thresholds (malloc.h)
_LARGE = 256 << 10
_LARGEST = 32 << 20
"""To which glibc by itself raises the size from which blocks are mapped each on its own."""


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


def give_back() -> None:
    """Let go of what nothing refers to, and hand what is free back to the system."""
    gc.collect()
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


@contextlib.contextmanager
def exact_allocation() -> Iterator[None]:
    """Inside, a large block that is freed is the system's again at once.

    glibc otherwise keeps freed blocks of up to 32 MB, and what lies between those in use may add
    up to as much again. To ask the system each time costs a run of few operations a tenth of its
    time, so it is done where the memory is limited. Elsewhere than on glibc nothing changes.
    """
    set_option = getattr(_c_library(), "mallopt", None)
    if set_option is None:
        yield
        return
    set_option(_MAP, _LARGE)
    set_option(_TRIM, _LARGE)
    try:
        yield
    finally:
        set_option(_MAP, _LARGEST)
        set_option(_TRIM, 2 * _LARGEST)


def parse_bytes(text: int | str | None) -> int | None:
    """``"2GB"``, ``"512MB"`` or a number, in bytes.

    Raises:
        BadValue: it is no size.
    """
    if text is None or isinstance(text, int):
        return text
    units = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "k": 10**3, "m": 10**6}
    units |= {"g": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    unit = text.strip()[len(number) :].strip().lower()
    try:
        size = int(float(number) * units[unit])
    except (ValueError, KeyError):
        raise BadValue(f"memory {text!r}", cure="give a size, such as 2GB or 512MB") from None
    if size < 1:
        raise BadValue(f"memory {text!r}", cure="give a size above zero")
    return size


def _c_library() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" else None


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
