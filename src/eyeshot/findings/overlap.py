"""Transposed convolutions whose windows overlap unevenly, which gives a checkerboard pattern.

Source: Odena, Dumoulin and Olah, 2016, "Deconvolution and Checkerboard Artifacts", Distill.
"""

from __future__ import annotations

from collections.abc import Iterator

from eyeshot.findings.finding import Finding, Severity
from eyeshot.findings.wording import by, counted
from eyeshot.graph import Family, Graph, Node
from eyeshot.language import mark, tr


def checkerboards(graph: Graph) -> Iterator[Finding]:
    """Transposed convolutions whose kernel is not a multiple of the stride: uneven overlap."""
    for node in graph:
        if node.family is Family.TRANSPOSED_CONVOLUTION:
            finding = _checkerboard(node)
            if finding is not None:
                yield finding


def _checkerboard(node: Node) -> Finding | None:
    numbers = (node.params.kernel, node.params.stride, node.params.dilation)
    each = [_overlaps(*one) for one in zip(*numbers, strict=True)]
    fewest, most = 1, 1
    for low, high in each:
        fewest, most = fewest * low, most * high
    if fewest == most:
        return None
    kernel, stride = node.params.kernel, node.params.stride
    cause = tr(
        "a kernel of {kernel} with stride {stride}: an output is the sum of {fewest} to {inputs}, "
        "depending on its position",
        kernel=by(kernel),
        stride=by(stride),
        fewest=fewest,
        inputs=counted(most, "input"),
    )
    if fewest == 0:
        cause += tr("; outputs without inputs are only the bias")
    multiples = [max(s, -(-k // s) * s) for k, s in zip(kernel, stride, strict=True)]
    cure = tr(
        "a kernel of {kernel}, or resize by {stride} and convolve",
        kernel=by(multiples),
        stride=by(stride),
    )
    return Finding(Severity.WARNING, node.name, mark("checkerboard"), cause, cure)


def _overlaps(kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """The fewest and the most inputs that an output gets along one axis, away from the border."""
    counts = [0] * stride
    for tap in range(kernel):
        counts[tap * dilation % stride] += 1
    return min(counts), max(counts)
