"""Load weights from any usual file: match the file's names with the network's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from eyeshot.errors import BadFile
from eyeshot.findings.wording import counted
from eyeshot.runs.weight_files import SAVE_CURE, Checkpoint, Leaf, read_checkpoint

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
