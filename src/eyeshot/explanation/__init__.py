"""Explanations: the sum behind any single number, as plain data and as text for the terminal.

Three things can be explained: an operation walking over a small matrix
(:mod:`eyeshot.explanation.walks`), one unit inside a trained network (:func:`explain`), and what
each pixel adds to such a unit (:func:`attribute`).
"""

from __future__ import annotations

from eyeshot.explanation.attribution import Attribution, attribute
from eyeshot.explanation.drawing import draw_attribution, draw_trace, draw_walk
from eyeshot.explanation.explaining import explain, explain_unit, prepare
from eyeshot.explanation.traces import Part, UnitTrace, read_matrix
from eyeshot.explanation.walks import (
    Step,
    Term,
    Walk,
    walk_bilinear,
    walk_conv,
    walk_nearest,
    walk_pool,
    walk_transpose,
)

__all__ = [
    "Attribution",
    "Part",
    "Step",
    "Term",
    "UnitTrace",
    "Walk",
    "attribute",
    "draw_attribution",
    "draw_trace",
    "draw_walk",
    "explain",
    "explain_unit",
    "prepare",
    "read_matrix",
    "walk_bilinear",
    "walk_conv",
    "walk_nearest",
    "walk_pool",
    "walk_transpose",
]
