"""Somebody's own Python file or module, run for the network that it defines.

Such files often end in a call that fails: the very call that the network is inspected for. What
the module holds by then is taken, and the failure is told beside it.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect as python_inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from eyeshot.errors import BadFile, BadValue, UnknownName
from eyeshot.frontends.refusals import in_brief, line_at_fault

Say = Callable[[str], None]

# SystemExit: a script that reads its arguments, and ends where they are not its own.
_THEIR_ERRORS = (Exception, SystemExit)


def named_in(source: str, name: str, say: Say) -> Any:
    """What ``name`` is in a file or module, whose code is run.

    Args:
        source: ``net.py``, or a dotted module.
        name: of a class, function or module instance in it; dotted for one inside another.
        say: gets a line where the code failed after the name had been defined.

    Raises:
        BadValue: the code fails before the name is there.
        BadFile, UnknownName: no such file, module or name.
    """
    file = source.endswith(".py")
    module, failure = _of_file(Path(source)) if file else _of_module(source)
    named: Any = module
    for part in name.split("."):
        if not hasattr(named, part):
            if failure is not None:
                raise _failed(f"importing {source}", failure)
            raise UnknownName(f"name in {source}", part, _candidates(named))
        named = getattr(named, part)
    if failure is not None:
        place = line_at_fault(failure, outermost=True) or source
        say(f"{place}: {in_brief(failure)}; {name} is taken as it is at that line")
    return named


def called(
    make: Callable[..., Any], where: str, arguments: Mapping[str, Any] | None = None
) -> nn.Module:
    """The network that a class or function makes, in eval mode.

    Args:
        make: the class or function.
        where: its name, to be shown.
        arguments: by name; none by default.

    Raises:
        BadValue: it needs other arguments, fails, or gives something else.
    """
    given = dict(arguments or {})
    _refuse_arguments(make, where, given)
    with _their_errors(f"calling {where}()"):
        made = make(**given)
    if not isinstance(made, nn.Module):
        raise BadValue(f"{where}() gives a {type(made).__name__}", cure="name a torch.nn.Module")
    return made.eval()


def _of_file(path: Path) -> tuple[ModuleType, BaseException | None]:
    if not path.is_file():
        raise BadFile(f"{path}: no such file", cure="check the path")
    spec = importlib.util.spec_from_file_location(f"_eyeshot_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise BadFile(f"{path}: not a Python file", cure="give file.py:Class")
    with _importable(path.parent.resolve()):
        return _executed(spec)


def _of_module(name: str) -> tuple[ModuleType, BaseException | None]:
    if name in sys.modules:
        return sys.modules[name], None
    with _importable(Path.cwd()):
        specs = [_spec(known) for known in _prefixes(name)]
        return _executed(specs[-1])


def _spec(name: str) -> ModuleSpec:
    """Where a module lies; the packages around it are imported on the way."""
    with _their_errors(f"importing {name}"):
        found = importlib.util.find_spec(name)
    if found is None:
        parent, _, last = name.rpartition(".")
        raise UnknownName("module", last, _siblings(parent))
    return found


def _executed(spec: ModuleSpec) -> tuple[ModuleType, BaseException | None]:
    """The module after its code has run, and the error that ended it early, if one did."""
    if spec.loader is None:  # a folder without code
        return importlib.import_module(spec.name), None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickles look their module up
    try:
        spec.loader.exec_module(module)
    except _THEIR_ERRORS as error:
        return module, error
    return module, None


def _prefixes(name: str) -> list[str]:
    """``a.b.c`` -> a, a.b, a.b.c."""
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _siblings(parent: str) -> list[str]:
    """Modules that could have been meant: those beside it, or in the working folder."""
    folders = sys.modules[parent].__path__ if parent in sys.modules else [str(Path.cwd())]
    return sorted(module.name for module in pkgutil.iter_modules(list(folders)))


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """``folder`` first on the path, as if Python had been started there."""
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))


@contextmanager
def _their_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except _THEIR_ERRORS as error:
        raise _failed(doing, error) from error


def _failed(doing: str, error: BaseException) -> BadValue:
    """Their error in one line, with the line of theirs that raised it."""
    place = line_at_fault(error)
    fact = f"{doing} failed: {place}: " if place else f"{doing} failed: "
    return BadValue(fact + in_brief(error), cure="correct that line" if place else "")


def _candidates(module: Any) -> list[str]:
    """Names that could give a network: its own classes and functions, and module instances."""
    own = getattr(module, "__name__", None)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (
            isinstance(value, nn.Module)
            or (callable(value) and getattr(value, "__module__", None) == own)
        )
    ]


def _refuse_arguments(named: Callable[..., Any], where: str, given: dict[str, Any]) -> None:
    try:
        python_inspect.signature(named).bind(**given)
    except ValueError:
        return  # a built-in without a signature: the call itself will tell
    except TypeError as error:
        cure = "write a function without arguments that builds it, and name that"
        if given:
            cure = f"it takes {', '.join(python_inspect.signature(named).parameters) or 'none'}"
        fact = "does not take these" if given else "needs"
        raise BadValue(f"{where} {fact} arguments ({error})", cure=cure) from None
