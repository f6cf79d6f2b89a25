"""Small networks written in the ways people write them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Functional(nn.Module):
    """ReLU and pooling as functions, one pooling module used twice, a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.conv1(x)))
        y = torch.relu(self.conv2(x) + x)
        y = self.pool(y) / 2
        scores: Tensor = self.fc(y.mean((2, 3)))
        return scores


class Nested(nn.Module):
    """Containers in containers, an activation in place, normalization, dropout."""

    def __init__(self) -> None:
        super().__init__()
        block = nn.Sequential(
            nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU(inplace=True), nn.Dropout(0.5)
        )
        self.stem = nn.ModuleDict({"block": block})
        self.head = nn.Conv2d(5, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.stem["block"](x))
        return scores


class Several(nn.Module):
    """One layer that returns a mapping of a tensor and a tuple."""

    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> dict[str, Any]:
            return {"same": x * self.weight, "pair": (x[:, :1], x[:, 1:])}

    def __init__(self) -> None:
        super().__init__()
        self.split = self.Split()

    def forward(self, x: Tensor) -> Tensor:
        same: Tensor = self.split(x)["same"]
        return same


class Failing(nn.Module):
    """Fails in the middle, as a network for another size does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.fc = nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.fc(self.conv(x).flatten(1))
        return scores


class ByValues(nn.Module):
    """Branches on the values of a tensor, so that it cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.fc = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.conv(x))
        if y.sum() > 1e9:
            y = -y
        y = F.max_pool2d(y, 2) + y[..., :2, :2]
        scores: Tensor = self.fc(y.mean((2, 3)))
        return scores


class Rewritten(nn.Module):
    """Does something else while it is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.relu(self.conv(x))
        return y * 2 if torch.compiler.is_exporting() else y
