"""How large an answer of ``eyeshot run`` is, and where it lies in the picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eyeshot.engine.jobs import Job


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
