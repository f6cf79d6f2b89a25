"""Exact tiles with a halo: what must be done without line buffers for an answer without seams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from benchmarks.engine.networks import CHANNELS, CLASSES, make_network
from eyeshot.axes import Interval
from eyeshot.frontends.torch import graph_of
from eyeshot.geometry import required


@dataclass(frozen=True)
class Span:
    """One tile along one axis: it reads [start, start + tile) and keeps [lo, hi) of the output."""

    start: int
    lo: int
    hi: int


def aligned_halo(depth: int) -> int:
    """How far outputs that begin and end on the grid of ``2 ** depth`` see beyond themselves.

    Rounded up to that grid, on which every tile must begin: its pools must fall into step with
    those of the whole picture.
    """
    grid = 1 << depth
    size = 32 * grid
    graph = graph_of(make_network(depth, base=1), (CHANNELS, size, size))
    lo = size // 2
    wanted = Interval(lo, lo + grid)
    reads = required(graph, {graph.outputs[0]: (wanted, wanted)})[graph.inputs[0]][0]
    reach = max(wanted.lo - reads.lo, reads.hi - wanted.hi)
    return -(-reach // grid) * grid


def spans(n: int, tile: int, halo: int) -> list[Span]:
    """Tiles that cover [0, n); at the picture's own border there is no halo, since it is true."""
    if n <= tile:
        return [Span(0, 0, n)]
    if tile <= 2 * halo:
        raise ValueError(f"a tile of {tile} has nothing inside its halo of {halo}")
    found = []
    start = done = 0
    while done < n:
        hi = n if start + tile >= n else start + tile - halo
        found.append(Span(start, done, hi))
        done, start = hi, min(start + tile - 2 * halo, n - tile)
    return found


def redundancy(n: int, tile: int, halo: int) -> float:
    """Positions computed for each that is kept, on a square of n."""
    return (len(spans(n, tile, halo)) * min(n, tile) / n) ** 2


def run_tiles(net: Callable[[Tensor], Tensor], picture: Tensor, tile: int, halo: int) -> Tensor:
    """``net`` over tiles of ``picture`` (1, C, H, W); (1, 2, H, W), to rounding as of the whole."""
    height, width = picture.shape[2:]
    result = torch.empty(1, CLASSES, height, width)
    for down, across in product(spans(height, tile, halo), spans(width, tile, halo)):
        part = picture[:, :, down.start : down.start + tile, across.start : across.start + tile]
        answer = net(part.contiguous(memory_format=torch.channels_last))
        rows = slice(down.lo - down.start, down.hi - down.start)
        columns = slice(across.lo - across.start, across.hi - across.start)
        result[:, :, down.lo : down.hi, across.lo : across.hi] = answer[:, :, rows, columns]
    return result
