"""An inspection as one self-contained HTML page, or as a piece of one for a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from eyeshot.inspection import wording
from eyeshot.inspection.report import Inspection
from eyeshot.inspection.rows import Row
from eyeshot.inspection.text import cost_notes, kind_lines, reach_words, size_lines, verdict


def page(inspection: Inspection) -> str:
    """The whole page."""
    return _environment().get_template("page.html").render(_told(inspection))


def fragment(inspection: Inspection) -> str:
    """The same without the frame of a page: its style is kept to itself."""
    return _environment().get_template("fragment.html").render(_told(inspection))


@cache
def _environment() -> Environment:
    loader = PackageLoader("eyeshot.inspection", "templates")
    return Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _told(inspection: Inspection) -> Mapping[str, Any]:
    total = inspection.total
    largest = max((row.cost.multiply_adds for row in inspection.rows), default=0) or 1
    return {
        "network": inspection.network,
        "sizes": ", ".join(wording.shape_words(size) for size in inspection.sizes),
        "facts": [
            ("parameters", f"{total.parameters:,}"),
            ("multiply-adds", f"{total.multiply_adds:,}"),
            ("FLOPs", f"{total.flops:,}"),
            ("activations", wording.byte_words(total.memory)),
        ],
        "rows": [_row(row, largest) for row in inspection.rows],
        "total": {
            "parameters": wording.count_words(total.parameters),
            "multiply_adds": wording.count_words(total.multiply_adds),
            "flops": wording.count_words(total.flops),
            "bias_adds": wording.count_words(total.bias_adds),
            "other": wording.count_words(total.other_operations),
            "memory": wording.count_words(total.memory),
            "linear_equal": f"{total.linear_equal:.2e}" if total.linear_equal else "·",
        },
        "verdict": {
            "severity": inspection.findings[0].severity if inspection.findings else "",
            "words": verdict(inspection),
        },
        "reaches": [reach_words(one) for one in inspection.reaches],
        "accepted": list(size_lines(inspection)),
        "kinds": list(kind_lines(inspection)),
        "notes": list(cost_notes(inspection)),
        "findings": [finding.as_dict() for finding in inspection.findings],
    }


def _row(row: Row, largest: int) -> dict[str, Any]:
    cost = row.cost
    return {
        "name": row.name,
        "operator": row.operator,
        "kind": row.kind,
        "reason": row.reason,
        "options": wording.options_words(row.options),
        "shape": wording.shape_words(row.shape),
        "field": wording.field_words(row),
        "stride": wording.stride_words(row),
        "padding": wording.padding_words(row),
        "centre": wording.centre_words(row),
        "parameters": "shared" if cost.shared else wording.count_words(cost.parameters),
        "share": f"{row.share:.1%}" if row.share else "·",
        "share_bar": round(100 * row.share, 1),
        "multiply_adds": wording.count_words(cost.multiply_adds),
        "work_bar": round(100 * cost.multiply_adds / largest, 1),
        "flops": wording.count_words(cost.flops),
        "bias_adds": wording.count_words(cost.bias_adds),
        "other": wording.count_words(cost.other_operations),
        "memory": wording.count_words(cost.memory),
        "linear_equal": f"{cost.linear_equal:.2e}" if cost.linear_equal else "·",
    }
