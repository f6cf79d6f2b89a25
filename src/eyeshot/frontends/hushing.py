"""A stranger's forward runs without a word: what it prints and warns of is not asked for here."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Without export's notes on its internals, its printed graphs, and its logs of what it raises.

    What the network's own forward prints while it is traced is swallowed too: nothing has run.
    """
    logs = [logging.getLogger(name) for name in ("torch._subclasses.fake_tensor", "torch.fx")]
    logs = [log for log in logs if log.level <= logging.CRITICAL]  # to set one costs a millisecond
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            with contextlib.redirect_stderr(io.StringIO()):
                yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
