"""Other people's networks, built by name, run by parts and as one whole pass in float64.

    python -m tools.survey --list
    python -m tools.survey --only timm --jobs 2 --seconds 60
    python -m tools.survey --more --only kornia
    python -m tools.survey --sample 300

Needs packages that Eyeshot does not: install ``segmentation_models_pytorch``, ``timm``, ``monai``,
``spandrel``, ``pytorchcv``, ``ultralytics``, ``transformers`` and so on into an environment of
its own. What is not there is left out. Each network has random weights and is tried in a process of
its own, whose time and memory are limited:

- **equal**: every output of a run by bands is ``net(image)``, to 1e-9 of its largest number (1e-5
  where the network itself computes in a coarser type, such as attention in float32);
- **refused**: one line says why not;
- **wrong**, **spoilt** (the network is another afterwards), **traceback**, **too slow**: faults.

``--more`` tries each equal network again: at two other sizes, the smaller with odd sides (where
``net(image)`` itself fails, a refusal is right); a random region of the output; ``see`` against
hooks; ``explain`` of three random units; the receptive field of a random unit against gradients.

``--sample N`` takes N of the networks, evenly from the packages and in turn, so that a run that is
stopped early has tried some of each; ``--from M`` leaves out the first M of them. The table at the
end counts what came of each package.

The exit status is 1 if one was wrong, spoilt or ended in a traceback.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import importlib
import json
import random
import resource
import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice, zip_longest
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tools.surveyed import networks
from tools.surveyed_signals import Build
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import eyeshot
from eyeshot.errors import EyeshotError, Failure

_LIMIT = 1e-9
_COARSE = 1e-5
_FAULTS = ("wrong", "spoilt", "traceback")
_BYTES = 10 * 2**30
_PATIENCE = 30  # seconds of waiting for one of computing

Told = Callable[[str], None]


def attempt(build: Build, more: bool = False, told: Told = lambda _: None) -> tuple[str, str]:
    """One network: what came of it, and why. ``told`` hears which step begins."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    told("building")
    try:
        net, size = build()
        net = net.eval().double()
        _enliven(net)
        image = _noise(size)
        with torch.no_grad():
            truth = _without_state(net)(image[None].clone())
    except Exception as error:
        return "not built", _brief(error)
    kind, why = _checked(net, lambda: _run_and_compare(net, image, truth), told, "running")
    if _is_slight(kind, why):
        kind, why = ("equal", f"{why}, in float32") if _is_coarse(net, image) else (kind, why)
    if kind != "equal" or not more:
        return kind, why
    for step, check in _checks(net, image, truth):
        kind, found = _checked(net, check, told, step)
        if kind != "equal" and not (_is_slight(kind, found) and _is_coarse(net, image)):
            return kind, f"{step}: {found}"
    return "equal", why


def _without_state(net: nn.Module) -> nn.Module:
    """A copy, because a call may change what the next call gives; itself if it has no copy."""
    try:
        return copy.deepcopy(net)
    except Exception:  # somebody's class may forbid it
        return net


def _is_slight(kind: str, why: str) -> bool:
    off = why.removesuffix(" off").split()[-1:] if kind == "wrong" and why.endswith(" off") else []
    return bool(off) and float(off[0]) <= _COARSE


