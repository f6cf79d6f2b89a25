"""A sample of the cases by which ONNX defines its operators: none is wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tools.onnx_conformance import cases, claimed, table, tried

_MODULES = ("averagepool", "conv", "convtranspose", "maxpool", "pad", "resize", "slice", "split")
ROOT = Path(__file__).parents[3]


def test_no_answer_is_wrong() -> None:
    outcomes = [tried(one) for one in cases(_MODULES) if claimed(one.model)]
    assert [one for one in outcomes if one.verdict == "wrong"] == []
    counts = Counter((one.operator, one.verdict) for one in outcomes)
    assert counts["Resize", "passed"] >= 30
    assert counts["Resize", "refused"] == 6  # antialias, and align_corners at fractional sizes
    assert counts["AveragePool", "passed"] >= 15
    page = (ROOT / "docs" / "bring-your-network.md").read_text()
    rows = [row for row in table(outcomes).splitlines()[4:] if not row.startswith("| several")]
    assert len(rows) >= 2
    assert [row for row in rows if row not in page] == []
