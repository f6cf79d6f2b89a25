"""Networks and weights written for other people's tools: ONNX, PyTorch, BioImage.IO, PaddlePaddle.

Weights in the names and layouts of PaddlePaddle, both ways, without Paddle itself.

Paddle keeps a linear layer's matrix as (in, out) where PyTorch has (out, in), and calls a batch
norm's statistics ``_mean`` and ``_variance``. Its own files (``.pdparams``) are pickles, which are
never opened here: weights travel as ``.safetensors``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from eyeshot.errors import BadFile, BadValue
from eyeshot.exporting.onnx_files import Exported, Options, Target, target_of
from eyeshot.files import check_free, write_aside
from eyeshot.language import by
from eyeshot.runs import Run, load, read_tensors, save_tensors

_NAMES = {"running_mean": "_mean", "running_var": "_variance"}
_NOT_THERE = "num_batches_tracked"


def to_paddle(net: nn.Module) -> dict[str, Tensor]:
    """The weights of a network, as ``Layer.set_state_dict`` of the same one in Paddle takes them.

    Args:
        net: convolutions, linear layers, batch norms; it is not changed.

    Raises:
        BadValue: a layer whose weights Paddle lays out otherwise.
    """
    turned = {}
    for name, tensor in net.state_dict().items():
        layer, _, kind = name.rpartition(".")
        if kind == _NOT_THERE:
            continue
        prefix = f"{layer}." if layer else ""
        turned[prefix + _paddle_name(net, layer, kind)] = _turned(net, layer, kind, tensor)
    return turned


def from_paddle(net: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put the weights of the same network in Paddle into a network.

    Args:
        net: it gets the weights.
        weights: by Paddle's names, in its layouts.

    Raises:
        BadValue: a weight is missing, is too many, or has another shape.
    """
    remaining, own = dict(weights), net.state_dict()
    for name, tensor in own.items():
        layer, _, kind = name.rpartition(".")
        if kind == _NOT_THERE:
            continue
        theirs = f"{layer}." * bool(layer) + _paddle_name(net, layer, kind)
        if theirs not in remaining:
            raise BadValue(f"no weight {theirs}", cure="convert the weights of the same network")
        turned = _turned(net, layer, kind, remaining.pop(theirs))
        if turned.shape != tensor.shape:
            raise BadValue(
                f"weight {theirs} is {by(turned.shape)} as PyTorch has it, and {name} is "
                f"{by(tensor.shape)}",
                cure="convert the weights of the same network",
            )
        tensor.copy_(turned)
    if remaining:
        raise BadValue(
            f"weight {next(iter(remaining))} is of no layer of the network",
            cure="convert the weights of the same network",
        )


def convert(source: str | Path, out: str | Path, *, like: str | Path | None = None) -> Path:
    """A run's weights for Paddle, or a run with the weights of its network in Paddle.

    Args:
        source: a run folder; or a ``.safetensors`` of Paddle's weights.
        out: a ``.safetensors`` for Paddle; or the folder of a new run.
        like: for Paddle's weights: a run of the same network, whose settings the new one gets.

    Returns:
        What was written.

    Raises:
        BadFile: ``source`` is no such thing, or ``out`` exists.
        BadValue: weights of another network, or no ``like``.
    """
    source, out = Path(source), Path(out)
    if out.exists():
        raise BadFile(f"{out}: exists", cure="give another name")
    if source.is_dir():
        with write_aside(out) as aside:
            save_tensors(aside, to_paddle(load(source).net))
        return out
    if source.suffix.lower() != ".safetensors":
        cure = "save its weights as .safetensors: safetensors.numpy.save_file"
        raise BadFile(f"{source}: neither a run folder nor a .safetensors", cure=cure)
    if like is None:
        raise BadValue(f"{source}: no run to be like", cure="name one of the same network: --like")
    run = load(like)
    if run.config.own is not None:
        raise BadValue(f"{like}: a network of your own", cure="convert those of eyeshot.nets")
    try:
        with torch.no_grad():
            from_paddle(run.net, read_tensors(source)[0])
    except BadValue as error:
        raise error.at(str(source)) from None
    _write_run(run, out)
    return out


