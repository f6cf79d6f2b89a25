"""``see``: run a network once and bring back the maps of every layer."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eyeshot.errors import BadValue, UnknownName, Unsupported
from eyeshot.features.computation import in_passing
from eyeshot.features.maps import Features
from eyeshot.features.operators import calls_by_graph
from eyeshot.features.recording import Recorder, listening
from eyeshot.features.steps import Call, set_places, steps_of
from eyeshot.frontends.trials import as_batch, axes_by_layers, runs_on_shapes

NO_GRAPH = "layers are found by hooks, under names that inspect may not know"
"""The warning for a network that cannot be traced."""


def see(net: nn.Module, x: Tensor | NDArray[Any], layers: Sequence[str] | None = None) -> Features:
    """The feature maps of every layer of ``net`` for the image ``x``.

    The network is traced, and its graph is computed in eval mode and without gradients; the network
    does not change. Layers are the operators that ``inspect`` lists, under the same names. If a
    network cannot be traced, hooks record it, with a warning: modules without modules inside, and
    functions (``F.relu``, ``torch.cat``, ``+``) that ``forward`` calls between them.

    Args:
        net: any ``nn.Module`` that takes one tensor.
        x: the network's input (C, H, W) or (N, C, H, W), already normalized (for a run:
            ``run.normalize(...)``). With N images, the maps are those of the first image; a channel
            is dead if it is zero in all of them. Networks over one or three spatial axes take
            (N, C, W) and (N, C, D, H, W), also without N.
        layers: the names to keep; a module with layers inside means its output; None means all
            layers. ``conv`` is every call of ``conv``, ``conv#2`` is the second call.

    Raises:
        UnknownName: a name in ``layers`` does not exist.
        BadValue: the network refuses an input of this shape or type.
        Unsupported: the network computes nothing, or is scripted.
    """
    if isinstance(layers, str):
        layers = [layers]
    if isinstance(net, torch.jit.ScriptModule):
        raise Unsupported(
            f"{type(net).__name__} is scripted or traced, and its layers cannot be told apart",
            cure="give the nn.Module itself, not a scripted or traced copy",
        )
    batch = _as_batch(net, x).detach()
    calls, reason = calls_by_graph(net, batch, layers)
    if reason:
        warnings.warn(f"{NO_GRAPH}: {reason}", stacklevel=2)
        calls = _calls_by_hooks(net, batch, layers)
    if not calls:
        raise Unsupported(
            f"{type(net).__name__} computes nothing: it has no layer that can be seen",
            cure="give a network with layers",
        )
    set_places(net, calls)
    image = batch[0].detach().float().cpu().numpy().copy()
    kept = tuple(call.layer for call in calls if call.layer is not None)
    return Features(image, kept, steps_of(calls), len(batch))


def _calls_by_hooks(net: nn.Module, batch: Tensor, layers: Sequence[str] | None) -> list[Call]:
    """What hooks hear of a network that has no graph."""
    recorder = Recorder(len(batch), None if layers is None else frozenset(layers))
    with in_passing(net, [batch]), listening(net, recorder):
        net(batch.clone())
    known = {name for call in recorder.calls for name in (call.base, call.name)}
    for layer in layers or ():
        if layer not in known:
            if layer in dict(net.named_modules()):
                raise BadValue(f"layer {layer!r} exists but is not called for this input")
            raise UnknownName("layer", layer, dict.fromkeys(call.name for call in recorder.calls))
    return recorder.calls


def _as_batch(net: nn.Module, x: Tensor | NDArray[Any]) -> Tensor:
    """``x`` as a batch, on the device and in the precision of the network."""
    tensor = x if isinstance(x, Tensor) else torch.from_numpy(np.ascontiguousarray(x))
    if tensor.ndim == 0 or tensor.numel() == 0:
        raise BadValue(f"an input of shape {tuple(tensor.shape)} is empty", cure="give an image")
    tensor = as_batch(net, tensor)
    axes = axes_by_layers(net)
    if axes is not None and tensor.ndim != axes + 2 and not runs_on_shapes(net)(tensor.shape):
        want = {1: "(N, C, W)", 2: "(N, C, H, W)", 3: "(N, C, D, H, W)"}[axes]
        raise BadValue(
            f"an input of shape {tuple(x.shape)} has {x.ndim} axes",
            cure=f"this network takes {want}, or the same without N",
        )
    weight = next((p for p in net.parameters() if p.is_floating_point()), None)
    if weight is None:
        return tensor.float() if tensor.dtype == torch.float64 else tensor
    return tensor.to(weight.device, weight.dtype if tensor.is_floating_point() else None)
