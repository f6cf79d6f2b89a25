"""NET on the command line: a run folder, an import path, an ONNX file or an exported program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from eyeshot import nets, runs
from eyeshot.errors import BadFile, BadValue
from eyeshot.frontends.onnx import load_onnx
from eyeshot.frontends.programs import as_module
from eyeshot.frontends.pt2 import Program, read_program
from eyeshot.inspection.importing import Say, called, named_in

_PICKLED = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin")


@dataclass(frozen=True)
class Located:
    """A network that was named.

    Attributes:
        name: to be shown.
        net: the module; None for an exported program.
        program: the exported program; None for a module.
        size: the size it was trained or exported for, (C, H, W), where that is known.
        run: the run that it belongs to, if it does.
        make: what makes the module, where its weights are those that this call gave it.
    """

    name: str
    net: nn.Module | None
    program: Program | None = None
    size: tuple[int, ...] | None = None
    run: runs.Run | None = None
    make: Callable[[], Any] | None = None


def locate(where: str, say: Say, weights: Path | None = None) -> Located:
    """The network that ``where`` names.

    Args:
        where: a run folder, ``file.py:Class``, ``package.module:callable``, an ``.onnx`` or a
            ``.pt2`` file.
            A class or function is called without arguments; a module instance is taken as it is.
        say: gets a line before anything is imported, since importing runs code.
        weights: for a module of one's own: any file of :func:`eyeshot.runs.load_weights`.

    Raises:
        BadFile: a missing file, a damaged one, or one that could only be unpickled.
        UnknownName: no such module, or no such name in it.
        BadValue: what is named is no network, or has weights already.
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
        cure = "give a run folder, file.py:Class, package.module:callable, an .onnx or a .pt2 file"
        fact = "a file that holds no network" if path.is_file() else "no such folder or file"
        raise BadFile(f"{where}: {fact}", cure=cure)
    if not source.endswith(".py") or Path(source).is_file():
        say(f"importing {source} runs its code")
    return _imported(source, name, say, weights)


def make_network(where: str, say: Say, arguments: Mapping[str, Any] | None = None) -> nn.Module:
    """The network that a file or module of Python names, made with ``arguments``.

    Args:
        where: ``file.py:Class`` or ``package.module:callable``; or a module instance in one.
        say: gets a line before anything is imported, since importing runs code.
        arguments: by name.

    Raises:
        BadFile, UnknownName: no such file, module or name.
        BadValue: what is named is no network, or does not take the arguments.
    """
    source, colon, name = where.rpartition(":")
    if not colon or not source:
        raise BadFile(f"{where}: names no network", cure="give file.py:Class, or a package's name")
    if not source.endswith(".py") or Path(source).is_file():
        say(f"importing {source} runs its code")
    named = named_in(source, name, say)
    if isinstance(named, nn.Module):
        if arguments:
            raise BadValue(f"{where} is made already", cure="leave its arguments out")
        return named
    if not callable(named):
        raise BadValue(f"{where} is a {type(named).__name__}", cure="name a torch.nn.Module")
    return called(named, where, arguments)


def _from_onnx(path: Path) -> Located:
    """The network of an ONNX file; one that is open in its size has none."""
    net = load_onnx(path)
    (size, *others) = net.declared or ((),)
    fixed = tuple(n for n in size if n is not None)
    known = fixed if fixed and len(fixed) == len(size) and not others else None
    return Located(path.name, net, size=known)


def _refuse_files(where: str, path: Path) -> None:
    """Refuse files that hold no network, or would run code when opened."""
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
    given = made or weights is not None or not drew
    return Located(name, net, make=None if given else named)


def locate_runnable(
    where: str, say: Say, weights: Path | None = None, warn: Say | None = None
) -> nn.Module | runs.Run:
    """As :func:`locate`, for running: a run brings its normalisation, a module is put in eval mode.

    Args:
        where: as for :func:`locate`.
        say: as for :func:`locate`.
        weights: as for :func:`locate`.
        warn: gets a line where the weights are random.

    Raises:
        Unsupported: an exported program with an operator that is not known to be harmless.
    """
    found = locate(where, say, weights)
    if found.run is not None:
        return found.run
    net = found.net if found.program is None else as_module(found.program)
    if net is None:
        raise BadFile(f"{where}: holds no network", cure="give file.py:Class")
    if warn is not None:
        untrained = random_weights(found)
        if untrained:
            count = sum(p.numel() for p in net.parameters() if not is_lazy(p))
            part = f"all {count:,}" if untrained == count else f"{untrained:,} of {count:,}"
            warn(
                f"WARNING: {part} weights of {where} are random numbers: this is an untrained "
                "network; give its weights with --weights FILE.safetensors or FILE.pt"
            )
    return net.eval()


def random_weights(found: Located) -> int:
    """How many of a network's weights are random: those that differ when it is made again."""
    if found.make is None or found.net is None:
        return 0
    seeding = torch.manual_seed
    with torch.random.fork_rng():
        torch.manual_seed(torch.initial_seed() + 1)
        try:
            torch.manual_seed = lambda seed: torch.default_generator
            again = found.make()
        except Exception:  # what can be made only once: nothing is known of its numbers
            return 0
        finally:
            torch.manual_seed = seeding
    others = dict(again.named_parameters()) if isinstance(again, nn.Module) else {}
    return sum(
        own.numel()
        for name, own in found.net.named_parameters()
        if name in others
        and not is_lazy(own)
        and not torch.equal(own.detach().cpu(), others[name].detach().cpu())
    )
