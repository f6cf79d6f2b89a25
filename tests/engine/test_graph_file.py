"""A lowered graph as bytes: what is read again is the graph, and computes the same bytes."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from eyeshot.engine.graph_file import graph_bytes, read_graph
from eyeshot.errors import BadFile, EyeshotError, Unsupported
from eyeshot.graph import Family, Graph
from tests.engine.law import by_parts, job_of, noise
from tests.networks import CHANNELS, examples, networks, runs_at


def _read_again(graph: Graph) -> Graph:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.safetensors")
        path.write_bytes(graph_bytes(graph))
        return read_graph(path)


def _require_same(net: nn.Module, *images: torch.Tensor) -> Graph:
    job = job_of(net, *images)
    again = _read_again(job.graph)
    assert dict(again.nodes) == dict(job.graph.nodes)
    assert list(again.nodes) == list(job.graph.nodes)
    for name in ("inputs", "outputs", "parameters", "made_of", "batch"):
        assert getattr(again, name) == getattr(job.graph, name)
    assert {name: one.stride() for name, one in again.tensors.items()} == {
        name: one.stride() for name, one in job.graph.tensors.items()
    }
    found, _ = by_parts(replace(job, graph=again))
    expected, _ = by_parts(job)
    for one, other in zip(found, expected, strict=True):
        assert one.tobytes() == other.tobytes()
    return again


@examples(12)
@given(st.data(), st.integers(1, 3))
def test_random_networks_come_back(data: st.DataObject, axes: int) -> None:
    net = data.draw(networks(axes)).eval()
    image = noise(CHANNELS, *[23, 17, 12][:axes])
    if runs_at(net, image[None]) is None:
        return
    try:
        job_of(net, image)
    except EyeshotError:
        return
    _require_same(net, image)


class _Everything(nn.Module):
    """Norms over positions, tuples, a split, attention, writes, resizing, and infinity."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.InstanceNorm2d(8, affine=True)
        self.group = nn.GroupNorm(2, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.order: torch.Tensor
        self.register_buffer("order", torch.tensor([1, 0, 2]))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.group(self.norm(self.conv(x[:, self.order])))
        one, other = y.chunk(2, 1)
        largest, _ = one.max(1, keepdim=True)
        low = nn.functional.max_pool2d(y, 4)
        seen = low.flatten(2).transpose(1, 2)
        seen, _ = self.attention(seen, seen, seen)
        low = seen.transpose(1, 2).reshape(low.shape)
        capped = self.up(low).clamp(min=-float("inf"), max=2.0)
        return torch.cat([largest, other], 1), capped


def test_operators_of_every_kind_come_back() -> None:
    graph = _require_same(_Everything().eval(), noise(3, 16, 24))
    assert {Family.MOMENTS, Family.ATTENTION} & {node.family for node in graph}


def test_weights_stay_as_they_lie_in_memory() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)).eval()
    for weight in net.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.to(memory_format=torch.channels_last)
    _require_same(net, noise(3, 12, 12))


def test_types_beside_float32_come_back() -> None:
    _require_same(nn.Conv2d(3, 4, 3).double().eval(), noise(3, 9, 9, double=True))


def test_nothing_of_it_is_pickled(tmp_path: Path) -> None:
    job = job_of(_Everything().eval(), noise(3, 16, 24))
    path = tmp_path / "network.safetensors"
    path.write_bytes(graph_bytes(job.graph))
    with safe_open(path, "np") as file:
        assert set(file.keys()) == set(job.graph.tensors)
        assert "_Everything" not in file.metadata()["graph"]


def test_a_function_that_is_not_listed_is_not_called(tmp_path: Path) -> None:
    job = job_of(nn.ReLU().eval(), noise(3, 8, 8))
    content = graph_bytes(job.graph)
    path = tmp_path / "network.safetensors"
    for wrong in ('["os", "system", "default"]', '["aten", "no_such", "default"]'):
        changed = content.decode("utf-8", "surrogateescape")
        inside = r"[\"aten\", \"relu\", \"default\"]"
        assert inside in changed
        escaped = wrong.replace('"', r"\"")
        (length,) = np.frombuffer(content[:8], "<u8")
        header = changed[8 : 8 + int(length)].rstrip().replace(inside, escaped)
        raw = header.encode("utf-8", "surrogateescape")
        path.write_bytes(np.uint64(len(raw)).tobytes() + raw + content[8 + int(length) :])
        with pytest.raises(Unsupported, match="does not have"):
            read_graph(path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    with pytest.raises(BadFile, match="no such file"):
        read_graph(path)
    content = graph_bytes(job_of(nn.Conv2d(3, 2, 3).eval(), noise(3, 8, 8)).graph)
    for damaged in (b"", content[:40], content[:-8], save({}, {"graph": "{}"}), save({}, {})):
        path.write_bytes(damaged)
        with pytest.raises(BadFile, match=r"network\.safetensors"):
            read_graph(path)
