"""Several networks as one: the mean of their scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """The mean of what networks answer, each behind a normalization of its own.

    It takes samples in 0 … 1, (N, C, H, W), and gives what each of them gives. Scores are averaged,
    not probabilities.

    Args:
        members: networks of one task, with equal inputs and outputs.
        means: of each member, what it takes away from the samples of a channel.
        stds: likewise, by what it then divides them.
        dims: axes of space: 2 of pictures, 3 of volumes, 1 of signals.

    Attributes:
        members: the networks.
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        means: Sequence[Sequence[float]],
        stds: Sequence[Sequence[float]],
        *,
        dims: int = 2,
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        for number, (mean, std) in enumerate(zip(means, stds, strict=True)):
            sides = (-1,) + (1,) * dims
            self.register_buffer(f"mean{number}", torch.tensor(mean).view(sides))
            self.register_buffer(f"std{number}", torch.tensor(std).view(sides))

    def forward(self, x: Tensor) -> Tensor:
        """Samples in 0 … 1 (N, C, H, W) -> the mean of the members' answers."""
        answers = [
            member((x - self.get_buffer(f"mean{number}")) / self.get_buffer(f"std{number}"))
            for number, member in enumerate(self.members)
        ]
        total: Tensor = answers[0]
        for answer in answers[1:]:
            total = total + answer
        return total / len(answers)
