"""A network's scores for many pictures."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eyeshot.data import Examples
from eyeshot.runs.config import RunConfig

BATCH_SIZE = 500


def normalize(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(images / largest − mean) / std, channel by channel, as float32 of the same shape.

    Args:
        images: (N, C, H, W) uint8, whose largest is 255, or uint16, whose largest is 65535.
        mean: of each channel, 0…1.
        std: likewise.
    """
    largest = torch.iinfo(images.dtype).max
    scale = torch.tensor([1 / (largest * s) for s in std], device=images.device)
    offset = torch.tensor([m / s for m, s in zip(mean, std, strict=True)], device=images.device)
    return images.to(torch.float32).mul_(scale.view(-1, 1, 1)).sub_(offset.view(-1, 1, 1))


@torch.inference_mode()
def score(net: nn.Module, examples: Examples, config: RunConfig) -> tuple[Tensor, Tensor]:
    """Scores (N, classes) of all examples in their order, and their labels (N,); both on the CPU.

    The network works in eval mode, and is left in the mode it was in.
    """
    device = next(net.parameters()).device
    training = net.training
    net.eval()
    try:
        parts = [
            (net(normalize(images.to(device), config.mean, config.std)).cpu(), labels)
            for images, labels in examples.batches(BATCH_SIZE)
        ]
    finally:
        net.train(training)
    scores, labels = zip(*parts, strict=True)
    return torch.cat(scores), torch.cat(labels)
