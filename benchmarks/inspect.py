"""A network inspected: ResNet-50, 500 layers, 10,000 field queries; beside torchinfo.

torchinfo runs the network to know its shapes; Eyeshot traces it without memory, and works out
every receptive field, the sizes accepted and the findings besides. The aims are the project's:
ResNet-50 in under 3 s, a 500-layer network in under 10 s, 10,000 queries in under 1 s.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from tests import zoo
from torch import Tensor, nn

import eyeshot
from benchmarks.measure import time_interleaved
from eyeshot.inspection import Inspection

SIZE = (3, 224, 224)
QUERIES = 10_000


class _Residual(nn.Module):
    """Two convolutions beside a skip: 5 layers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = (x + self.second(self.first(x).relu())).relu()
        return total


def deep_network(layers: int = 560) -> nn.Sequential:
    """A stem, residual blocks, a pool and up-sampling now and then: about ``layers`` operators."""
    blocks: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1)]
    while 5 * len(blocks) < layers:
        blocks.append(_Residual(16))
        if len(blocks) % 20 == 0:
            blocks += [nn.MaxPool2d(2), nn.Upsample(scale_factor=2)]
    return nn.Sequential(*blocks).eval()


def query_fields(inspection: Inspection, queries: int = QUERIES) -> int:
    """Ask for the fields of random units of random layers; how many were exact."""
    draw = random.Random(0)
    nodes = list(inspection.graph)
    exact = 0
    for _ in range(queries):
        node = draw.choice(nodes)
        unit = [draw.randrange(n) for n in node.extents]
        exact += inspection.fields.field(node.name, unit).status == "exact"
    return exact


@contextmanager
def _told(what: str) -> Iterator[list[str]]:
    """Prints how long the block took, by the clock and of processor time, and what it added."""
    added: list[str] = []
    clock, processor = time.perf_counter(), time.process_time()
    yield added
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    print(f"{what}: {clock:.2f} s ({processor:.2f} s of processor time) {' '.join(added)}")


def main() -> None:
    import torchinfo

    net = zoo.resnet(50)
    with _told("ResNet-50, first inspection in this process, aim 3 s"):
        inspection = eyeshot.inspect(net, SIZE)

    def summarize() -> str:
        return str(torchinfo.summary(net, (1, *SIZE), verbose=0, depth=9))

    timings = time_interleaved(
        {"eyeshot": lambda: str(eyeshot.inspect(net, SIZE)), "torchinfo": summarize},
        rounds=5,
        warm_up=1,
    )
    print(
        f"ResNet-50 inspected and printed again: {timings.median('eyeshot'):.2f} s; torchinfo "
        f"{timings.median('torchinfo'):.2f} s; "
        f"eyeshot / torchinfo {timings.ratio('eyeshot', 'torchinfo'):.1f}"
    )
    with _told(f"{QUERIES} field queries, aim 1 s") as added:
        added.append(f"{query_fields(inspection)} exact")
    deep = deep_network()
    with _told("a deep network inspected and printed, aim 10 s") as added:
        report = eyeshot.inspect(deep, (3, 256, 256))
        added.append(f"{len(report.rows)} layers, {len(str(report).splitlines())} lines")
    with torch.device("meta"):
        wide = zoo.densenet121()
    with _told("DenseNet-121 inspected") as added:
        added.append(f"{len(eyeshot.inspect(wide, SIZE).rows)} layers")
