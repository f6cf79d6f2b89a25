"""Labelled pictures to learn from: the digits of the package, MNIST, a folder of your own."""

from __future__ import annotations

from eyeshot.data.examples import Batch, Data, Examples
from eyeshot.data.loading import BUDGET, SOURCES, load
from eyeshot.data.picture import prepare_picture
from eyeshot.data.progress import Progress

__all__ = ["BUDGET", "SOURCES", "Batch", "Data", "Examples", "Progress", "load", "prepare_picture"]
