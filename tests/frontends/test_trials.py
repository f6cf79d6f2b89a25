"""The network is asked what it takes; the names of its layers only say what to try first."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import eyeshot
from eyeshot.errors import BadValue, EyeshotError
from eyeshot.frontends.trials import accepted_axes, axes_by_layers, nearest_accepted, runs_on_shapes


class _Net(nn.Module):
    def __init__(self, result: Callable[[nn.ModuleList, Tensor], Tensor], *parts: nn.Module):
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.result = result

    def forward(self, x: Tensor) -> Tensor:
        return self.result(self.parts, x)


def _bands() -> nn.Module:
    """A volume is made of a picture's bands, inside forward."""
    return _Net(
        lambda m, x: m[0](x[:, None]).amax(2), nn.Conv3d(1, 4, (1, 3, 3), padding=(0, 1, 1))
    )


def _attention() -> nn.Module:
    """Attention over channels, by a convolution over their means."""
    gate = nn.Conv1d(1, 1, 1)
    return _Net(lambda m, x: x * m[0](x.mean((2, 3))[:, None]).view(1, -1, 1, 1).sigmoid(), gate)


def _divisible() -> nn.Module:
    def result(m: nn.ModuleList, x: Tensor) -> Tensor:
        if x.shape[2] % 32 or x.shape[3] % 32:
            raise RuntimeError("sides must be divisible by 32")
        out: Tensor = m[0](x)
        return out

    return _Net(result, nn.Conv2d(3, 4, 3, padding=1))


@pytest.mark.parametrize(
    ("make", "by_layers", "accepted"),
    [(_bands, 3, 2), (_attention, 1, 2), (lambda: nn.Conv1d(2, 2, 3), 1, 1), (nn.ReLU, None, None)],
)
def test_the_number_of_axes_is_the_networks_own(
    make: Callable[[], nn.Module], by_layers: int | None, accepted: int | None
) -> None:
    assert axes_by_layers(make()) == by_layers
    assert accepted_axes(make()) == accepted


@pytest.mark.parametrize("make", [_bands, _attention])
def test_such_a_network_is_inspected_and_run_at_its_true_size(
    make: Callable[[], nn.Module],
) -> None:
    net, x = make().eval(), torch.rand(5, 24, 20)
    assert eyeshot.inspect(net, (5, 24, 20)).rows[-1].shape == tuple(net(x[None]).shape[1:])
    expected = net(x[None])[0].detach()
    assert torch.allclose(torch.from_numpy(eyeshot.run(net, x, band=7)), expected, atol=1e-6)


def test_a_size_of_another_rank_is_refused_by_what_the_network_takes() -> None:
    with pytest.raises(BadValue, match="3 numbers; this network takes channels x length"):
        eyeshot.inspect(nn.Conv1d(3, 4, 3), (3, 8, 8))
    with pytest.raises(BadValue, match="2 numbers; this network takes channels x height x width"):
        eyeshot.inspect(nn.Conv2d(1, 4, 3), (28, 28))  # torch would take 28 for the channels


def test_inputs_of_different_ranks_are_each_as_the_network_takes_them() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.scale = nn.Conv2d(3, 4, 3), nn.Linear(10, 4)

        def forward(self, x: Tensor, features: Tensor) -> Tensor:
            out: Tensor = self.conv(x) * self.scale(features)[..., None, None]
            return out

    assert eyeshot.inspect(Two().eval(), [(3, 16, 16), (10,)]).sizes == ((3, 16, 16), (10,))


def test_the_sizes_named_where_one_is_refused_are_taken() -> None:
    net = _divisible().eval()
    assert nearest_accepted(net, (3, 65, 63)) == [(64, 32), (96, 64)]
    with pytest.raises(EyeshotError) as error:
        eyeshot.run(net, torch.rand(3, 65, 63))
    assert "sides must be divisible by 32; the nearest it takes: 64x32 or 96x64" in str(error.value)
    assert eyeshot.run(net, torch.rand(3, 96, 64)).shape == (4, 96, 64)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", [(1, 4), (2, 4), (2, 4, 3), (1, 4, 2, 5)])
def test_a_trial_of_a_batch_norm_ends_as_torch_does(
    channels: int, training: bool, size: tuple[int, ...]
) -> None:
    def result(m: nn.ModuleList, x: Tensor) -> Tensor:
        out: Tensor = m[0](x).reshape(4, -1)
        return out

    norms = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}
    net = _Net(result, norms[len(size)](channels)).train(training)
    try:
        net(torch.zeros(size))
    except (RuntimeError, ValueError):
        runs = False
    else:
        runs = True
    assert runs_on_shapes(net)(size) == runs
