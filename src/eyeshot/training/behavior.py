"""What a user's own network does when it runs, checked before the first step.

Its shapes are known by then. What remains can only be seen with numbers: whether a gradient reaches
its weights, and whether its answers depend on anything but the picture and the weights.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from eyeshot.errors import BadValue
from eyeshot.frontends.refusals import in_brief
from eyeshot.training.chance import generators_restored, seed_everything
from eyeshot.training.own_network import OwnNet, answer_of

_BATCH = 2
_ROUNDING = 1e-2
"""Of the largest answer. Kernels for another batch size round differently: by a millionth in
float32, by a thousandth in float16."""
_REPEATED = 1e-6
"""Of the largest answer: the same kernels on the same numbers."""
_TRIALS = 8
_CPU = torch.device("cpu")


def check_behavior(own: OwnNet) -> Iterator[str]:
    """Refuse a network that a training could not learn, repeat or resume; yield notes.

    It is asked once :meth:`OwnNet.describe` knows an example.

    Raises:
        BadValue: no gradient reaches its weights; it changes its own mode; its answer for a picture
            depends on other pictures or on the calls before; or in training mode it depends on
            something that a checkpoint does not hold.
    """
    noise = torch.rand(_BATCH, *own.example, generator=torch.Generator().manual_seed(0)) * 3 - 1
    noise[1] *= -0.5  # two pictures that no network answers alike
    with generators_restored():
        _check_answers(own, noise)
        yield from _check_learning(own, noise)


def _check_answers(own: OwnNet, noise: Tensor) -> None:
    net = own.build().eval()
    with torch.no_grad():
        first = ask_once(own, net, noise)
        again = ask_once(own, net, noise, seed=1)
        alone = ask_once(own, net, noise[:1])
    if _differ(first, again, _REPEATED):
        raise BadValue(
            f"{own.name} in eval mode gives another answer when it sees the same pictures again",
            cure="draw random numbers and change state only while self.training",
        )
    if _differ(first[:1], alone, _ROUNDING):
        raise BadValue(
            f"{own.name} in eval mode gives a picture another answer beside other pictures",
            cure="compute nothing over the first axis, the batch, while not self.training (batch "
            "norms with track_running_stats=False do)",
        )


def _check_learning(own: OwnNet, noise: Tensor) -> Iterator[str]:
    net = own.build().train()
    at_first = copy.deepcopy(net.state_dict())
    answer = _learn(own, net, noise)
    without = _without_gradient(net)
    net.load_state_dict(at_first)
    with torch.no_grad():
        if _differ(answer, ask_once(own, net, noise), _REPEATED):
            raise BadValue(
                f"{own.name} keeps something from one training step to the next that is not in "
                "its state_dict, so it could not be resumed",
                cure="register it by register_buffer(…), and draw random numbers from torch, "
                "numpy.random or random",
            )
    seed = 1
    while without and seed < _TRIALS:  # stochastic depth leaves out another layer each time
        _learn(own, net, noise, seed)
        without, seed = _without_gradient(net), seed + 1
    if without:
        named = without[0] if len(without) == 1 else f"{len(without)} of them, first {without[0]}"
        yield (
            f"not all weights of {own.name} learn: no gradient reaches {named}, on which its "
            "output does not depend"
        )


def _learn(own: OwnNet, net: nn.Module, noise: Tensor, seed: int = 0) -> Tensor:
    """The answer to ``noise``, after the gradient of its weighted sum was added to ``net``."""
    answer = ask_once(own, net, noise, seed)
    if not answer.requires_grad:
        raise BadValue(
            f"no gradient reaches the weights of {own.name}",
            cure="leave out no_grad, detach, argmax and casts to integers in its forward",
        )
    weights = torch.randn(answer.shape, generator=torch.Generator().manual_seed(1))
    try:
        (answer.float() * weights).sum().backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:  # a tensor that the gradient needs was written over
        raise BadValue(
            f"the gradient of {own.name} cannot be computed: {in_brief(error)}",
            cure="change no tensor in place that a layer before it computes with",
        ) from error
    return answer.detach()


def _without_gradient(net: nn.Module) -> list[str]:
    return [name for name, p in net.named_parameters() if p.requires_grad and p.grad is None]


def ask_once(own: OwnNet, net: nn.Module, inputs: Tensor, seed: int = 0) -> Tensor:
    """The answer to a copy of ``inputs``, with the global generators in a known state."""
    modes = [layer.training for layer in net.modules()]
    seed_everything(_CPU, (seed,))
    answer: Tensor = answer_of(own, net, inputs.clone())  # forward may write into it
    if [layer.training for layer in net.modules()] != modes:
        raise BadValue(
            f"{own.name} changes its own mode when it is called",
            cure="leave train() and eval() out of its forward",
        )
    return answer


def _differ(one: Tensor, other: Tensor, most: float) -> bool:
    """Whether two answers differ by more than a part of the largest number in them."""
    if one.shape != other.shape:
        return True
    apart = (one.float() - other.float()).abs().max()
    return not apart <= most * max(float(one.float().abs().max()), 1e-6)
