"""Find the network that NET on the command line names.

NET is a run folder, an ONNX file, an exported program, or an import path such as ``net.py:Net``:
then the user's Python file or module is run to get the network that it defines.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect as python_inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from eyeshot import nets, runs
from eyeshot.errors import BadFile, BadValue, UnknownName, Unsupported
from eyeshot.frontends.onnx import load_onnx
from eyeshot.frontends.programs import as_module
from eyeshot.frontends.pt2 import Program, read_program
from eyeshot.frontends.refusals import in_brief, line_at_fault
from eyeshot.language import tr

Say = Callable[[str], None]

# SystemExit: a script that parses command-line arguments may exit on those of ``eyeshot``.
_THEIR_ERRORS = (Exception, SystemExit)


def named_in(source: str, name: str, say: Say) -> Any:
    """The object called ``name`` in a Python file or module; its code is run.

    Args:
        source: ``net.py``, or a dotted module.
        name: the name of a class, function or module instance in it; dotted if nested.
        say: gets a line if the code fails after it has defined the name.

    Raises:
        BadValue: the code fails before it defines the name.
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
    """The network that a class or function returns, in eval mode.

    Args:
        make: the class or function.
        where: its name, for messages.
        arguments: its keyword arguments; none by default.

    Raises:
        BadValue: it needs other arguments, fails, or does not return a module.
    """
    keywords = dict(arguments or {})
    _refuse_arguments(make, where, keywords)
    with _their_errors(f"calling {where}()"):
        made = make(**keywords)
    if not isinstance(made, nn.Module):
        raise BadValue(f"{where}() gives a {type(made).__name__}", cure="name a torch.nn.Module")
    return made.eval()


def _of_file(path: Path) -> tuple[ModuleType, BaseException | None]:
    if not path.is_file():
        raise BadFile(tr("{path}: no such file", path=path), cure=tr("check the path"))
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
    """The import spec of a module; its parent packages are imported."""
    with _their_errors(f"importing {name}"):
        spec = importlib.util.find_spec(name)
    if spec is None:
        parent, _, last = name.rpartition(".")
        raise UnknownName("module", last, _siblings(parent))
    return spec


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
    """Names of modules in the same package or in the working folder, for "did you mean"."""
    folders = sys.modules[parent].__path__ if parent in sys.modules else [str(Path.cwd())]
    return sorted(module.name for module in pkgutil.iter_modules(list(folders)))


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Put ``folder`` first on ``sys.path``, as if Python had been started there."""
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
    """An error in the user's code as one line, with the line of that code that raised it."""
    place = line_at_fault(error)
    fact = f"{doing} failed: {place}: " if place else f"{doing} failed: "
    return BadValue(fact + in_brief(error), cure="correct that line" if place else "")


def _candidates(module: Any) -> list[str]:
    """Names in a module that could give a network: classes, functions and module instances."""
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


def _refuse_arguments(named: Callable[..., Any], where: str, arguments: dict[str, Any]) -> None:
    try:
        python_inspect.signature(named).bind(**arguments)
    except ValueError:
        return  # a built-in without a signature: the call itself checks the arguments
    except TypeError as error:
        cure = "write a function without arguments that builds it, and name that"
        if arguments:
            cure = f"it takes {', '.join(python_inspect.signature(named).parameters) or 'none'}"
        fact = "does not take these" if arguments else "needs"
        raise BadValue(f"{where} {fact} arguments ({error})", cure=cure) from None


_PICKLED = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin")


@dataclass(frozen=True)
class Located:
    """A network found by its name on the command line.

    Attributes:
        name: its name, for messages.
        net: the module; None for an exported program.
        program: the exported program; None for a module.
        size: the size (C, H, W) that it was trained or exported for; None if not known.
        run: the run that it belongs to; None if it does not belong to a run.
        make: the function that made the module, if its weights are still the initial ones.
    """

    name: str
    net: nn.Module | None
    program: Program | None = None
    size: tuple[int, ...] | None = None
    run: runs.Run | None = None
    make: Callable[[], Any] | None = None


