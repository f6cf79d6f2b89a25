"""Files of weights, read and written without running code; and the fingerprint of a data set.

A file is seldom a bare state dict: usually it is a training checkpoint, which also contains an
optimizer and an ``argparse.Namespace``, or a whole pickled module. PyTorch's reader for weights
builds only tensors and plain containers, and stops at anything else. Here every other class and
function is replaced by a stand-in, which stores its arguments and does nothing. So the tensors can
be read, and nothing that the file names is imported or run.

In this file:

- reading and writing tensors without running code;
- a fingerprint of a set of pictures, to tell sets apart.
"""

from __future__ import annotations

import hashlib
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from eyeshot.data import Data, Examples
from eyeshot.errors import BadFile
from eyeshot.files import explain_os_error, write_aside

TORCH_FILES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".tar")
"""The usual suffixes of files of ``torch.save``."""

_MOST_CONTAINERS = 200_000
_CLASS = "its class"  # a key that no attribute can have
SAVE_CURE = (
    "save only the state dict, in a program that has the class: torch.save(net.state_dict(), path)"
)


@dataclass(frozen=True, eq=False)
class Leaf:
    """A tensor of a checkpoint.

    Attributes:
        key: the keys that lead to its state dict; empty for a bare one.
        name: its name there.
        tensor: the tensor, on the CPU.
        module: the class of the pickled module that contains it; "" without one.
    """

    key: tuple[str, ...]
    name: str
    tensor: Tensor
    module: str = ""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The contents of a file of weights.

    Attributes:
        leaves: every tensor that has a name.
        unread: classes and functions of other objects in the file, which were not created.
    """

    leaves: tuple[Leaf, ...]
    unread: tuple[str, ...]


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write ``tensors`` as one safetensors file, under another name that is then renamed.

    Raises:
        Failure: the disk is full; an older file at ``path`` is unchanged.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    visited: set[int] = set()
    for name, tensor in plain.items():
        # A shared weight is stored once for each layer.
        storage = tensor.untyped_storage().data_ptr()
        if storage in visited:
            plain[name] = tensor.clone()
        visited.add(storage)
    # Bytes are written by Python, which reports a full disk; safetensors' own writer does not.
    content = safetensors.torch.save(plain, metadata)
    with write_aside(path) as aside:
        aside.write_bytes(content)


def read_tensors(path: Path, *, tensors: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file: its tensors on the CPU, and the metadata in its header.

    Args:
        path: the path of the file.
        tensors: False to read only the metadata.

    Raises:
        BadFile: missing, truncated, or not safetensors.
    """
    if not path.is_file():
        raise BadFile(f"{path}: no such file", cure="check the path, or train again")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            names = file.keys() if tensors else ()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except SafetensorError as error:
        raise BadFile(
            f"{path}: damaged, or not a safetensors file ({error})",
            cure="restore it from a copy, or train again",
        ) from None
    except OSError as error:
        raise explain_os_error(error, path) from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Every named tensor in a file of weights.

    Args:
        path: safetensors, or a file of ``torch.save``: a state dict, possibly below other keys, or
            a pickled module. The content decides between the two formats.

    Raises:
        BadFile: it is missing, damaged, or a folder, or cannot be read without running code.
    """
    if path.is_dir():
        cure = "name the file in it, such as model.safetensors"
        raise BadFile(f"{path}: a folder, and no file of weights", cure=cure)
    if path.suffix.lower() not in TORCH_FILES or _is_safetensors(path):
        tensors, _ = read_tensors(path)
        return Checkpoint(tuple(Leaf((), *pair) for pair in tensors.items()), ())
    tree, unread = _read_torch(path)
    try:
        leaves = tuple(_leaves(tree))
    except RecursionError:
        raise BadFile(
            f"{path}: its containers contain each other endlessly", cure=SAVE_CURE
        ) from None
    return Checkpoint(leaves, unread)


def _is_safetensors(path: Path) -> bool:
    """Whether a file starts like safetensors: eight bytes of a length, and a brace."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError:
        return False  # the reader reports the error
    return len(start) == 9 and start[8:] == b"{" and struct.unpack("<Q", start[:8])[0] < 2**27


def _read_torch(path: Path) -> tuple[Any, tuple[str, ...]]:
    """The result of ``torch.load``, and the names that were replaced by stand-ins."""
    try:
        _refuse_packed(path)
        try:
            return _loaded(path), ()
        except pickle.UnpicklingError as error:
            names = _named(path)
            if not names:
                raise _unreadable(path, str(error)) from None
        stand_ins: list[Any] = [(_stand_in(name), name) for name in names]
        with torch.serialization.safe_globals(stand_ins):
            return _loaded(path), names
    except pickle.UnpicklingError as error:
        raise _unreadable(path, str(error)) from None
    except OSError as error:
        raise explain_os_error(error, path) from error
    except _DAMAGED as error:
        reason = f"{type(error).__name__}: {error}"
        raise BadFile(
            f"{path}: damaged, or not a file of torch.save ({reason})",
            cure="restore it from a copy",
        ) from None


