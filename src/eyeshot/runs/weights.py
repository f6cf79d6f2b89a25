"""Weights in and out of files that cannot run code: safetensors, or a ``.pt`` of tensors only."""

from __future__ import annotations

import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from eyeshot.errors import BadFile
from eyeshot.files import explain_os_error, write_aside


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write ``tensors`` as one safetensors file, aside and then renamed.

    Raises:
        Failure: the disk is full; what was at ``path`` is still there.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # As bytes first: Python then reports a full disk as such, which safetensors' own writer hides.
    content = safetensors.torch.save(plain, metadata)
    with write_aside(path) as aside:
        aside.write_bytes(content)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file: its tensors on the CPU, and the metadata in its header.

    Raises:
        BadFile: missing, truncated, or not safetensors.
    """
    if not path.is_file():
        raise BadFile(f"{path}: no such file", cure="check the path, or train anew")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise BadFile(
            f"{path}: damaged, or not a safetensors file ({error})",
            cure="restore it from a copy, or train anew",
        ) from None
    except OSError as error:
        raise explain_os_error(error, path) from error


def load_weights(net: nn.Module, path: Path) -> None:
    """Fill ``net`` from a file of tensors; on an error ``net`` is as it was.

    ``.safetensors``, or ``.pt``/``.pth`` holding a state dict of tensors and nothing else.

    Raises:
        BadFile: missing, damaged, holding objects that only unpickling could make, or made for
            another architecture: the first tensor that does not fit is named.
    """
    path = Path(path)
    tensors = _read_pt(path) if path.suffix in (".pt", ".pth") else read_tensors(path)[0]
    wanted = net.state_dict()
    _check_fit(wanted, tensors, path)
    # A net built on the meta device holds no memory yet: it takes the tensors for its own.
    assign = any(tensor.is_meta for tensor in wanted.values())
    net.load_state_dict(
        {name: tensor.to(wanted[name].dtype) for name, tensor in tensors.items()}, assign=assign
    )


def _read_pt(path: Path) -> dict[str, Tensor]:
    try:
        _refuse_packed(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the pickle's protocol: what matters is the error
            tree = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise BadFile(
            f"{path}: holds Python objects, and loading those could run any code",
            cure="save the state dict alone: torch.save(net.state_dict(), path)",
        ) from None
    except OSError as error:
        raise explain_os_error(error, path) from error
    except _DAMAGED as error:
        reason = f"{type(error).__name__}: {error}"
        raise BadFile(
            f"{path}: damaged, or not a .pt file ({reason})", cure="restore it from a copy"
        ) from None
    if not isinstance(tree, dict) or not all(isinstance(value, Tensor) for value in tree.values()):
        raise BadFile(
            f"{path}: holds more than a state dict of tensors",
            cure="save the state dict alone: torch.save(net.state_dict(), path)",
        )
    return {str(name): value for name, value in tree.items()}


def _refuse_packed(path: Path) -> None:
    """A ``.pt`` is a zip of members that are not packed: one that is could hold any size."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            claimed = sum(member.file_size for member in archive.infolist())
        size = path.stat().st_size
        if claimed > size:
            raise ValueError(f"its members claim {claimed} bytes in a file of {size}")


_DAMAGED = (
    zipfile.BadZipFile,
    *(RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, AssertionError),
    *(ArithmeticError, MemoryError, struct.error, ImportError, BufferError),
)
"""What torch's reader raises on damaged files: it takes the bytes of a pickle on trust."""


def _holds_itself(tensor: Tensor) -> bool:
    """Whether every number of a tensor is in its file: strides of 0 claim any size for nothing."""
    if tensor.layout is not torch.strided or tensor.is_meta or tensor.is_quantized:
        return False
    return tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()


def _check_fit(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path) -> None:
    cure = "this file is of another network; check the run's model and its arguments"
    for name, tensor in wanted.items():
        if name not in found:
            raise BadFile(f"{path}: the tensor {name!r} is missing", cure=cure)
        if found[name].shape != tensor.shape:
            shapes = f"{tuple(found[name].shape)}, and the network needs {tuple(tensor.shape)}"
            raise BadFile(f"{path}: the tensor {name!r} has shape {shapes}", cure=cure)
        if not _holds_itself(found[name]):
            raise BadFile(
                f"{path}: the tensor {name!r} does not hold all of its numbers", cure=cure
            )
    for name in found:
        if name not in wanted:
            raise BadFile(f"{path}: the tensor {name!r} has no place in the network", cure=cure)
