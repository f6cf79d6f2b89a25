"""Networks with one mistake each, and how a network is looked at."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from eyeshot.findings import Finding, find
from eyeshot.frontends.repair import trace
from eyeshot.graph import Graph


class UNet(nn.Module):
    """Two levels down and up; ``joined``: the channels that dec2 is built for (64 is right)."""

    def __init__(self, joined: int = 64) -> None:
        super().__init__()
        self.enc1 = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU())
        self.pool1 = nn.MaxPool2d(2)
        self.enc2 = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU())
        self.pool2 = nn.MaxPool2d(2)
        self.enc3 = nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU())
        self.up2 = nn.ConvTranspose2d(64, 32, 2, stride=2)
        self.dec2 = nn.Conv2d(joined, 32, 3, padding=1)
        self.up1 = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.dec1 = nn.Conv2d(32, 16, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.enc1(x)
        second = self.enc2(self.pool1(first))
        third = self.enc3(self.pool2(second))
        up = F.relu(self.dec2(torch.cat([second, self.up2(third)], 1)))
        return F.relu(self.dec1(torch.cat([first, self.up1(up)], 1)))


class LeNet(nn.Module):
    """The tutorial's network for 32 x 32, with its view that holds for one size only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(400, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        scores: torch.Tensor = self.fc(x.view(-1, 400))
        return scores


class Through(nn.Module):
    """A convolution to ``channels``, then one module."""

    def __init__(self, channels: int, then: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.then = then

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.then(self.conv(x))
        return y


class Both(nn.Module):
    """Two branches, added or joined."""

    def __init__(self, one: nn.Module, other: nn.Module, join: bool = False) -> None:
        super().__init__()
        self.one, self.other, self.join = one, other, join

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.one(x), self.other(x)
        return torch.cat([a, b], 1) if self.join else a + b


def graph_and_findings(net: nn.Module, *size: int) -> tuple[Graph, list[Finding]]:
    """The network in eval mode at a size, and all that is found in it."""
    torch.manual_seed(0)
    graph, mismatches = trace(net.eval(), size)
    return graph, find(graph, net, mismatches)


def findings_of(net: nn.Module, *size: int, title: str = "") -> list[Finding]:
    """Findings of that title (or all)."""
    _, findings = graph_and_findings(net, *size)
    return [one for one in findings if title in ("", one.title)]


def only(net: nn.Module, *size: int, title: str) -> Finding:
    """The one finding of that title."""
    (finding,) = findings_of(net, *size, title=title)
    return finding
