"""Random single nodes of every opset: onnxruntime's numbers, or a refusal in words."""

from __future__ import annotations

from collections import Counter

from tools.onnx_nodes import DRAWS, wrong_ones


def test_random_nodes_are_what_onnxruntime_makes_of_them() -> None:
    found = list(wrong_ones(seed=1, count=20 * len(DRAWS)))
    assert [one for one in found if one[1] == "wrong"] == []
    counts = Counter(what for _, what, _ in found)
    assert counts["same"] > 0.85 * len(found)
    assert counts["refused"] < 0.1 * len(found)
