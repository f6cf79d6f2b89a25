"""Outputs chosen by name."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import eyeshot
from eyeshot.errors import BadValue, UnknownName
from tests.engine.law import noise

Pair = namedtuple("Pair", "mask score")


@dataclass
class Record:
    mask: Tensor
    aux: dict[str, Any]


class Several(nn.Module):
    """A map, another map and a vector, in a structure."""

    def __init__(self, structure: Callable[[Tensor, Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.mask, self.depth = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 3, 3, padding=1)
        self.structure = structure

    def forward(self, x: Tensor) -> Any:
        depth = self.depth(x)
        return self.structure(self.mask(x), depth, depth.mean((2, 3)))


@pytest.mark.parametrize(
    ("structure", "names"),
    [
        (lambda m, d, v: {"m": m, "d": d, "v": v}, ["v", "m"]),
        (lambda m, d, v: Pair(m, (d, v)), ["score.1", "mask"]),
        (lambda m, d, v: Record(m, {"d": d, "v": v}), ["aux.v", "mask"]),
        (lambda m, d, v: [m, [d, v]], ["1.1", "0"]),
    ],
    ids=["dict", "named tuple", "dataclass", "list"],
)
def test_outputs_are_chosen_by_name(
    structure: Callable[[Tensor, Tensor, Tensor], Any], names: list[str]
) -> None:
    net, image = Several(structure).eval(), noise(1, 41, 37)
    with torch.no_grad():
        depth = net.depth(image[None])
        mask, vector = net.mask(image[None])[0].numpy(), depth.mean((2, 3))[0].numpy()
    found = eyeshot.run(net, image, outputs=names, band=7)
    np.testing.assert_allclose(found[0], vector, atol=1e-6)
    np.testing.assert_allclose(found[1], mask, atol=1e-5)
    alone = eyeshot.run(net, image, outputs=names[1])
    assert isinstance(alone, np.ndarray)
    np.testing.assert_allclose(alone, mask, atol=1e-5)


def test_what_no_output_needs_is_not_computed_and_files_follow_the_names(tmp_path: Path) -> None:
    net, image = Several(lambda m, d, v: {"m": m, "d": d}).eval(), noise(1, 41, 37).numpy()
    alone = eyeshot.plan(net, image, outputs=["m"]).bands.multiply_adds
    assert alone == 2 * 9 * 39 * 35 < eyeshot.plan(net, image).bands.multiply_adds
    outs = [tmp_path / "d.npy", tmp_path / "m.npy"]
    eyeshot.run(net, image, outs, outputs=["d", "m"])
    assert [np.load(out).shape for out in outs] == [(3, 41, 37), (2, 39, 35)]


@pytest.mark.parametrize(
    "structure",
    [lambda m, d, v: {"a.b": m, "a": {"b": d}}, lambda m, d, v: {5: m, "5": d}],
    ids=["joined", "number"],
)
def test_two_outputs_of_one_name_are_refused(
    structure: Callable[[Tensor, Tensor, Tensor], Any],
) -> None:
    name = next(iter(structure(*torch.zeros(3, 1))))
    with pytest.raises(BadValue, match="two outputs of the network have the name"):
        eyeshot.run(Several(structure).eval(), noise(1, 20, 20), outputs=str(name))


def test_names_that_are_not_there_and_twice() -> None:
    net, image = Several(lambda m, d, v: {"m": m, "d": d}).eval(), noise(1, 41, 37).numpy()
    with pytest.raises(UnknownName, match="unknown output 'mask'"):
        eyeshot.run(net, image, outputs=["mask"])
    for names in (["m", "m"], []):
        with pytest.raises(BadValue, match="outputs"):
            eyeshot.run(net, image, outputs=names)
