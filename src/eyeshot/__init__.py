"""Convolutional networks, from the kernel up: train, see, and run over any size, exactly.

Names are looked up on first use, so that ``import eyeshot`` and ``eyeshot --help`` do not wait for
torch. Functions live in modules named by a noun (``filters``), so that a call (``eyeshot.filter``)
and its module never fight for one name.
"""

from __future__ import annotations

import importlib
import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eyeshot import data as data
    from eyeshot import errors as errors
    from eyeshot import images as images
    from eyeshot import reference as reference
    from eyeshot.densification import dense as dense
    from eyeshot.engine.camera import stream as stream
    from eyeshot.engine.networks import trace as trace
    from eyeshot.engine.running import run as run
    from eyeshot.evaluation import evaluate as evaluate
    from eyeshot.evaluation import predict as predict
    from eyeshot.explanation import explain as explain
    from eyeshot.features import see as see
    from eyeshot.filters import filter as filter
    from eyeshot.frontends.net_geometry import output_geometry as output_geometry
    from eyeshot.inspection import inspect as inspect
    from eyeshot.inspection import receptive_field as receptive_field
    from eyeshot.training import train as train

__version__ = "0.1.0"

# name -> where it lives; "module" alone is the module itself
_EXPORTS = {
    "data": "eyeshot.data",
    "errors": "eyeshot.errors",
    "images": "eyeshot.images",
    "dense": "eyeshot.densification:dense",
    "evaluate": "eyeshot.evaluation:evaluate",
    "explain": "eyeshot.explanation:explain",
    "reference": "eyeshot.reference",
    "filter": "eyeshot.filters:filter",
    "predict": "eyeshot.evaluation:predict",
    "see": "eyeshot.features:see",
    "inspect": "eyeshot.inspection:inspect",
    "output_geometry": "eyeshot.frontends.net_geometry:output_geometry",
    "receptive_field": "eyeshot.inspection:receptive_field",
    "run": "eyeshot.engine.running:run",
    "stream": "eyeshot.engine.camera:stream",
    "trace": "eyeshot.engine.networks:trace",
    "train": "eyeshot.training:train",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    target = _EXPORTS.get(name)
    if target is None:
        raise AttributeError(f"module 'eyeshot' has no attribute {name!r}")
    module, _, attribute = target.partition(":")
    state = random.getstate()
    try:
        value: Any = importlib.import_module(module)
    finally:
        random.setstate(state)  # rich draws random numbers when it is first imported
    if attribute:
        value = getattr(value, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
