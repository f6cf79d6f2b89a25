"""Labelled pictures to learn from: the digits of the package, MNIST, a folder of your own."""

from __future__ import annotations

from pathlib import Path

from eyeshot.data.digits import load_digits
from eyeshot.data.examples import Batch, Data, Examples
from eyeshot.errors import UnknownName

__all__ = ["Batch", "Data", "Examples", "load"]


def load(
    source: str | Path,
    *,
    folder: Path | None = None,
    size: tuple[int, int] | None = None,
    seed: int = 0,
) -> Data:
    """Load a set of labelled pictures."""
    if source == "digits":
        return load_digits()
    raise UnknownName("data source", str(source), ["digits"])