def _write_run(run: Run, out: Path) -> None:
    """The run's settings with the weights that its network has now."""
    try:
        out.mkdir(parents=True)
        run.config.save(out / "config.yaml")
        save_tensors(out / "model.safetensors", run.net.state_dict())
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)  # nothing by halves
        raise


def _paddle_name(net: nn.Module, layer: str, kind: str) -> str:
    if isinstance(net.get_submodule(layer), nn.modules.batchnorm._BatchNorm):
        return _NAMES.get(kind, kind)
    return kind


def _turned(net: nn.Module, layer: str, kind: str, tensor: Tensor) -> Tensor:
    """A linear layer's matrix the other way; other weights as they are.

    Raises:
        BadValue: a layer that Paddle has otherwise.
    """
    module = net.get_submodule(layer)
    if isinstance(module, nn.Linear) and kind == "weight":
        return tensor.T.contiguous()
    known = (nn.Linear, nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm)
    if not isinstance(module, known):
        raise BadValue(
            f"{layer or 'the network'} ({type(module).__name__}) has weights that are not known "
            "in Paddle",
            cure="convert a network of convolutions, linear layers and batch norms",
        )
    return tensor


__all__ = ["Exported", "convert", "export", "from_paddle", "to_paddle"]

_OPSET = 18
_LOWEST_OPSET = 18  # PyTorch's exporter writes no older one


def export(
    net: nn.Module | Run,
    out: str | Path,
    *,
    size: Sequence[int] | None = None,
    opset: int = _OPSET,
    license: str | None = None,
    authors: Sequence[str] = (),
    force: bool = False,
) -> Exported:
    """Write a network to a file that other tools open, and compare the file with the network.

    The name chooses the format: ``.onnx`` (dynamic batch, height and width, where the network
    takes them), ``.pt2`` (an exported program of PyTorch), or ``.zip`` (a model of BioImage.IO
    0.5). A run's ``.onnx`` and ``.pt2`` take samples in 0 … 1 (of a run that learned from floats
    outside, those of its own scale): its mean and deviation are in them.
    A ``.zip`` has them as its preprocessing.

    Args:
        net: a network of one image, which does not change; or a trained run.
        out: the file.
        size: (C, H, W) of an input that it takes; by default that of the run, or one that is found.
        opset: of an ``.onnx``, and of that in a ``.zip``.
        license: of a ``.zip``, by its SPDX name, such as ``"CC-BY-4.0"``; it is required.
        authors: of a ``.zip``, by their names.
        force: replace a file that exists.

    Returns:
        What was written, and how far it is from the network at the sizes that were tried.

    Raises:
        BadValue: another suffix or opset, a size that the network does not take, no license.
        BadFile: the file exists, or cannot be written.
        Unsupported: the network cannot be exported, or its file computes something else.
        Failure: a package of the extra ``onnx`` or ``bioimageio`` is not installed.
    """
    path = Path(out)
    write = _writer(path)
    if not opset >= _LOWEST_OPSET:
        raise BadValue(f"opset is {opset}", cure=f"use {_LOWEST_OPSET} or a later one")
    check_free(path, force=force)
    return write(target_of(net, size), path, Options(opset, license, tuple(authors)))


def _writer(path: Path) -> Callable[[Target, Path, Options], Exported]:
    from eyeshot.exporting import bioimage, onnx_files

    writers = {
        ".onnx": onnx_files.write_onnx,
        ".pt2": onnx_files.write_program,
        ".zip": bioimage.write_package,
    }
    if path.suffix.lower() not in writers:
        raise BadValue(f"{path}: no format by this name", cure="end it in .onnx, .pt2 or .zip")
    return writers[path.suffix.lower()]
