"""Other people's networks, built by name, run by parts and as one whole pass in float64.

    python -m tools.survey --list
    python -m tools.survey --only timm --jobs 2 --seconds 60

Needs packages that Eyeshot does not: install ``segmentation_models_pytorch``, ``timm``, ``monai``,
``spandrel`` and ``torchvision`` into an environment of its own. What is not there is left out. Each
network has random weights and is tried in a process of its own:

- **equal**: every output of a run by bands is ``net(image)``, to 1e-9 of its largest number;
- **refused**: one line says why not;
- **wrong**, **spoilt** (the network is another afterwards), **traceback**, **too slow**: faults.

The exit status is 1 if one was wrong, spoilt or ended in a traceback.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
import traceback
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tools.surveyed import Build, networks
from torch import nn

import eyeshot
from eyeshot.errors import EyeshotError

_LIMIT = 1e-9
_FAULTS = ("wrong", "spoilt", "traceback")


def attempt(build: Build) -> tuple[str, str]:
    """One network: what came of it, and why."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    try:
        net, size = build()
        net = net.eval().double()
        _enliven(net)
        image = torch.rand(size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            truth = _leaves(net(image[None]))
    except Exception as error:
        return "not built", _brief(error)
    before = _fingerprint(net)
    try:
        found = eyeshot.run(net, image, raw=True, output_format="float64", band=16)
    except EyeshotError as error:
        return "refused", str(error)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return "traceback", f"{_brief(error)} at {where.filename.split('/')[-1]}:{where.lineno}"
    if _fingerprint(net) != before:
        return "spoilt", "its weights or settings are others afterwards"
    return _compared(_leaves(found), truth)


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


def _compared(found: list[Any], truth: list[Any]) -> tuple[str, str]:
    arrays = [np.asarray(one, dtype=np.float64) for one in found]
    wanted = [one[0] if one.ndim and one.shape[0] == 1 else one for one in truth]
    if len(arrays) != len(wanted):
        return "wrong", f"{len(arrays)} outputs for {len(wanted)}"
    worst = 0.0
    for one, other in zip(arrays, wanted, strict=True):
        if one.shape != other.shape:
            return "wrong", f"shape {one.shape} for {other.shape}"
        if other.size and not (np.isnan(other) == np.isnan(one)).all():
            return "wrong", "not a number in other places"
        apart = np.nanmax(np.abs(one - other), initial=0.0)
        worst = max(worst, float(apart) / max(1e-30, float(np.nanmax(np.abs(other), initial=0.0))))
    return ("equal", f"{worst:.0e}") if worst <= _LIMIT else ("wrong", f"{worst:.1e} off")


def _leaves(value: Any) -> list[Any]:
    leaves = torch.utils._pytree.tree_leaves(value)
    return [
        one.numpy().astype(np.float64) if isinstance(one, torch.Tensor) else one for one in leaves
    ]


def _fingerprint(net: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in net.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().view(-1).numpy().tobytes())
    digest.update(repr([(n, type(m), m.training) for n, m in net.named_modules()]).encode())
    return digest.hexdigest()


def _brief(error: BaseException) -> str:
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:160]}"


def _in_a_process(name: str, build: Build, seconds: float) -> dict[str, Any]:
    """One network in a process of its own, which has the packages already."""
    started = time.monotonic()
    ours, theirs = get_context("fork").Pipe(duplex=False)
    process = get_context("fork").Process(target=_told, args=(build, theirs))
    process.start()
    theirs.close()
    kind, why = "too slow", f"more than {seconds:.0f} s"
    try:
        if ours.poll(seconds):
            kind, why = ours.recv()
    except EOFError:
        kind, why = "traceback", "the process died"
    process.kill()
    process.join()
    return {"name": name, "kind": kind, "why": why, "seconds": time.monotonic() - started}


def _told(build: Build, to: Connection) -> None:
    torch.set_num_threads(1)
    to.send(attempt(build))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="names that hold this text")
    parser.add_argument("--every", type=int, default=1, help="every n-th network; default all")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--seconds", type=float, default=120, help="most for one network")
    parser.add_argument("--list", action="store_true", help="print the names alone")
    parser.add_argument("--json", help="a file for the table, a line a network")
    options = parser.parse_args()
    torch.set_num_threads(1)  # processes are forked, which threads do not survive
    known = networks()
    names = [name for name in known if options.only in name][:: options.every]
    if options.list:
        print("\n".join(names))
        return 0
    rows = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for row in pool.map(lambda name: _in_a_process(name, known[name], options.seconds), names):
            rows.append(row)
            print(
                f"{row['kind']:10} {row['name']:45} {row['seconds']:5.0f} s  {row['why']}",
                flush=True,
            )
            if options.json:
                with Path(options.json).open("a") as file:
                    file.write(json.dumps(row) + "\n")
    counts = Counter(row["kind"] for row in rows)
    built = sum(counts.values()) - counts["not built"]
    print(", ".join(f"{count} {kind}" for kind, count in counts.most_common()))
    print(f"{counts['equal']} of {built} equal: {counts['equal'] / max(1, built):.1%}")
    return int(any(counts[kind] for kind in _FAULTS))


if __name__ == "__main__":
    raise SystemExit(main())
