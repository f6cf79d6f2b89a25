"""``python -m eyeshot`` is ``eyeshot``.

The command line takes a fifth of a second to load. Somebody who presses ^C in that time wants it to
stop, and has not asked for a traceback.
"""

import contextlib
import gc
import io
import os
import signal
import sys
from types import FrameType


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"eyeshot: interrupted\n")
    os._exit(130)


def main() -> int:
    """Load the command line and run it; return the exit code."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # else it is ignored, as in the background
        signal.signal(signal.SIGINT, _leave)
    from eyeshot.cli import main as run

    signal.signal(signal.SIGINT, before)
    try:
        return run()
    finally:
        _flush()
        gc.freeze()  # else Python looks through all of torch for garbage before it ends: 0.4 s


def _flush() -> None:
    """Write what files still hold, such as the log of somebody's network that nobody closes."""
    files = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)
    for one in gc.get_objects():
        if type(one) in files and one not in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # a full disk, or closed
                one.flush()


if __name__ == "__main__":
    sys.exit(main())
