"""A training that begins with weights of another: what fits is taken, some of it kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from torch import nn

from eyeshot.errors import BadValue, UnknownName
from eyeshot.runs import WEIGHTS, take_weights

_NORMS = nn.modules.batchnorm._NormBase


def bring_weights(net: nn.Module, start: str) -> tuple[tuple[str, ...], str]:
    """Fill what fits of a network from a run folder or a file of weights.

    Args:
        net: the network.
        start: a run folder, or any file of :func:`eyeshot.runs.load_weights`.

    Returns:
        The names of the parameters that were not brought, and what was done, in one line.

    Raises:
        BadFile: missing or damaged, or nothing in it fits.
    """
    path = Path(start)
    taken, told = take_weights(net, path / WEIGHTS if path.is_dir() else path)
    names = [name for name, _ in net.named_parameters()]
    return tuple(name for name in names if name not in taken), told


def freeze(net: nn.Module, patterns: str) -> None:
    """Let the layers that patterns name learn nothing.

    Args:
        net: the network.
        patterns: of dotted names of layers or parameters, such as ``down*``, with commas between.

    Raises:
        UnknownName: one of them names nothing.
        BadValue: nothing is left to learn.
    """
    for pattern in filter(None, (one.strip() for one in patterns.split(","))):
        found = [p for name, p in net.named_parameters() if _is_under(name, pattern)]
        if not found:
            raise UnknownName(
                "layer to freeze", pattern, [name for name, _ in net.named_children()]
            )
        for parameter in found:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise BadValue(f"freeze is {patterns}: nothing is left to learn", cure="freeze less")


def frozen_norms(net: nn.Module) -> list[nn.Module]:
    """Norms whose weights are frozen: their statistics stay what they are, too."""
    return [
        layer
        for layer in net.modules()
        if isinstance(layer, _NORMS)
        and (own := list(layer.parameters()))
        and not any(parameter.requires_grad for parameter in own)
    ]


def keep_frozen(layers: Iterable[nn.Module]) -> None:
    """Put norms that do not learn in eval mode, after the network was put in training mode."""
    for layer in layers:
        layer.eval()


def _is_under(name: str, pattern: str) -> bool:
    """Whether a parameter, or a layer around it, goes by a pattern."""
    parts: Sequence[str] = name.split(".")
    return any(fnmatchcase(".".join(parts[: count + 1]), pattern) for count in range(len(parts)))
