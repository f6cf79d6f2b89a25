"""Axis maps: for each axis separately, which inputs an output depends on, in whole numbers.

Along each spatial axis every operator of a network is an :class:`AxisMap`. There are a handful:
a sliding :class:`Window` (convolution, pooling, strided slices), its :class:`Transpose`, a
:class:`Resize`, a :class:`Pad` (or crop), :class:`Adaptive` pooling, :class:`Global` (a global
statistic), :class:`Broadcast` (one value for all), and :class:`Identity`. For N axes there are N
maps.
"""

from eyeshot.axes.maps import (
    EMPTY,
    NO_INPUT,
    Adaptive,
    AxisMap,
    Broadcast,
    Global,
    Identity,
    IntArray,
    Interval,
    Pad,
    Transpose,
    Window,
)
from eyeshot.axes.resize import Arithmetic, Resize
from eyeshot.axes.translation import Placed, Spared

__all__ = [
    "EMPTY",
    "NO_INPUT",
    "Adaptive",
    "Arithmetic",
    "AxisMap",
    "Broadcast",
    "Global",
    "Identity",
    "IntArray",
    "Interval",
    "Pad",
    "Placed",
    "Resize",
    "Spared",
    "Transpose",
    "Window",
]
