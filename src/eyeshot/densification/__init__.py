"""A classifier of small pictures made fully convolutional; public as :func:`eyeshot.dense`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from torch import nn

from eyeshot.densification.form import DenseForm
from eyeshot.densification.rules import convert
from eyeshot.errors import BadValue
from eyeshot.frontends.refusals import check_module
from eyeshot.frontends.torch import graph_of
from eyeshot.runs import Run
from eyeshot.untouched import one_at_a_time, untouched

__all__ = ["DenseForm", "dense"]


@one_at_a_time
def dense(
    net: nn.Module | Run, size: Sequence[int] | None = None, *, every_pixel: bool = False
) -> DenseForm:
    """The fully convolutional form of a classifier: it scores every crop of a page in one pass.

    A linear layer over C×h×w features becomes a convolution of h×w, the linear layers behind it
    convolutions of 1×1, a pool over all places a pool over h×w; everything else stays. For a
    classifier without padding the value at (i, j) is the classifier's on the crop that starts at
    (i·stride, j·stride), to rounding. Where it pads, the dense form differs: it warns, and its
    ``notes`` say where.

    The weights are copies, and the dense form is in eval mode; ``net`` is not changed.

    Args:
        net: a classifier, or a run, whose pictures tell their size.
        size: (C, H, W) of the pictures that the classifier takes.
        every_pixel: give a value for every pixel and not only for every stride-th: strides are
            undone and the kernels behind them spread ("à trous").
            Source: Holschneider et al., 1989; Giusti et al., 2013, arXiv:1302.1700.

    Raises:
        BadValue: there is no size, or one that the classifier refuses.
        Unsupported: an operator that has no dense form, by its layer's name.
    """
    if isinstance(net, Run):
        size = size or (net.config.channels, *net.config.size)
        net = net.net
    if size is None:
        raise BadValue("no size for dense()", cure="give (C, H, W) of the classifier's pictures")
    check_module(net)
    with untouched(net, computes=False):
        graph = graph_of(net.eval(), tuple(size))
    form = convert(graph, every_pixel)
    for note in form.notes:
        warnings.warn(note, stacklevel=2)
    return form.eval()
