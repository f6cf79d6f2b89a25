"""ONNX files as ``torch.nn.Module``, which all other parts of Eyeshot can use.

A file is read as data (:mod:`~eyeshot.frontends.onnx.reading`), and becomes a module with one
submodule for each of its nodes (:mod:`~eyeshot.frontends.onnx.network`). Sizes that the file
computes from the image's shape are plain numbers while ``forward`` runs. So a trace at any size
computes them for that size, and a file that was exported at one size runs at every size.
"""

from __future__ import annotations

from eyeshot.frontends.onnx.network import OnnxNetwork
from eyeshot.frontends.onnx.reading import load_onnx

__all__ = ["OnnxNetwork", "load_onnx"]
