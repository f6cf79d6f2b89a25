"""NET on the command line: a run folder, an import path, or an exported program."""

from __future__ import annotations

import importlib
import importlib.util
import inspect as python_inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from eyeshot import runs
from eyeshot.errors import BadFile, BadValue, UnknownName
from eyeshot.frontends.pt2 import Program, read_program

_PICKLED = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin")
# What somebody else's code may raise when it is imported or called.
_THEIR_ERRORS = (
    *(ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError, RuntimeError),
    *(OSError, LookupError, ArithmeticError, AssertionError),
)


@dataclass(frozen=True)
class Located:
    """A network that was named.

    Attributes:
        name: to be shown.
        net: the module; None for an exported program.
        program: the exported program; None for a module.
        size: the size it was trained or exported for, (C, H, W), where that is known.
    """

    name: str
    net: nn.Module | None
    program: Program | None = None
    size: tuple[int, ...] | None = None


def locate(where: str, say: Callable[[str], None]) -> Located:
    """The network that ``where`` names.

    Args:
        where: a run folder, ``file.py:Class``, ``package.module:callable`` or a ``.pt2`` file.
            A class or function is called without arguments; a module instance is taken as it is.
        say: told, before anything is imported, that importing runs code.

    Raises:
        BadFile: a missing file, a damaged one, or one that could only be unpickled.
        UnknownName: no such module, or no such name in it.
        BadValue: what is named is no network.
    """
    path = Path(where)
    if path.is_dir():
        run = runs.load(path)
        return Located(str(path), run.net, size=(run.config.channels, *run.config.size))
    if path.suffix.lower() in _PICKLED:
        raise BadFile(
            f"{where}: a pickled file runs whatever code is in it when it is opened",
            cure="give file.py:Class, or write a .pt2 with torch.export.save",
        )
    if path.suffix.lower() == ".pt2":
        return Located(path.name, None, program=read_program(path))
    if path.suffix.lower() == ".safetensors":
        raise BadFile(f"{where}: holds weights and no network", cure="give file.py:Class")
    source, colon, name = where.rpartition(":")
    if not colon or not source:
        cure = "give a run folder, file.py:Class, package.module:callable, or a .pt2 file"
        told = "a file that holds no network" if path.is_file() else "no such folder or file"
        raise BadFile(f"{where}: {told}", cure=cure)
    if source.endswith(".py") and not Path(source).is_file():
        raise BadFile(f"{source}: no such file", cure="check the path")
    say(f"importing {source} runs its code")
    module = _load_file(Path(source)) if source.endswith(".py") else _import(source)
    return Located(name, _network(module, source, name))


def locate_runnable(where: str, say: Callable[[str], None]) -> nn.Module | runs.Run:
    """As :func:`locate`, for running: a run brings its normalisation, a module is put in eval mode.

    Raises:
        BadValue: an exported program, which says how to compute but holds no module to run.
    """
    if Path(where).is_dir():
        return runs.load(Path(where))
    found = locate(where, say)
    if found.net is None:
        raise BadValue(f"{where}: a .pt2 can be inspected and not run", cure="give file.py:Class")
    return found.net.eval()


def _load_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"_eyeshot_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise BadFile(f"{path}: not a Python file", cure="give file.py:Class")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickles look their module up
    with _importable(path.parent.resolve()), _their_errors(f"importing {path}"):
        spec.loader.exec_module(module)
    return module


def _import(name: str) -> ModuleType:
    with _importable(Path.cwd()):
        for known in _prefixes(name):
            with _their_errors(f"importing {known}"):
                found = importlib.util.find_spec(known)
            if found is None:
                parent, _, last = known.rpartition(".")
                raise UnknownName("module", last, _siblings(parent))
        with _their_errors(f"importing {name}"):
            return importlib.import_module(name)


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
        told = f"{type(error).__name__}: {error}"
        raise BadValue(f"{doing} failed: {told}", cure="make it run in Python first") from error


def _network(module: ModuleType, source: str, name: str) -> nn.Module:
    named: Any = module
    for part in name.split("."):
        if not hasattr(named, part):
            raise UnknownName(f"name in {source}", part, _candidates(named))
        named = getattr(named, part)
    if isinstance(named, nn.Module):
        return named
    where = f"{source}:{name}"
    if not callable(named):
        raise BadValue(f"{where} is a {type(named).__name__}", cure="name a torch.nn.Module")
    _refuse_arguments(named, where)
    with _their_errors(f"calling {where}()"):
        made = named()
    if not isinstance(made, nn.Module):
        raise BadValue(f"{where}() gives a {type(made).__name__}", cure="name a torch.nn.Module")
    return made.eval()


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


def _refuse_arguments(named: Callable[..., Any], where: str) -> None:
    try:
        python_inspect.signature(named).bind()
    except ValueError:
        return  # a built-in without a signature: the call itself will tell
    except TypeError as error:
        cure = "write a function without arguments that builds it, and name that"
        raise BadValue(f"{where} needs arguments ({error})", cure=cure) from None
