"""Explanations: the sum behind any single number, as plain data and as text for the terminal.

Two things can be explained: an operation walking over a small matrix (:mod:`operations`), and one
unit inside a trained network (:func:`explain`).
"""

from __future__ import annotations

from eyeshot.explanation.drawing import draw_trace, draw_walk
from eyeshot.explanation.explaining import explain, explain_unit, prepare
from eyeshot.explanation.operations import (
    walk_bilinear,
    walk_conv,
    walk_nearest,
    walk_pool,
    walk_transpose,
)
from eyeshot.explanation.traces import Part, UnitTrace, read_matrix
from eyeshot.explanation.walks import Step, Term, Walk

__all__ = [
    "Part",
    "Step",
    "Term",
    "UnitTrace",
    "Walk",
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
