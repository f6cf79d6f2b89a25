"""The chain of a TIFF's directories, followed once before a library trusts it."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

MOST = 10**6
"""Pages that a file may have."""


def check_directories(path: Path) -> None:
    """Follow the chain from page to page; one that turns back would be followed for ever.

    Raises:
        ValueError: it leads back to a page that it has passed, or has more than ``MOST``.
        OSError: the file cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        head = file.read(16)
        order = "<" if head[:2] == b"II" else ">"
        big = struct.unpack_from(order + "H", head, 2)[0] == 43
        (offset,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
        passed: dict[int, int] = {}
        while offset:
            if offset in passed:
                raise ValueError(f"page {len(passed) - 1} is followed by page {passed[offset]}")
            if len(passed) >= MOST:
                raise ValueError(f"more than {MOST} pages")
            passed[offset] = len(passed)
            offset = _following(file, offset, order, big)


def _following(file: BinaryIO, offset: int, order: str, big: bool) -> int:
    """The offset of the next directory; 0 after the last, or if the chain is truncated."""
    count_format, entry, next_format = ("Q", 20, "Q") if big else ("H", 12, "I")
    width = struct.calcsize(order + count_format)
    counted = os.pread(file.fileno(), width, offset) if offset < 2**63 else b""
    if len(counted) < width:
        return 0
    (count,) = struct.unpack(order + count_format, counted)
    width, at = struct.calcsize(order + next_format), offset + width + entry * count
    following = os.pread(file.fileno(), width, at) if at < 2**63 else b""
    return int(struct.unpack(order + next_format, following)[0]) if len(following) == width else 0
