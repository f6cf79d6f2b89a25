"""Damaged and hostile ``.pt2`` files: one line each, without memory or time."""

from __future__ import annotations

import copy
import json
import random
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eyeshot.errors import BadFile, EyeshotError
from eyeshot.frontends.pt2 import read_program
from eyeshot.frontends.torch import from_exported
from eyeshot.inspection import inspect_graph

Parts = dict[str, bytes]
VALUES: list[Any] = [
    *(0, -1, 10**9, 2**62, 2**70, 1.5, None, "", "x", True, [], {}, [[]]),
    *({"as_int": 10**9}, {"as_int": -3}, {"as_int": 2**63}),
]


class _Net(nn.Module):
    """Convolution, norm, constants, parts, a pool, a resize and a linear layer."""

    gain: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 5)
        self.register_buffer("gain", torch.rand(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x)).relu() * self.gain + torch.arange(8.0).view(8, 1, 1)
        first, second = y.chunk(2, 1)
        y = nn.functional.max_pool2d(torch.cat([second, first], 1), 2)
        y = nn.functional.interpolate(y, scale_factor=2)
        scores: Tensor = self.head(y.mean((2, 3)))
        return scores


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    path = tmp_path_factory.mktemp("pt2") / "net.pt2"
    net = _Net().eval()
    torch.export.save(torch.export.export(net, (torch.rand(1, 3, 16, 16),), strict=False), path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _written(parts: Parts, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def _inspected(path: Path) -> str:
    return str(inspect_graph(from_exported(read_program(path)), None, "net"))


def _refusal(path: Path) -> str:
    """What is said where the file is refused; "" where it is read."""
    try:
        _inspected(path)
    except EyeshotError as error:
        return str(error)
    return ""


def _model(parts: Parts) -> tuple[str, Any]:
    name = next(name for name in parts if name.endswith("/models/model.json"))
    return name, json.loads(parts[name])


def _config(parts: Parts) -> tuple[str, Any]:
    name = next(name for name in parts if name.endswith("model_weights_config.json"))
    return name, json.loads(parts[name])


def test_the_file_as_it_was_written(parts: Parts, tmp_path: Path) -> None:
    assert "conv2d" in _inspected(_written(parts, tmp_path / "net.pt2"))


def _refused(parts: Parts, path: Path) -> str:
    """The one line of the refusal, which took neither memory nor time."""
    _written(parts, path)
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(EyeshotError) as error:
        _inspected(path)
    spent, (_, most) = time.process_time() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert spent < 10
    assert most < 100 << 20
    line = str(error.value)
    assert "\n" not in line
    assert len(line) < 900
    return line


def test_weights_that_repeat_their_memory_beyond_all_bounds(parts: Parts, tmp_path: Path) -> None:
    name, config = _config(parts)
    meta = config["config"]["conv.weight"]["tensor_meta"]
    meta["sizes"] = [{"as_int": 10**6}, {"as_int": 10**6}, {"as_int": 3}, {"as_int": 3}]
    meta["strides"] = [{"as_int": 0}] * 4
    line = _refused({**parts, name: json.dumps(config).encode()}, tmp_path / "a.pt2")
    assert "conv.weight is said to have 9e+12 numbers, but the file holds 216" in line


@pytest.mark.parametrize("sides", [[10**9], [10**12], [2**62], [0]])
def test_inputs_beyond_all_bounds(parts: Parts, tmp_path: Path, sides: list[int]) -> None:
    name, model = _model(parts)
    sizes = model["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]
    sizes[2] = {"as_int": sides[0]}
    line = _refused({**parts, name: json.dumps(model).encode()}, tmp_path / "a.pt2")
    assert "beyond 10,000,000 along an axis" in line or "damaged" in line


def test_a_constant_that_fills_the_memory(parts: Parts, tmp_path: Path) -> None:
    name, model = _model(parts)
    graph = model["graph_module"]["graph"]
    made = next(one for one in graph["nodes"] if "arange" in one["target"])
    made["inputs"][0]["arg"] = {"as_float": 1e10}
    honest = copy.deepcopy(model)
    said = made["outputs"][0]["as_tensor"]["name"]
    honest["graph_module"]["graph"]["tensor_values"][said]["sizes"] = [{"as_int": 10**10}]
    path = tmp_path / "a.pt2"
    assert "is said to be 8" in _refused({**parts, name: json.dumps(model).encode()}, path)
    line = _refused({**parts, name: json.dumps(honest).encode()}, path)
    assert "more than 67,108,864 numbers" in line


def _places(tree: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in nested lists and dictionaries that decides something."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        if key in ("metadata", "module_call_graph", "schema_version"):
            continue
        yield (*above, key)
        if isinstance(value, (dict, list)):
            yield from _places(value, (*above, key))


@pytest.mark.parametrize("seed", range(4))
def test_files_with_one_value_changed_are_read_or_refused_in_one_line(
    parts: Parts, tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    names = [name for name in parts if name.endswith(".json")]
    refused = 0
    for _ in range(40):
        name = draw.choice(names)
        tree = json.loads(parts[name])
        *above, key = draw.choice(list(_places(tree)))
        holder = tree
        for step in above:
            holder = holder[step]
        holder[key] = draw.choice(VALUES)
        path = _written({**parts, name: json.dumps(tree).encode()}, tmp_path / "a.pt2")
        refusal = _refusal(path)
        assert "\n" not in refusal
        assert len(refusal) < 900
        refused += bool(refusal)
    assert refused


def test_a_file_that_lacks_a_part_or_is_cut(parts: Parts, tmp_path: Path) -> None:
    for name in parts:
        path = _written({k: v for k, v in parts.items() if k != name}, tmp_path / "a.pt2")
        assert "\n" not in _refusal(path)
    whole = _written(parts, tmp_path / "b.pt2").read_bytes()
    for share in (0, 10, len(whole) // 2, len(whole) - 30):
        (tmp_path / "b.pt2").write_bytes(whole[:share])
        with pytest.raises(BadFile):
            _inspected(tmp_path / "b.pt2")
