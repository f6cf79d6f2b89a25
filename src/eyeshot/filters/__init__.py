"""Filters: apply a kernel to a picture, fast and exactly, with every choice explicit.

``filter`` is ``eyeshot.filter``; ``route`` tells how a kernel would be computed; ``NAMES`` are the
named kernels and ``kernel`` gives their weights.
"""

from __future__ import annotations

from eyeshot.filters.filtering import (
    KernelSet,
    KernelSource,
    Plan,
    carry_out,
    filter,
    make_plan,
    read_kernel,
    resolve,
    route,
)
from eyeshot.filters.kernels import (
    NAMES,
    PADDINGS,
    RANGES,
    RECIPES,
    Alpha,
    Kind,
    Method,
    Padding,
    Range,
    Route,
    gaussian,
)

__all__ = [
    "NAMES",
    "PADDINGS",
    "RANGES",
    "RECIPES",
    "Alpha",
    "KernelSet",
    "KernelSource",
    "Kind",
    "Method",
    "Padding",
    "Plan",
    "Range",
    "Route",
    "carry_out",
    "filter",
    "gaussian",
    "make_plan",
    "read_kernel",
    "resolve",
    "route",
]
