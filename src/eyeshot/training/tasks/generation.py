"""Pictures made from random numbers: two networks that learn from each other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import softplus

from eyeshot import nets
from eyeshot.data import Data
from eyeshot.data.examples import count_batches
from eyeshot.evaluation.generation import (
    describe_pixels,
    draw_latents,
    frechet_distance,
    make_pictures,
    to_bytes,
)
from eyeshot.runs import RunConfig, build_net, normalize

JUDGED = 1000
"""Pictures made after each epoch, and held-out ones, whose distributions are compared."""
_SHOWN = 16  # latents whose pictures are kept after each epoch
_SEED = 0  # of the latents that are judged and shown: the same after each epoch
_LEAST_BATCH = 2  # batch norm compares pictures
_FLATTENED = 4
"""Of so many pictures of a batch one has its slope measured: an estimate costs less than all."""
_STEEPNESS = 1 / 80
"""How much the slope counts beside the other losses, for each sample of a picture in −1 … 1: 10 for
those of 28×28, as in the paper, and more where there are more, as Karras et al., 2020,
arXiv:2006.06676."""


class Adversaries(nn.Module):
    """A generator and the discriminator that it learns from, as one network with one loss.

    Both move in the same step, each by its own part of the loss: the discriminator's scores of made
    pictures count once for its own weights, with the pictures held constant, and once for the
    generator's, with the discriminator's weights held constant. The discriminator is kept flat
    around real pictures: without that it wins, or the generator makes one picture alone.
    Sources: Goodfellow et al., 2014, arXiv:1406.2661, with the loss that does not saturate;
    the penalty R1 of Mescheder et al., 2018, arXiv:1801.04406.

    Attributes:
        generator: what the training is to give.
        discriminator: needed to train alone; it is kept in the checkpoint.
    """

    def __init__(self, generator: nets.Generator, discriminator: nn.Module) -> None:
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator

    def forward(self, pictures: Tensor) -> Tensor:
        """Scores (N, 4) of N pictures (N, C, H, W) and of N pictures made from new latents.

        A column each: of the pictures; of made ones, to move the discriminator; of the same, to
        move the generator; and the mean squared slope |∇D|² at some of the pictures times their
        samples, to move the discriminator. The latents come from torch's generator.
        """
        count = len(pictures)
        made = self.generator(torch.randn(count, self.generator.latent, 1, 1).to(pictures.device))
        some = pictures[: -(-count // _FLATTENED)].detach().requires_grad_()
        first = self.discriminator(some)
        (slope,) = torch.autograd.grad(first.sum(), some, create_graph=True)
        rest = self.discriminator(torch.cat([pictures[len(some) :], made.detach()]))
        weights = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        moving = functional_call(self.discriminator, weights, (made,))
        real, told = torch.cat([first, rest[:-count]]), rest[-count:]
        steep = slope.square().flatten(1).sum(1).mean() * slope[0].numel()
        return torch.cat([real, told, moving, steep.to(real).expand(count, 1)], 1)


def build_learner(config: RunConfig) -> nn.Module:
    """What a training moves: the run's network, or with it the one that it learns from."""
    net = build_net(config)
    if not isinstance(net, nets.Generator):
        return net
    width = config.model_arguments.get("width", nets.Generator.WIDTH)
    return Adversaries(
        net,
        nets.discriminator(channels=config.channels, size=config.picture_size, width=int(width)),
    )


def result_of(learner: nn.Module) -> nn.Module:
    """The network that goes into the run folder."""
    return learner.generator if isinstance(learner, Adversaries) else learner


class Generation:
    """Pictures without labels; judged by how the made ones are distributed beside held-out ones."""

    measures = ("loss", "discriminator_loss", "recognized", "fooled")

    def __init__(self, config: RunConfig, data: Data) -> None:
        self._config, self._data = config, data
        count = min(JUDGED, len(data.test))
        pictures, _ = data.test.take(range(count))
        self._held_out = describe_pixels(normalize(pictures, config.mean, config.std))

    @property
    def steps_an_epoch(self) -> int:
        """Steps in one pass over the pictures."""
        batch = self._config.recipe.batch_size
        return count_batches(len(self._data.train), batch, least=_LEAST_BATCH)

    def batches(self, epoch: int, start: int) -> Iterator[Tensor]:
        """Pictures uint8 or uint16 (B, C, H, W), shuffled again for each epoch."""
        recipe = self._config.recipe
        batches = self._data.train.batches(
            recipe.batch_size,
            shuffle_seed=recipe.seed,
            epoch=epoch,
            start=start,
            least=_LEAST_BATCH,
        )
        for pictures, _ in batches:
            yield pictures

    def prepare(
        self, batch: Tensor, seed: tuple[int, int, int], share: slice, device: torch.device
    ) -> tuple[Tensor, None]:
        """Pictures in −1 … 1; there is no target."""
        del seed  # nothing is changed at random
        return normalize(batch[share].to(device), self._config.mean, self._config.std), None

    def loss(self, outputs: Tensor, targets: None) -> Tensor:
        """The losses of both networks, added: neither moves the weights of the other."""
        generator, discriminator = _losses(outputs)
        return generator + discriminator

    def sums(self, loss: Tensor, outputs: Tensor, targets: None) -> Tensor:
        """The generator's loss, the discriminator's, and what share of both kinds it recognizes."""
        generator, discriminator = _losses(outputs)
        recognized = (outputs[:, 0] > 0).float().mean()
        fooled = (outputs[:, 1] > 0).float().mean()
        return torch.stack([generator, discriminator, recognized, fooled]) * len(outputs)

    def judge(self, net: nn.Module) -> dict[str, float]:
        """The Fréchet distance between made and held-out pictures, by their coarse pixels."""
        net = _generator(net)
        made = make_pictures(net, draw_latents(net.latent, len(self._held_out), _SEED))
        return {"validation_frechet": frechet_distance(describe_pixels(made), self._held_out)}

    def show(self, net: nn.Module) -> NDArray[np.uint8]:
        """A strip of pictures of the same latents after each epoch: (H, 16·W) or (H, 16·W, 3)."""
        latents = draw_latents(_generator(net).latent, _SHOWN, _SEED)
        pictures = to_bytes(make_pictures(_generator(net), latents), self._config)
        strip = np.concatenate(list(pictures), axis=1)
        return strip[..., 0] if self._config.channels == 1 else strip


def _generator(net: nn.Module) -> nets.Generator:
    if not isinstance(net, nets.Generator):
        raise TypeError(f"expected a generator, got {type(net).__name__}")
    return net


def _losses(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The generator's loss and the discriminator's, of scores (B, 4)."""
    real, made, moving, steep = scores.float().unbind(1)
    telling = softplus(-real).mean() + softplus(made).mean()
    return softplus(-moving).mean(), telling + _STEEPNESS / 2 * steep.mean()