def _loaded(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the pickle's protocol: only errors matter
        return torch.load(path, map_location="cpu", weights_only=True)


def _named(path: Path) -> tuple[str, ...]:
    """Classes and functions in a file that PyTorch's reader for weights does not know."""
    try:
        return tuple(sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(path))))
    except (ValueError, pickle.UnpicklingError):
        return ()  # a file from before PyTorch 1.6, or an instruction that would run code


def _unreadable(path: Path, reason: str) -> BadFile:
    names = _named(path)
    of = f" ({', '.join(names[:3])}{' …' if len(names) > 3 else ''})" if names else ""
    word = "" if names else f" [{reason.partition('GLOBAL ')[2].partition(' ')[0]}]"
    word = word if len(word) > 3 else ""
    return BadFile(
        f"{path}: holds Python objects{of or word}, and loading those could run any code",
        cure=SAVE_CURE,
    )


class _Opaque:
    """Replaces an object of NumPy, whose state is not a mapping."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def _stand_in(name: str) -> Callable[..., Any]:
    """A class that accepts any arguments, and creates a mapping that stores its attributes.

    PyTorch's reader sets items and attributes only of plain ordered dictionaries.
    """
    if name.startswith("numpy."):
        return type("Opaque", (_Opaque,), {})

    def new(cls: type, *_: Any) -> OrderedDict[Any, Any]:
        made: OrderedDict[Any, Any] = OrderedDict()
        vars(made)[_CLASS] = name
        return made

    return type("StandIn", (), {"__new__": new})


def _is_module(value: Any) -> bool:
    if not isinstance(value, OrderedDict):
        return False
    attributes = vars(value)
    names = ("_parameters", "_buffers", "_modules")
    return all(isinstance(attributes.get(name), dict) for name in names)


def _leaves(tree: Any) -> Iterator[Leaf]:
    """Every named tensor; each container is visited once."""
    if isinstance(tree, Tensor):
        yield Leaf((), "", tree)
        return
    visited: set[int] = set()
    waiting: list[tuple[tuple[str, ...], Any]] = [((), tree)]
    while waiting:
        key, item = waiting.pop(0)
        if id(item) in visited:
            continue
        visited.add(id(item))
        if _is_module(item):
            of = str(vars(item).get(_CLASS, "module"))
            yield from (Leaf(key, name, one, of) for name, one in _of_module(item, "", [0]))
        elif isinstance(item, Mapping):
            for name, value in item.items():
                if isinstance(value, Tensor):
                    yield Leaf(key, str(name), value)
                elif isinstance(value, Mapping):
                    waiting.append(((*key, str(name)), value))


def _of_module(module: Any, prefix: str, count: list[int]) -> Iterator[tuple[str, Tensor]]:
    """The names and tensors of a pickled module's ``state_dict``."""
    count[0] += 1
    if count[0] > _MOST_CONTAINERS:
        raise RecursionError
    attributes = vars(module)
    passing = attributes.get("_non_persistent_buffers_set") or ()
    for part in ("_parameters", "_buffers"):
        for name, tensor in attributes[part].items():
            if isinstance(tensor, Tensor) and not (part == "_buffers" and name in passing):
                yield f"{prefix}{name}", tensor
    for name, inner in attributes["_modules"].items():
        if _is_module(inner):
            yield from _of_module(inner, f"{prefix}{name}.", count)


def _refuse_packed(path: Path) -> None:
    """Refuse compressed members of a ``.pt``, which is a zip without compression, and TorchScript.

    A compressed member could decompress to any size.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        if any(member.filename.endswith("/constants.pkl") for member in members):
            cure = "save torch.jit.load(path).state_dict() with torch.save, and give that file"
            raise BadFile(f"{path}: a TorchScript program", cure=cure)
        claimed = sum(member.file_size for member in members)
        size = path.stat().st_size
        if claimed > size:
            raise ValueError(f"its members claim {claimed} bytes in a file of {size}")


_DAMAGED = (
    zipfile.BadZipFile,
    *(RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, AssertionError),
    *(ArithmeticError, MemoryError, struct.error, ImportError, BufferError),
)
"""The exceptions of torch's reader on damaged files; it does not check the bytes of a pickle."""


_SAMPLE = 16


def fingerprint(data: Data) -> str:
    """16 hexadecimal digits that identify a set of pictures, labels and classes.

    For a set that is streamed from files, all labels and only a sample of the pictures are read.
    """
    digest = hashlib.sha256(repr((data.classes, data.train.shape, data.test.shape)).encode())
    for examples in (data.train, data.test):
        digest.update(examples.labels.numpy().tobytes())
        digest.update(_pixels(examples))
    return digest.hexdigest()[:16]


def _pixels(examples: Examples) -> memoryview:
    if examples.held:
        images = examples.images
    else:
        step = max(1, len(examples) // _SAMPLE)
        images, _ = examples.take(range(0, len(examples), step))
    return images.contiguous().numpy().data
