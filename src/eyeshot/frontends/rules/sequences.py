"""Rules for operators that go along a dimension in order: local over channels alone.

What they do to positions has no axis map: it depends on all positions before, or on values.
"""

from __future__ import annotations

from collections.abc import Mapping

from eyeshot.frontends.rules.channels import in_place
from eyeshot.frontends.sites import Described, Rule, Site


def accumulating(site: Site) -> Described:
    """``cumsum`` and its kin."""
    dim = int(site.arguments["dim"])
    return in_place(site.node("self"), [dim], "each position takes in all those before it, along")


def ordering(site: Site) -> Described:
    """``sort`` and its kin."""
    dim = int(site.arguments["dim"])
    return in_place(site.node("self"), [dim], "it puts values in order along")


_FFT = "fft_fft fft_ifft fft_rfft fft_irfft fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2 fft_fftn"

WITHOUT_RULE: Mapping[str, str] = {
    **dict.fromkeys(
        ("lstm", "gru", "rnn_tanh", "rnn_relu"),
        "a recurrent layer carries a state from each position to the next",
    ),
    **dict.fromkeys(
        ("grid_sampler", "grid_sampler_2d", "grid_sampler_3d"),
        "it reads at places that the values of a map decide",
    ),
    **dict.fromkeys(_FFT.split(), "every frequency depends on every position"),
}
"""Why some operators have no rule."""

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin"), accumulating),
    **dict.fromkeys(("sort", "argsort", "topk"), ordering),
}
