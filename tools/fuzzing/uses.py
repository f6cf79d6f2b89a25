"""What a person would do with a file, by the library and by the command line."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tools.fuzzing.changes import (
    Change,
    bend,
    bend_gzip,
    bend_json,
    bend_onnx,
    bend_png,
    bend_safetensors,
    bend_yaml,
    bend_zip,
)
from torch import nn

from eyeshot import cli, images, runs
from eyeshot.data import mnist
from eyeshot.data.pairs.pair import read_legend
from eyeshot.frontends.onnx import load_onnx
from eyeshot.frontends.pt2 import read_program
from eyeshot.frontends.torch import from_exported, graph_of
from eyeshot.inspection import inspect_graph
from eyeshot.training import checkpoint
from eyeshot.training.optimization import make_optimizer

Use = Callable[[Path], object]

_ROWS, _COLUMNS, _CHANNELS = 600, 2000, 16
"""Of an image that claims more, this much is read."""

CHANGES: dict[str, Change] = {
    ".png": bend_png,
    ".gz": bend_gzip,
    ".json": bend_json,
    ".yaml": bend_yaml,
    ".safetensors": bend_safetensors,
    ".pt": bend_zip,
    ".pt2": bend_zip,
    ".onnx": bend_onnx,
}


def change_for(path: Path) -> Change:
    """How a file is damaged best."""
    known = path.name.startswith(".z")  # the metadata of Zarr version 2
    return bend_json if known else CHANGES.get(path.suffix, bend)


def read_whole(path: Path) -> None:
    """As pictures of classes are read."""
    images.read(path)


def read_by_windows(path: Path) -> None:
    """As a run reads its image."""
    with images.open_source(path) as source:
        rows = min(source.shape[1], _ROWS)
        columns = min(source.shape[2], _COLUMNS) if len(source.shape) > 2 else 1
        if len(source.shape) > 3 or source.shape[0] > _CHANNELS:
            return
        for top in range(0, rows, 64):
            spans = ((top, min(top + 64, rows)), (0, columns))
            source.read(*spans[: len(source.shape) - 1])


def read_idx(path: Path) -> None:
    """As MNIST is read."""
    (mnist.read_labels if path.name.startswith("labels") else mnist.read_images)(path)


def load_run(path: Path) -> None:
    """As every command begins that takes a run, and one pass."""
    run = runs.load(path)
    size = run.config.size if run.config.task == "classify" else (16, 16)
    if run.config.channels * size[0] * size[1] < 10**6:
        run.net(torch.zeros(1, run.config.channels, *size))


def load_pt(path: Path) -> None:
    """As somebody's own weights are read."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3))
    runs.load_weights(net, path)


def restore(path: Path) -> None:
    """As a training goes on."""
    config = runs.RunConfig.read(path.parent / "masks.run" / runs.CONFIG)
    net = runs.build_net(config)
    optimizer = make_optimizer(net, config.recipe)
    position = checkpoint.restore(path, net, None, optimizer, ("loss", "accuracy", "dice"))
    if position.seen:
        str(position.means)
    net(torch.zeros(1, 1, 8, 8)).sum().backward()
    optimizer.step()
    position.next_epoch({"epoch": 1.0})


def resume(path: Path) -> None:
    """As a run goes on."""
    from eyeshot.engine.resuming import look_up

    out = path / f"out.{path.stem}"
    look_up([out])
    with images.open_sink(out, (1, 530, 20), np.uint8, resume=True) as sink:
        done = sink.durable_rows()
        if done < 530:
            sink.write(done, np.zeros((1, 530 - done, 20), np.uint8))
        sink.finish()


def inspect_program(path: Path) -> None:
    """As ``eyeshot inspect`` reads a program."""
    graph = from_exported(read_program(path))
    str(inspect_graph(graph, None, "a program"))


def trace_onnx(path: Path) -> None:
    """As ``eyeshot inspect`` reads an ONNX file."""
    graph_of(load_onnx(path), (1, 10, 12))


def uses_of(path: Path) -> list[Use]:
    """What is tried with a damaged copy of a seed."""
    several = ("stack.tif", "imagej.tif", "planes.ome.tif")  # not one picture
    if path.suffix in (".zarr", ".npy") or path.name in several:
        return [read_by_windows]
    by_suffix: dict[str, list[Use]] = {
        ".run": [load_run],
        ".checkpoint": [restore],
        ".part": [resume],
        ".idx": [read_idx],
        ".gz": [read_idx],
        ".pt": [load_pt],
        ".pt2": [inspect_program],
        ".onnx": [trace_onnx],
        "": [read_legend],
    }
    return by_suffix.get(path.suffix, [read_whole, read_by_windows])


def commands_of(path: Path, beside: Path) -> list[list[str]]:
    """What is tried of the command line; results go below ``beside``."""
    out = str(beside / "answer.npy")
    net = f"{beside / 'net.py'}:Net"
    if path.suffix == ".run":
        picture = str(beside / "picture.png")
        return [
            ["predict", str(path), picture],
            ["inspect", str(path)],
            ["see", str(path), picture],
            ["run", str(path), picture, "-o", out, "--force"],
            ["evaluate", str(path)],
        ]
    if path.suffix == ".pt":
        picture = str(beside / "picture.png")
        return [["run", net, picture, "--weights", str(path), "-o", out, "--force"]]
    if path.suffix == ".onnx":
        picture = str(beside / "picture.png")
        size = ["--size", "1x10x12"]
        return [["inspect", str(path), *size], ["run", str(path), picture, "-o", out, "--force"]]
    if path.suffix == ".pt2":
        return [["inspect", str(path)]]
    if path.suffix in (".checkpoint", ".part", ".idx", ".gz", ""):
        return []
    return [
        ["run", net, str(path), "-o", out, "--force"],
        ["filter", str(path), "-k", "sobel-x", "-o", out, "--force"],
    ]


def call(arguments: list[str]) -> str:
    """Run a command in this process; what is wrong with how it ended, or nothing."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = cli.main(arguments)
    text = errors.getvalue()
    if code not in (0, 1, 2):
        return f"exit code {code}"
    if "Traceback" in text:
        return "a traceback"
    if any(len(line) > 2200 for line in text.splitlines()):
        return "a line without end"
    found = code == 1 and arguments[0] == "inspect" and output.getvalue()  # mistakes, in a table
    if code and "eyeshot: " not in text and not found:
        return "no line that says why"
    return ""
