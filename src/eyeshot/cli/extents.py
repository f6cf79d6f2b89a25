"""How large an answer of ``eyeshot run`` is, where it lies, and which pictures have none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from eyeshot.errors import BadValue

if TYPE_CHECKING:
    from torch import nn

    from eyeshot.engine.jobs import Job
    from eyeshot.images import Source
    from eyeshot.runs import Run


def check_sizes(network: nn.Module | Run, sources: Sequence[Source]) -> None:
    """Refuse a picture whose size a U-Net without padding does not take.

    Raises:
        BadValue: so; both sides and the nearest size below are named at once.
    """
    from eyeshot.nets import UNet

    net = getattr(network, "net", network)
    if not isinstance(net, UNet) or net.axis.padding == "same":
        return
    for source in sources:
        sides = source.shape[1:]
        if all(net.axis.extent(n) is not None for n in sides):
            continue
        near = [net.axis.nearest(n + 1) for n in sides]  # below is n itself, where it is taken
        whole = all(below is not None for below, _ in near)
        size = _by([above if below is None else below for below, above in near])
        cure = f"crop it to {size}" if whole else f"give one of {size} or more"
        raise BadValue(
            f"{source.name} is {_by(sides)}, and without padding a depth of {net.depth} takes no "
            "such size",
            cure=cure,
        )


def tell_sizes(job: Job) -> Iterator[str]:
    """How the image was padded; each answer that has fewer pixels of the same size than it."""
    from eyeshot.engine.outputs import arrangement_of
    from eyeshot.geometry import Fields

    if job.padding is not None:
        yield str(job.padding)
    picture = job.graph.nodes[job.graph.inputs[0]].extents
    for name in job.graph.outputs:
        node = job.graph.nodes[name]
        less = [n - m for n, m in zip(picture, node.extents, strict=True)]
        lies_so = arrangement_of(job.graph, name).space == tuple(range(len(node.dims)))
        if not lies_so or len(set(less)) > 1 or less[0] <= 0 or less[0] % 2:
            continue
        if all(axis.stride == 1 for axis in Fields(job.graph).layer(name)):
            yield (
                f"the answer is {_by(node.extents)}, in the middle of the picture's "
                f"{_by(picture)}: {less[0] // 2} pixels less at each side"
            )


def _by(sides: Sequence[int]) -> str:
    return "×".join(map(str, sides))
