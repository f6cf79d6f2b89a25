"""What decides every sample of a run, as plain data: a run is resumed only by an identical one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from eyeshot.engine.resuming import arithmetic
from eyeshot.graph import Graph

if TYPE_CHECKING:
    from eyeshot.engine.jobs import Job


def settings_of(job: Job) -> Mapping[str, Any]:
    """What a run is, what it was settled to do, and by which arithmetic; every weight is read."""
    plan, sources = job.plan.to_dict(), job.sources.values()
    skipped = {} if job.skipping is None else {"skipped": job.skipping.settings}
    return {
        **skipped,
        "network": _fingerprint(job.graph),
        "image": [source.identity() for source in sources],
        "part": [source.part for source in sources],
        "preparation": [job.preparation.stated(source.dtype) for source in sources],
        "output_format": [form.name for form in job.forms.values()],
        "regions": plan["regions"],
        "strips": plan["strips"],
        "band": plan["band_rows"],
        "spilled": list(plan["spilled"]),
        "threads": job.threads,
        "arithmetic": arithmetic(job.preparation.device),
    }


def _fingerprint(graph: Graph) -> str:
    """A short name for a network: its operators and every weight."""
    digest = hashlib.sha256()
    for node in graph:
        digest.update(repr((node.name, node.operator, node.edges, node.shape)).encode())
        digest.update(repr(node.params).encode())
        if node.call is not None:  # a slope or a bound is told nowhere else
            digest.update(repr((node.call.args, sorted(node.call.kwargs.items()))).encode())
    for name, tensor in sorted(graph.tensors.items()):
        digest.update(name.encode())
        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(data.numpy().data)
    return digest.hexdigest()[:16]
