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
    from eyeshot import filters as filters
    from eyeshot import images as images
    from eyeshot import nets as nets
    from eyeshot import reference as reference
    from eyeshot import report as report
    from eyeshot import runs as runs
    from eyeshot.densification import DenseForm as DenseForm
    from eyeshot.densification import dense as dense
    from eyeshot.engine.calibration import Calibrated as Calibrated
    from eyeshot.engine.calibration import calibrate as calibrate
    from eyeshot.engine.camera import RowStream as RowStream
    from eyeshot.engine.camera import stream as stream
    from eyeshot.engine.executing import RunReport as RunReport
    from eyeshot.engine.networks import Traced as Traced
    from eyeshot.engine.networks import trace as trace
    from eyeshot.engine.run_plan import Plan as Plan
    from eyeshot.engine.running import plan as plan
    from eyeshot.engine.running import run as run
    from eyeshot.evaluation import Evaluation as Evaluation
    from eyeshot.evaluation import MaskEvaluation as MaskEvaluation
    from eyeshot.evaluation import Prediction as Prediction
    from eyeshot.evaluation import Predictions as Predictions
    from eyeshot.evaluation import RestorationEvaluation as RestorationEvaluation
    from eyeshot.evaluation import SampleEvaluation as SampleEvaluation
    from eyeshot.evaluation import evaluate as evaluate
    from eyeshot.evaluation import predict as predict
    from eyeshot.evaluation import sample as sample
    from eyeshot.explanation import Attribution as Attribution
    from eyeshot.explanation import UnitTrace as UnitTrace
    from eyeshot.explanation import attribute as attribute
    from eyeshot.explanation import explain as explain
    from eyeshot.exporting import Exported as Exported
    from eyeshot.exporting import export as export
    from eyeshot.features import Features as Features
    from eyeshot.features import see as see
    from eyeshot.filters import filter as filter
    from eyeshot.frontends.net_geometry import output_geometry as output_geometry
    from eyeshot.frontends.onnx import load_onnx as load_onnx
    from eyeshot.geometry.sizes import OutputGeometry as OutputGeometry
    from eyeshot.inspection import Inspection as Inspection
    from eyeshot.inspection import UnitField as UnitField
    from eyeshot.inspection import inspect as inspect
    from eyeshot.inspection import receptive_field as receptive_field
    from eyeshot.operators import register_operator as register_operator
    from eyeshot.runs import Run as Run
    from eyeshot.runs import load as load
    from eyeshot.tiling import Audit as Audit
    from eyeshot.tiling import audit as audit
    from eyeshot.training import ensemble as ensemble
    from eyeshot.training import train as train
    from eyeshot.web_studio.web_page import studio as studio

__version__ = "0.1.0"

# name -> where it lives; "module" alone is the module itself
_EXPORTS = {
    "data": "eyeshot.data",
    "errors": "eyeshot.errors",
    "filters": "eyeshot.filters",
    "images": "eyeshot.images",
    "nets": "eyeshot.nets",
    "reference": "eyeshot.reference",
    "report": "eyeshot.report",
    "runs": "eyeshot.runs",
    "dense": "eyeshot.densification:dense",
    "DenseForm": "eyeshot.densification:DenseForm",
    "calibrate": "eyeshot.engine.calibration:calibrate",
    "Calibrated": "eyeshot.engine.calibration:Calibrated",
    "stream": "eyeshot.engine.camera:stream",
    "RowStream": "eyeshot.engine.camera:RowStream",
    "trace": "eyeshot.engine.networks:trace",
    "Traced": "eyeshot.engine.networks:Traced",
    "plan": "eyeshot.engine.running:plan",
    "run": "eyeshot.engine.running:run",
    "Plan": "eyeshot.engine.run_plan:Plan",
    "RunReport": "eyeshot.engine.executing:RunReport",
    "evaluate": "eyeshot.evaluation:evaluate",
    "predict": "eyeshot.evaluation:predict",
    "Predictions": "eyeshot.evaluation:Predictions",
    "Evaluation": "eyeshot.evaluation:Evaluation",
    "MaskEvaluation": "eyeshot.evaluation:MaskEvaluation",
    "RestorationEvaluation": "eyeshot.evaluation:RestorationEvaluation",
    "SampleEvaluation": "eyeshot.evaluation:SampleEvaluation",
    "sample": "eyeshot.evaluation:sample",
    "Prediction": "eyeshot.evaluation:Prediction",
    "attribute": "eyeshot.explanation:attribute",
    "Attribution": "eyeshot.explanation:Attribution",
    "explain": "eyeshot.explanation:explain",
    "UnitTrace": "eyeshot.explanation:UnitTrace",
    "export": "eyeshot.exporting:export",
    "Exported": "eyeshot.exporting:Exported",
    "see": "eyeshot.features:see",
    "Features": "eyeshot.features:Features",
    "filter": "eyeshot.filters:filter",
    "output_geometry": "eyeshot.frontends.net_geometry:output_geometry",
    "OutputGeometry": "eyeshot.geometry.sizes:OutputGeometry",
    "inspect": "eyeshot.inspection:inspect",
    "receptive_field": "eyeshot.inspection:receptive_field",
    "Inspection": "eyeshot.inspection:Inspection",
    "UnitField": "eyeshot.inspection:UnitField",
    "load_onnx": "eyeshot.frontends.onnx:load_onnx",
    "register_operator": "eyeshot.operators:register_operator",
    "load": "eyeshot.runs:load",
    "Run": "eyeshot.runs:Run",
    "audit": "eyeshot.tiling:audit",
    "Audit": "eyeshot.tiling:Audit",
    "studio": "eyeshot.web_studio.web_page:studio",
    "ensemble": "eyeshot.training:ensemble",
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
