"""Weights from any usual file, read without running code and matched with the names of a network.

A file is seldom a bare state dict: usually it is a training checkpoint, which also contains an
optimizer and an ``argparse.Namespace``, or a whole pickled module. The reader of PyTorch for
weights builds only tensors and plain containers, and stops at anything else. Here every other class
and function is replaced by a stand-in, which stores its arguments and does nothing. So the tensors
can be read, and nothing that the file names is imported or run.

The fingerprint of a set of pictures, which tells sets apart, is computed here too.
"""

from __future__ import annotations

import hashlib
import pickle
import struct
import warnings
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from eyeshot.data import Data, Examples
from eyeshot.errors import BadFile
from eyeshot.files import explain_os_error, write_aside
from eyeshot.language import counted

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
    for examples in filter(None, (data.train, data.test, data.validation)):
        digest.update(examples.labels.numpy().tobytes())
        digest.update(_pixels(examples))
    return digest.hexdigest()[:16]


def _pixels(examples: Examples) -> memoryview:
    if examples.in_memory:
        images = examples.images
    else:
        step = max(1, len(examples) // _SAMPLE)
        images, _ = examples.take(range(0, len(examples), step))
    return images.contiguous().numpy().data


_COMPILED = "_orig_mod"
_COUNTER = "num_batches_tracked"  # missing in files from before PyTorch 0.4.1
_AVERAGED = ("ema", "averaged")


def load_weights(net: nn.Module, path: Path) -> str:
    """Load the weights of ``net`` from a file; on an error ``net`` is not changed.

    A file may contain a bare state dict, a state dict below other keys (``state_dict``, ``model``,
    ``net``, ``params_ema`` …), names with a common prefix (``module.`` of ``DataParallel``,
    ``model.`` of Lightning, ``_orig_mod.`` of ``torch.compile``), or a whole pickled module, whose
    tensors are read and whose code is not run. Averaged weights (EMA) are preferred.

    Args:
        net: the network; on the meta device it uses the loaded tensors without a copy.
        path: ``.safetensors``, or ``.pt``, ``.pth``, ``.ckpt`` or ``.bin`` of ``torch.save``.

    Returns:
        Which tensors were loaded, and what else the file contains, in one line.

    Raises:
        BadFile: the file is missing or damaged, has no tensors, or has two sets of weights that
            fit; or it is for another network, and the names and shapes that do not fit are listed.
    """
    path = Path(path)
    file = read_checkpoint(path)
    if not file.leaves:
        of = f", only objects ({', '.join(file.unread[:3])})" if file.unread else ""
        raise BadFile(f"{path}: holds no tensors under names{of}", cure=SAVE_CURE)
    needed = net.state_dict()
    fit, also = _choose(path, needed, file)
    _check(path, net, needed, fit)
    tensors = {
        name: leaf.tensor if is_lazy(needed[name]) else leaf.tensor.to(needed[name].dtype)
        for name, leaf in fit.leaves.items()
    }
    tensors |= {name: torch.zeros((), dtype=needed[name].dtype) for name in fit.missing}
    # A net on the meta device has no memory yet, so the tensors are assigned and not copied.
    net.load_state_dict(tensors, assign=any(tensor.is_meta for tensor in needed.values()))
    return f"{path}: {_summary(fit, also, file)}"


def take_weights(net: nn.Module, path: Path) -> tuple[frozenset[str], str]:
    """Load the weights that fit ``net`` from a file; on an error ``net`` is not changed.

    Args:
        net: the network.
        path: as for :func:`load_weights`.

    Returns:
        The names of the loaded weights; and a line with their number, and with the other names and
        the reasons.

    Raises:
        BadFile: the file is missing or damaged, or nothing in it fits.
    """
    file = read_checkpoint(Path(path))
    needed = net.state_dict()
    fit = _choose(path, needed, file)[0] if file.leaves else None
    fitting = {
        name: leaf.tensor
        for name, leaf in (fit.leaves.items() if fit else ())
        if fit and name not in fit.shapes and _holds_itself(leaf.tensor)
    }
    if fit is None or not any(needed[name].is_floating_point() for name in fitting):
        raise BadFile(
            f"{path}: nothing in it fits {type(net).__name__}",
            cure="give weights of the same network, or of one whose layers have the same names",
        )
    net.load_state_dict({**needed, **fitting})
    missing = [repr(name) for name in fit.missing if not name.endswith(_COUNTER)]
    omissions = [
        _listed([repr(name) for name in fit.shapes], "of another shape, learned from the start"),
        _listed(missing, "not in it, learned from the start"),
        _listed([repr(name) for name in fit.extra], "in it without a place"),
    ]
    parts = [f"{len(fitting)} of {counted(len(needed), 'tensor')} taken", *filter(None, omissions)]
    return frozenset(fitting), f"{path}: {'; '.join(parts)}"


@dataclass(frozen=True, eq=False)
class _Fit:
    """The tensors of a file below one prefix, compared with those of the network.

    Attributes:
        prefix: the common start of their full names, including keys; empty for none.
        key: the part of the prefix that consists of keys of the state dict.
        added: a prefix of the network's names that the file's names do not have.
        leaves: the tensors, by the network's names.
        missing: names of the network that are not in the file.
        extra: names below the same prefix that are not in the network.
        others: names of the same state dict outside the prefix.
        shapes: names whose tensors have another shape.
    """

    prefix: str
    key: str
    added: str
    leaves: Mapping[str, Leaf]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    others: tuple[str, ...]
    shapes: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether all names and shapes agree with the network."""
        needed = any(not name.endswith(_COUNTER) for name in self.missing)
        return not (needed or self.extra or self.shapes)

    @property
    def averaged(self) -> bool:
        """Whether its keys name an average over the training."""
        return any(word in self.prefix.lower() for word in _AVERAGED)

    @property
    def cut(self) -> str:
        """The prefix of its names in the state dict, which the network's names do not have."""
        return self.prefix.removeprefix(f"{self.key}.") if self.key else self.prefix


def _plain(name: str) -> str:
    """A name without the parts that ``torch.compile`` inserts."""
    return ".".join(part for part in name.split(".") if part != _COMPILED)


def _choose(path: Path, net: Mapping[str, Tensor], file: Checkpoint) -> tuple[_Fit, list[_Fit]]:
    """The prefix whose tensors fit the network best, and other prefixes that fit too.

    Raises:
        BadFile: several fit, and not exactly one of them is an average over the training.
    """
    places = {_plain(name): name for name in net}
    fits = _fits(net, file.leaves, places, "")
    firsts = {name.partition(".")[0] for name in places}
    if not any(fit.whole for fit in fits) and len(firsts) == 1:
        start = f"{firsts.pop()}."
        inner = {name.removeprefix(start): own for name, own in places.items()}
        fits += _fits(net, file.leaves, inner, start)
    whole = [fit for fit in fits if fit.whole]
    best = [fit for fit in whole if fit.averaged] or whole
    if len(best) > 1:
        names = ", ".join(repr(fit.prefix) for fit in best[:4])
        raise BadFile(
            f"{path}: {len(best)} sets of weights in it fit the network, under {names}",
            cure="save only the set that you need, with torch.save or safetensors",
        )
    if best:
        return best[0], [fit for fit in whole if fit is not best[0]]
    return max(fits, key=lambda fit: len(fit.leaves) - len(fit.shapes)), []


def _fits(
    net: Mapping[str, Tensor], leaves: Sequence[Leaf], places: Mapping[str, str], added: str
) -> list[_Fit]:
    """The prefixes with all of the network's names; if there are none, those with most of them."""
    full = [_plain(".".join((*leaf.key, leaf.name))) for leaf in leaves]
    counts: Counter[str] = Counter()
    for name in full:
        parts = name.split(".")
        for i in range(len(parts)):
            if ".".join(parts[i:]) in places:
                counts["".join(f"{part}." for part in parts[:i])] += 1
    if not counts:
        key, _ = Counter(leaf.key for leaf in leaves).most_common(1)[0]
        counts["".join(f"{part}." for part in key)] = 0
    most = max(counts.values())
    needed = sum(not name.endswith(_COUNTER) for name in places)
    chosen = [prefix for prefix, count in counts.items() if count >= min(most, needed)]
    return [_fit(net, dict(zip(full, leaves, strict=True)), places, added, one) for one in chosen]


def _fit(
    net: Mapping[str, Tensor],
    file: Mapping[str, Leaf],
    places: Mapping[str, str],
    added: str,
    prefix: str,
) -> _Fit:
    inner = {
        name.removeprefix(prefix): leaf for name, leaf in file.items() if name.startswith(prefix)
    }
    leaves = {own: inner[name] for name, own in places.items() if name in inner}
    keys = {leaf.key for leaf in leaves.values()} or {leaf.key for leaf in inner.values()}
    beside = {name: leaf for name, leaf in file.items() if leaf.key in keys}
    key = ".".join(_shared(keys))
    return _Fit(
        prefix,
        key if f"{prefix}.".startswith(f"{key}.") else "",
        added,
        leaves,
        tuple(own for own in net if own not in leaves),
        tuple(
            leaf.name
            for name, leaf in beside.items()
            if name.startswith(prefix) and name.removeprefix(prefix) not in places
        ),
        tuple(leaf.name for name, leaf in beside.items() if not name.startswith(prefix)),
        tuple(
            own
            for own, leaf in leaves.items()
            if not is_lazy(net[own]) and leaf.tensor.shape != net[own].shape
        ),
    )


def _shared(keys: Iterable[tuple[str, ...]]) -> list[str]:
    """The common start of all keys."""
    levels = (set(level) for level in zip(*keys, strict=False))
    return [level.pop() for level in takewhile(lambda level: len(level) == 1, levels)]


def _check(path: Path, net: nn.Module, needed: Mapping[str, Tensor], fit: _Fit) -> None:
    """Refuse tensors that do not fit the network; the error lists names and shapes."""
    for name, leaf in fit.leaves.items():
        if not _holds_itself(leaf.tensor):
            raise BadFile(
                f"{path}: the tensor {name!r} does not hold all of its numbers",
                cure="restore it from a copy",
            )
    if fit.whole:
        return
    missing = [repr(name) for name in fit.missing if not name.endswith(_COUNTER)]
    shapes = [
        f"{name!r} has shape {tuple(fit.leaves[name].tensor.shape)}, and the network needs "
        f"{tuple(needed[name].shape)}"
        for name in fit.shapes
    ]
    faults = [
        _listed(missing, "missing"),
        _listed([repr(name) for name in fit.extra], "without a place in the network"),
        _listed(shapes, "of another shape"),
    ]
    at = f" under {fit.prefix!r}" if fit.prefix else ""
    if len(fit.shapes) == len(fit.leaves):
        cure = "this file is for another network"
    elif missing or fit.extra:
        cure = (
            "build the network as it was in training; to load only the parts that fit, use "
            "strict=False in your own code"
        )
    else:
        cure = "build the network with the sizes that the file's shapes show"
    raise BadFile(
        f"{path}{at}: does not fit {type(net).__name__}: {'; '.join(filter(None, faults))}",
        cure=cure,
    )


def _listed(names: Sequence[str], what: str) -> str:
    """ "2 missing: 'a', 'b'"; the first few of many."""
    if not names:
        return ""
    return f"{len(names)} {what}: {', '.join(names[:4])}{', …' if len(names) > 4 else ''}"


def _holds_itself(tensor: Tensor) -> bool:
    """Whether every number of a tensor is in its file; a stride of 0 allows any size."""
    if tensor.layout is not torch.strided or tensor.is_meta or tensor.is_quantized:
        return False
    return tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()


def _summary(fit: _Fit, also: Sequence[_Fit], file: Checkpoint) -> str:
    """The place of the tensors, the changes of their names, and what was not used."""
    summary = counted(len(fit.leaves), "tensor")
    if fit.key:
        summary += f" under {fit.key!r}"
    modules = {leaf.module for leaf in fit.leaves.values()} - {""}
    if modules:
        summary += f" of a pickled {' and '.join(sorted(modules))}, whose code was not run"
    cuts = [fit.cut] if fit.cut else []
    if any(_COMPILED in leaf.name.split(".") for leaf in fit.leaves.values()):
        cuts.append(f"{_COMPILED}.")
    parts = [summary]
    if cuts:
        parts.append(f"{' and '.join(map(repr, cuts))} taken off their names")
    if fit.added:
        parts.append(f"{fit.added!r} put before their names")
    if fit.missing:
        parts.append(f"its {_COUNTER} are 0, for the file has none")
    if fit.others:
        parts.append(_listed([repr(name) for name in fit.others], "left out"))
    if also:
        parts.append(f"{', '.join(repr(one.prefix) for one in also)} would fit too")
    unread = [name for name in file.unread if not name.startswith("torch.nn.")]
    if unread and not modules:
        parts.append(_listed(unread, "not made, of the other objects in it"))
    return "; ".join(parts)
