"""A network as the engine takes it: a module, a trained run, or one that keeps what was traced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from eyeshot.engine.signatures import signature
from eyeshot.errors import BadValue
from eyeshot.frontends.pt2 import Program, Signature
from eyeshot.frontends.torch import checked_sizes, export, from_exported, training_layers
from eyeshot.graph import Graph
from eyeshot.runs import Run

KEPT = 16
"""Sizes whose graph is kept unless told; the one that was asked for longest ago makes room."""


class Traced:
    """A network whose graph is kept for each size of picture, and whose weights are not.

    Made by :func:`trace`. It goes wherever a network goes.

    Attributes:
        module: the network itself.
        mean: taken away from samples, per channel; empty for none.
        std: by which they are then divided.
    """

    def __init__(
        self,
        module: nn.Module,
        mean: tuple[float, ...] = (),
        std: tuple[float, ...] = (),
        keep: int = KEPT,
    ) -> None:
        self.module, self.mean, self.std = module, mean, std
        self._keep = keep
        self._programs: dict[tuple[tuple[int, ...], ...], Program] = {}
        self._signature: Any = None

    def graph(self, *sizes: Sequence[int]) -> Graph:
        """The network's graph for inputs of these sizes, with its weights as they are now.

        Args:
            sizes: for each input, its size without the batch, such as (C, H, W).

        Raises:
            BadValue: the network is in training mode, or a size has no positions.
            Unsupported: the network cannot be traced.
        """
        if any(child.training for child in self.module.modules()):
            raise BadValue("the network is in training mode", cure="call net.eval() first")
        checked_sizes(sizes)
        program = self._program(tuple(tuple(int(n) for n in size) for size in sizes))
        weights: dict[str, torch.Tensor] = {
            **dict(self.module.named_parameters(remove_duplicate=False)),
            **dict(self.module.named_buffers(remove_duplicate=False)),
        }
        # What is computed of weights alone is computed anew: it is part of no program.
        current = Program(
            program.graph,
            program.graph_signature,
            {name: weights.get(name, kept) for name, kept in program.state_dict.items()},
            {name: weights.get(name, kept) for name, kept in program.constants.items()},
        )
        return from_exported(current, training=training_layers(self.module))

    def _program(self, sizes: tuple[tuple[int, ...], ...]) -> Program:
        now = signature(self.module)
        if now is None or now != self._signature:
            self._programs.clear()
            self._signature = now
        program = self._programs.pop(sizes, None)
        if program is None:
            exported = export(self.module, *sizes)
            program = Program(
                exported.graph,
                Signature(list(exported.graph_signature.input_specs)),
                exported.state_dict,
                exported.constants,
            )
        self._programs[sizes] = program  # the last asked for is the last to go
        while len(self._programs) > self._keep:
            del self._programs[next(iter(self._programs))]
        return program


Network = nn.Module | Run | Traced
"""What may be run."""


def trace(
    net: nn.Module | Run,
    *,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    keep: int = KEPT,
) -> Traced:
    """A network traced once for each size of picture, for running many while its weights change.

    ``eyeshot.run(net, image)`` traces the network at every call, so that whatever has changed in
    it is seen. ``eyeshot.run(traced, image)`` traces it when it meets a size for the first time.
    Weights are read anew at each call, and all that is computed of them (batch norm folded into
    convolutions) is computed again: a training that validates after each epoch gets the answers
    of that epoch. It traces again, too, when a layer was put in or taken out, a setting, a mode or
    a hook changed, or when it cannot tell.

    What it cannot see is a ``forward`` that decides by something outside of its modules, such as a
    global variable that has changed since.

    Args:
        net: a network, which is to be in eval mode whenever it is run; or a trained run, which
            brings its mean and deviation along.
        mean: to be taken away from the samples, per channel, after whole numbers became 0 … 1.
        std: by which they are then divided.
        keep: for how many sizes of picture what was traced is kept. Fewer than there are is as good
            as none to who goes over all of them again and again.

    Raises:
        BadValue: one of ``mean`` and ``std`` without the other, a run that has its own, or ``keep``
            is below 1.
    """
    if keep < 1:
        raise BadValue(f"keep is {keep}", cure="use 1 or more")
    if isinstance(net, Run):
        if mean or std:
            raise BadValue("mean and std for a run, which brings its own", cure="leave them out")
        return Traced(net.net, net.config.mean, net.config.std, keep)
    if len(mean) != len(std):
        raise BadValue(
            f"{len(mean)} means and {len(std)} deviations", cure="give one of each a channel"
        )
    return Traced(net, tuple(map(float, mean)), tuple(map(float, std)), keep)


def as_traced(net: Network) -> Traced:
    """Whatever may be run, as what the engine asks; a plain network is traced for this once."""
    return net if isinstance(net, Traced) else trace(net)
