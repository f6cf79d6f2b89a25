"""``eyeshot``, the command. One file a command; each parses, calls the library, prints.

Nothing here imports torch at the top: ``eyeshot --help`` must answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from eyeshot import __version__
from eyeshot.cli import demo, evaluate, explain, predict, report, run, see, train
from eyeshot.cli import filter as filter_command
from eyeshot.cli import inspect as inspect_command
from eyeshot.cli.threads import limit_spinning
from eyeshot.errors import EyeshotError, Failure
from eyeshot.files import explain_os_error

app = typer.Typer(
    name="eyeshot",
    help="Build and train a convolutional network, see what every layer sees, "
    "and run it over an image of any size.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


_REGISTER: list[Callable[[typer.Typer], None]] = [
    demo.register,
    train.register,
    evaluate.register,
    predict.register,
    see.register,
    report.register,
    explain.register,
    filter_command.register,
    inspect_command.register,
    run.register,
]


def _print_version(wanted: bool) -> None:
    if wanted:
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
    """Options that stand before the command."""


# Each command's module has `register(app)`; the order here is the order in --help.
for _register in _REGISTER:
    _register(app)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code. One line on standard error, never a traceback.

    0 done, 1 it failed, 2 the caller's mistake, 130 interrupted.
    """
    limit_spinning()
    try:
        code = app(args=arguments, standalone_mode=False, prog_name="eyeshot")
    except EyeshotError as error:
        return _complain(str(error), error.exit_code)
    except typer.TyperException as error:
        return _complain(error.format_message(), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted", 130)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nothing to say, and nobody to say it to.
        sys.stdout = None
        return 1
    except MemoryError:
        return _complain(str(Failure("out of memory", cure="use a smaller image or batch")), 1)
    except OSError as error:
        told = explain_os_error(error, Path(error.filename or "a file"))
        return _complain(str(told), told.exit_code)
    return code if isinstance(code, int) else 0


def _complain(message: str, code: int) -> int:
    line = " ".join(message.split())
    if line:
        print(f"eyeshot: {line}", file=sys.stderr)
    return code
