"""The law: streamed in bands, by regions, in random chunks, the numbers are those of ``net(x)``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

import eyeshot
from eyeshot.axes import Interval
from eyeshot.engine.buffers import LineBuffer
from eyeshot.engine.lowering import lower
from eyeshot.engine.stream import Stream
from eyeshot.errors import BadValue, Unsupported
from eyeshot.geometry import Region, required
from eyeshot.graph import Graph
from tests.networks import CHANNELS, examples, graph_or_reject, networks, runs_at

SIZES = {1: st.integers(1, 60), 2: st.integers(1, 24), 3: st.integers(1, 8)}


def streamed(
    graph: Graph, x: torch.Tensor, region: Region, chunks: list[int], band: int | None = None
) -> tuple[torch.Tensor, Stream]:
    """The region of the first output, from the input's rows in chunks of these heights."""
    lowered = lower(graph)
    output, source = lowered.outputs[0], lowered.inputs[0]
    boxes = required(lowered, {output: region})
    stream = Stream(lowered, boxes, (output,), band=band)
    parts = []
    if source in boxes:
        box = boxes[source]
        inside = x
        for dim, side in enumerate(box, 2):
            inside = inside.narrow(dim, side.lo, len(side))
    else:  # the region lies in padding alone
        inside = x[:, :, :0]
    y = 0
    for chunk in chunks:
        rows = inside[:, :, y : y + chunk]
        ready = stream.push({source: rows} if source in boxes else {})
        parts += list(ready.values())
        y += chunk
    while y < inside.shape[2]:
        ready = stream.push({source: inside[:, :, y : y + max(1, chunks[-1])]})
        parts += list(ready.values())
        y += max(1, chunks[-1])
    return torch.cat(parts, 2), stream


@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_streaming_random_networks_gives_the_whole_pass(axes: int, double: bool) -> None:
    @examples({1: 16, 2: 20, 3: 6}[axes] // (2 if double else 1))
    @given(net=networks(axes), size=st.tuples(*[SIZES[axes]] * axes), data=st.data())
    def holds(net: nn.Module, size: tuple[int, ...], data: st.DataObject) -> None:
        generator = torch.Generator().manual_seed(3)
        x = torch.randn(1, CHANNELS, *size, generator=generator)
        net, x = (net.double(), x.double()) if double else (net, x)
        whole = runs_at(net, x)
        assume(whole is not None)
        assert whole is not None
        assume(whole.isfinite().all())  # a max over padding alone is -inf, in torch too
        graph = graph_or_reject(net, (CHANNELS, *size), dtype=x.dtype)
        region = []
        for n in whole.shape[2:]:
            lo = data.draw(st.integers(0, n - 1)) if data.draw(st.booleans()) else 0
            hi = data.draw(st.integers(lo + 1, n)) if data.draw(st.booleans()) else n
            region.append(Interval(lo, hi))
        chunks = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=6))
        try:
            band = data.draw(st.sampled_from([None, 1, 2, 5]))
            part, _ = streamed(graph, x, tuple(region), chunks, band)
        except Unsupported as refused:
            assume("writes in place" not in str(refused))
            raise
        truth = whole
        for dim, side in enumerate(region, 2):
            truth = truth.narrow(dim, side.lo, len(side))
        scale = max(1e-3, float(whole.abs().max()))
        assert part.shape == truth.shape
        difference = float((part - truth).abs().max()) / scale
        assert difference <= (1e-12 if double else 1e-5)

    holds()


CAMERAS = {1: st.integers(1, 40), 2: st.integers(1, 20), 3: st.integers(1, 6)}


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_camera_in_random_chunks_gives_the_whole_pass_of_random_networks(axes: int) -> None:
    @examples({1: 4, 2: 4, 3: 2}[axes])
    @given(net=networks(axes, longest=3), data=st.data())
    def holds(net: nn.Module, data: st.DataObject) -> None:
        size = data.draw(st.tuples(*[CAMERAS[axes]] * axes))
        x = torch.randn(CHANNELS, *size, generator=torch.Generator().manual_seed(3))
        whole = runs_at(net, x[None])
        assume(whole is not None and whole.isfinite().all())
        assert whole is not None
        try:
            rows = eyeshot.stream(net, size[1:], channels=CHANNELS)
        except (BadValue, Unsupported):
            assume(False)  # what it does hangs on the height, or it takes no other than this
        parts, y = [], 0
        for chunk in data.draw(st.lists(st.integers(0, 9), max_size=5)):
            parts.append(rows.push(x[:, y : y + chunk].numpy()))
            y += chunk
        parts.append(rows.push(x[:, y:].numpy()))
        assert rows.rows == size[0]
        try:
            parts.append(rows.finish())
        except Unsupported:
            assume(False)  # at this height it is not the network that it was on the way
        given = np.concatenate(parts, 1)
        truth = whole[0].numpy()
        assert given.shape == truth.shape
        assert np.abs(given - truth).max() <= 1e-5 * max(1e-3, float(np.abs(truth).max()))

    holds()


def test_what_a_camera_has_given_never_waits_for_more_than_its_chunks_say() -> None:
    """Whatever the chunks, as many rows have come after the same number of rows pushed."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3, 2, 1), nn.GELU(), nn.ConvTranspose2d(2, 1, 4, 2, 1))
    x = torch.randn(1, 37, 11, generator=torch.Generator().manual_seed(3)).numpy()
    counts = []
    for chunk in (1, 3, 37):
        rows, came = eyeshot.stream(net.eval(), 11), {0: 0}
        for y in range(0, 37, chunk):
            before = came[rows.rows]
            given = rows.push(x[:, y : y + chunk])
            came[rows.rows] = before + given.shape[1]
        counts.append(came)
    one, three, at_once = counts
    assert all(one[y] == count for y, count in {**three, **at_once}.items())


class _Tokens(nn.Module):
    """Layers over a list of positions, which has no rows."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self.first(x).flatten(2).transpose(1, 2)
        for layer in self.layers:
            tokens = tokens + layer(tokens).softmax(1)
        return tokens.transpose(1, 2).reshape(1, 8, *x.shape[2:])


def test_values_without_rows_are_freed_when_nobody_reads_them_again() -> None:
    x = torch.randn(1, 3, 24, 20, generator=torch.Generator().manual_seed(0))
    net = _Tokens().eval()
    graph = graph_or_reject(net, (3, 24, 20))
    lowered = lower(graph)
    region = tuple(Interval(0, n) for n in lowered.nodes[lowered.outputs[0]].extents)
    value, stream = streamed(graph, x, region, [5])
    torch.testing.assert_close(value, net(x))
    stores = [
        buffer._store for buffer in stream._buffers.values() if isinstance(buffer, LineBuffer)
    ]
    memories = [store.untyped_storage() for store in stores]
    kept = {memory.data_ptr(): memory.nbytes() for memory in memories}
    assert sum(kept.values()) < 24 * 20 * 8 * 4
