"""``python -m benchmarks [NAME…] [--quick] [--keep DIR]``: run those named, or all of them."""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import pkgutil
import sys
from pathlib import Path
from typing import Any

import benchmarks
from eyeshot.errors import BadValue, EyeshotError, UnknownName

# Not benchmarks themselves: the frame.
_FRAME = {"__main__", "measure"}


def find_benchmarks() -> list[str]:
    """Names of the modules in this folder that are benchmarks, in alphabetical order."""
    names = {module.name for module in pkgutil.iter_modules(benchmarks.__path__)}
    return sorted(name for name in names - _FRAME if not name.startswith("_"))


def run(names: list[str], *, quick: bool = False, keep: Path | None = None) -> None:
    """Run the benchmarks of these names one after another; all of them when none is named.

    Raises:
        UnknownName: no such benchmark.
        BadValue: ``quick``, and one of them has no quick form; ``keep``, and it keeps nothing.
    """
    known = find_benchmarks()
    for name in names:
        if name not in known:
            raise UnknownName("benchmark", name, known)
    for name in names or known:
        module = importlib.import_module(f"benchmarks.{name}")
        known_options = inspect.signature(module.main).parameters
        if quick and "quick" not in known_options:
            raise BadValue(f"quick, and {name} has no quick form", cure="leave --quick out")
        if keep is not None and "keep" not in known_options:
            raise BadValue(f"keep, and {name} keeps nothing", cure="leave --keep out")
        options: dict[str, Any] = {"quick": True} if quick else {}
        if keep is not None:
            options["keep"] = keep
        print(f"== {name}: {(module.__doc__ or '').strip().splitlines()[0]}", flush=True)
        module.main(**options)
        print(flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: every benchmark")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--quick", action="store_true", help="the short form, where there is one")
    parser.add_argument(
        "--keep", metavar="DIR", type=Path, help="keep what is finished, and go on from it"
    )
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(find_benchmarks()))
        return 0
    try:
        print(f"{os.cpu_count()} cores; only ratios within one run are comparable\n")
        run(options.names, quick=options.quick, keep=options.keep)
    except EyeshotError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
