"""The cases by which ONNX defines its operators, run by Eyeshot: passed, refused and why, wrong.

    python -m tools.onnx_conformance [OPERATOR ...] [--markdown]

The cases are made by the ``onnx`` package itself: models of one node with inputs and outputs. An
input that an operator needs to know while it is traced, such as axes, is stored in the model as
exporters store it. The exit code is 1 where an answer is wrong.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import ModelProto, TensorProto, numpy_helper

from eyeshot.errors import EyeshotError
from eyeshot.frontends.onnx import COMPUTE, OnnxNetwork
from eyeshot.frontends.onnx.reading import DTYPES, graph_of_model
from eyeshot.frontends.onnx.site import FOLDED

CLAIMED = frozenset(COMPUTE) | FOLDED | {"If", "Constant"}
"""Operators that are computed, or folded where they depend on shapes alone."""


@dataclass(frozen=True)
class Outcome:
    """What became of one case: passed, refused or wrong, and why."""

    operator: str
    case: str
    verdict: str
    why: str = ""


def cases(modules: Sequence[str] = ()) -> Iterator[Any]:
    """The cases of some modules of ``onnx.backend.test.case.node``, or all."""
    from onnx.backend.test.case import node

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if modules:
            for name in modules:
                importlib.import_module(f"{node.__name__}.{name}")
            yield from list(node._NodeTestCases)
        else:
            yield from node.collect_testcases()


def claimed(model: ModelProto) -> bool:
    """Whether every operator of a model is one that is claimed."""
    return all(one.op_type in CLAIMED and one.domain == "" for one in model.graph.node)


def tried(case: Any) -> Outcome:
    """One case: as it is; else with all but its first input stored; else with all of them."""
    kinds = sorted({one.op_type for one in case.model.graph.node})
    operator = kinds[0] if len(kinds) == 1 else "several"
    inputs = len(case.model.graph.input)
    outcome = Outcome(operator, case.name, "refused")
    for kept in dict.fromkeys((inputs, min(1, inputs), 0)):
        if outcome.verdict == "refused" and (kept or operator in FOLDED or not inputs):
            outcome = _attempt(operator, case, _stored(case, kept), range(kept))
    return outcome


def _stored(case: Any, kept: int) -> ModelProto:
    """The model of a case with all inputs but the first ones stored in it."""
    model = ModelProto()
    model.CopyFrom(case.model)
    values = _arrays(case.data_sets[0][0])
    for info, value in list(zip(model.graph.input, values, strict=True))[kept:]:
        if isinstance(value, np.ndarray | np.generic):
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), info.name))
    return model


def _attempt(operator: str, case: Any, model: ModelProto, places: Iterable[int]) -> Outcome:
    try:
        net = OnnxNetwork(graph_of_model(model, Path(case.name)), case.name)
        for read, given_out in case.data_sets:
            inputs, outputs = map(_arrays, (read, given_out))
            if not all(isinstance(one, np.ndarray | np.generic) for one in (*inputs, *outputs)):
                return Outcome(operator, case.name, "refused", "numbers of a type that is not read")
            with torch.no_grad():
                given = net(*(torch.from_numpy(np.array(inputs[place])) for place in places))
            found = given if isinstance(given, tuple) else (given,)
            fact = _apart(found, outputs, case.rtol)
            if fact:
                return Outcome(operator, case.name, "wrong", fact)
    except EyeshotError as reason:
        return Outcome(operator, case.name, "refused", str(reason).removeprefix(f"{case.name}: "))
    except Exception as error:  # what is to be found: nothing but a refusal may be raised
        return Outcome(operator, case.name, "wrong", f"{type(error).__name__}: {error}")
    return Outcome(operator, case.name, "passed")


def _arrays(values: Iterable[Any]) -> list[Any]:
    """Stored tensors as arrays, where NumPy has their type."""
    known = tuple(DTYPES)
    return [
        numpy_helper.to_array(one)
        if isinstance(one, TensorProto) and one.data_type in known
        else one
        for one in values
    ]


def _apart(given: Sequence[torch.Tensor], expected: Sequence[Any], share: float) -> str:
    """How the answers differ by more than 1e-4 of the largest number, or the case allows."""
    for one, other in zip(given, expected, strict=True):
        a, b = one.numpy(), np.asarray(other)
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            return f"{a.dtype} {a.shape} for {b.dtype} {b.shape}"
        wide = b.astype(np.float64)
        finite = np.abs(wide[np.isfinite(wide)])
        least = 1e-3 if b.dtype == np.float16 else 1e-4
        most = least * float(finite.max() if finite.size else 1.0)
        if not np.allclose(
            a.astype(np.float64), wide, rtol=share, atol=most + 1e-12, equal_nan=True
        ):
            return f"{np.abs(a.astype(np.float64) - wide).max():.2g} apart"
    return ""


def table(outcomes: Iterable[Outcome]) -> str:
    """In Markdown: the operators of which every case passes, and a row for each of the others."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for one in outcomes:
        counts[one.operator][one.verdict] += 1
        if one.verdict == "refused":
            reasons[one.operator][_reason(one.why)] += 1
    names = sorted(counts, key=lambda name: (name == "several", name))
    whole = ", ".join(f"{name} {counts[name]['passed']}" for name in names if not reasons[name])
    rows = [f"Every case passes: {whole}.", ""]
    rows += ["| operator | passed | refused | why |", "|---|---|---|---|"]
    for name in filter(reasons.__getitem__, names):
        why = "; ".join(f"{reason} ({n})" for reason, n in reasons[name].most_common(6))
        more = "; …" if len(reasons[name]) > 6 else ""
        count = counts[name]
        rows.append(f"| {name} | {count['passed']} | {count['refused']} | {why}{more} |")
    return "\n".join(rows)


def _reason(why: str) -> str:
    """A refusal without its node and its numbers."""
    plain = re.sub(r"^\S+ \(\w+\): ", "", why).partition(";")[0]
    if " is of type " in plain or "type that is not read" in plain or "casts to ONNX" in plain:
        return "a type that is not read"
    return re.sub(r"^\S+ (is an? \w+)$", r"\1", plain)


def main() -> int:
    """Run them and print what became of them."""
    parser = argparse.ArgumentParser(prog="python -m tools.onnx_conformance", description=__doc__)
    parser.add_argument("operators", nargs="*", help="only these, such as Resize")
    parser.add_argument("--markdown", action="store_true", help="a table for the docs")
    options = parser.parse_args()
    chosen = [
        one
        for one in cases()
        if claimed(one.model)
        and (
            not options.operators
            or {n.op_type for n in one.model.graph.node} & set(options.operators)
        )
    ]
    outcomes = [tried(one) for one in chosen]
    if options.markdown:
        print(table(outcomes))
    else:
        for one in outcomes:
            if one.verdict != "passed":
                print(f"{one.verdict}: {one.case}: {one.why}")
    totals = Counter(one.verdict for one in outcomes)
    print(f"{len(outcomes)} cases: " + ", ".join(f"{n} {name}" for name, n in totals.items()))
    return 1 if totals["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
