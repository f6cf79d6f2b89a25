"""``see``: run a network once and bring back the maps of every layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eyeshot.errors import BadValue, UnknownName, Unsupported
from eyeshot.features.kinds import changes_nothing, follows
from eyeshot.features.maps import Features, Step
from eyeshot.features.recording import Call, Recorder, listening
from eyeshot.frontends.trials import as_batch, axes_by_layers, runs_on_shapes
from eyeshot.nets.places import place_of
from eyeshot.untouched import untouched


def see(net: nn.Module, x: Tensor | NDArray[Any], layers: Sequence[str] | None = None) -> Features:
    """The feature maps of every layer of ``net`` for the image ``x``.

    The network is run once, in eval mode and without gradients, and is left as it was found.
    A layer is a module without modules inside, or a function (``F.relu``, ``torch.cat``, ``+``)
    that a ``forward`` calls between them.

    Args:
        net: any ``nn.Module`` that takes one tensor.
        x: (C, H, W) or (N, C, H, W) as the network takes it, already normalised (for a run:
            ``run.normalise(...)``). Of N images the maps are those of the first; a channel is
            called dead when it is zero in all of them. Networks over one or three spatial axes
            take (N, C, W) and (N, C, D, H, W), each also without N.
        layers: dotted names to keep, also those of containers; all layers when None.

    Raises:
        UnknownName: a name in ``layers`` that no layer has.
        BadValue: the network refuses an input of this shape or type.
        Unsupported: no layer was called that could be listened to.
    """
    if isinstance(layers, str):
        layers = [layers]
    if isinstance(net, torch.jit.ScriptModule):
        raise _unheard(net)
    batch = _as_batch(net, x)
    recorder = Recorder(len(batch), None if layers is None else frozenset(layers))
    with untouched(net):
        net.eval()
        _run(net, batch, recorder)
    if not recorder.calls:
        raise _unheard(net)
    if layers is not None:
        _refuse_unknown(layers, recorder.calls, net)
    image = batch[0].detach().float().cpu().numpy().copy()
    _tell_places(net, recorder.calls)
    kept = tuple(call.layer for call in recorder.calls if call.layer is not None)
    return Features(image, kept, _steps(recorder.calls), len(batch))


def _unheard(net: nn.Module) -> Unsupported:
    return Unsupported(
        f"no layer of {type(net).__name__} could be heard",
        cure="give the nn.Module itself, not a scripted or traced copy",
    )


def _run(net: nn.Module, batch: Tensor, recorder: Recorder) -> None:
    with listening(net, recorder), torch.no_grad():
        try:
            net(batch)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise BadValue(
                f"the network refused an input of shape {tuple(batch.shape)}, {batch.dtype}: "
                f"{reason}",
                cure="give the size, channels and type that it was trained with",
            ) from error


def _tell_places(net: nn.Module, calls: list[Call]) -> None:
    """Put into words where each layer stands, where the network has such places."""
    for call in calls:
        if call.layer is not None:
            call.layer = replace(call.layer, place=place_of(net, call.layer.name))


def _refuse_unknown(layers: Sequence[str], calls: list[Call], net: nn.Module) -> None:
    known = {name for call in calls for name in (call.base, call.name)}
    for layer in layers:
        if layer not in known:
            if layer in dict(net.named_modules()):
                raise BadValue(f"layer {layer!r} exists but is not called for this input")
            raise UnknownName("layer", layer, dict.fromkeys(call.name for call in calls))


def _steps(calls: list[Call]) -> tuple[Step, ...]:
    """Layers put together: what normalises, activates or drops the output of the layer before.

    Its input must *be* that output, the same tensor, so that a branch is never joined by chance.
    A step is left out where the maps at its end were not asked for.
    """
    groups: list[list[Call]] = []
    for call in calls:
        if groups and call.chained and follows(call.kind):
            groups[-1].append(call)
        else:
            groups.append([call])
    steps = []
    for group in groups:
        telling = [c for c in group if not changes_nothing(c.kind)] or group[:1]
        kept = [call.layer for call in telling if call.layer is not None]
        if telling[-1].layer is not None:
            steps.append(Step(tuple(kept)))
    return tuple(steps)


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
