"""Transposed convolutions by phases, against torch's own in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import eyeshot
from eyeshot.cost import costs, total
from eyeshot.operators.transposed_phases import by_phases
from tests.engine.law import by_parts, cut, enliven, job_of, largest_difference, noise, whole
from tests.engine.test_resuming import Killed, killed_after

# kernel, stride, padding, output padding, whether by phases
LAYERS: list[tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int], bool]] = [
    ((4, 4), (2, 2), (1, 1), (0, 0), True),
    ((3, 3), (2, 2), (1, 1), (1, 1), True),
    ((5, 3), (3, 2), (0, 2), (2, 0), True),
    ((2, 4), (2, 3), (0, 1), (0, 2), True),
    ((3, 2), (1, 2), (1, 0), (0, 1), False),
    ((7, 7), (4, 4), (6, 5), (3, 2), True),
    ((9, 4), (4, 1), (0, 0), (3, 0), True),
    ((2, 2), (2, 2), (0, 0), (0, 0), False),
    ((2, 3), (3, 2), (0, 0), (0, 0), False),
    ((3, 3), (1, 1), (1, 1), (0, 0), False),
]


class _Up(nn.Module):
    """A convolution, its transpose, and what follows."""

    def __init__(self, place: int, last: nn.Module, bias: bool) -> None:
        super().__init__()
        kernel, stride, padding, extra, _ = LAYERS[place]
        self.first = nn.Conv2d(2, 6, 3, padding=1)
        self.up = nn.ConvTranspose2d(6, 5, kernel, stride, padding, extra, bias=bias)
        self.last, self.head = last, nn.Conv2d(5, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.last(self.up(self.first(x))))
        return scores


@pytest.mark.parametrize("last", [nn.Identity(), nn.ReLU(), nn.LeakyReLU(0.2), nn.BatchNorm2d(5)])
@pytest.mark.parametrize("place", range(len(LAYERS)))
def test_phases_are_the_whole_pass(place: int, last: nn.Module) -> None:
    image = noise(2, 23, 17)
    net = _Up(place, last, bias=place % 2 == 0)
    enliven(net, image[None])
    job = job_of(net, image)
    assert any(map(by_phases, job.graph)) == LAYERS[place][-1]
    for band, strips in ((1, 1), (4, 1), (7, 3), (64, 2)):
        parts, _ = by_parts(cut(job, band, strips))
        assert largest_difference(parts, whole(net, image)) <= 1e-5


def test_where_no_input_reaches_there_is_the_bias() -> None:
    """Of one row and column, the last phases see padding alone."""
    net = nn.ConvTranspose2d(3, 2, 3, 2, padding=0, output_padding=1)
    for size in ((1, 1), (1, 9), (6, 1)):
        image = noise(3, *size)
        enliven(net, image[None])
        parts, _ = by_parts(job_of(net, image))
        assert largest_difference(parts, whole(net, image)) <= 1e-5


def test_no_product_is_made_twice() -> None:
    net, image = nn.ConvTranspose2d(4, 4, 4, 2, 1).eval(), noise(4, 64, 32)
    job = job_of(net, image)
    made = total(costs(job.graph).values()).multiply_adds
    assert made == 64 * 32 * 4 * 4 * 16
    for band in (4, 64):
        assert by_parts(cut(job, band))[1].multiply_adds == made
    assert not any(map(by_phases, job_of(net, image, exact="direct").graph))
    assert not any(map(by_phases, job_of(net.double(), noise(4, 64, 32, double=True)).graph))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_stays_so(bad: float) -> None:
    class Divided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(2, 3, 4, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.up(torch.where(x > 1.5, bad, x)))

    net, image = Divided().eval(), noise(2, 14, 12)
    parts, _ = by_parts(cut(job_of(net, image), 3))
    (truth,) = whole(net, image)
    assert torch.equal(torch.tensor(parts[0]).isnan(), torch.tensor(truth).isnan())


@pytest.mark.parametrize("exact", [None, "direct"])
def test_a_killed_run_is_resumed_byte_by_byte(exact: str | None, tmp_path: Path) -> None:
    """Of a network in which this is the only method: it is in the journal too."""
    net, path, out = _Up(0, nn.ReLU(), True).eval(), tmp_path / "image.npy", tmp_path / "out.npy"
    np.save(path, noise(2, 90, 40).numpy())
    eyeshot.run(net, path, tmp_path / "whole.npy", band=8, exact=exact)
    with pytest.raises(Killed):
        eyeshot.run(net, path, out, band=8, exact=exact, progress=killed_after(5))
    eyeshot.run(net, path, out, resume=True)
    assert out.read_bytes() == (tmp_path / "whole.npy").read_bytes()
    other = eyeshot.run(net, path, band=8, exact="direct" if exact is None else None)
    assert not np.array_equal(np.load(out), other)  # the method does change bits
