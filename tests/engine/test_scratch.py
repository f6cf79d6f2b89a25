"""What operators take beside what they read and give, as declared, against the kernels."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from eyeshot.engine.job import Job
from eyeshot.engine.memory import Allocation, peak, reset_peak, resident
from eyeshot.graph import Node
from eyeshot.operators import Box, Computation, Prepared, Tile, beside
from eyeshot.operators.call import Tensors
from eyeshot.operators.record import Work, borrows
from tests.engine import runner
from tests.engine.law import by_parts, job_of, noise

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"),
    reason="what one call takes can only be seen where large blocks are mapped one by one",
)
SLACK = 1 << 20
"""Bytes beside: weights laid out, tables, what is not given back block by block."""


class Called(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class Residual(nn.Module):
    """The rectified sum of a body's output and its input."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.body(x) + x)


def conv(cin: int, cout: int, kernel: int = 3, **options: int) -> nn.Module:
    made: nn.Module = nn.Conv2d(cin, cout, kernel, padding=kernel // 2, **options)  # type: ignore[arg-type]
    return made


def attended(x: torch.Tensor) -> torch.Tensor:
    """Attention among 2048 tokens in three dimensions, where all products stand in memory."""
    tokens = x.flatten(2).mT
    mixed: torch.Tensor = F.scaled_dot_product_attention(tokens, tokens, tokens)
    return mixed.mT.reshape(x.shape)


WIDE, VOLUME = (1, 64, 8192), (1, 30, 64, 256)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolutions": (
        lambda: nn.Sequential(
            conv(1, 16), conv(16, 16, groups=16), conv(16, 32, stride=2), conv(32, 16, 1),
            nn.ConvTranspose2d(16, 16, 2, 2), nn.ConvTranspose2d(16, 8, 3, 1, 1), conv(8, 1),
        ),
        WIDE,
    ),
    "residual sums": (
        lambda: nn.Sequential(
            conv(1, 16), Residual(conv(16, 16)),
            Residual(nn.Sequential(conv(16, 48, 1), nn.ReLU6(), conv(48, 16, 1))),
            Residual(nn.Sequential(conv(16, 24), nn.ReLU(), conv(24, 16))), conv(16, 1),
        ),
        WIDE,
    ),
    "float64": (
        lambda: nn.Sequential(
            conv(1, 8), nn.ReLU(), conv(8, 8), nn.ConvTranspose2d(8, 8, 2, 2), conv(8, 1)
        ).double(),
        (1, 64, 4096),
    ),
    "pools": (
        lambda: nn.Sequential(
            conv(1, 16), nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(3, 1, 1), nn.MaxPool2d(2),
            nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        ),
        WIDE,
    ),
    "resizes": (
        lambda: nn.Sequential(
            conv(1, 8), nn.Upsample(scale_factor=2, mode="bilinear"), conv(8, 2),
            nn.Upsample(scale_factor=1.5, mode="bicubic"), nn.Upsample(scale_factor=3),
        ),
        (1, 64, 4096),
    ),
    "volume": (
        lambda: nn.Sequential(
            nn.Conv3d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv3d(16, 16, 3, padding=1),
            nn.MaxPool3d(2), nn.ConvTranspose3d(16, 8, 2, 2), nn.Conv3d(8, 2, 1),
        ),
        VOLUME,
    ),
    "volumes grown": (
        lambda: nn.Sequential(
            nn.Conv3d(1, 16, 3, padding=1), nn.ConvTranspose3d(16, 16, 3, 1, 1),
            nn.Conv3d(16, 16, 3, padding=1), nn.Conv3d(16, 16, 3, 2, 1),
            nn.ConvTranspose3d(16, 8, 4, 2, 1), nn.Conv3d(8, 2, 3, padding=1),
        ),
        VOLUME,
    ),
    "volume in float64": (
        lambda: nn.Sequential(
            nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 4, 3, padding=1)
        ).double(),
        VOLUME,
    ),
    "calls": (
        lambda: nn.Sequential(
            conv(1, 16), nn.Softmax(1), nn.GELU(), nn.LocalResponseNorm(5), nn.PixelShuffle(2),
            Called(lambda x: torch.cat([x, x * 2], 1)), Called(F.normalize), nn.ReflectionPad2d(1),
        ),
        WIDE,
    ),
    "attention": (
        lambda: nn.Sequential(nn.Conv2d(1, 16, 16, 16), Called(attended), conv(16, 8), conv(8, 1)),
        WIDE,
    ),
}  # fmt: skip


def excess(name: str, results: Connection) -> None:
    """Tell, of each call of a network's operators, what it took and what was declared."""
    torch.set_num_threads(1)
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    net = make().eval()
    job = job_of(net, noise(*shape, double=next(net.parameters()).dtype == torch.float64), band=10)
    seen: list[tuple[str, int, int]] = []
    with Allocation(limit=1, predicted=1, gaps=1):
        by_parts(job)  # what comes with first calls is there now
        with _watched(job, seen):
            by_parts(job)
    results.send(seen)


@contextmanager
def _watched(job: Job, seen: list[tuple[str, int, int]]) -> Iterator[None]:
    """Inside, what each call takes beyond what it reads and gives is noted."""
    unwatched = Prepared.computation

    def watching(own: Prepared, node: Node, tensors: Tensors) -> Computation:
        compute = unwatched(own, node, tensors)

        def watched(inputs: list[Tile], box: Box, room: torch.Tensor | None = None) -> torch.Tensor:
            before = resident()
            reset_peak()
            value = compute(inputs, box, room)
            took, gives = peak() - before, value.nbytes
            reads = [tile.value.nbytes for tile in inputs]
            sources = [job.graph.nodes[edge.source] for edge in node.edges]
            work = Work(node, tensors, reads, gives, value.element_size(), sources)
            output_bytes = 0 if borrows(node) else gives
            seen.append(
                (f"{node.name} ({node.operator})", took - output_bytes, beside(work, False))
            )
            return value

        return watched

    setattr(Prepared, "computation", watching)  # noqa: B010
    try:
        yield
    finally:
        setattr(Prepared, "computation", unwatched)  # noqa: B010


@pytest.mark.parametrize("name", NETWORKS)
def test_no_call_takes_more_than_was_declared(name: str) -> None:
    process, results = runner.fork(excess, name)
    (seen,) = runner.listen(results)
    process.join()
    assert len(seen) > 3
    over = [(call, took, declared) for call, took, declared in seen if took > declared + SLACK]
    assert not over, "call, bytes taken, bytes declared"
