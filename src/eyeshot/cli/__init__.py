"""The command ``eyeshot``. Each file has a few related subcommands, which parse, call the library
and print.

Nothing here imports torch at module level, because ``eyeshot --help`` must be fast.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from eyeshot import __version__
from eyeshot.cli.explain import register_explain, register_see
from eyeshot.cli.inspect import register_audit, register_convert, register_export, register_inspect
from eyeshot.cli.run import register_filter, register_run
from eyeshot.cli.shared import in_words, limit_spinning, usage_in_words
from eyeshot.cli.studio import register as register_studio
from eyeshot.cli.train import register_demo, register_train
from eyeshot.cli.trained import (
    register_evaluate,
    register_predict,
    register_report,
    register_sample,
)
from eyeshot.errors import LONGEST, EyeshotError, Failure, is_out_of_memory, one_line
from eyeshot.files import explain_os_error
from eyeshot.language import preferred, speaking
from eyeshot.terminal import never_fail

app = typer.Typer(
    name="eyeshot",
    help="Build and train a convolutional network, see what every layer sees, "
    "and run it over an image of any size.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


_REGISTER: list[Callable[[typer.Typer], None]] = [
    register_demo,
    register_train,
    register_evaluate,
    register_predict,
    register_sample,
    register_see,
    register_report,
    register_explain,
    register_filter,
    register_inspect,
    register_run,
    register_audit,
    register_export,
    register_convert,
    register_studio,
]


def _print_version(value: bool) -> None:
    if value:
        print(f"eyeshot {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    """Options before the command."""


# Each command has such a function; --help uses this order.
for _register in _REGISTER:
    _register(app)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code. One line on standard error, never a traceback.

    0: success; 1: failure; 2: the user's mistake; 130: interrupted.
    """
    limit_spinning()
    never_fail()
    with _interrupts() as interrupted:
        try:
            with speaking(preferred() or "en"):  # until --lang says otherwise
                try:
                    code = app(args=arguments, standalone_mode=False, prog_name="eyeshot")
                except Exception as error:  # ours become one line; _explain raises any bug again
                    if interrupted:  # torch turns an interrupt while it loads into another error
                        return _complain("interrupted", 130)
                    return _explain(error)
        except EyeshotError as error:  # EYESHOT_LANG names no language
            return _explain(error)
        except KeyboardInterrupt:
            return _complain("interrupted", 130)
    return code if isinstance(code, int) else 0


def _explain(error: Exception) -> int:
    """Print an error as one line and return the exit code; raise a bug again."""
    if isinstance(error, EyeshotError):
        return _complain(in_words(error), error.exit_code)
    if isinstance(error, typer.Abort):
        return _complain("interrupted", 130)
    if isinstance(error, typer.TyperException):
        return _complain(usage_in_words(error), error.exit_code)
    if isinstance(error, BrokenPipeError):
        # The reader of our output has ended (`| head`), so there is nothing to print.
        sys.stdout = None
        return 1
    if is_out_of_memory(error):
        return _complain(str(Failure("out of memory", cure="use a smaller image or batch")), 1)
    if isinstance(error, OSError):
        name = error.filename if isinstance(error.filename, str | bytes) else "a file"
        explained = explain_os_error(error, Path(os.fsdecode(name)))
        return _complain(str(explained), explained.exit_code)
    raise error


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """A list that is not empty after ^C, which still raises KeyboardInterrupt."""
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or not _is_main_thread():
        yield seen  # SIGINT is ignored, or handled elsewhere
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _complain(message: str, code: int) -> int:
    line = one_line(message, 2 * LONGEST)
    if line:
        print(f"eyeshot: {line}", file=sys.stderr)
    return code
