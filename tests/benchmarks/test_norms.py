"""The benchmark of instance norms, in small and in this process: it compares equal answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import norms


def test_both_contenders_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def here(contender: Callable[..., norms.Cost], *arguments: Any) -> norms.Cost:
        threads = torch.get_num_threads()
        try:
            return contender(*arguments)
        finally:
            torch.set_num_threads(threads)

    monkeypatch.setattr(norms, "_alone", here)
    found = norms.compare(64, "4GB", base=4, depth=2)
    assert found["difference"] <= 1e-5
    assert min(found[name].processor for name in ("run", "whole", "quarter")) > 0
    layers = list(norms.network().modules())
    assert sum(isinstance(layer, nn.InstanceNorm2d) for layer in layers) == 18