def locate(where: str, say: Say, weights: Path | None = None) -> Located:
    """Find the network that ``where`` names.

    Args:
        where: a run folder, ``file.py:Class``, ``package.module:callable``, an ``.onnx`` or a
            ``.pt2`` file.
            A class or function is called without arguments; a module instance is taken as it is.
        say: gets a line before anything is imported, since importing runs code.
        weights: for a user's own module: any file that :func:`eyeshot.runs.load_weights` reads.

    Raises:
        BadFile: a missing file, a damaged one, or one that could only be unpickled.
        UnknownName: no such module, or no such name in it.
        BadValue: the named object is not a network, or ``weights`` is given but it has its own.
    """
    path = Path(where)
    suffix = path.suffix.lower()
    if weights is not None and (path.is_dir() or suffix in (".pt2", ".onnx")):
        kind = "a run folder" if path.is_dir() else f"a {suffix}"
        raise BadValue(f"--weights for {where}: {kind} has its own", cure="leave --weights out")
    if path.is_dir():
        run = runs.load(path)
        if run.standing:
            say(run.standing)
        size = (run.config.channels, *run.config.size)
        if isinstance(run.net, nets.Generator):
            size = (run.net.latent, 1, 1)
        return Located(str(path), run.net, size=size, run=run)
    _refuse_files(where, path)
    if suffix == ".pt2":
        program = read_program(path)
        if program.any_size:
            net = as_module(program)
            return Located(path.name, net, size=net.script.example[0])
        return Located(path.name, None, program=program)
    if suffix == ".onnx":
        return _from_onnx(path)
    source, colon, name = where.rpartition(":")
    if not colon or not source:
        if suffix == ".py" and path.is_file():
            raise _unnamed(path)
        cure = tr(
            "give a run folder, file.py:Class, package.module:callable, an .onnx or a .pt2 file"
        )
        if path.is_file():
            raise BadFile(tr("{path}: a file that holds no network", path=where), cure=cure)
        raise BadFile(tr("{path}: no such folder or file", path=where), cure=cure)
    if not source.endswith(".py") or Path(source).is_file():
        say(tr("importing {source} runs its code", source=source))
    return _imported(source, name, say, weights)


def _unnamed(path: Path) -> BadFile:
    """The error for a Python file without a name after it; the file is read, and not executed."""
    try:
        body = ast.parse(path.read_bytes()).body
    except (SyntaxError, ValueError):
        body = []
    classes = [one for one in body if isinstance(one, ast.ClassDef)]
    likely = [one.name for one in classes if any("Module" in ast.dump(b) for b in one.bases)]
    functions = [one.name for one in body if isinstance(one, ast.FunctionDef)]
    names = likely or [one.name for one in classes] or functions or ["Class"]
    return BadFile(
        tr("{path}: no network in it is named", path=path),
        cure=tr("give its class or function, such as {path}:{name}", path=path, name=names[0]),
    )


def make_network(where: str, say: Say, arguments: Mapping[str, Any] | None = None) -> nn.Module:
    """The network that a class or function in a Python file or module makes from ``arguments``.

    Args:
        where: ``file.py:Class`` or ``package.module:callable``; or a module instance in one.
        say: gets a line before anything is imported, since importing runs code.
        arguments: the keyword arguments.

    Raises:
        BadFile, UnknownName: no such file, module or name.
        BadValue: the named object is not a network, or does not take the arguments.
    """
    source, colon, name = where.rpartition(":")
    if not colon or not source:
        if where.endswith(".py") and Path(where).is_file():
            raise _unnamed(Path(where))
        raise BadFile(f"{where}: names no network", cure="give file.py:Class, or a package's name")
    if not source.endswith(".py") or Path(source).is_file():
        say(tr("importing {source} runs its code", source=source))
    named = named_in(source, name, say)
    if isinstance(named, nn.Module):
        if arguments:
            raise BadValue(f"{where} is made already", cure="leave its arguments out")
        return named
    if not callable(named):
        raise BadValue(f"{where} is a {type(named).__name__}", cure="name a torch.nn.Module")
    return called(named, where, arguments)


def _from_onnx(path: Path) -> Located:
    """The network of an ONNX file; its ``size`` is None if the file leaves a dimension open."""
    net = load_onnx(path)
    (size, *others) = net.declared or ((),)
    fixed = tuple(n for n in size if n is not None)
    known = fixed if fixed and len(fixed) == len(size) and not others else None
    return Located(path.name, net, size=known)


