"""Operators that work along a dimension in order, such as ``cumsum``, ``sort`` and ``lstm``.

They are local along channels. Along positions no axis map describes them, because an output
depends on all positions before it, or on values.
"""

from __future__ import annotations

from eyeshot.graph import Family
from eyeshot.operators.call import (
    Described,
    Site,
    in_place,
)
from eyeshot.operators.record import Operator


def accumulating(site: Site) -> Described:
    """``cumsum`` and similar."""
    dim = int(site.arguments["dim"])
    return in_place(site.node("self"), [dim], "each position takes in all those before it, along")


def ordering(site: Site) -> Described:
    """``sort`` and similar."""
    dim = int(site.arguments["dim"])
    return in_place(site.node("self"), [dim], "it puts values in order along")


_FFT = "fft_fft fft_ifft fft_rfft fft_irfft fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2 fft_fftn"


OPERATORS = (
    Operator("cumsum cumprod logcumsumexp cummax cummin", Family.SCAN, accumulating),
    Operator("sort argsort topk", Family.SORT, ordering),
    Operator(
        "lstm gru rnn_tanh rnn_relu",
        no_rule="a recurrent layer carries a state from each position to the next",
    ),
    Operator(
        "im2col",
        no_rule="it lays the windows of rows and columns out in one line",
    ),
    Operator(
        "col2im",
        no_rule="it takes windows that lie in one line",
    ),
    Operator(
        "grid_sampler grid_sampler_2d grid_sampler_3d",
        no_rule="it reads at places that the values of a map decide",
    ),
    Operator(_FFT, no_rule="every frequency depends on every position"),
)
