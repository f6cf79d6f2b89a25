"""Networks written for other people's tools: ONNX, PyTorch programs, BioImage.IO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from eyeshot.errors import BadValue
from eyeshot.exporting.onnx_files import Exported, Options, Target, target_of
from eyeshot.exporting.paddle_weights import convert, from_paddle, to_paddle
from eyeshot.files import check_free
from eyeshot.runs import Run

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