def _refuse_files(where: str, path: Path) -> None:
    """Refuse files without a network, and files that would run code when opened."""
    if path.suffix.lower() in _PICKLED:
        raise BadFile(
            f"{where}: a pickled file runs whatever code is in it when it is opened",
            cure="give file.py:Class --weights FILE, or write a .pt2 with torch.export.save",
        )
    if path.suffix.lower() == ".safetensors":
        cure = f"give file.py:Class --weights {path.name}"
        raise BadFile(f"{where}: holds weights and no network", cure=cure)


def _imported(source: str, name: str, say: Say, weights: Path | None) -> Located:
    where = f"{source}:{name}"
    named = named_in(source, name, say)
    if not isinstance(named, nn.Module) and not callable(named):
        raise BadValue(f"{where} is a {type(named).__name__}", cure="name a torch.nn.Module")
    made = isinstance(named, nn.Module)
    before = torch.get_rng_state()
    net = named if isinstance(named, nn.Module) else called(named, where)
    drew = not torch.equal(before, torch.get_rng_state())
    if weights is not None:
        say(runs.load_weights(net, weights))
    fixed = made or weights is not None or not drew
    return Located(name, net, make=None if fixed else named)


def locate_runnable(
    where: str, say: Say, weights: Path | None = None, warn: Say | None = None
) -> nn.Module | runs.Run:
    """As :func:`locate`, to run it: a run with its normalization, else a module in eval mode.

    Args:
        where: as for :func:`locate`.
        say: as for :func:`locate`.
        weights: as for :func:`locate`.
        warn: gets a line if the weights are random.

    Raises:
        Unsupported: an exported program with an operator that is not known to be harmless.
    """
    located = locate(where, say, weights)
    found = runnable(located, where)
    if warn is not None:
        warn_if_random(located, where, warn)
    return found


def runnable(located: Located, where: str) -> nn.Module | runs.Run:
    """What was located, to run it: as :func:`locate_runnable`."""
    if located.run is not None:
        return located.run
    net = located.net if located.program is None else as_module(located.program)
    if net is None:
        raise BadFile(f"{where}: holds no network", cure="give file.py:Class")
    return net.eval()


def warn_if_random(located: Located, where: str, warn: Say) -> tuple[int, int]:
    """Warn if weights are random; how many are, and how many there are."""
    try:
        untrained = random_weights(located)
    except Unsupported as error:
        warn(
            tr(
                "NOTE: whether the weights of {where} are random cannot be said: {error}",
                where=where,
                error=error,
            )
        )
        return 0, 0
    if not untrained or located.net is None:
        return 0, 0
    count = sum(p.numel() for p in located.net.parameters() if not is_lazy(p))
    if untrained == count:
        part = tr("all {count:,}", count=count)
    else:
        part = tr("{n:,} of {count:,}", n=untrained, count=count)
    warn(
        tr(
            "WARNING: {part} weights of {where} are random numbers: this is an untrained "
            "network; give its weights with --weights FILE.safetensors or FILE.pt",
            part=part,
            where=where,
        )
    )
    return untrained, count


def random_weights(located: Located) -> int:
    """The number of a network's random weights: those that differ if the network is made again.

    0 of a module that is there already, and of a file.

    Raises:
        Unsupported: it cannot be made again.
    """
    if located.make is None or located.net is None:
        return 0
    seeding = torch.manual_seed
    with torch.random.fork_rng():
        torch.manual_seed(torch.initial_seed() + 1)
        try:
            torch.manual_seed = lambda seed: torch.default_generator
            again = located.make()
        except Exception as error:  # the user's function, which may work only once
            why = f"made a second time, it raises {type(error).__name__}: {error}"
            raise Unsupported(why.splitlines()[0]) from error
        finally:
            torch.manual_seed = seeding
    others = dict(again.named_parameters()) if isinstance(again, nn.Module) else {}
    return sum(
        own.numel()
        for name, own in located.net.named_parameters()
        if name in others
        and not is_lazy(own)
        and not torch.equal(own.detach().cpu(), others[name].detach().cpu())
    )