class _Types(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The types of all that is computed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.seen |= {one.dtype for one in _tensors(found) if one.numel() > 1}
        return found


def _is_coarse(net: nn.Module, image: Tensor) -> bool:
    """Whether the network converts to a coarser type inside."""
    with torch.no_grad(), _Types() as types:
        net(image[None].clone())
    return bool(types.seen & {torch.float32, torch.float16, torch.bfloat16})


def _checked(
    net: nn.Module, check: Callable[[], tuple[str, str]], told: Told, step: str
) -> tuple[str, str]:
    """What came of one step, and whether it left the network as it was."""
    told(step)
    before = _fingerprint(net)
    try:
        found = check()
    except EyeshotError as error:
        found = ("wrong" if isinstance(error, Failure) else "refused", str(error))
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        found = "traceback", f"{_brief(error)} at {where.filename.split('/')[-1]}:{where.lineno}"
    after = _fingerprint(net)
    if after != before:
        changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
        return "spoilt", f"another afterwards: {', '.join(changed[:4])}"
    return found


_LAYOUTS = {1: "L", 2: "CL", 3: "CHW", 4: "CDHW"}


def _run(net: nn.Module, image: Tensor, **options: Any) -> Any:
    """The raw outputs, of an input whose first axis is channels whatever its length."""
    layout = _LAYOUTS[image.ndim]
    return eyeshot.run(net, image, raw=True, output_format="float64", layout=layout, **options)


def _run_and_compare(net: nn.Module, image: Tensor, truth: Any, band: int = 16) -> tuple[str, str]:
    found = _run(net, image, band=band)
    return compared(_leaves(found), _leaves(truth))


def _checks(
    net: nn.Module, image: Tensor, truth: Any
) -> Iterator[tuple[str, Callable[[], tuple[str, str]]]]:
    draw = random.Random(0)
    for size in _other_sizes(tuple(image.shape)):
        other = _noise(size)
        called = _called(net, other)  # before the step: the call itself may keep something
        yield f"at {'x'.join(map(str, size))}", partial(_at_size, net, other, called)
    _called(net, image)
    leaves = _leaves(truth)
    if len(leaves) == 1 and leaves[0].ndim == image.ndim + 1:
        yield "a region", lambda: _region(net, image, leaves[0], draw)
    yield "see", lambda: _see(net, image)
    yield "explain", lambda: _explain(net, image, draw)
    if len(leaves) == 1 and leaves[0].ndim == image.ndim + 1:
        yield "receptive_field", lambda: _field(net, image, draw)


def _other_sizes(size: tuple[int, ...]) -> list[tuple[int, ...]]:
    """A smaller size of odd sides, and one that is narrower and higher than the first."""
    channels, *sides = size
    odd = [side * (3 if axis % 2 else 5) // 8 | 1 for axis, side in enumerate(sides)]
    even = [side * 5 // 4 // 4 * 4 if axis == 0 else side // 2 for axis, side in enumerate(sides)]
    return [(channels, *odd), (channels, *even)]


def _called(net: nn.Module, image: Tensor) -> Any:
    """What the network gives, or the error that it raises."""
    try:
        with torch.no_grad():
            return net(image[None].clone())
    except Exception as error:
        return error


def _at_size(net: nn.Module, image: Tensor, truth: Any) -> tuple[str, str]:
    if not isinstance(truth, Exception):
        return _run_and_compare(net, image, truth, band=7)
    try:
        _run(net, image, band=8)
    except EyeshotError:
        return "equal", "both refuse"
    return "wrong", f"an answer where the network has none: {_brief(truth)}"


def _region(net: nn.Module, image: Tensor, truth: Any, draw: random.Random) -> tuple[str, str]:
    region = []
    for side in truth.shape[2:]:
        low = draw.randrange(side)
        region.append((low, draw.randrange(low, side) + 1))
    found = _run(net, image, region=region)
    wanted = truth[(slice(None), slice(None), *(slice(*pair) for pair in region))]
    scale = max(1e-30, float(np.nanmax(np.abs(truth), initial=0.0)))
    kind, why = compared([np.asarray(found)], [wanted], scale)
    return kind, f"{region}: {why}"


def _see(net: nn.Module, image: Tensor) -> tuple[str, str]:
    """The maps of ``see`` against those that hooks record of modules without modules inside."""
    seen = eyeshot.see(net, image)
    kept: dict[str, list[Any]] = {}
    handles = []
    for name, module in net.named_modules():
        if name and not list(module.children()) and not getattr(module, "inplace", False):

            def keep(_m: Any, _i: Any, output: Any, name: str = name) -> None:
                value = output.detach().clone() if isinstance(output, Tensor) else None
                kept.setdefault(name, []).append(value)

            handles.append(module.register_forward_hook(keep))
    try:
        with torch.no_grad():
            net(image[None].clone())
    finally:
        for handle in handles:
            handle.remove()
    compared = 0
    for name, values in kept.items():
        value = values[0]
        if len(values) > 1 or value is None or not value.ndim or name not in seen:
            continue
        wanted = value[0].numpy() if value.shape[0] == 1 else value.numpy()
        maps = np.asarray(seen[name])
        if maps.shape != wanted.shape:
            if maps.size == wanted.size and len(value) != 1:
                continue
            return "wrong", f"{name} has shape {maps.shape} for {tuple(value.shape)}"
        scale = max(1e-20, float(np.nanmax(np.abs(wanted), initial=0.0)))
        apart = float(np.nanmax(np.abs(maps - wanted), initial=0.0)) / scale
        if apart > 1e-5:
            return "wrong", f"{name} is {apart:.1e} off"
        compared += 1
    return "equal", f"{compared} layers"


def _explain(net: nn.Module, image: Tensor, draw: random.Random) -> tuple[str, str]:
    seen = eyeshot.see(net, image)
    names = [layer.name for layer in seen.layers if layer.maps.size and layer.maps.ndim]
    for name in draw.sample(names, min(3, len(names))):
        maps = np.asarray(seen[name])
        unit = [draw.randrange(side) for side in maps.shape]
        try:
            found = eyeshot.explain(net, image, layer=name, unit=unit)
        except Failure:
            raise
        except EyeshotError:
            continue  # not every operator has a sum
        scale = max(1e-20, float(np.nanmax(np.abs(maps), initial=0.0)))
        if abs(found.total - float(maps[tuple(unit)])) > 1e-5 * scale:
            return "wrong", f"{name} {unit}: {found.total} for {maps[tuple(unit)]}"
    return "equal", ""


def _field(net: nn.Module, image: Tensor, draw: random.Random) -> tuple[str, str]:
    """No input outside the receptive field moves the unit."""
    with torch.enable_grad():
        x = torch.randn(
            image.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
        )
        x = x[None].requires_grad_()
        output = _tensors(net(x.clone()))[0]
        if output.ndim != x.ndim or not output.requires_grad:
            return "equal", "no gradient"
        unit = [draw.randrange(side) for side in output.shape[2:]]
        picked = output[0].flatten(1)[:, np.ravel_multi_index(unit, output.shape[2:])]
        weights = torch.randn(
            picked.shape, dtype=picked.dtype, generator=torch.Generator().manual_seed(3)
        )
        found = torch.autograd.grad((picked * weights).sum(), x, allow_unused=True)
    gradient: Tensor | None = found[0]
    if gradient is None:
        return "equal", "no gradient"
    field = eyeshot.receptive_field(net, tuple(image.shape), unit=unit)
    moved = gradient[0].abs().nan_to_num(1).sum(0)
    moved = moved > 1e-13 * moved.max()
    if field.inside is None:
        return "equal", field.status
    for axis, box in enumerate(field.inside):
        along = (
            moved.any(dim=[other for other in range(moved.ndim) if other != axis])
            if moved.ndim > 1
            else moved
        )
        at = along.nonzero().flatten().tolist()
        if at and (at[0] < box.lo or at[-1] >= box.hi):
            return (
                "wrong",
                f"unit {unit} sees {at[0]}..{at[-1]} along axis {axis}, not {box.lo}..{box.hi - 1}",
            )
    return "equal", ""


def _noise(size: tuple[int, ...]) -> Tensor:
    return torch.rand(size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _enliven(net: nn.Module) -> None:
    """No statistic or scale at its first value, where a fault would not show."""
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_var is not None:
            nn.init.uniform_(module.running_var, 0.5, 2, generator=generator)
            nn.init.normal_(module.running_mean, 0, 0.1, generator=generator)  # type: ignore[arg-type]
    with torch.no_grad():
        for one in net.parameters():
            if one.ndim < 2 and one.is_floating_point():
                one.add_(torch.randn(one.shape, generator=generator, dtype=one.dtype) * 0.05)


def compared(found: list[Any], truth: list[Any], scale: float | None = None) -> tuple[str, str]:
    """Whether outputs are a network's, which have an axis of one image in front; how far off."""
    arrays = [np.asarray(one) for one in found]
    if len(arrays) != len(truth):
        return "wrong", f"{len(arrays)} outputs for {len(truth)}"
    worst = 0.0
    for one, whole in zip(arrays, truth, strict=True):
        # a constant has no batch axis to leave out, though its first axis may have a length of 1
        lone = whole.ndim and whole.shape[0] == 1 and one.shape != whole.shape
        other = whole[0] if lone else whole
        if one.shape != other.shape:
            return "wrong", f"shape {one.shape} for {other.shape}"
        if other.size and not (np.isnan(other) == np.isnan(one)).all():
            return "wrong", "not a number in other places"
        with np.errstate(invalid="ignore"):
            apart = np.nanmax(np.where(one == other, 0, np.abs(one - other)), initial=0.0)
        largest = scale or max(1e-30, float(np.nanmax(np.abs(other), initial=0.0)))
        worst = max(worst, float(apart) / largest)
    return ("equal", f"{worst:.0e}") if worst <= _LIMIT else ("wrong", f"{worst:.1e} off")


def _tensors(value: Any) -> list[Tensor]:
    leaves = torch.utils._pytree.tree_leaves(value)
    if any(not isinstance(one, (Tensor, int, float, bool, type(None), str)) for one in leaves):
        leaves = [inner for one in leaves for inner in _inside(one)]
    return [one for one in leaves if isinstance(one, Tensor)]


def _inside(one: Any) -> list[Any]:
    """The tensors of an output of a class of the package's own."""
    return (
        list(vars(one).values())
        if hasattr(one, "__dict__") and not isinstance(one, Tensor)
        else [one]
    )


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
        return value
    found = [one.detach().numpy() for one in _tensors(value)]
    return [one if np.iscomplexobj(one) else one.astype(np.float64) for one in found]


def _fingerprint(net: nn.Module) -> dict[str, Any]:
    """All that a network is: numbers, settings, hooks, and what its modules keep beside."""
    found: dict[str, Any] = {"random state": hash(torch.get_rng_state().numpy().tobytes())}
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        data = tensor.detach().contiguous().reshape(-1).resolve_conj()
        numbers = hashlib.sha256(data.view(torch.uint8).numpy().tobytes()).hexdigest()
        found[name] = (numbers, tensor.dtype, tensor.shape, tensor.requires_grad, id(tensor))
        found[f"{name}.grad"] = tensor.grad is None
    for name, module in net.named_modules():
        hooks = [len(one or ()) for key, one in vars(module).items() if key.endswith("_hooks")]
        found[f"module {name}"] = (type(module), module.training, id(module), hooks)
        for key, value in vars(module).items():
            if not key.startswith("_") or key == "_cache":
                found[f"{name}.{key}"] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    """A value that compares: what it says, or where it is."""
    if isinstance(value, (int, float, str, bool, type(None), torch.Size)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, Tensor):
        return (tuple(value.shape), value.dtype, type(value).__name__)
    return type(value).__name__


def _brief(error: BaseException) -> str:
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:160]}"


def _in_a_process(name: str, build: Build, options: argparse.Namespace) -> dict[str, Any]:
    """One network in a process of its own, which has the packages already.

    Its time is that of its processor, so that other work on the machine makes none too slow.
    """
    context = get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    limit = int(options.seconds)
    process = context.Process(target=_child, args=(build, options.more, limit, theirs))
    process.start()
    theirs.close()
    latest = time.monotonic() + _PATIENCE * limit
    row = {"name": name, "kind": "too slow", "seconds": float(limit)}
    step = "starting"
    try:
        while ours.poll(max(0.0, latest - time.monotonic())):
            message = ours.recv()
            if isinstance(message, dict):
                return {**row, **message}
            step = message
        row["why"] = f"waits, when {step}"
    except EOFError:
        process.join()
        slow = process.exitcode in (-signal.SIGXCPU, -signal.SIGKILL)
        row["why"] = f"more than {limit} s, when {step}" if slow else f"died, when {step}"
        row["kind"] = "too slow" if slow else "traceback"
    finally:
        process.kill()
        process.join()
    return {**row, "kind": "not built"} if step in ("starting", "building") else row


def _child(build: Build, more: bool, seconds: int, to: Connection) -> None:
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
    used = int(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, used + seconds + 1))
    kind, why = attempt(build, more, to.send)
    to.send({"kind": kind, "why": why, "seconds": time.process_time() - used})


def spread(names: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """At most ``count`` of the names, drawn evenly from the packages, one of each in turn."""
    draw = random.Random(seed)
    packages: dict[str, list[str]] = {}
    for name in names:
        packages.setdefault(package_of(name), []).append(name)
    for group in packages.values():
        draw.shuffle(group)
    turns = (name for turn in zip_longest(*packages.values()) for name in turn if name is not None)
    return list(islice(turns, count))


def package_of(name: str) -> str:
    """The package of a network's name: what stands before the first slash."""
    return name.split("/")[0]


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """What came of each package's networks, a line a package, and the share that is equal."""
    kinds = ("equal", "refused", *_FAULTS, "too slow")
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        counts.setdefault(package_of(row["name"]), Counter())[row["kind"]] += 1
    counts = dict(sorted(counts.items()))
    counts["all"] = sum(counts.values(), Counter())
    lines = [f"{'':24}{'built':>7}" + "".join(f"{kind:>11}" for kind in kinds)]
    for package, found in counts.items():
        built = sum(found[kind] for kind in kinds)
        lines.append(
            f"{package:24}{built:7}" + "".join(f"{found[kind] or '':>11}" for kind in kinds)
        )
    lines.append(
        f"{counts['all']['equal']} of {built} equal: {counts['all']['equal'] / max(1, built):.1%}"
    )
    return "\n".join(lines)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="names that hold this text, or one of several")
    parser.add_argument("--every", type=int, default=1, help="every n-th network; default all")
    parser.add_argument("--from", type=int, default=0, dest="start", help="the first to take")
    parser.add_argument(
        "--named", action="store_true", help="leave out the classes that are built by guesses"
    )
    parser.add_argument("--sample", type=int, help="so many, evenly from the packages and in turn")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--seconds", type=float, default=120, help="most processor time a network")
    parser.add_argument("--more", action="store_true", help="other sizes, see, explain, fields")
    parser.add_argument("--list", action="store_true", help="print the names alone")
    parser.add_argument("--json", help="a file for the table, a line a network")
    options = parser.parse_args()
    torch.set_num_threads(1)  # processes are forked, which threads do not survive
    for one in (eyeshot.run, eyeshot.see, eyeshot.explain, eyeshot.receptive_field):
        importlib.import_module(one.__module__)  # once, and not in each process
    known = networks(guesses=not options.named)
    wanted = options.only.split(",")
    names = [name for name in known if any(one in name for one in wanted)]
    if options.sample is not None:
        names = spread(names, options.sample)
    names = names[options.start :: options.every]
    if options.list:
        print("\n".join(names))
        return 0
    rows = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for row in pool.map(lambda name: _in_a_process(name, known[name], options), names):
            rows.append(row)
            print(
                f"{row['kind']:10} {row['name']:45} {row['seconds']:5.0f} s  {row['why']}",
                flush=True,
            )
            if options.json:
                with Path(options.json).open("a") as file:
                    file.write(json.dumps(row) + "\n")
    print(table(rows))
    return int(any(row["kind"] in _FAULTS for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
