"""Calls in the order in which they were made, and the steps that they form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from eyeshot.features.kinds import changes_nothing, follows
from eyeshot.features.maps import LayerMaps, Step
from eyeshot.nets.places import place_of


@dataclass
class Call:
    """One thing that came out of one call; ``chained`` when it took the last call's output."""

    base: str
    name: str
    kind: str
    chained: bool
    layer: LayerMaps | None  # None where the caller did not ask for its maps


def set_places(net: nn.Module, calls: Sequence[Call]) -> None:
    """Add each layer's position in words, if the network has levels."""
    for call in calls:
        if call.layer is not None:
            call.layer = replace(call.layer, place=place_of(net, call.layer.name))


def steps_of(calls: Sequence[Call]) -> tuple[Step, ...]:
    """Combine each normalization, activation or dropout with the layer before it.

    Its input must *be* that layer's output, the same tensor, so that branches are never combined
    by mistake. A step is omitted if the maps at its end were not requested.
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
